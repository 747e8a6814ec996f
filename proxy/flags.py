"""The command line of `python -m proxy`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cluster.config import flags as common
from cluster.config.errors import ConfigError
from cluster.config.settings import load
from proxy.settings import ProxySettings

_OF_THE_CLUSTER = (
    "master",
    "credentials",
    "profile",
    "metrics_socket",
    "handover_socket",
    "access_log",
    "policies",
    "lifeline_fd",
)
"""What `podium up` itself says to its proxy."""


class _Refusing(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def make_parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """All options, none of them with a default: those are the settings'."""
    parser = kind("proxy", description="Balances connections to services over their ready pods.")
    common.add_master(parser, as_setting=True)
    common.add_credentials(parser, as_setting=True)
    common.add_profile(parser, as_setting=True)
    parser.add_argument("--workers", metavar="N", help="processes that carry connections (default: this one alone)")
    common.add_metrics_socket(parser)
    parser.add_argument("--handover-socket", type=Path, metavar="PATH", help="take over from the proxy at this socket")
    parser.add_argument("--finish-s", metavar="S", help="how long connections finish after that (default 600)")
    parser.add_argument("--access-log", type=Path, metavar="FILE", help="for services with accessLog: true")
    parser.add_argument("--policies", type=Path, metavar="DIR", help="Python files with policies for ambassadors")
    parser.add_argument("--hold-s", metavar="S", help="how long connections wait for a ready endpoint (default 1)")
    parser.add_argument("--max-connections", metavar="N", help="at a time (default: by the limit of open files)")
    common.add_log_level(parser, as_setting=True)
    common.add_lifeline(parser)
    return parser


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str]) -> ProxySettings:
    """Raises ConfigError."""
    return load(ProxySettings, flags=flags, env_prefix="PODIUM_PROXY_", environ=environ)


def check_further_flags(arguments: Sequence[str]) -> None:
    """Raises ConfigError for what the proxy would refuse, and for what only its cluster may say."""
    flags = vars(make_parser(_Refusing).parse_args(arguments))
    for name in _OF_THE_CLUSTER:
        if flags.pop(name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is the cluster's own to say")
    load_settings({**flags, "master": "127.0.0.1:1", "credentials": "/"}, {})
