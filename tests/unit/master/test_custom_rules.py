"""Rules in CEL, at every door through which an object comes: whatever writes it, they are asked."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from cluster.api.errors import ApiError, Invalid
from cluster.api.json import object_to_json
from cluster.api.meta import custom_key
from cluster.client import operations as ops
from cluster.pb.v1 import core_pb2 as core
from tests.kit.widgets import SCHEMA, WIDGETS, definition, widget
from tests.unit.master.rig import Rig

BLUE = custom_key(WIDGETS, "default", "blue")


def ruled(**rules: list[dict[str, Any]]) -> core.CustomResourceDefinition:
    """Widgets, with rules at the root, in spec and in status."""
    schema = deepcopy(SCHEMA)
    for place, found in rules.items():
        target = schema if place == "root" else schema["properties"][place]
        target["x-kubernetes-validations"] = found
    return definition(schema=schema)


RULES = ruled(
    root=[
        {"rule": "self.metadata.name.startsWith('b')", "message": "must begin with b"},
        {
            "rule": "!has(self.status) || !has(self.status.ready) || self.spec.size > 1",
            "message": "too small to be ready",
        },
    ],
    spec=[
        {"rule": "self.colour != 'green' || self.size < 5", "message": "green ones are small"},
        {"rule": "self.size >= oldSelf.size", "messageExpression": "'was ' + string(oldSelf.size)"},
    ],
    status=[
        {"rule": "!has(oldSelf.phase) || has(self.phase)", "message": "the phase stays", "reason": "FieldValueRequired"}
    ],
)


async def refused(rig: Rig, operation: Any) -> list[str]:
    (found,) = await rig.try_write(operation)
    assert isinstance(found, Invalid), found
    return [str(cause) for cause in found.causes]


async def test_what_breaks_a_rule_is_not_made(rig: Rig) -> None:
    await rig.create(RULES)
    await rig.create(widget(spec={"size": 3, "colour": "green"}))
    assert await refused(rig, ops.create(widget("big", {"size": 5, "colour": "green"}))) == [
        'spec: Invalid value: "object": green ones are small'
    ]
    assert rig.find("CustomObject", f"{WIDGETS}/big") is None
    assert await refused(rig, ops.create(widget("red"))) == ['<nil>: Invalid value: "object": must begin with b']
    with pytest.raises(Invalid) as caught:
        await rig.create(widget("red"))
    assert caught.value.message.startswith('Widget.example.com "red" is invalid: <nil>: Invalid value: ')


async def test_rules_are_asked_of_what_the_schema_made_of_an_object(rig: Rig) -> None:
    crd = ruled(spec=[{"rule": "self.colour == 'red'"}])
    await rig.create(crd)
    await rig.create(widget(spec={"size": 1}))  # red by default


async def test_an_update_is_compared_with_what_was_there(rig: Rig) -> None:
    await rig.create(RULES)
    await rig.create(widget(spec={"size": 3}))
    for operation in (
        ops.update(widget(spec={"size": 2})),
        ops.patch(BLUE, {"spec": {"size": 2}}),
    ):
        assert await refused(rig, operation) == ['spec: Invalid value: "object": was 3']
    await rig.write(ops.patch(BLUE, {"spec": {"size": 4}}))
    await rig.write(ops.patch(BLUE, {"metadata": {"labels": {"a": "b"}}}))


async def test_a_dry_run_is_told_the_same(rig: Rig) -> None:
    await rig.create(RULES)
    for operation in (ops.create(widget("red")), ops.create(widget("blue"))):
        (dry,) = await rig.try_write(operation, dry_run=True)
        (found,) = await rig.try_write(operation)
        assert isinstance(dry, ApiError) == isinstance(found, ApiError)
        assert not isinstance(dry, ApiError) or str(dry) == str(found)


async def test_a_status_is_written_under_the_same_rules(rig: Rig) -> None:
    await rig.create(RULES)
    await rig.create(widget(spec={"size": 1}))
    assert await refused(rig, ops.update_status(widget(spec={"size": 9}, status={"ready": True}))) == [
        '<nil>: Invalid value: "object": too small to be ready'
    ]
    await rig.write(ops.update_status(widget(status={"phase": "Up"})))
    assert await refused(rig, ops.update_status(widget(status={"ready": False, "phase": None}))) != []
    await rig.write(ops.patch(BLUE, {"spec": {"size": 2}}))
    assert await refused(rig, ops.patch(BLUE, {"status": {"phase": None, "ready": True}}, status=True)) == [
        "status: Required value: the phase stays"
    ]
    shown = await rig.write(ops.patch(BLUE, {"status": {"ready": True}}, status=True))
    assert object_to_json(shown)["status"] == {"phase": "Up", "ready": True}


async def test_an_object_that_its_schema_does_not_take_is_not_asked(rig: Rig) -> None:
    await rig.create(RULES)
    first, second = await refused(rig, ops.create(widget("red", {"size": 11})))
    assert first.startswith("spec.size: Invalid value: 11")
    assert second.startswith(
        "<nil>: Invalid value: null: some validation rules were not checked because the object was"
    )


async def test_what_does_not_change_may_break_rules_that_came_later(rig: Rig) -> None:
    await rig.create(definition())
    made = await rig.create(widget(spec={"size": 3}))
    stricter = ruled(spec=[{"rule": "self.size > 5"}])
    await rig.write(ops.update(stricter))
    await rig.write(ops.patch(BLUE, {"metadata": {"finalizers": ["example.com/a"]}}))
    await rig.write(ops.patch(BLUE, {"metadata": {"finalizers": None}}))
    assert await refused(rig, ops.patch(BLUE, {"spec": {"colour": "green"}})) == [
        'spec: Invalid value: "object": failed rule: self.size > 5'
    ]
    assert made.metadata.name == "blue"
    await rig.write(ops.update_status(widget(status={"ready": True})))  # another part of it


async def test_a_definition_with_rules_that_are_none_is_refused(rig: Rig) -> None:
    (problem,) = await refused(rig, ops.create(ruled(spec=[{"rule": "self.sise > 5"}])))
    where = "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"
    assert problem.startswith(
        f'{where}: Invalid value: "self.sise > 5": compilation failed: ERROR: <input>:1:5: undefined'
    )
    assert rig.find("CustomResourceDefinition", WIDGETS) is None
    await rig.create(definition())
    assert await refused(rig, ops.update(ruled(spec=[{"rule": "self"}]))) != []
