"""The suite's part about writing one object: create, update, patch, bind."""

from __future__ import annotations

from typing import cast

import pytest

from cluster.api.aside import ANNOTATION
from cluster.api.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Invalid,
    NotFound,
)
from cluster.api.meta import Key, from_time, revision_of
from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from tests.contract.client_kit import (
    bound_pod,
    controller,
    create_pod,
    error_of,
    key,
    managed,
    node,
    pod,
    write,
)


class WriteContract:
    """Get and write."""

    # --- who answers for which fields

    async def test_whoever_changes_what_was_applied_is_noted(self, client: ClusterClient) -> None:
        given = controller()
        given.metadata.managedFields.add(
            manager="one",
            operation="Apply",
            apiVersion="v1",
            time=core.Time(seconds=1_767_225_600),
            fieldsType="FieldsV1",
            fieldsV1=core.FieldsV1(Raw=b'{"f:spec":{"f:replicas":{}}}'),
        )
        applied = operations.by_manager(operations.create(given), "one", applied=True)
        (created,) = await write(client, applied)
        assert managed(created) == {"one Apply": '{"f:spec":{"f:replicas":{}}}'}
        place = key("rc", "ReplicationController")
        (same,) = await write(client, operations.patch(place, {"spec": {"replicas": 3}}))
        assert same == created, "what changes nothing is nobody's news"
        (scaled,) = await write(
            client,
            operations.by_manager(operations.patch(place, {"spec": {"replicas": 4}}), "kubectl", subresource="scale"),
        )
        assert managed(scaled) == {"kubectl Update scale": '{"f:spec":{"f:replicas":{}}}'}
        scaled.metadata.labels["x"] = "1"
        del scaled.metadata.managedFields[:]
        (labelled,) = await write(client, operations.update(scaled))
        labelled.status.replicas = 4  # type: ignore[union-attr]
        (reported,) = await write(client, operations.update_status(labelled))
        assert managed(reported) == {
            "kubectl Update scale": '{"f:spec":{"f:replicas":{}}}',
            "podium Update": '{"f:metadata":{"f:labels":{"f:x":{}}}}',
            "podium Update status": '{"f:status":{"f:replicas":{}}}',
        }
        reported.metadata.managedFields[0].CopyFrom(core.ManagedFieldsEntry())
        del reported.metadata.managedFields[1:]
        (ended,) = await write(client, operations.update(reported))
        assert managed(ended) == {}

    async def test_of_what_nobody_has_applied_nothing_is_noted(self, client: ClusterClient) -> None:
        given = pod()
        given.metadata.managedFields.add(manager="one", operation="Apply")
        (created,) = await write(client, operations.create(given))
        (changed,) = await write(client, operations.patch(key(), {"metadata": {"labels": {"x": "1"}}}))
        assert managed(created) == managed(changed) == {}

    async def test_names_of_managers_that_are_refused(self, client: ClusterClient) -> None:
        for name in ("x" * 129, "a\tb"):
            error = await error_of(client, operations.by_manager(operations.create(pod()), name))
            assert isinstance(error, Invalid)

    # --- create and get

    async def test_what_was_created_can_be_read_with_all_that_the_master_adds(self, client: ClusterClient) -> None:
        cause = core.Cause(revision=7, object="replicationcontrollers/default/web", reason="scale-up")
        written = await client.write([operations.create(pod(app="web"))], cause=cause)
        found = await client.get(core.Pod, "a", "default")
        assert found == written.outcomes[0].unwrap()
        assert not written.outcomes[0].unchanged
        meta = found.metadata
        assert revision_of(found) == written.revision > 0
        assert len(meta.uid) == 36
        assert meta.generation == 1
        assert from_time(meta.creationTimestamp) > 0
        assert (meta.actor, meta.cause) == ("admin", cause)
        assert dict(meta.labels) == {"app": "web"}
        assert found.status.phase == "Pending"
        assert found.spec.restartPolicy == "Always"
        assert await client.get(core.Pod, "a") == found

    async def test_a_name_can_be_left_to_the_master(self, client: ClusterClient) -> None:
        nameless = pod("")
        nameless.metadata.ClearField("name")
        nameless.metadata.generateName = "web-"
        created = await write(client, *[operations.create(nameless)] * 20)
        names = {found.metadata.name for found in created}
        assert len(names) == 20
        assert all(name.startswith("web-") and len(name) == len("web-") + 5 for name in names)

    async def test_an_object_without_a_namespace_goes_to_default(self, client: ClusterClient) -> None:
        homeless = pod()
        homeless.metadata.ClearField("namespace")
        (created,) = await write(client, operations.create(homeless))
        assert created.metadata.namespace == "default"

    async def test_creates_that_are_refused(self, client: ClusterClient) -> None:
        await create_pod(client)
        assert isinstance(await error_of(client, operations.create(pod())), AlreadyExists)
        bad = pod("b")
        bad.spec.containers[0].name = "Not A Name"
        error = await error_of(client, operations.create(bad))
        assert isinstance(error, Invalid)
        assert [cause.path for cause in error.causes] == ["spec.containers[0].name"]
        versioned = pod("c")
        versioned.metadata.resourceVersion = "1"
        assert isinstance(await error_of(client, operations.create(versioned)), Invalid)
        elsewhere = pod("d")
        elsewhere.metadata.namespace = "nowhere"
        assert isinstance(await error_of(client, operations.create(elsewhere)), NotFound)
        assert [found.metadata.name for found in (await client.list(core.Pod)).items] == ["a"]

    async def test_what_does_not_exist_is_not_found(self, client: ClusterClient) -> None:
        with pytest.raises(NotFound, match="nope"):
            await client.get(core.Pod, "nope")
        await create_pod(client)
        with pytest.raises(NotFound):
            await client.get(core.Service, "a")
        for operation in (
            operations.update(pod("nope")),
            operations.update_status(pod("nope")),
            operations.patch(key("nope"), {}),
            operations.bind(key("nope"), "node-1"),
            operations.delete(key("nope")),
        ):
            assert isinstance(await error_of(client, operation), NotFound)

    # --- update

    async def test_an_update_of_another_version_is_a_conflict(self, client: ClusterClient) -> None:
        first = await create_pod(client)
        first.metadata.labels["x"] = "1"
        (second,) = await write(client, operations.update(first))
        assert revision_of(second) > revision_of(first)
        first.metadata.labels["x"] = "2"
        error = await error_of(client, operations.update(first))
        assert isinstance(error, Conflict)
        assert "has been modified" in str(error)
        first.metadata.ClearField("resourceVersion")
        (third,) = await write(client, operations.update(first))
        assert third.metadata.labels["x"] == "2"

    async def test_an_update_of_another_object_of_that_name_is_a_conflict(self, client: ClusterClient) -> None:
        old = await create_pod(client)
        await write(client, operations.delete(key()))
        new = await create_pod(client)
        assert new.metadata.uid != old.metadata.uid
        old.metadata.ClearField("resourceVersion")
        for operation in (
            operations.update(old),
            operations.update_status(old),
            operations.patch(key(), {}, uid=old.metadata.uid),
            operations.bind(key(), "node-1", uid=old.metadata.uid),
            operations.delete(key(), uid=old.metadata.uid),
        ):
            assert isinstance(await error_of(client, operation), Conflict)

    async def test_what_changes_nothing_writes_nothing(self, client: ClusterClient) -> None:
        created = await create_pod(client, x="1")
        for operation in (
            operations.update(created),
            operations.update_status(created),
            operations.patch(key(), {"metadata": {"labels": {"x": "1", "y": None}}}),
        ):
            written = await client.write([operation], cause=core.Cause(reason="again"))
            assert written.outcomes[0].unchanged
            assert written.outcomes[0].unwrap() == created
            assert written.revision == revision_of(created)
        assert await client.get(core.Pod, "a") == created

    async def test_the_spec_and_the_status_are_written_apart(self, client: ClusterClient) -> None:
        (created,) = await write(client, operations.create(controller()))
        found = cast(core.ReplicationController, created)
        found.metadata.ClearField("resourceVersion")
        found.spec.replicas = 5
        found.status.replicas = 2
        (after_spec,) = await write(client, operations.update(found))
        updated = cast(core.ReplicationController, after_spec)
        assert (updated.spec.replicas, updated.status.replicas) == (5, 0)
        found.spec.replicas = 9
        found.metadata.labels["x"] = "1"
        (after_status,) = await write(client, operations.update_status(found))
        updated = cast(core.ReplicationController, after_status)
        assert (updated.spec.replicas, updated.status.replicas) == (5, 2)
        assert "x" not in updated.metadata.labels

    async def test_what_is_aside_of_the_status_is_written_with_the_status(self, client: ClusterClient) -> None:
        """See cluster.api.aside."""
        (created,) = await write(client, operations.create(controller()))
        found = cast(core.ReplicationController, created)
        found.metadata.ClearField("resourceVersion")
        found.metadata.annotations[ANNOTATION] = '{"spec.x":1,"status.y":1}'
        (after_spec,) = await write(client, operations.update(found))
        assert after_spec.metadata.annotations[ANNOTATION] == '{"spec.x":1}'
        found.metadata.annotations[ANNOTATION] = '{"spec.x":2,"status.y":2}'
        (after_status,) = await write(client, operations.update_status(found))
        assert after_status.metadata.annotations[ANNOTATION] == '{"spec.x":1,"status.y":2}'
        del found.metadata.annotations[ANNOTATION]
        (unknowing,) = await write(client, operations.update_status(found))
        assert unknowing.metadata.annotations[ANNOTATION] == '{"spec.x":1,"status.y":2}'
        (after_spec,) = await write(client, operations.update(found))
        assert after_spec.metadata.annotations[ANNOTATION] == '{"status.y":2}'

    async def test_the_generation_counts_changes_of_the_spec_only(self, client: ClusterClient) -> None:
        (created,) = await write(client, operations.create(controller()))
        rc = Key("ReplicationController", "default", "rc")
        generations = [created.metadata.generation]
        for operation in (
            operations.patch(rc, {"metadata": {"labels": {"x": "1"}}}),
            operations.patch(rc, {"status": {"replicas": 1}}, status=True),
            operations.patch(rc, {"spec": {"replicas": 4}}),
        ):
            (found,) = await write(client, operation)
            generations.append(found.metadata.generation)
        assert generations == [1, 1, 1, 2]

    async def test_what_is_the_masters_cannot_be_written(self, client: ClusterClient) -> None:
        created = await create_pod(client)
        changed = core.Pod()
        changed.CopyFrom(created)
        changed.metadata.labels["x"] = "1"
        changed.metadata.generation = 99
        changed.metadata.creationTimestamp.seconds = 1
        changed.metadata.deletionTimestamp.seconds = 1
        changed.metadata.actor = "somebody"
        (found,) = await write(client, operations.update(changed))
        assert found.metadata.generation == 1
        assert found.metadata.creationTimestamp == created.metadata.creationTimestamp
        assert not found.metadata.HasField("deletionTimestamp")
        assert found.metadata.actor == "admin"

    async def test_what_cannot_be_changed_is_refused(self, client: ClusterClient) -> None:
        created = await create_pod(client)
        created.spec.containers[0].command[:] = ["false"]
        error = await error_of(client, operations.update(created))
        assert isinstance(error, Invalid)
        assert error.causes[0].path.startswith("spec")

    # --- patch

    async def test_a_patch_changes_what_it_names(self, client: ClusterClient) -> None:
        await write(client, operations.create(controller()))
        rc = Key("ReplicationController", "default", "rc")
        (found,) = await write(
            client, operations.patch(rc, {"spec": {"replicas": 7}, "metadata": {"annotations": {"a": "b"}}})
        )
        patched = cast(core.ReplicationController, found)
        assert patched.spec.replicas == 7
        assert dict(patched.metadata.annotations) == {"a": "b"}
        assert patched.spec.template.spec.containers[0].name == "main"

    async def test_patches_that_are_refused(self, client: ClusterClient) -> None:
        created = await create_pod(client)
        broken = operations.patch(key(), {})
        broken.patch.merge_patch = b"{nonsense"
        assert isinstance(await error_of(client, broken), BadRequest)
        assert isinstance(await error_of(client, operations.patch(key(), {"spec": {"nonsense": 1}})), Invalid)
        assert isinstance(await error_of(client, operations.patch(key(), {"metadata": {"name": "b"}})), Invalid)
        assert isinstance(await error_of(client, operations.patch(key(), {}, version="1000000")), Conflict)
        assert await client.get(core.Pod, "a") == created

    # --- bind

    async def test_a_pod_is_bound_once(self, client: ClusterClient) -> None:
        found = await bound_pod(client)
        assert found.spec.nodeName == "node-1"
        conditions = [(condition.type, condition.status) for condition in found.status.conditions]
        assert conditions == [("PodScheduled", "True")]
        assert isinstance(await error_of(client, operations.bind(key(), "node-1")), Conflict)
        await create_pod(client, "b")
        assert isinstance(await error_of(client, operations.bind(key("b"), "no-such-node")), NotFound)

    async def test_a_pod_on_its_way_out_is_not_bound(self, client: ClusterClient) -> None:
        held = pod()
        held.metadata.finalizers.append("example.com/hold")
        await write(client, operations.create(held), operations.delete(key()), operations.create(node()))
        assert isinstance(await error_of(client, operations.bind(key(), "node-1")), Conflict)

    async def test_a_version_can_be_demanded(self, client: ClusterClient) -> None:
        created = await create_pod(client)
        await write(client, operations.create(node()), operations.patch(key(), {"metadata": {"labels": {"x": "1"}}}))
        version = created.metadata.resourceVersion
        for operation in (
            operations.bind(key(), "node-1", version=version),
            operations.delete(key(), version=version),
        ):
            assert isinstance(await error_of(client, operation), Conflict)
