"""Which processes play hollow nodes, with their arguments: pure functions of what the user asked for.

`podium up --hollow` and `podium hollow` start the same processes, the one under its supervisor, the other by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

NODES_PER_PROCESS = 2_500
"""As many as one process plays well beside a master on two cores: with 30 pods each, it is busy when all of them change
within half a minute."""
PREFIX = "hollow"
"""Of the nodes that `podium up` starts, and of others unless they are named otherwise."""


def processes_for(nodes: int) -> int:
    """How many processes play so many nodes, unless the user says otherwise."""
    return -(-nodes // NODES_PER_PROCESS)


def parts(nodes: int, processes: int) -> list[tuple[int, int]]:
    """The number of its first node, and how many it plays, for each process; as even as can be, none without nodes."""
    processes = min(nodes, processes)
    bounds = [nodes * number // processes for number in range(processes + 1)] if processes else []
    return [(first + 1, end - first) for first, end in itertools.pairwise(bounds)]


def names(nodes: int, processes: int, prefix: str = PREFIX) -> list[str]:
    """What the processes are called, in `podium cluster-info` and in their logs."""
    count = len(parts(nodes, processes))
    stem = PREFIX if prefix == PREFIX else f"{PREFIX}-{prefix}"
    return [stem] if count == 1 else [f"{stem}.{number}" for number in range(1, count + 1)]


def arguments(
    part: tuple[int, int],
    *,
    prefix: str,
    master: str,
    host: str,
    credentials: str,
    profile: str,
    further: Sequence[str],
) -> tuple[str, ...]:
    """Those of the process that plays a part. `host` is the address of its nodes; the system chooses the port."""
    first, count = part
    return (
        *("--prefix", prefix, "--first", str(first), "--count", str(count), "--master", master),
        *("--listen", f"{host}:0", "--credentials", credentials, "--profile", profile),
        *further,
    )
