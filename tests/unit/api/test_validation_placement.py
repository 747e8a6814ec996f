"""What a pod may say about its place, and what an update may make of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster.api.validation import validate
from cluster.pb.v1 import core_pb2 as core
from tests.unit.api.test_validation import POD, RC, made, spec
from tests.unit.api.test_validation_update import paths, updated

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NODES = f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms"
NEAR = {"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "kubernetes.io/hostname"}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}


def on_nodes(*terms: Any) -> dict[str, Any]:
    return spec(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}})


def expression(operator: str, *values: str, key: str = "disk") -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def field(operator: str, *values: str, key: str = "metadata.name") -> dict[str, Any]:
    return {"matchFields": [{"key": key, "operator": operator, "values": list(values)}]}


def near(**changes: Any) -> dict[str, Any]:
    return spec(affinity={"podAffinity": {REQUIRED: [{**NEAR, **changes}]}})


def spread(*constraints: dict[str, Any]) -> dict[str, Any]:
    return spec(topologySpreadConstraints=[{**SPREAD, **constraint} for constraint in constraints])


GOOD = [
    on_nodes(expression("In", "ssd", "nvme"), expression("Exists"), field("In", "node-1")),
    on_nodes(expression("Gt", "4"), expression("Lt", "-4"), {}),
    spec(affinity={"nodeAffinity": {PREFERRED: [{"weight": 100, "preference": expression("NotIn", "")}]}}),
    near(namespaces=["a"], namespaceSelector={}),
    spec(affinity={"podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": NEAR}]}}),
    spec(affinity={}),
    spread({}, {"whenUnsatisfiable": "ScheduleAnyway"}, {"topologyKey": "rack"}),
    spread({"minDomains": 3, "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor"}),
    spec(schedulingGates=[{"name": "example.com/quota"}, {"name": "b"}]),
    spec(priorityClassName="high", priority=-5, preemptionPolicy="Never"),
    spec(podGroup={"name": "train", "minMember": 8, "scheduleTimeoutSeconds": 1}),
]


@pytest.mark.parametrize("patch", GOOD)
def test_what_a_pod_may_say_about_its_place(patch: dict[str, Any]) -> None:
    assert validate(made(POD, patch)) == []


TERM = f"spec.affinity.podAffinity.{REQUIRED}[0]"
C = "spec.topologySpreadConstraints"

BAD = [
    # nodes
    (on_nodes(), NODES, "must have at least one node selector term"),
    (on_nodes(expression("In")), f"{NODES}[0].matchExpressions[0].values", "must be specified when `operator` is 'In'"),
    (on_nodes({}, expression("NotIn")), f"{NODES}[1].matchExpressions[0].values", "must be specified when"),
    (on_nodes(expression("In", "a b")), f"{NODES}[0].matchExpressions[0].values[0]", "a valid label must"),
    (on_nodes(expression("Exists", "x")), f"{NODES}[0].matchExpressions[0].values", "may not be specified when"),
    (on_nodes(expression("DoesNotExist", "x")), f"{NODES}[0].matchExpressions[0].values", "may not be specified when"),
    (on_nodes(expression("Gt")), f"{NODES}[0].matchExpressions[0].values", "must be specified single value"),
    (on_nodes(expression("Lt", "1", "2")), f"{NODES}[0].matchExpressions[0].values", "must be specified single value"),
    (on_nodes(expression("Lt", "1.5")), f"{NODES}[0].matchExpressions[0].values[0]", "must be an integer"),
    (on_nodes(expression("Like", "x")), f"{NODES}[0].matchExpressions[0].operator", "not a valid selector operator"),
    (on_nodes(expression("Exists", key="a b")), f"{NODES}[0].matchExpressions[0].key", "name part must consist of"),
    (on_nodes(field("Exists")), f"{NODES}[0].matchFields[0].operator", "not a valid selector operator"),
    (on_nodes(field("In", "a", "b")), f"{NODES}[0].matchFields[0].values", "must be only one value"),
    (on_nodes(field("In", "A")), f"{NODES}[0].matchFields[0].values[0]", "RFC 1123"),
    (on_nodes(field("In", "a", key="spec.x")), f"{NODES}[0].matchFields[0].key", "not a valid field selector key"),
    *[
        (
            spec(affinity={"nodeAffinity": {PREFERRED: [{"weight": weight, "preference": expression("Exists")}]}}),
            f"spec.affinity.nodeAffinity.{PREFERRED}[0].weight",
            "must be in the range 1-100",
        )
        for weight in (0, 101, -1)
    ],
    (
        spec(affinity={"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": expression("Like")}]}}),
        f"spec.affinity.nodeAffinity.{PREFERRED}[0].preference.matchExpressions[0].operator",
        "not a valid selector operator",
    ),
    # pods
    (near(topologyKey=""), f"{TERM}.topologyKey", "Required value: can not be empty"),
    (near(topologyKey="a b"), f"{TERM}.topologyKey", "name part must consist of"),
    (near(namespaces=["A"]), f"{TERM}.namespaces[0]", "RFC 1123"),
    (near(labelSelector={"matchLabels": {"a": "b c"}}), f"{TERM}.labelSelector.matchLabels", "a valid label must"),
    (
        near(labelSelector=expression("Gt", "1")),
        f"{TERM}.labelSelector.matchExpressions[0].operator",
        "not a valid selector operator",
    ),
    (
        near(namespaceSelector=expression("In")),
        f"{TERM}.namespaceSelector.matchExpressions[0].values",
        "must be specified when",
    ),
    (
        spec(affinity={"podAntiAffinity": {PREFERRED: [{"weight": 0, "podAffinityTerm": NEAR}]}}),
        f"spec.affinity.podAntiAffinity.{PREFERRED}[0].weight",
        "must be in the range 1-100",
    ),
    (
        spec(affinity={"podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": {}}]}}),
        f"spec.affinity.podAntiAffinity.{PREFERRED}[0].podAffinityTerm.topologyKey",
        "can not be empty",
    ),
    # spreading
    (spread({"maxSkew": 0}), f"{C}[0].maxSkew", "must be greater than zero"),
    (spread({"topologyKey": ""}), f"{C}[0].topologyKey", "can not be empty"),
    (spread({"whenUnsatisfiable": ""}), f"{C}[0].whenUnsatisfiable", '"DoNotSchedule", "ScheduleAnyway"'),
    (spread({}, {"maxSkew": 2}), f"{C}[1].{{topologyKey, whenUnsatisfiable}}", '"{zone, DoNotSchedule}"'),
    (spread({"minDomains": 0}), f"{C}[0].minDomains", "must be greater than zero"),
    (
        spread({"minDomains": 2, "whenUnsatisfiable": "ScheduleAnyway"}),
        f"{C}[0].minDomains",
        "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
    ),
    (spread({"nodeAffinityPolicy": "Maybe"}), f"{C}[0].nodeAffinityPolicy", '"Honor", "Ignore"'),
    (spread({"nodeTaintsPolicy": "Maybe"}), f"{C}[0].nodeTaintsPolicy", '"Honor", "Ignore"'),
    (
        spread({"labelSelector": expression("In")}),
        f"{C}[0].labelSelector.matchExpressions[0].values",
        "must be specified when",
    ),
    # gates, priority, group
    (spec(schedulingGates=[{"name": "a b"}]), "spec.schedulingGates[0]", "name part must consist of"),
    (spec(schedulingGates=[{}]), "spec.schedulingGates[0]", "name part must be non-empty"),
    (spec(schedulingGates=[{"name": "a"}, {"name": "a"}]), "spec.schedulingGates[1]", "Duplicate value"),
    (
        spec(schedulingGates=[{"name": "a"}], nodeName="node-1"),
        "spec.nodeName",
        "cannot be set until all schedulingGates have been cleared",
    ),
    (spec(priorityClassName="A"), "spec.priorityClassName", "RFC 1123"),
    (spec(preemptionPolicy="Sometimes"), "spec.preemptionPolicy", '"PreemptLowerPriority", "Never"'),
    (spec(podGroup={"minMember": 1}), "spec.podGroup.name", "Required value"),
    (spec(podGroup={"name": "A", "minMember": 1}), "spec.podGroup.name", "RFC 1123"),
    (spec(podGroup={"name": "a"}), "spec.podGroup.minMember", "Required value"),
    (spec(podGroup={"name": "a", "minMember": 0}), "spec.podGroup.minMember", "greater than or equal to 1"),
    (
        spec(podGroup={"name": "a", "minMember": 1, "scheduleTimeoutSeconds": 0}),
        "spec.podGroup.scheduleTimeoutSeconds",
        "greater than or equal to 1",
    ),
]


@pytest.mark.parametrize(("patch", "path", "message"), BAD)
def test_what_it_may_not(patch: dict[str, Any], path: str, message: str) -> None:
    errors = validate(made(POD, patch))
    assert [error.path for error in errors].count(path) >= 1, errors
    assert any(error.path == path and message in error.message for error in errors), errors
    template = validate(made(RC, {"spec": {"template": patch}}))
    assert any(error.path == path.replace("spec", "spec.template.spec", 1) for error in template), template


def test_a_group_waits_a_minute_unless_it_says_otherwise() -> None:
    assert made(POD, spec(podGroup={"name": "a", "minMember": 2})).spec.podGroup.scheduleTimeoutSeconds == 60
    assert not made(POD).spec.HasField("podGroup")


# --- updates


def gated(pod: core.Pod) -> None:
    pod.spec.schedulingGates.add(name="a")
    pod.spec.schedulingGates.add(name="b")
    pod.spec.nodeSelector["disk"] = "ssd"


def terms_of(pod: core.Pod) -> Any:
    return pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms


def narrowed(pod: core.Pod) -> None:
    gated(pod)
    term = terms_of(pod).add()
    term.matchExpressions.add(key="a", operator="Exists")
    term.matchFields.add(key="metadata.name", operator="NotIn", values=["n1"])


def test_gates_can_be_taken_away_and_not_added() -> None:
    assert updated(POD, lambda pod: pod.spec.schedulingGates.pop(0), gated) == []
    assert updated(POD, lambda pod: pod.spec.ClearField("schedulingGates"), gated) == []
    errors = updated(POD, lambda pod: pod.spec.schedulingGates.add(name="c"), gated)
    assert errors == ["spec.schedulingGates[2]: Forbidden: only deletion is allowed, but found new scheduling gate 'c'"]
    assert paths(updated(POD, lambda pod: pod.spec.schedulingGates.add(name="a"))) == ["spec.schedulingGates[0]"]


def test_a_gated_pods_node_selector_can_grow() -> None:
    assert updated(POD, lambda pod: pod.spec.nodeSelector.update({"zone": "a"}), gated) == []
    for change in (
        lambda pod: pod.spec.nodeSelector.update({"disk": "hdd"}),
        lambda pod: pod.spec.nodeSelector.pop("disk"),
    ):
        (error,) = updated(POD, change, gated)
        assert error.startswith("spec.nodeSelector: Invalid value")
        assert "only additions to spec.nodeSelector are allowed" in error
    assert updated(POD, lambda pod: pod.spec.nodeSelector.update({"zone": "a"})) != [], "not gated"


def add_term(pod: core.Pod) -> None:
    terms_of(pod).add().matchExpressions.add(key="b", operator="Exists")


def add_expression(pod: core.Pod) -> None:
    terms_of(pod)[0].matchExpressions.add(key="b", operator="Exists")


def add_field(pod: core.Pod) -> None:
    terms_of(pod)[0].matchFields.add(key="metadata.name", operator="NotIn", values=["n2"])


def add_preference(pod: core.Pod) -> None:
    affinity = pod.spec.affinity.nodeAffinity
    affinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=1).preference.SetInParent()


def change_expression(pod: core.Pod) -> None:
    terms_of(pod)[0].matchExpressions[0].key = "z"


def fill_an_empty_term(pod: core.Pod) -> None:
    terms_of(pod)[1].matchExpressions.add(key="b", operator="Exists")


def with_an_empty_term(pod: core.Pod) -> None:
    narrowed(pod)
    terms_of(pod).add()


@pytest.mark.parametrize(
    ("change", "old", "fine"),
    [
        (add_term, gated, True),
        (add_preference, gated, True),
        (add_expression, narrowed, True),
        (add_field, narrowed, True),
        (add_preference, narrowed, True),
        (add_term, narrowed, False),
        (change_expression, narrowed, False),
        (lambda pod: terms_of(pod)[0].matchFields.pop(), narrowed, False),
        (lambda pod: terms_of(pod).pop(), narrowed, False),
        (lambda pod: pod.spec.ClearField("affinity"), narrowed, False),
        (fill_an_empty_term, with_an_empty_term, False),
        (add_expression, with_an_empty_term, True),
    ],
)
def test_a_gated_pods_node_affinity_can_be_narrowed(
    change: Callable[[core.Pod], Any], old: Callable[[core.Pod], None], fine: bool
) -> None:
    errors = updated(POD, change, old)
    assert (errors == []) is fine, errors
    assert all(path.startswith(NODES) for path in paths(errors))


def test_what_is_said_of_other_pods_never_changes() -> None:
    def keep_away(pod: core.Pod) -> None:
        term = pod.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.add()
        term.topologyKey = "zone"

    def spread_out(pod: core.Pod) -> None:
        pod.spec.topologySpreadConstraints.add(maxSkew=1, topologyKey="zone", whenUnsatisfiable="DoNotSchedule")

    for old in (None, gated):
        assert len(updated(POD, keep_away, old)) == 1
        assert len(updated(POD, spread_out, old)) == 1
        assert paths(updated(POD, lambda pod: pod.spec.MergeFrom(core.PodSpec(priority=1)), old)) == ["spec.priority"]


def test_the_affinity_of_a_pod_without_gates_never_changes() -> None:
    def placed(pod: core.Pod) -> None:
        narrowed(pod)
        pod.spec.ClearField("schedulingGates")

    for change in (add_term, add_expression, add_preference):
        assert len(updated(POD, change, placed)) == 1
