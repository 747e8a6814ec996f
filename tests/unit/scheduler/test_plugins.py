"""Plug-ins: what they are told, what they may answer, and what becomes of those that do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.scheduler.facts import PlacedPod, facts_of
from cluster.scheduler.filters import Scope
from cluster.scheduler.plugin_loader import find_plugin
from cluster.scheduler.plugins import NodesView, PlugIn, PodView, node_only
from cluster.scheduler.podclass import PodClass, PodClasses
from cluster.scheduler.snapshot import ALL_ROWS, Snapshot
from tests.unit.scheduler.build import make_node, make_pod

CLASSES = PodClasses()
Answer = NDArray[Any]


def wanted() -> PodClass:
    return CLASSES.of(make_pod("web", {"cpu": "1", "gpu": "2"}, labels={"app": "web"}, selector={"disk": "fast"}))


@pytest.fixture
def snapshot() -> Snapshot:
    snapshot = Snapshot()
    for i, rank in enumerate(("10", "2.5", "high", None)):
        labels = {"rank": rank} if rank is not None else {}
        snapshot.set_node(f"n{i}", facts_of(make_node(f"n{i}", {"gpu": "4"}, labels=labels)))
    snapshot.remove_node("n2")
    snapshot.set_node("n4", facts_of(make_node("n4", {"cpu": "8"}, labels={"rank": "nan"})))
    web, other = wanted(), CLASSES.of(make_pod("x", {"cpu": "500m"}, namespace="other", labels={"tenant": "red"}))
    for i in range(3):
        snapshot.place(PlacedPod(f"web-{i}", web), "n0")
    snapshot.place(PlacedPod("x", other), "n1")
    snapshot.place(PlacedPod("leaving", other, terminating=True), "n1")
    return snapshot


def rows_of(snapshot: Snapshot) -> NDArray[np.int64]:
    return np.flatnonzero(snapshot.alive)


def test_what_a_plug_in_sees(snapshot: Snapshot) -> None:
    nodes = NodesView(snapshot, wanted(), rows_of(snapshot))
    order = {name: i for i, name in enumerate(nodes.names)}
    assert sorted(order) == ["n0", "n1", "n3", "n4"]
    assert len(nodes) == 4

    def by_name(values: Answer) -> dict[str, object]:
        return {name: values.tolist()[i] for name, i in order.items()}

    assert by_name(nodes.label("rank")) == {"n0": "10", "n1": "2.5", "n3": None, "n4": "nan"}
    assert by_name(nodes.label_number("rank", -1.0)) == {"n0": 10.0, "n1": 2.5, "n3": -1.0, "n4": -1.0}
    assert by_name(nodes.label_number("no such label")) == {"n0": 0.0, "n1": 0.0, "n3": 0.0, "n4": 0.0}
    assert by_name(nodes.allocatable("cpu")) == {"n0": 4000, "n1": 4000, "n3": 4000, "n4": 8000}
    assert by_name(nodes.requested("cpu")) == {"n0": 3000, "n1": 1000, "n3": 0, "n4": 0}
    assert by_name(nodes.requested("gpu")) == {"n0": 6, "n1": 0, "n3": 0, "n4": 0}
    assert by_name(nodes.requested("unheard-of")) == {"n0": 0, "n1": 0, "n3": 0, "n4": 0}
    assert by_name(nodes.requested("pods")) == {"n0": 3, "n1": 2, "n3": 0, "n4": 0}
    assert by_name(nodes.pods()) == {"n0": 3, "n1": 0, "n3": 0, "n4": 0}
    assert by_name(nodes.pods({"tenant": "red"}, "other")) == {"n0": 0, "n1": 1, "n3": 0, "n4": 0}
    assert by_name(nodes.same()) == {"n0": 3, "n1": 0, "n3": 0, "n4": 0}


def test_what_it_is_told_of_the_pods(snapshot: Snapshot) -> None:
    seen: list[PodView] = []

    def remember(pod: PodView, nodes: NodesView) -> Answer:
        seen.append(pod)
        return np.ones(len(nodes), np.bool_)

    PlugIn("remember", remember).passes(snapshot, wanted(), ALL_ROWS)
    [pod] = seen
    assert pod == PodView("default", {"app": "web"}, {"cpu": 1000, "gpu": 2, "pods": 1}, {"disk": "fast"})


def test_only_live_nodes_are_asked_about_and_rows_without_one_are_refused(snapshot: Snapshot) -> None:
    asked: list[list[str]] = []

    def all_pass(pod: PodView, nodes: NodesView) -> Answer:
        asked.append(nodes.names)
        return np.ones(len(nodes), np.bool_)

    plugin = PlugIn("all", all_pass)
    assert plugin.passes(snapshot, wanted(), ALL_ROWS).sum() == 4
    row = snapshot.row_of("n4")
    assert row is not None
    assert plugin.passes(snapshot, wanted(), np.array([row])).tolist() == [True]
    assert asked[1] == ["n4"]


@pytest.mark.parametrize(
    ("as_score", "answer", "problem"),
    [
        (False, lambda n: None, "TypeError: it answered with NoneType, not with an array of booleans"),
        (False, lambda n: [True] * n, "TypeError: it answered with list, not with an array of booleans"),
        (False, lambda n: np.ones(n), "TypeError: it answered with an array of float64, not of booleans"),
        (False, lambda n: np.ones(n + 1, bool), "ValueError: it answered with an array of shape (5,) about 4 nodes"),
        (False, lambda n: np.ones((n, 1), bool), "ValueError: it answered with an array of shape (4, 1) about 4 nodes"),
        (True, lambda n: np.ones(n), "TypeError: it answered with an array of float64, not of whole numbers"),
        (True, lambda n: np.ones(n, bool), "TypeError: it answered with an array of bool, not of whole numbers"),
        (True, lambda n: np.full(n, 101), "ValueError: it answered with 101 to 101, and scores are from 0 to 100"),
        (True, lambda n: np.arange(-1, n - 1), "ValueError: it answered with -1 to 2, and scores are from 0 to 100"),
        (True, lambda n: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_answers_in_another_form_is_cut_out(
    snapshot: Snapshot, as_score: bool, answer: Callable[[int], Any], problem: str
) -> None:
    calls = 0

    def function(pod: PodView, nodes: NodesView) -> Answer:
        nonlocal calls
        calls += 1
        made: Answer = answer(len(nodes))
        return made

    plugin = PlugIn("mine", function)
    ask = plugin.score if as_score else plugin.passes
    for _ in range(3):
        assert not ask(snapshot, wanted(), ALL_ROWS).any(), "a filter lets nobody in, a score counts nothing"
    assert (plugin.problem, plugin.failures, calls) == (problem, 1, 1)
    filter_ = plugin.as_filter()
    assert filter_.reasons(snapshot, wanted(), np.arange(3)) == Counter(
        {f"node(s) couldn't be judged by plugin [mine], {problem}": 3}
    )


def test_it_is_asked_again_after_a_minute(snapshot: Snapshot) -> None:
    def fails(pod: PodView, nodes: NodesView) -> Answer:
        raise RuntimeError("a\nlong  story")

    plugin = PlugIn("mine", fails)
    assert not plugin.recover(0.0)
    plugin.passes(snapshot, wanted(), ALL_ROWS)
    assert plugin.problem == "RuntimeError: a long story"
    assert not plugin.recover(100.0), "from now on the time counts"
    assert not plugin.recover(159.0)
    assert plugin.recover(160.0)
    assert (plugin.problem, plugin.epoch) == ("", 2)
    plugin.function = lambda pod, nodes: np.ones(len(nodes), np.bool_)
    assert plugin.passes(snapshot, wanted(), ALL_ROWS).any()
    assert plugin.reason == "node(s) didn't satisfy plugin(s) [mine]"


def test_one_that_says_that_it_looks_at_the_node_alone_is_held_to_it(snapshot: Snapshot) -> None:
    @node_only
    def honest(pod: PodView, nodes: NodesView) -> Answer:
        return nodes.label_number("rank", 0.0).astype(np.int64)

    @node_only
    def liar(pod: PodView, nodes: NodesView) -> Answer:
        return nodes.pods() < 3

    good, bad = PlugIn("honest", honest), PlugIn("liar", liar)
    assert (good.as_score().scope, PlugIn("x", lambda pod, nodes: np.zeros(0)).scope) == (Scope.NODE, Scope.LOAD)
    assert good.score(snapshot, wanted(), ALL_ROWS).max() == 10
    bad.passes(snapshot, wanted(), ALL_ROWS)
    assert bad.problem == "TypeError: it is marked as node_only, and asks for nodes.pods, which pods change"


def test_plug_ins_are_found_by_module_and_function() -> None:
    assert id(find_plugin("cluster.scheduler.plugins:node_only")) == id(node_only)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no.such.module:x", "importing no.such.module failed: ModuleNotFoundError: No module named 'no'"),
        ("cluster.scheduler.plugins:nothing", "module cluster.scheduler.plugins has no nothing"),
        ("cluster.scheduler.plugins:CUT_OUT_S", "cluster.scheduler.plugins:CUT_OUT_S is float, not a function"),
        ("unknown", "; or write MODULE:FUNCTION"),
    ],
)
def test_what_is_not_there_is_said(name: str, complaint: str) -> None:
    with pytest.raises(LookupError) as refused:
        find_plugin(name)
    assert complaint in str(refused.value)
