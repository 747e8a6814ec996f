"""Definitions of kinds in the master: names, conditions, stored versions, and what must not go."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.conditions import get_condition
from cluster.api.definitions import CLEANUP
from cluster.api.errors import Invalid
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.pb.v1 import core_pb2 as core
from tests.kit.widgets import SCHEMA, WIDGETS, definition, widget
from tests.unit.master.rig import Rig

CRD = Key("CustomResourceDefinition", "", WIDGETS)


async def make(rig: Rig, crd: core.CustomResourceDefinition) -> core.CustomResourceDefinition:
    made = await rig.create(crd)
    assert isinstance(made, core.CustomResourceDefinition)
    return made


def now(rig: Rig, name: str = WIDGETS) -> core.CustomResourceDefinition:
    found = rig.find("CustomResourceDefinition", name)
    assert isinstance(found, core.CustomResourceDefinition)
    return found


def condition(crd: core.CustomResourceDefinition, type: str) -> tuple[str, str, str]:
    found = get_condition(crd.status, type)
    assert found is not None, type
    return found.status, found.reason, found.message


async def test_a_definition_counts_from_the_write_that_makes_it(rig: Rig) -> None:
    given = definition(shortNames=["wd"])
    given.status.storedVersions.append("made-up")
    given.status.conditions.add(type="Mine", status="True")
    made = await make(rig, given)
    assert [each.type for each in made.status.conditions] == ["NamesAccepted", "Established"]
    assert condition(made, "NamesAccepted") == ("True", "NoConflicts", "no conflicts found")
    assert condition(made, "Established") == ("True", "InitialNamesAccepted", "the initial names have been accepted")
    assert made.status.acceptedNames == made.spec.names
    assert list(made.status.storedVersions) == ["v1"]
    assert made.metadata.generation == 1
    # Both in one revision: whoever applies a directory needs both at once.
    found = await rig.try_write(
        ops.create(definition("gadgets", "Gadget")),
        ops.create(widget(resource="gadgets.example.com", kind="Gadget")),
        atomic=True,
    )
    assert not [each for each in found if isinstance(each, Exception)]


@pytest.mark.parametrize(
    ("names", "reason", "message"),
    [
        ({"singular": "wd"}, "SingularConflict", '"wd" is already in use'),
        ({"kind": "Widget"}, "KindConflict", '"Widget" is already in use'),
        ({"listKind": "WidgetList"}, "ListKindConflict", '"WidgetList" is already in use'),
        ({"shortNames": ["wd", "g"]}, "ShortNamesConflict", '"wd" is already in use'),
    ],
)
async def test_a_name_that_is_taken(rig: Rig, names: dict[str, Any], reason: str, message: str) -> None:
    await make(rig, definition(shortNames=["wd"]))
    kind = names.pop("kind", "Gadget")
    late = await make(rig, definition("gadgets", kind, **{"singular": "gadget", "listKind": "GadgetList", **names}))
    assert condition(late, "NamesAccepted") == ("False", reason, message)
    assert condition(late, "Established") == ("False", "NotAccepted", "not all names are accepted")
    (found,) = await rig.try_write(ops.create(widget(resource="gadgets.example.com", kind=kind)))
    assert "is not established" in str(found)
    await make(rig, definition("gadgets", "Widget", group="other.com"))
    assert condition(now(rig, "gadgets.other.com"), "NamesAccepted")[0] == "True", "another group has names of its own"
    before = rig.revision
    await rig.write(ops.delete(CRD))
    assert rig.revision == before + 1, "the same revision frees the name and gives it away"
    assert condition(now(rig, "gadgets.example.com"), "Established")[0] == "True"
    await rig.create(widget(resource="gadgets.example.com", kind=kind))


async def test_a_name_that_is_given_up_goes_to_who_waits(rig: Rig) -> None:
    await make(rig, definition(shortNames=["w"]))
    await make(rig, definition("gadgets", "Gadget", shortNames=["w"]))
    await rig.write(ops.patch(CRD, {"spec": {"names": {"shortNames": ["wd"]}}}))
    assert list(now(rig).status.acceptedNames.shortNames) == ["wd"]
    assert list(now(rig, "gadgets.example.com").status.acceptedNames.shortNames) == ["w"]
    # Who was accepted once stays established, and keeps the names from before.
    await rig.write(ops.patch(CRD, {"spec": {"names": {"shortNames": ["w"]}}}))
    assert condition(now(rig), "NamesAccepted")[:2] == ("False", "ShortNamesConflict")
    assert condition(now(rig), "Established")[0] == "True"
    assert list(now(rig).status.acceptedNames.shortNames) == ["wd"]


async def test_versions_that_were_stored_are_remembered_and_stay(rig: Rig) -> None:
    await make(rig, definition(versions=("v1", "v2")))
    await rig.create(widget())
    await rig.write(ops.update(definition(versions=("v2", "v1"))))
    assert list(now(rig).status.storedVersions) == ["v1", "v2"]
    assert now(rig).metadata.generation == 2
    with pytest.raises(Invalid, match=r'status.storedVersions\[0\]: Invalid value: "v1": must appear in spec.versions'):
        await rig.write(ops.update(definition(versions=("v2",))))
    changed = await rig.write(ops.patch(Key("CustomObject", "default", f"{WIDGETS}/blue"), {"spec": {"size": 4}}))
    assert isinstance(changed, core.CustomObject)
    assert changed.apiVersion == "example.com/v2"
    migrated = now(rig)
    done = core.CustomResourceDefinition()
    done.CopyFrom(migrated)
    del done.status.storedVersions[:]
    done.status.storedVersions.append("v2")
    del done.status.conditions[:]
    await rig.write(ops.update_status(done))
    assert list(now(rig).status.storedVersions) == ["v2"]
    assert condition(now(rig), "Established")[0] == "True", "conditions are the master's"
    await rig.write(ops.update(definition(versions=("v2",))))


async def test_what_is_established_keeps_its_scope_and_kind(rig: Rig) -> None:
    await make(rig, definition())
    with pytest.raises(Invalid, match=r'spec.scope: Invalid value: "Cluster": field is immutable'):
        await rig.write(ops.patch(CRD, {"spec": {"scope": "Cluster"}}))
    with pytest.raises(Invalid, match=r'spec.names.kind: Invalid value: "Gadget": field is immutable'):
        await rig.write(ops.patch(CRD, {"spec": {"names": {"kind": "Gadget", "listKind": "GadgetList"}}}))


async def test_a_write_that_changes_nothing_is_none(rig: Rig) -> None:
    await make(rig, definition())
    before = rig.revision
    await rig.write(ops.update(definition()))
    await rig.write(ops.patch(CRD, {"metadata": {"finalizers": []}}))
    assert rig.revision == before


async def test_an_empty_one_goes_at_once_and_one_with_objects_waits(rig: Rig) -> None:
    await make(rig, definition())
    await rig.write(ops.delete(CRD))
    assert rig.find("CustomResourceDefinition", WIDGETS) is None
    await make(rig, definition())
    await rig.create(widget())
    await rig.write(ops.delete(CRD))
    ending = now(rig)
    assert list(ending.metadata.finalizers) == [CLEANUP]
    assert condition(ending, "Terminating")[:2] == ("True", "InstanceDeletionInProgress")
    before = rig.revision
    await rig.write(ops.delete(CRD))
    assert rig.revision == before


async def test_a_schema_takes_effect_with_its_revision(rig: Rig) -> None:
    await make(rig, definition())
    await rig.create(widget(spec={"size": 1, "extra": 1}))
    wider = {**SCHEMA, "properties": {**SCHEMA["properties"], "spec": {**SCHEMA["properties"]["spec"]}}}
    wider["properties"]["spec"]["properties"] = {
        **SCHEMA["properties"]["spec"]["properties"],
        "extra": {"type": "integer"},
    }
    found = await rig.try_write(
        ops.update(definition(schema=wider)), ops.create(widget("green", {"size": 1, "extra": 1})), atomic=True
    )
    assert isinstance(found[1], core.CustomObject)
    assert b'"extra":1' in found[1].content


async def test_a_dry_run_leaves_no_trace_in_what_is_remembered(rig: Rig) -> None:
    await make(rig, definition())
    await rig.try_write(ops.update(definition(schema={"type": "object"})), ops.create(widget()), dry_run=True)
    made = await rig.create(widget())
    assert isinstance(made, core.CustomObject)
    assert made.content == b'{"spec":{"colour":"red","size":3}}'
