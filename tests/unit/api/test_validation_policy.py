"""Priority classes and disruption budgets: what they may say, and what an update may make of them."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.disruption import covers, is_current, needs_budget, set_disruption_allowed, unhealthy_policy
from cluster.api.kinds import BY_NAME
from cluster.api.priorities import SYSTEM_CLASSES, preempts, priority_of, system_class
from cluster.api.validation import validate, validate_update
from cluster.pb.v1 import core_pb2 as core
from tests.unit.api.test_validation import BUDGET, PRIORITY, made, meta, spec

GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (PRIORITY, {"value": -(2**31)}),
    (PRIORITY, {"value": 0, "preemptionPolicy": "Never", "globalDefault": True, "description": "any text"}),
    (BUDGET, spec(minAvailable="100%")),
    (BUDGET, spec(minAvailable=0, selector=None)),
    (BUDGET, spec(minAvailable=None, maxUnavailable="0%", selector={})),
    (BUDGET, spec(unhealthyPodEvictionPolicy="AlwaysAllow")),
    (BUDGET, {"status": {"disruptedPods": {"web-1": "2026-03-01T12:00:00Z"}, "disruptionsAllowed": 1}}),
]


@pytest.mark.parametrize(("data", "patch"), GOOD)
def test_what_they_may_say(data: dict[str, Any], patch: dict[str, Any]) -> None:
    assert validate(made(data, patch)) == []


PERCENT = "a valid percent string must be a numeric string followed by an ending '%'"
BAD: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (PRIORITY, {"value": 1_000_000_001}, "value", "maximum allowed value of a user defined priority is 1000000000"),
    (PRIORITY, {"preemptionPolicy": "Maybe"}, "preemptionPolicy", '"PreemptLowerPriority", "Never"'),
    (PRIORITY, meta(name="system-mine"), "metadata.name", "system-mine is not a known system priority class"),
    (
        PRIORITY,
        {"metadata": {"name": "system-node-critical"}, "value": 7},
        "metadata.name",
        "value of system-node-critical PriorityClass must be 2000001000",
    ),
    (
        PRIORITY,
        {"metadata": {"name": "system-node-critical"}, "value": 2000001000, "globalDefault": True},
        "metadata.name",
        "globalDefault of system-node-critical PriorityClass must be false",
    ),
    (
        PRIORITY,
        meta(ownerReferences=[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]),
        "metadata.ownerReferences",
        "does not collect priority classes",
    ),
    (PRIORITY, meta(name="A"), "metadata.name", "RFC 1123"),
    (PRIORITY, meta(namespace="a"), "metadata.namespace", "not allowed on this type"),
    (BUDGET, spec(minAvailable=None), "spec", "one of minAvailable and maxUnavailable must be set"),
    (BUDGET, spec(maxUnavailable=1), "spec", "minAvailable and maxUnavailable cannot be both set"),
    (BUDGET, spec(minAvailable=-1), "spec.minAvailable", "must be greater than or equal to 0"),
    (BUDGET, spec(minAvailable="101%"), "spec.minAvailable", "must not be greater than 100%"),
    (BUDGET, spec(minAvailable="half"), "spec.minAvailable", PERCENT),
    (BUDGET, spec(minAvailable="-1%"), "spec.minAvailable", PERCENT),
    (BUDGET, spec(minAvailable=None, maxUnavailable="%"), "spec.maxUnavailable", PERCENT),
    (BUDGET, spec(minAvailable=None, maxUnavailable="5"), "spec.maxUnavailable", PERCENT),
    (
        BUDGET,
        spec(selector={"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}),
        "spec.selector.matchExpressions[0].operator",
        "not a valid selector operator",
    ),
    (
        BUDGET,
        spec(unhealthyPodEvictionPolicy="Never"),
        "spec.unhealthyPodEvictionPolicy",
        '"IfHealthyBudget", "AlwaysAllow"',
    ),
    (BUDGET, {"status": {"disruptionsAllowed": -1}}, "status.disruptionsAllowed", "greater than or equal to 0"),
]


@pytest.mark.parametrize(("data", "patch", "path", "message"), BAD)
def test_what_they_may_not(data: dict[str, Any], patch: dict[str, Any], path: str, message: str) -> None:
    errors = validate(made(data, patch))
    assert [error.path for error in errors] == [path], errors
    assert message in errors[0].message


def test_the_systems_classes_are_valid_and_known() -> None:
    assert {name: system_class(name).value for name in SYSTEM_CLASSES} == {
        "system-cluster-critical": 2_000_000_000,
        "system-node-critical": 2_000_001_000,
    }
    assert [validate(system_class(name)) for name in SYSTEM_CLASSES] == [[], []]


def test_a_class_keeps_its_number_and_its_policy() -> None:
    old = made(PRIORITY)
    assert old.preemptionPolicy == "PreemptLowerPriority", "the default"
    changed = {"value": 2, "preemptionPolicy": "Never", "globalDefault": True, "description": "another"}
    errors = [str(error) for error in validate_update(made(PRIORITY, changed), old)]
    assert errors == [
        "value: Forbidden: may not be changed in an update.",
        'preemptionPolicy: Invalid value: "Never": field is immutable',
    ]
    assert validate_update(made(PRIORITY, {"globalDefault": True, "description": "x"}), old) == []


def test_what_a_budget_asks_for_can_change() -> None:
    changed = made(BUDGET, spec(minAvailable=None, maxUnavailable=2, selector={"matchLabels": {"a": "b"}}))
    assert validate_update(changed, made(BUDGET)) == []


def test_their_versions() -> None:
    assert BY_NAME["PriorityClass"].api_version == "scheduling.k8s.io/v1"
    assert BY_NAME["PodDisruptionBudget"].api_version == "policy/v1"


# --- what a budget and a priority say of a pod


def pod(namespace: str = "default", phase: str = "Running", **labels: str) -> core.Pod:
    return core.Pod(
        metadata=core.ObjectMeta(name="web-1", namespace=namespace, labels=labels), status=core.PodStatus(phase=phase)
    )


def test_whom_a_budget_covers() -> None:
    budget = made(BUDGET)
    assert covers(budget, pod(app="web"))
    assert not covers(budget, pod(app="db"))
    assert not covers(budget, pod("other", app="web"))
    assert covers(made(BUDGET, spec(selector={"matchLabels": {"app": None}})), pod(app="db")), "empty: everybody"
    assert not covers(made(BUDGET, spec(selector=None)), pod(app="web")), "absent: nobody"


def test_who_needs_a_budget() -> None:
    assert [needs_budget(pod(phase=phase)) for phase in ("Running", "Unknown", "Pending", "Succeeded", "Failed")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    ending = pod()
    ending.metadata.deletionTimestamp.seconds = 1
    assert not needs_budget(ending)


def test_a_budget_is_current_when_it_was_counted_for_what_it_asks() -> None:
    budget = made(BUDGET)
    budget.metadata.generation = 2
    budget.status.observedGeneration = 1
    assert not is_current(budget)
    budget.status.observedGeneration = 2
    assert is_current(budget)
    assert unhealthy_policy(budget) == "IfHealthyBudget"


def test_the_condition_says_what_the_number_says() -> None:
    status = core.PodDisruptionBudgetStatus(disruptionsAllowed=1, observedGeneration=3)
    set_disruption_allowed(status, 5.0)
    (condition,) = status.conditions
    assert (condition.type, condition.status, condition.reason) == ("DisruptionAllowed", "True", "SufficientPods")
    assert (condition.observedGeneration, condition.lastTransitionTime.seconds) == (3, 5)
    status.disruptionsAllowed = 0
    set_disruption_allowed(status, 9.0)
    assert (condition.status, condition.reason) == ("False", "InsufficientPods")
    assert condition.lastTransitionTime.seconds == 9


def test_priorities_of_pods() -> None:
    assert (priority_of(core.Pod()), preempts(core.Pod())) == (0, True)
    modest = core.Pod(spec=core.PodSpec(priority=7, preemptionPolicy="Never"))
    assert (priority_of(modest), preempts(modest)) == (7, False)
