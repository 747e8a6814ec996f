"""`python -m proxy`: settings, objects, supervisor; nothing else."""

from __future__ import annotations

import gc
import os
import random
import sys
from functools import partial

from cluster.actor import daemon
from cluster.actor.clock import SystemClock
from cluster.actor.supervisor import ChildSpec, Supervisor
from cluster.config.errors import ConfigError
from cluster.telemetry import log
from proxy.flags import load_settings, make_parser
from proxy.service import ProxyService


def main(argv: list[str] | None = None) -> int:
    """Runs the proxy until a signal; the exit code."""
    flags = vars(make_parser().parse_args(argv))
    lifeline_fd = flags.pop("lifeline_fd")
    try:
        settings = load_settings(flags, os.environ)
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
