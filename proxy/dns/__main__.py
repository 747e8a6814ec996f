"""`python -m proxy.dns`: settings, objects, supervisor; nothing else."""

from __future__ import annotations

import gc
import os
import random
import sys

from cluster.actor import daemon
from cluster.actor.clock import SystemClock
from cluster.config.errors import ConfigError
from cluster.telemetry import log
from proxy.dns.flags import parse
from proxy.dns.service import DnsService

_STOP_GRACE_S = 3.0


def main(argv: list[str] | None = None) -> int:
    """Runs the DNS server until a signal; the exit code."""
    try:
        settings, lifeline_fd = parse(sys.argv[1:] if argv is None else argv, os.environ)
    except ConfigError as error:
        print(f"dns: {error}", file=sys.stderr)
        return 2
    log.setup("dns", settings.log_level)
    gc.freeze()  # what is there now stays: no need to look at it again
    return daemon.run_service(
        # The ids of questions to others are not to be guessed.
        lambda: DnsService(settings, clock=SystemClock(), rng=random.SystemRandom()),
        name="dns",
        ready=lambda service: {"listen": service.address} if service.address else {},
        lifeline_fd=lifeline_fd,
        stop_grace_s=_STOP_GRACE_S,
    )


if __name__ == "__main__":
    sys.exit(main())
