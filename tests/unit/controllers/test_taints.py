"""Taints of nodes, and what pods make of them."""

from __future__ import annotations

import pytest

from cluster.controllers.evictions import Evictions
from cluster.controllers.node_status import silent_node, unready_pod
from cluster.controllers.taints import (
    is_marked_for_eviction,
    no_execute,
    same_taints,
    stay_s,
    tolerates,
    wanted_taints,
)
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import NOW_S, names, node, pod

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


def keys(taints: list[core.Taint]) -> list[str]:
    return [f"{taint.key.rpartition('/')[2]}:{taint.effect}" for taint in taints]


@pytest.mark.parametrize(
    ("ready", "evict", "expected"),
    [
        ("True", False, []),
        ("True", True, []),
        ("False", False, ["not-ready:NoSchedule"]),
        ("False", True, ["not-ready:NoSchedule", "not-ready:NoExecute"]),
        ("Unknown", False, ["unreachable:NoSchedule"]),
        ("Unknown", True, ["unreachable:NoSchedule", "unreachable:NoExecute"]),
        ("", True, ["not-ready:NoSchedule"]),
    ],
)
def test_table(ready: str, evict: bool, expected: list[str]) -> None:
    assert keys(wanted_taints(node("n", ready), evict=evict, now_s=NOW_S)) == expected


def test_others_taints_stay_and_ours_keep_their_time() -> None:
    failed = node("n", "Unknown")
    failed.spec.taints.add(key="gpu", value="yes", effect="NoSchedule")
    failed.spec.taints.add(key=NOT_READY, effect="NoSchedule")
    failed.spec.taints.extend(wanted_taints(node("n", "Unknown"), evict=True, now_s=5.0))
    taints = wanted_taints(failed, evict=True, now_s=99.0)
    assert keys(taints) == ["gpu:NoSchedule", "unreachable:NoSchedule", "unreachable:NoExecute"]
    assert [taint.timeAdded.seconds for taint in taints] == [0, 5, 5]
    assert is_marked_for_eviction(failed)
    assert keys(wanted_taints(failed, evict=False, now_s=99.0)) == ["gpu:NoSchedule", "unreachable:NoSchedule"]


def test_cordon_and_pressure_keep_pods_away() -> None:
    busy = node("n", unschedulable=True)
    busy.status.conditions.add(type="DiskPressure", status="True")
    assert keys(wanted_taints(busy, evict=False, now_s=0)) == [
        "unschedulable:NoSchedule",
        "disk-pressure:NoSchedule",
    ]


def test_same_taints_ignores_order_and_time() -> None:
    a, b = core.Taint(key="a", effect="NoSchedule"), core.Taint(key="b", effect="NoSchedule")
    later = core.Taint(key="a", effect="NoSchedule", timeAdded=core.Time(seconds=5))
    assert same_taints([a, b], [b, later])
    assert not same_taints([a], [a, b])


TAINT = core.Taint(key="k", value="v", effect="NoExecute")


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        (core.Toleration(operator="Exists"), True),
        (core.Toleration(key="k", operator="Exists"), True),
        (core.Toleration(key="k", operator="Exists", effect="NoSchedule"), False),
        (core.Toleration(key="k", value="v"), True),
        (core.Toleration(key="k", operator="Equal", value="w"), False),
        (core.Toleration(key="l", operator="Exists"), False),
        (core.Toleration(), False),
    ],
)
def test_tolerates(toleration: core.Toleration, expected: bool) -> None:
    assert tolerates(toleration, TAINT) is expected


def tolerant(name: str, *tolerations: core.Toleration) -> core.Pod:
    result = pod(name, node="n")
    result.spec.tolerations.extend(tolerations)
    return result


def unreachable(seconds: int | None) -> core.Toleration:
    return core.Toleration(key=UNREACHABLE, operator="Exists", effect="NoExecute", tolerationSeconds=seconds)


@pytest.mark.parametrize(
    ("tolerations", "stay"),
    [
        ([], 0.0),
        ([unreachable(300)], 300.0),
        ([unreachable(0)], 0.0),
        ([unreachable(-5)], 0.0),
        ([unreachable(None)], None),
        ([unreachable(300), unreachable(20)], 20.0),
        ([unreachable(None), unreachable(20)], 20.0),
    ],
)
def test_how_long_a_pod_may_stay(tolerations: list[core.Toleration], stay: float | None) -> None:
    taint = core.Taint(key=UNREACHABLE, effect="NoExecute")
    assert stay_s(tolerant("p", *tolerations), [taint]) == stay


def test_an_untolerated_taint_beats_all_tolerated_ones() -> None:
    taints = [core.Taint(key=UNREACHABLE, effect="NoExecute"), TAINT]
    assert stay_s(tolerant("p", unreachable(300)), taints) == 0.0
    assert stay_s(tolerant("p", unreachable(300)), []) is None


def test_evictions_count_from_the_first_look() -> None:
    taints = [core.Taint(key=UNREACHABLE, effect="NoExecute")]
    pods = [tolerant("now"), tolerant("later", unreachable(30)), tolerant("never", unreachable(None))]
    evictions = Evictions()
    verdict = evictions.judge(taints, pods, 1000.0)
    assert (names(verdict.leave), verdict.next_s) == (["now"], 30.0)
    evictions.accepted("uid-now")
    verdict = evictions.judge(taints, pods, 1020.0)
    assert (names(verdict.leave), verdict.next_s) == ([], 10.0)
    assert names(evictions.judge(taints, pods, 1030.0).leave) == ["later"]


def test_a_reprieve_forgets_the_time() -> None:
    taints = [core.Taint(key=UNREACHABLE, effect="NoExecute")]
    pods = [tolerant("p", unreachable(30))]
    evictions = Evictions()
    evictions.judge(taints, pods, 1000.0)
    assert names(evictions.judge([], pods, 1020.0).reprieved) == ["p"]
    assert evictions.judge([], pods, 1021.0).reprieved == []
    assert evictions.judge(taints, pods, 1025.0).next_s == 30.0


def test_only_noexecute_drives_out() -> None:
    assert no_execute([core.Taint(key="a", effect="NoSchedule"), TAINT]) == [TAINT]


def test_terminating_and_finished_pods_are_left_alone() -> None:
    pods = [pod("a", terminating=True), pod("b", phase="Succeeded")]
    assert Evictions().judge([TAINT], pods, 0.0).leave == []


def test_a_silent_node_is_unknown_in_all_conditions() -> None:
    silent = silent_node(node("n"), NOW_S)
    assert silent is not None
    assert {(c.type, c.status, c.reason) for c in silent.status.conditions} == {
        ("Ready", "Unknown", "NodeStatusUnknown"),
        ("MemoryPressure", "Unknown", "NodeStatusNeverUpdated"),
        ("DiskPressure", "Unknown", "NodeStatusNeverUpdated"),
        ("PIDPressure", "Unknown", "NodeStatusNeverUpdated"),
    }
    assert silent_node(silent, NOW_S + 9) is None


def test_pods_of_a_silent_node_are_not_ready() -> None:
    changed = unready_pod(pod("a", ready_since_s=1), NOW_S)
    assert changed is not None
    assert (changed.status.conditions[0].status, changed.status.conditions[0].lastTransitionTime.seconds) == (
        "False",
        int(NOW_S),
    )
    assert unready_pod(changed, NOW_S) is None
    assert unready_pod(pod("b"), NOW_S) is None
