"""What differs between two objects, in words that read like a manifest."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.diff import ABSENT, LAST_APPLIED, Difference, differences, object_differences
from cluster.pb.v1 import core_pb2 as core

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default", "resourceVersion": "7", "labels": {"app": "web"}},
    "spec": {
        "containers": [
            {"name": "web", "image": "web:1", "command": ["serve", "-v"], "ports": [{"containerPort": 80}]},
            {"name": "log", "image": "log:1", "env": [{"name": "LEVEL", "value": "info"}]},
        ]
    },
}


def changed(**steps: Any) -> dict[str, Any]:
    """POD with a value put at each path; "__" separates steps."""
    pod = copy.deepcopy(POD)
    for path, value in steps.items():
        target: Any = pod
        *walk, last = [int(step) if step.isdigit() else step for step in path.split("__")]
        for step in walk:
            target = target[step]
        target[last] = value
    return pod


def said(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    return [str(difference) for difference in differences(old, new)]


def test_paths_read_like_a_manifest() -> None:
    new = changed(
        metadata__resourceVersion="9",
        metadata__labels={"app": "web", "tier": "fe"},
        metadata__annotations={"podium.dev/note": "hello there"},
        spec__containers__0__image="web:2",
    )
    assert said(POD, new) == [
        "metadata.labels.tier: (nothing) -> fe",
        'metadata.annotations["podium.dev/note"]: (nothing) -> "hello there"',
        "spec.containers[name=web].image: web:1 -> web:2",
    ]


def test_gates_and_constraints_are_told_by_what_names_them() -> None:
    two = changed(spec__schedulingGates=[{"name": "a"}, {"name": "b"}])
    assert said(two, changed(spec__schedulingGates=[{"name": "b"}])) == [
        'spec.schedulingGates[name=a]: {"name": "a"} -> (nothing)'
    ]
    even = {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}
    assert said(
        changed(spec__topologySpreadConstraints=[even]),
        changed(spec__topologySpreadConstraints=[{**even, "maxSkew": 2}]),
    ) == ["spec.topologySpreadConstraints[topologyKey=zone,whenUnsatisfiable=DoNotSchedule].maxSkew: 1 -> 2"]


def test_what_the_master_keeps_for_itself_is_no_difference() -> None:
    new = changed(
        metadata__resourceVersion="9", metadata__generation=4, metadata__actor="admin", metadata__cause={"revision": 3}
    )
    assert said(POD, new) == []


def test_elements_are_matched_by_name_so_what_moved_has_not_changed() -> None:
    new = changed(spec__containers=copy.deepcopy(POD["spec"]["containers"][::-1]))
    assert said(POD, new) == []
    new["spec"]["containers"].append({"name": "more"})
    new["spec"]["containers"][0]["env"][0]["value"] = "debug"
    assert said(POD, new) == [
        "spec.containers[name=log].env[name=LEVEL].value: info -> debug",
        'spec.containers[name=more]: (nothing) -> {"name": "more"}',
    ]


def test_a_port_is_known_by_its_name_or_else_by_its_number() -> None:
    by_number = changed(spec__containers__0__ports=[{"containerPort": 81}, {"containerPort": 80, "name": "http"}])
    assert said(POD, by_number) == [
        'spec.containers[name=web].ports[containerPort=81]: (nothing) -> {"containerPort": 81}',
        "spec.containers[name=web].ports[containerPort=80].name: (nothing) -> http",
    ]
    old = changed(spec__containers__0__ports=[{"containerPort": 80, "name": "http"}])
    new = changed(spec__containers__0__ports=[{"containerPort": 81, "name": "http"}])
    assert said(old, new) == ["spec.containers[name=web].ports[name=http].containerPort: 80 -> 81"]


def test_names_that_are_no_names_fall_back_to_the_place() -> None:
    old = changed(spec__containers=[{"name": "a", "image": "1"}, {"name": "a", "image": "2"}])
    new = changed(spec__containers=[{"name": "a", "image": "1"}, {"name": "a", "image": "3"}])
    assert said(old, new) == ['spec.containers[1].image: "2" -> "3"']


def test_lists_of_plain_values_change_as_a_whole() -> None:
    assert said(POD, changed(spec__containers__0__command=["serve"])) == [
        'spec.containers[name=web].command: ["serve", "-v"] -> ["serve"]'
    ]


def test_an_object_that_was_not_there_shows_its_parts() -> None:
    found = differences(None, {"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"replicas": 3}})
    assert found == [
        Difference("metadata.name", ABSENT, "a"),
        Difference("metadata.labels.x", ABSENT, "1"),
        Difference("spec.replicas", ABSENT, 3),
    ]


def test_what_apply_remembers_is_told_only_when_nothing_else_changed() -> None:
    memory = {LAST_APPLIED: "{}"}
    assert said(POD, changed(metadata__annotations=memory, metadata__labels={})) == [
        "metadata.labels.app: web -> (nothing)"
    ]
    assert said(POD, changed(metadata__annotations=memory)) == [
        f'metadata.annotations["{LAST_APPLIED}"]: (nothing) -> ' + '"{}"'
    ]


def test_words_that_look_like_something_else_are_quoted() -> None:
    old = {"metadata": {"labels": {"a": "true", "b": "1", "c": "x y", "d": "-> x", "e": "v1.2"}}}
    assert said(old, {}) == [
        'metadata.labels.a: "true" -> (nothing)',
        'metadata.labels.b: "1" -> (nothing)',
        'metadata.labels.c: "x y" -> (nothing)',
        'metadata.labels.d: "-> x" -> (nothing)',
        "metadata.labels.e: v1.2 -> (nothing)",
    ]


def test_objects_are_compared_as_their_json() -> None:
    old = core.ReplicationController()
    old.metadata.name = "web"
    old.spec.replicas = 3
    new = core.ReplicationController()
    new.CopyFrom(old)
    new.spec.replicas = 5
    new.metadata.generation = 2
    assert object_differences(old, new) == [Difference("spec.replicas", 3, 5)]
    assert object_differences(old, old) == []


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "env", "ports", "a"]), inner),
    max_leaves=12,
)
_objects = st.dictionaries(st.sampled_from(["spec", "status", "metadata"]), _json)


@given(_objects, _objects)
@settings(max_examples=200)
def test_there_is_a_difference_if_and_only_if_they_differ(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert differences(old, old) == []
    found = differences(old, new)
    for difference in found:
        assert difference.old != difference.new
    back = differences(new, old)
    assert {(d.path, repr(d.old), repr(d.new)) for d in found} == {(d.path, repr(d.new), repr(d.old)) for d in back}
