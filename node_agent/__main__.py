"""python -m node_agent: one node of a cluster, as a daemon."""

from __future__ import annotations

import os
import random
import sys

from cluster.actor import daemon
from cluster.telemetry import log
from node_agent.daemon import NodeDaemon
from node_agent.flags import parse


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
