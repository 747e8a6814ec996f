"""`python -m proxy.dns`: settings, objects, supervisor; nothing else."""

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
    supervisor: Supervisor | None = None

    async def build() -> Supervisor:
        nonlocal supervisor
        # The ids of questions to others are not to be guessed.
        make = partial(DnsService, settings, clock=SystemClock(), rng=random.SystemRandom())
        supervisor = Supervisor("dns", [ChildSpec("dns", make)])
        return supervisor

    def ready() -> dict[str, str]:
        service = supervisor.service("dns") if supervisor is not None else None
        address = service.address if isinstance(service, DnsService) else ""
        return {"listen": address} if address else {}

    gc.freeze()  # what is there now stays: no need to look at it again
    return daemon.run(build, name="dns", ready=ready, lifeline_fd=lifeline_fd, stop_grace_s=_STOP_GRACE_S)


if __name__ == "__main__":
    sys.exit(main())
