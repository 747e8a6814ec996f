"""Who answers for which fields after an update, and how managedFields say it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from cluster.api.field_sets import fields_of, readable
from cluster.api.managers import (
    ANCIENT,
    MAX_UPDATERS,
    UPDATE,
    Manager,
    changed_fields,
    check_name,
    entries_of,
    managers_of,
    noted,
)
from cluster.api.problems import Report
from cluster.api.shapes import shape_of
from cluster.api.validation_meta import validate_meta
from cluster.pb.v1 import core_pb2 as core

RC = shape_of(core.ReplicationController())
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def controller(replicas: int = 1, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "web", **({"labels": labels} if labels else {})},
        "spec": {"replicas": replicas},
    }


def tracked(data: dict[str, Any], *managers: Manager) -> dict[str, Any]:
    """An object that these managers answer for, each for all of it."""
    every = {each: frozenset(path for path in fields_of(data, RC) if each.is_about(path, RC)) for each in managers}
    return with_entries(data, entries_of(every, {}, NOW, "v1"))


def with_entries(data: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {**data, "metadata": {**data["metadata"], "managedFields": entries}}


def after(live: dict[str, Any], new: dict[str, Any], manager: Manager, now: str = LATER) -> dict[str, list[str]]:
    """Managers and their fields after an update, which leaves both objects alone."""
    before = copy.deepcopy((live, new))
    found = with_entries(new, noted(live, new, RC, manager, now=now))
    assert (live, new) == before
    return owned(found)


def owned(data: dict[str, Any]) -> dict[str, list[str]]:
    return {
        f"{each.name} {each.operation}" + (f" {each.subresource}" if each.subresource else ""): sorted(
            map(readable, paths)
        )
        for each, paths in managers_of(data).items()
    }


ONE, EDITOR = Manager("one", "Apply"), Manager("editor", UPDATE)


def test_who_changes_a_field_answers_for_it() -> None:
    live = tracked(controller(1, a="b", c="d"), ONE)
    assert after(live, controller(1, a="x", new="y"), EDITOR) == {
        "one Apply": [".spec.replicas"],
        "editor Update": [".metadata.labels.a", ".metadata.labels.new"],
    }


def test_what_is_left_alone_stays_whose_it_is() -> None:
    live = tracked(controller(1, a="b"), ONE)
    assert after(live, controller(1, a="b"), EDITOR) == {"one Apply": [".metadata.labels.a", ".spec.replicas"]}


def test_the_status_is_written_through_its_subresource_alone() -> None:
    live = tracked(controller(1), ONE)
    new = {**controller(2), "status": {"replicas": 2}}
    assert after(live, new, Manager("controllers", UPDATE, "status")) == {
        "one Apply": [".spec.replicas"],
        "controllers Update status": [".status.replicas"],
    }
    assert after(live, new, EDITOR) == {"editor Update": [".spec.replicas"]}
    assert after(live, controller(3), Manager("kubectl", UPDATE, "scale")) == {
        "kubectl Update scale": [".spec.replicas"]
    }


def test_of_an_object_that_nobody_has_applied_nothing_is_noted() -> None:
    assert noted(controller(1), controller(2), RC, EDITOR, now=NOW) == []


def test_who_says_nothing_leaves_the_list_and_who_empties_an_entry_ends_it() -> None:
    live = tracked(controller(1), ONE)
    assert after(live, with_entries(controller(1), []), EDITOR) == {"one Apply": [".spec.replicas"]}
    assert noted(live, with_entries(controller(1), [{}]), RC, EDITOR, now=NOW) == []


def test_an_update_may_say_itself_who_answers_for_what() -> None:
    live = tracked(controller(1), ONE)
    given = tracked(controller(1), Manager("two", "Apply"))
    assert after(live, given, EDITOR) == {"two Apply": [".spec.replicas"]}


def test_what_is_as_it_was_keeps_its_time() -> None:
    live = tracked(controller(1, a="b"), ONE, EDITOR)
    times = {
        (each["manager"], each["time"]) for each in noted(live, controller(1, a="b", c="d"), RC, EDITOR, now=LATER)
    }
    assert times == {("one", NOW), ("editor", LATER)}


def test_the_oldest_of_many_updaters_become_one() -> None:
    live = tracked(controller(1), ONE)
    for number in range(MAX_UPDATERS + 3):
        labels = {f"l{each}": "x" for each in range(number + 1)}
        new = controller(1, **labels)
        updater = Manager(f"m{number:02}", UPDATE)
        live = with_entries(new, noted(live, new, RC, updater, now=f"2026-01-01T00:00:{number:02}Z"))
    entries = live["metadata"]["managedFields"]
    assert [each["manager"] for each in entries[:3]] == ["one", ANCIENT, "m04"]
    assert len(entries) == 1 + MAX_UPDATERS
    assert owned(live)[f"{ANCIENT} Update"] == [f".metadata.labels.l{number}" for number in range(4)]


def test_fields_that_are_another_value() -> None:
    old, new = controller(1, a="b", gone="x"), controller(2, a="b", new="y")
    assert sorted(map(readable, changed_fields(old, new, RC))) == [".metadata.labels.new", ".spec.replicas"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kubectl", ""),
        ("x" * 128, ""),
        ("x" * 129, "Too long: must have at most 128 bytes"),
        ("ü" * 65, "Too long: must have at most 128 bytes"),
        ("a\tb", 'Invalid value: "a\tb": invalid character U+0009 (at position 1)'),
    ],
)
def test_names_of_managers(name: str, message: str) -> None:
    report = Report()
    check_name(report, "fieldManager", name)
    assert [error.message for error in report.errors] == ([message] if message else [])


def test_managed_fields_that_are_refused() -> None:
    report, obj = Report(), core.Pod(metadata=core.ObjectMeta(name="web", namespace="default"))
    obj.metadata.managedFields.add()
    validate_meta(report, obj)
    assert not report.errors, "a single empty entry ends it"
    obj.metadata.managedFields.add(manager="x\n", operation="Steal", fieldsType="V2", subresource="s" * 257)
    validate_meta(report, obj)
    assert [error.path.removeprefix("metadata.managedFields") for error in report.errors] == [
        *("[0].operation", "[1].operation", "[1].fieldsType", "[1].manager", "[1].subresource"),
    ]
    for raw in (b"{", b'{"f:a":%s}' % (b"9" * 30), b'{"f:a":%s%s}' % (b"[" * 300, b"]" * 300)):
        report, obj = Report(), core.Pod(metadata=core.ObjectMeta(name="web", namespace="default"))
        obj.metadata.managedFields.add(manager="x", operation="Apply").fieldsV1.Raw = raw
        validate_meta(report, obj)
        assert [error.path for error in report.errors] == ["metadata.managedFields[0].fieldsV1"]
