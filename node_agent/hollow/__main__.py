"""python -m node_agent.hollow: nodes that are only played, as a daemon."""

from __future__ import annotations

import gc
import random
import sys

from cluster.actor import daemon
from cluster.telemetry import log
from node_agent.hollow.daemon import STOP_LIMIT_S, HollowDaemon
from node_agent.hollow.flags import parse

_GARBAGE_OBJECTS = 50_000
"""Python looks for garbage when there are so many new objects, and each time through all that are there. Of thousands
of pods that are taken up, none is garbage."""


def main(argv: list[str]) -> int:
    """Plays until it is told to stop; its exit code. The last line of standard output says what it has left."""
    settings, flags = parse(argv)
    log.setup(f"hollow {settings.prefix}", flags.log_level)
    gc.set_threshold(_GARBAGE_OBJECTS)
    nodes = HollowDaemon(settings, rng=random.Random())
    code = daemon.run(
        nodes.build,
        name=settings.prefix,
        ready=nodes.ready,
        lifeline_fd=flags.lifeline_fd,
        stop_grace_s=STOP_LIMIT_S,
        on_stop=nodes.on_stop,
    )
    print("LEFT " + " ".join(f"{what}={count}" for what, count in nodes.left().items()), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
