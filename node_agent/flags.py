"""The flags of `python -m node_agent`, and what is wrong with them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cluster.config import flags as common
from cluster.config.profiles import PROFILES
from node_agent.eviction import parse_thresholds
from node_agent.resolver_file import MACHINE
from node_agent.settings import AgentSettings

_EXAMPLE = """example:
  python -m node_agent --name node-1 --master 127.7.0.1:6443 --listen 127.7.0.10:10250 \\
      --credentials DIR/pki/node-node-1 --dir DIR/nodes/node-1 --cpu 4 --memory 8Gi --label disk=ssd"""


OWN = (
    "name",
    "master",
    "listen",
    "credentials",
    "dir",
    "hide",
    "lifetime",
    "lifeline-fd",
    "metrics-socket",
    "profile",
    "dns",
    "cluster-domain",
    "dns-forwards",
)
"""Options that whoever starts a cluster's agents sets, and nobody else."""


class FlagError(ValueError):
    """An option that the agent does not take; the message says why."""


class _Strict(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FlagError(message)


def check_further_flags(argv: Sequence[str]) -> None:
    """Raises FlagError for options that an agent would not take beside those that its cluster gives it."""
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        if name in OWN or name in ("h", "help"):
            raise FlagError(f"{name} is not to be set: `podium up` does it")
    needed = [f"--{name}=x:1" for name in ("name", "master", "listen", "credentials", "dir")]
    _settings(_make_parser(_Strict).parse_args([*needed, *argv]))


def parse(argv: Sequence[str]) -> tuple[AgentSettings, argparse.Namespace]:
    """Settings from flags. Exits with 2 on bad ones."""
    parser = _make_parser(argparse.ArgumentParser)
    flags = parser.parse_args(argv)
    try:
        return _settings(flags), flags
    except FlagError as error:
        parser.error(str(error))


def _make_parser(kind: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    about = "One node of a cluster, as a daemon."
    parser = kind("python -m node_agent", description=about, epilog=_EXAMPLE, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--name", required=True, help="the node's name")
    common.add_master(parser)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="where logs and exec are served")
    common.add_credentials(parser)
    parser.add_argument("--dir", required=True, type=Path, help="the node's own directory")
    common.add_profile(parser)
    parser.add_argument("--cpu", default="", help="capacity, such as 4 or 500m (default: the machine's)")
    parser.add_argument("--memory", default="", help="capacity, such as 8Gi (default: the machine's)")
    parser.add_argument("--pods", default=110, type=int, help="most pods at a time (default: 110)")
    parser.add_argument("--resource", action="append", default=[], type=_pair, metavar="NAME=AMOUNT")
    parser.add_argument("--label", action="append", default=[], type=_pair, metavar="KEY=VALUE")
    parser.add_argument("--log-max-bytes", default=10 * 1024 * 1024, type=int, help="size at which a log is rotated")
    parser.add_argument("--log-files", default=3, type=int, help="files kept of one log (default: 3)")
    parser.add_argument(
        "--readiness-by-port",
        action=argparse.BooleanOptionalAction,
        help="without a readiness probe a container is ready when the first port that it declares listens"
        " (default: yes, but not with the profile kubernetes)",
    )
    parser.add_argument(
        "--cgroups", action=argparse.BooleanOptionalAction, default=True, help="use control groups (default: yes)"
    )
    parser.add_argument(
        "--sandbox",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="offer the security profile sandbox, if bubblewrap works here (default: yes)",
    )
    parser.add_argument(
        "--allow-trusted", action="store_true", help="offer the security profile trusted: nothing is taken from pods"
    )
    parser.add_argument(
        "--allow-root",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="baseline and trusted pods of an agent that is root run as root (default: yes; no: they are refused)",
    )
    parser.add_argument(
        "--eviction-hard",
        type=_thresholds,
        metavar="SIGNAL<AMOUNT[,...]",
        help="end pods when less is left: memory.available<100Mi, nodefs.available<1%%, nodefs.inodesFree<1%%,"
        " pid.available<5%% (default: as the profile says; none: never)",
    )
    parser.add_argument("--dns", default="", metavar="HOST:PORT", help="where the cluster's names are answered for")
    parser.add_argument("--cluster-domain", default="cluster.local", metavar="NAME", help="what those names end with")
    parser.add_argument("--dns-forwards", action="store_true", help="other names are answered for there, too")
    parser.add_argument("--resolv-conf", default=MACHINE, type=Path, help="of the machine (default: /etc/resolv.conf)")
    parser.add_argument("--hide", type=Path, help="directory that pods must not see (default: --dir)")
    common.add_metrics_socket(parser)
    common.add_log_level(parser)
    parser.add_argument(
        "--lifetime",
        default="dev",
        choices=("dev", "service"),
        help="dev: pods end with the lifeline, or with the agent if it has none (default); service: they outlive both",
    )
    common.add_lifeline(parser)
    return parser


def _settings(flags: argparse.Namespace) -> AgentSettings:
    """Raises FlagError."""
    if flags.log_files < 1 or flags.log_max_bytes < 1:
        raise FlagError("--log-files and --log-max-bytes must be at least 1")
    return AgentSettings(
        name=flags.name,
        master=flags.master,
        listen=flags.listen,
        credentials=flags.credentials,
        dir=Path(os.path.realpath(flags.dir)),
        profile=PROFILES[flags.profile],
        cpu=flags.cpu,
        memory=flags.memory,
        pods=flags.pods,
        resources=dict(flags.resource),
        labels=dict(flags.label),
        log_max_bytes=flags.log_max_bytes,
        log_files=flags.log_files,
        eager_readiness=flags.profile != "kubernetes",
        readiness_by_port=flags.profile != "kubernetes" if flags.readiness_by_port is None else flags.readiness_by_port,
        eviction_hard=flags.eviction_hard,
        sandbox=flags.sandbox,
        allow_trusted=flags.allow_trusted,
        allow_root=flags.allow_root,
        cgroups=flags.cgroups,
        hide=flags.hide,
        dns=flags.dns,
        resolv_conf=flags.resolv_conf,
        cluster_domain=flags.cluster_domain,
        dns_forwards=flags.dns_forwards,
        lifetime=flags.lifetime,
        lifeline_fd=flags.lifeline_fd,
        metrics_socket=flags.metrics_socket,
    )


def _thresholds(text: str) -> str:
    try:
        parse_thresholds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return key, value
