"""The example of a plug-in does what its README says: with the scheduler's own decisions, without a cluster."""

from __future__ import annotations

import random
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from cluster.config.profiles import PROFILES
from cluster.scheduler.configuration import load_settings, profiles_of
from cluster.scheduler.world import World
from tests.unit.scheduler.build import make_node, make_pod
from tests.unit.scheduler.play import Play

EXAMPLE = Path(__file__).parents[3] / "examples" / "scheduler_plugin"
TENANT, RANK = "example.com/tenant", "example.com/rank"


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    settings = load_settings(PROFILES["test"], EXAMPLE / "scheduler.toml")
    return Play(World(settings, random.Random(1), profiles_of(settings)))


def test_the_best_ranked_node_is_taken_until_it_has_two_of_a_tenant(play: Play) -> None:
    for name, rank in (("n0", "10"), ("n1", "90"), ("n2", None)):
        play.world.node_changed(None, make_node(name, labels={RANK: rank} if rank else {}))
    play.add(*(make_pod(f"red-{i}", scheduler="tenants", labels={TENANT: "red"}) for i in range(4)))
    play.add(make_pod("blue", scheduler="tenants", labels={TENANT: "blue"}))
    play.settle()
    assert Counter(play.placed()[f"red-{i}"] for i in range(4)) == {"n1": 2, "n2": 2}
    assert play.placed()["blue"] == "n1"
    play.add(*(make_pod(f"red-{i}", scheduler="tenants", labels={TENANT: "red"}) for i in range(4, 7)))
    play.settle()
    assert play.told["red-6"] == (
        "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [placing:away_from_crowds]."
    )
    play.add(make_pod("none", scheduler="tenants"))
    play.settle()
    assert play.placed()["none"] == "n1", "without a tenant it goes anywhere"
    assert all(plugin.failures == 0 for plugin in play.world.profiles["tenants"].plugins)


def test_the_entry_points_name_functions_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import importlib

    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["podium.scheduler.plugins"]
    assert sorted(points) == ["away-from-crowds", "by-rank"]
    for target in points.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
