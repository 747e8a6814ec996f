"""`python -m proxy`: settings, objects, supervisor; nothing else."""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
from functools import partial
from pathlib import Path

from cluster.actor import daemon
from cluster.actor.clock import SystemClock
from cluster.actor.supervisor import ChildSpec, Supervisor
from cluster.config.errors import ConfigError
from cluster.config.settings import load
from cluster.telemetry import log
from proxy.service import ProxyService
from proxy.settings import ProxySettings


def main(argv: list[str] | None = None) -> int:
    """Runs the proxy until a signal; the exit code."""
    parser = argparse.ArgumentParser("proxy", description="Balances connections to services over their ready pods.")
    parser.add_argument("--master", metavar="HOST:PORT[,...]", help="where the master listens, or each of several")
    parser.add_argument("--credentials", type=Path, metavar="DIR", help="directory with ca.crt, tls.crt, tls.key")
    parser.add_argument("--profile", help="timers: laptop (default), kubernetes or test")
    parser.add_argument("--metrics-socket", type=Path, metavar="PATH", help="serve metrics on this Unix socket")
    parser.add_argument(
        "--handover-socket", type=Path, metavar="PATH", help="take over from the proxy that listens here"
    )
    parser.add_argument("--finish-s", metavar="S", help="how long connections finish after that (default 600)")
    parser.add_argument("--access-log", type=Path, metavar="FILE", help="for services with accessLog: true")
    parser.add_argument("--hold-s", metavar="S", help="how long connections wait for a ready endpoint (default 1)")
    parser.add_argument("--max-connections", metavar="N", help="at a time (default: by the limit of open files)")
    parser.add_argument("--policies", type=Path, metavar="DIR", help="Python files with policies for ambassadors")
    parser.add_argument("--log-level", help="debug, info (default), warning or error")
    parser.add_argument("--lifeline-fd", type=int, metavar="FD", help="stop when this descriptor reads end of file")
    flags = vars(parser.parse_args(argv))
    lifeline_fd = flags.pop("lifeline_fd")
    try:
        settings = load(ProxySettings, flags=flags, env_prefix="PODIUM_PROXY_", environ=os.environ)
    except ConfigError as error:
        print(f"proxy: {error}", file=sys.stderr)
        return 2
    log.setup("proxy", settings.log_level)
    supervisor: Supervisor | None = None

    async def build() -> Supervisor:
        nonlocal supervisor
        make = partial(ProxyService, settings, clock=SystemClock(), rng=random.Random())
        supervisor = Supervisor("proxy", [ChildSpec("proxy", make)])
        return supervisor

    def ready() -> dict[str, str]:
        service = supervisor.service("proxy") if supervisor is not None else None
        return {"listeners": str(service.listeners)} if isinstance(service, ProxyService) else {}

    gc.freeze()  # what is there now stays: no need to look at it again
    stop_grace_s = settings.data_path().drain_s + 3
    return daemon.run(build, name="proxy", ready=ready, lifeline_fd=lifeline_fd, stop_grace_s=stop_grace_s)


if __name__ == "__main__":
    sys.exit(main())
