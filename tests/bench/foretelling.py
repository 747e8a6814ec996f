"""What if: how long it takes to foretell what becomes of a large cluster, from a snapshot in memory to the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from cluster.simulation import Change, NodeDown, Scale, SimulationSettings, Snapshot, simulate
from tests.bench.harness import Sides, benchmark
from tests.kit.scene import Scene

NODES, PODS, CONTROLLERS = 1_000, 10_000, 100
DEADLINE_S = 600.0
_SCENE = f"{NODES:,} nodes, {PODS:,} pods, {CONTROLLERS} controllers and services"


def cluster() -> Snapshot:
    """A cluster in which every pod runs, spread evenly, with room for as many again."""
    scene = Scene()
    names = [f"n{number}" for number in range(NODES)]
    for number, name in enumerate(names):
        scene.node(name, cpu="32", zone=f"zone-{number % 3}")
    each = PODS // CONTROLLERS
    for number in range(CONTROLLERS):
        app = f"app{number}"
        scene.controller(app, [names[(number * each + pod) % NODES] for pod in range(each)])
        scene.service(app, endpoints=[f"{app}-{pod}" for pod in range(each)])
    return scene.snapshot()


def _register(name: str, what: str, changes: Sequence[Change]) -> None:
    @benchmark(name, unit="s", what=f"what if {what}: {_SCENE}", aim="<= 60 s", runs=3)
    @asynccontextmanager
    async def run() -> AsyncIterator[Sides]:
        snapshot = cluster()

        async def seconds() -> float:
            begun_s = time.perf_counter()
            settings = SimulationSettings(deadline_s=DEADLINE_S)
            report = await asyncio.to_thread(simulate, snapshot, changes, settings=settings)
            taken_s = time.perf_counter() - begun_s
            assert report.is_quiet, report.ending
            assert report.fits
            return taken_s

        yield Sides(seconds)


_register("what_if_node_down", "a node goes down", [NodeDown("n2")])
_register("what_if_tenth_down", "a tenth of the nodes goes down", [NodeDown(f"n{number}") for number in range(100)])
_register("what_if_scale", "a controller is scaled by 2,000 pods", [Scale("app1", 2_100)])
