"""What is known of places in objects: by descriptors, and by schemas that users write."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.errors import Conflict
from cluster.api.field_sets import fields_of
from cluster.api.managers import UPDATE, Manager, noted
from cluster.api.shapes import UNKNOWN, OfCustom, OfSchema, Shape
from cluster.kubernetes.applying import apply
from cluster.kubernetes.resources import BY_KIND
from tests.kit.customs import SCHEMA, widget

WIDGET = OfCustom(SCHEMA, status_apart=True)


def at(shape: Shape, path: str) -> Shape:
    for name in path.split("."):
        shape = shape.under(name)
    return shape


@pytest.mark.parametrize(
    ("kind", "path", "keys", "is_set", "is_atomic"),
    [
        ("Pod", "spec.containers", ("name",), False, False),
        ("Pod", "spec.containers.ports", ("containerPort", "protocol"), False, False),
        ("Pod", "spec.tolerations", (), False, False),
        ("Pod", "spec.nodeSelector", (), False, True),
        ("Pod", "metadata.finalizers", (), True, False),
        ("Pod", "metadata.labels.a", (), False, False),
        ("Pod", "nothing.at.all", (), False, False),
        ("Widget", "metadata.finalizers", (), True, False),
        ("Widget", "spec.ports", ("port", "protocol"), False, False),
        ("Widget", "spec.ports.note", (), False, False),
        ("Widget", "spec.tags", (), True, False),
        ("Widget", "spec.selector", (), False, True),
        ("Widget", "spec.limits.cpu", (), False, False),
        ("Widget", "spec.free.anything", (), False, False),
        ("Widget", "status.conditions", (), False, False),
    ],
)
def test_places(kind: str, path: str, keys: tuple[str, ...], is_set: bool, is_atomic: bool) -> None:
    shape = at(WIDGET if kind == "Widget" else BY_KIND[kind].shape, path)
    assert (shape.keys, shape.is_set, shape.is_atomic) == (keys, is_set, is_atomic)


def test_what_is_written_apart() -> None:
    assert BY_KIND["Pod"].shape.apart == WIDGET.apart == ("status",)
    assert OfCustom(SCHEMA, status_apart=False).apart == ()
    assert at(WIDGET, "spec.ports").default_of("protocol") == "TCP"
    assert at(WIDGET, "spec.ports").default_of("port") is None
    assert UNKNOWN.under("x") is UNKNOWN
    assert OfSchema({"additionalProperties": True}).under("x") is UNKNOWN


def steps(*names: str) -> tuple[str, ...]:
    return tuple(name if name[:2] in ("k:", "v:") else f"f:{name}" for name in names)


def test_fields_of_an_object_of_a_kind_that_a_user_defined() -> None:
    data = widget(
        tags=["x"], ports=[{"port": 1, "note": "n"}], selector={"a": "b"}, limits={"cpu": 1}, free={"deep": {"er": 1}}
    )
    data["status"] = {"phase": "New"}
    key = 'k:{"port":1,"protocol":"TCP"}'
    assert fields_of(data, WIDGET) == {
        steps("spec", "size"),
        steps("spec", "tags", 'v:"x"'),
        steps("spec", "ports", key),
        steps("spec", "ports", key, "port"),
        steps("spec", "ports", key, "note"),
        steps("spec", "selector"),
        steps("spec", "limits", "cpu"),
        steps("spec", "free", "deep", "er"),
        steps("status", "phase"),
    }


def applied(live: dict[str, Any] | None, wanted: dict[str, Any], name: str, *, force: bool = False) -> dict[str, Any]:
    return apply(live, wanted, WIDGET, name, force=force, now="2026-03-01T12:00:00Z")


def test_managers_share_lists_that_are_maps() -> None:
    live = applied(None, widget(ports=[{"port": 1}], tags=["a"]), "one")
    live = applied(live, widget(ports=[{"port": 2, "note": "mine"}], tags=["b"]), "two")
    assert live["spec"]["ports"] == [{"port": 2, "note": "mine"}, {"port": 1}]
    assert live["spec"]["tags"] == ["a", "b"]
    with pytest.raises(Conflict, match=r'conflict with "two": .spec.ports\[port=2,protocol="TCP"\].note'):
        applied(live, widget(ports=[{"port": 2, "note": "other"}]), "one")
    live = applied(live, widget(), "two")
    assert live["spec"]["ports"] == [{"port": 1}]
    assert live["spec"]["tags"] == ["a"]


def test_what_is_atomic_changes_hands_as_a_whole() -> None:
    live = applied(None, widget(selector={"a": "b"}), "one")
    with pytest.raises(Conflict, match=r"\.spec\.selector"):
        applied(live, widget(selector={"c": "d"}), "two")
    live = applied(live, widget(selector={"c": "d"}), "two", force=True)
    assert live["spec"]["selector"] == {"c": "d"}
    assert [entry["manager"] for entry in live["metadata"]["managedFields"]] == ["one", "two"]
    assert {entry["apiVersion"] for entry in live["metadata"]["managedFields"]} == {"example.com/v1"}
    editor = Manager("editor", UPDATE)
    entries = noted(live, {**live, "spec": {"size": 4}}, WIDGET, editor, now="2026-03-01T12:00:01Z")
    owners = {entry["manager"]: entry["fieldsV1"] for entry in entries}
    assert owners["editor"] == {"f:spec": {"f:size": {}}}
