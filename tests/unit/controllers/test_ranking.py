"""Which pod goes first: one test per row of the table, each row outweighing all rows below it."""

from __future__ import annotations

import pytest

from cluster.controllers.ranking import deletion_cost, deletion_order
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import NOW_S, names, pod


def first(*pods: core.Pod) -> str:
    return names(deletion_order(pods, pods))[0]


def ready(name: str, **more: object) -> core.Pod:
    return pod(name, **{"node": "n1", "ready_since_s": NOW_S - 50, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("goes", "stays"),
    [
        pytest.param(pod("a", phase="Running"), pod("b", node="n1", phase="Pending"), id="unassigned first"),
        pytest.param(pod("a", node="n1", phase="Pending"), pod("b", node="n1", phase="Unknown"), id="pending first"),
        pytest.param(pod("a", node="n1", phase="Unknown"), pod("b", node="n1", phase="Running"), id="then unknown"),
        pytest.param(pod("a", node="n1", cost="9"), ready("b", cost="-9"), id="not ready first"),
        pytest.param(ready("a", cost="-1", ready_since_s=1), ready("b", cost="3"), id="lower cost first"),
        pytest.param(ready("a", ready_since_s=NOW_S - 1), ready("b", ready_since_s=NOW_S - 9), id="ready for less"),
        pytest.param(ready("a", restarts=3, created_s=1), ready("b", restarts=1, created_s=2), id="more restarts"),
        pytest.param(ready("a", created_s=2), ready("b", created_s=1), id="newer first"),
        pytest.param(ready("b"), ready("a"), id="greater name, at last"),
    ],
)
def test_rows_of_the_table(goes: core.Pod, stays: core.Pod) -> None:
    assert first(goes, stays) == goes.metadata.name
    assert first(stays, goes) == goes.metadata.name


def test_crowded_nodes_are_thinned_out_first() -> None:
    pods = [
        ready("alone", node="n2", ready_since_s=NOW_S - 1),
        ready("old", node="n1", ready_since_s=NOW_S - 9),
        ready("new", node="n1", ready_since_s=NOW_S - 5),
    ]
    assert names(deletion_order(pods, pods)) == ["new", "old", "alone"]


def test_only_ready_siblings_make_a_crowd() -> None:
    pods = [ready("a", node="n1", created_s=1), pod("b", node="n1"), ready("c", node="n2", created_s=2)]
    assert names(deletion_order(pods, pods)) == ["b", "c", "a"]


@pytest.mark.parametrize(("text", "cost"), [("7", 7), ("-7", -7), ("", 0), ("x", 0), ("1.5", 0), ("99999999999", 0)])
def test_deletion_cost(text: str, cost: int) -> None:
    assert deletion_cost(pod("a", cost=text)) == cost
