"""python -m node_agent: one node of a cluster, as a daemon."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.actor import daemon
from cluster.config.addresses import masters_argument
from cluster.config.profiles import PROFILES
from cluster.telemetry import log
from node_agent.daemon import NodeDaemon
from node_agent.settings import AgentSettings

_EXAMPLE = """example:
  python -m node_agent --name node-1 --master 127.7.0.1:6443 --listen 127.7.0.10:10250 \\
      --credentials DIR/pki/node-node-1 --dir DIR/nodes/node-1 --cpu 4 --memory 8Gi --label disk=ssd"""


def parse(argv: Sequence[str]) -> tuple[AgentSettings, argparse.Namespace]:
    """Settings from flags. Exits with 2 on bad ones."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m node_agent", description=__doc__, epilog=_EXAMPLE, formatter_class=form)
    parser.add_argument("--name", required=True, help="the node's name")
    parser.add_argument("--master", required=True, type=masters_argument, metavar="HOST:PORT[,...]", help="or several")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="where logs and exec are served")
    parser.add_argument("--credentials", required=True, type=Path, help="directory with ca.crt, tls.crt, tls.key")
    parser.add_argument("--dir", required=True, type=Path, help="the node's own directory")
    parser.add_argument("--profile", default="laptop", choices=sorted(PROFILES), help="timers (default: laptop)")
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
    parser.add_argument("--hide", type=Path, help="directory that pods must not see (default: --dir)")
    parser.add_argument("--metrics-socket", type=Path, help="Unix socket that serves metrics and health")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument(
        "--lifetime",
        default="dev",
        choices=("dev", "service"),
        help="dev: pods end with the lifeline, or with the agent if it has none (default); service: they outlive both",
    )
    parser.add_argument("--lifeline-fd", type=int, help="stop when this descriptor ends")
    flags = parser.parse_args(argv)
    if flags.log_files < 1 or flags.log_max_bytes < 1:
        parser.error("--log-files and --log-max-bytes must be at least 1")
    settings = AgentSettings(
        name=flags.name,
        master=flags.master,
        listen=flags.listen,
        credentials=flags.credentials,
        dir=flags.dir,
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
        cgroups=flags.cgroups,
        hide=flags.hide,
        lifetime=flags.lifetime,
        lifeline_fd=flags.lifeline_fd,
        metrics_socket=flags.metrics_socket,
    )
    return settings, flags


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return key, value


def main(argv: list[str]) -> int:
    """Runs the agent until it is told to stop; its exit code."""
    settings, flags = parse(argv)
    log.setup(f"node-agent {settings.name}", flags.log_level)
    node = NodeDaemon(settings, rng=random.Random(), environ=os.environ)
    return daemon.run(
        node.build,
        name=settings.name,
        ready=node.ready,
        lifeline_fd=flags.lifeline_fd,
        stop_grace_s=node.stop_limit_s,
        on_stop=node.on_stop,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
