"""The same snapshot, changes and seed give the same report: in one process, and in another one with other hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from cluster.simulation import AddNodes, Change, NodeDown, Report, Scale, SimulationSettings, document, simulate
from tests.kit.scene import Scene

CHANGES: list[Change] = [NodeDown("n1"), NodeDown("n4"), Scale("app-2", 9), AddNodes(2, like="n2")]


def scene() -> Scene:
    """Enough of everything for an order to matter: ties between nodes, several controllers and services at once."""
    scene = Scene()
    for number in range(8):
        scene.node(f"n{number}", cpu="2", zone=f"z{number % 3}")
    for number in range(5):
        nodes = [f"n{(number + step) % 8}" for step in range(4)]
        scene.controller(f"app-{number}", nodes, cpu="200m")
        scene.service(f"app-{number}", endpoints=[f"app-{number}-{step}" for step in range(4)])
    return scene


def report(seed: int) -> Report:
    return simulate(scene().snapshot(), CHANGES, seed, settings=SimulationSettings(limit_s=60.0))


def test_twice_the_same() -> None:
    first, second = report(3), report(3)
    assert first == second
    assert first.is_quiet
    assert len(first.placed) == len(first.removed) + 5, "what was removed is replaced, and five are new"


def test_another_seed_is_another_chance() -> None:
    first, other = report(3), report(4)
    assert {placed.pod for placed in first.placed} != {placed.pod for placed in other.placed}
    assert {removed.pod for removed in first.removed} == {removed.pod for removed in other.removed}
    assert len(first.placed) == len(other.placed), "what is needed is no matter of chance"


def test_hashes_and_addresses_do_not_matter() -> None:
    script = (
        "import json; from cluster.simulation import document; "
        "from tests.unit.simulation.test_determinism import report; "
        "print(json.dumps(document(report(3))))"
    )
    expected = json.dumps(document(report(3)))
    for hash_seed in ("0", "random"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout.strip() == expected, hash_seed
