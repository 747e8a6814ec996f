"""`python -m proxy`: settings, objects, supervisor; nothing else."""

from __future__ import annotations

import gc
import os
import random
import sys

from cluster.actor import daemon
from cluster.actor.clock import SystemClock
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
    gc.freeze()  # what is there now stays: no need to look at it again
    return daemon.run_service(
        lambda: ProxyService(settings, clock=SystemClock(), rng=random.Random()),
        name="proxy",
        ready=lambda service: {"listeners": str(service.listeners)},
        lifeline_fd=lifeline_fd,
        stop_grace_s=settings.data_path().drain_s + 3,
    )


if __name__ == "__main__":
    sys.exit(main())
