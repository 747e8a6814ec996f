"""What if: the whole control loop of a cluster, run ahead in memory on virtual time.

A snapshot of a cluster goes on under changes that nobody makes to the cluster itself. The real master, the real
controllers and the real scheduler act on it; simulated nodes start and stop pods. Time passes as fast as there is
nothing to do in it, until nothing happens any more.

    import asyncio, contextlib
    from cluster.client import Credentials, GrpcClusterClient
    from cluster.simulation import AddNodes, NodeDown, Scale, simulate, take_snapshot

    async def read(address, directory):
        async with contextlib.aclosing(GrpcClusterClient(address, Credentials.load(directory))) as client:
            return await take_snapshot(client)                    # reads, and nothing else

    snapshot = asyncio.run(read("127.5.0.1:6443", "/home/me/.local/state/podium/clusters/default/pki/admin"))
    report = simulate(snapshot, [NodeDown("node-2"), Scale("web", 10)], seed=0)
    print(report.ending, "after", report.quiet_at_s, "s;", "fits" if report.fits else "does not fit")
    for removed in report.removed:
        print(removed.pod, "on", removed.node, removed.why, "->", removed.replaced_by, "on", removed.replaced_on)
    for pending in report.pending:
        print(pending.pod, "stays pending:", pending.message)

The names that are meant for use:

    take_snapshot, Snapshot    a cluster's objects as of one revision; `Snapshot.made_of` for a cluster that is a plan
    simulate                   (snapshot, changes, seed) -> Report; the same ones give the same report
    NodeDown, Cordon, AddNodes, Scale, Apply     each a Change; all are made at one moment
    Report, document           what would come of it; the same as plain data, for JSON
    SimulationSettings, Pace   the timer profile of the cluster, limits, how fast simulated nodes are

What is assumed, and so what a simulation cannot know: docs/what-if.md. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.simulation.changes import AddNodes, Apply, Change, Cordon, NodeDown, Scale
    from cluster.simulation.hollow import Pace
    from cluster.simulation.report import Report, document
    from cluster.simulation.run import simulate
    from cluster.simulation.settings import SimulationSettings
    from cluster.simulation.snapshot import Snapshot, take_snapshot

__all__ = [
    "AddNodes",
    "Apply",
    "Change",
    "Cordon",
    "NodeDown",
    "Pace",
    "Report",
    "Scale",
    "SimulationSettings",
    "Snapshot",
    "document",
    "simulate",
    "take_snapshot",
]

_HOMES = {
    # name: the module that has it
    "AddNodes": "cluster.simulation.changes",
    "Apply": "cluster.simulation.changes",
    "Change": "cluster.simulation.changes",
    "Cordon": "cluster.simulation.changes",
    "NodeDown": "cluster.simulation.changes",
    "Pace": "cluster.simulation.hollow",
    "Report": "cluster.simulation.report",
    "Scale": "cluster.simulation.changes",
    "SimulationSettings": "cluster.simulation.settings",
    "Snapshot": "cluster.simulation.snapshot",
    "document": "cluster.simulation.report",
    "simulate": "cluster.simulation.run",
    "take_snapshot": "cluster.simulation.snapshot",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
