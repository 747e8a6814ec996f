"""The flags of `python -m proxy.dns`, and of them those that a user of `podium up` may set: --dns NAME=VALUE."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.config import flags as common
from cluster.config.errors import ConfigError
from cluster.config.settings import load
from proxy.dns.settings import DnsSettings

PORT_OPTION, DOMAIN_OPTION = "port", "cluster-domain"
"""Those that others need to know, too."""
OPTIONS = (
    *(PORT_OPTION, DOMAIN_OPTION, "upstream", "upstream-timeout-s", "ttl-s", "pod-names", "max-connections", "idle-s"),
    "log-level",
)


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[DnsSettings, int | None]:
    """Settings, and the lifeline's descriptor. Raises ConfigError; exits with 2 at unknown flags."""
    parser = argparse.ArgumentParser(
        "python -m proxy.dns", description="Answers DNS questions about the services of a cluster.", allow_abbrev=False
    )
    common.add_master(parser, as_setting=True)
    common.add_credentials(parser, as_setting=True)
    parser.add_argument("--listen", metavar="HOST:PORT", help="a loopback address; UDP and TCP")
    parser.add_argument("--cluster-domain", metavar="NAME", help="what names end with (default: cluster.local)")
    parser.add_argument("--ttl-s", metavar="S", help="how long clients may remember an answer (default: 5)")
    parser.add_argument(
        "--pod-names",
        metavar="MODE",
        help="names like 127-5-16-1.NAMESPACE.pod.cluster.local: insecure (default: made of the question), verified"
        " (only of pods that there are) or disabled",
    )
    parser.add_argument(
        "--upstream",
        metavar="SERVER[,...]",
        help="ask these for all other names: ADDRESS, ADDRESS:PORT, or a file: /etc/resolv.conf (default: nobody)",
    )
    parser.add_argument("--upstream-timeout-s", metavar="S", help="for one try of two (default: 2)")
    parser.add_argument("--max-connections", metavar="N", help="TCP, at a time (default: 200)")
    parser.add_argument("--idle-s", metavar="S", help="TCP connections that say nothing are closed (default: 10)")
    common.add_profile(parser, as_setting=True)
    common.add_metrics_socket(parser)
    common.add_log_level(parser, as_setting=True)
    common.add_lifeline(parser)
    flags = vars(parser.parse_args(argv))
    lifeline_fd = flags.pop("lifeline_fd")
    return load(DnsSettings, flags=flags, env_prefix="PODIUM_DNS_", environ=environ), lifeline_fd


def read_options(words: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, each at most once, of those a user may set. Raises ConfigError for what the server would refuse."""
    options: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in OPTIONS:
            raise ConfigError(f'"{word}": write NAME=VALUE; names are {", ".join(OPTIONS)}')
        if name in options:
            raise ConfigError(f'"{word}": {name} is given twice')
        options[name] = value
    port = options.get(PORT_OPTION, "53")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f'{PORT_OPTION} is "{port}", but must be from 1 to 65535')
    given = {name: value for name, value in options.items() if name != PORT_OPTION}
    load(DnsSettings, flags={"master": "x:1", "credentials": Path(), "listen": "127.0.0.1:53", **given})
    return options
