"""Create, update, status, patch and bind, in Kubernetes' semantics."""

from __future__ import annotations

import pytest

from cluster.api.conditions import get_condition
from cluster.api.errors import Aborted, AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.unit.master.rig import Rig, pod, service

WEB = Key("Pod", "default", "web")


def copy(obj: core.Pod) -> core.Pod:
    made = core.Pod()
    made.CopyFrom(obj)
    return made


async def test_create_fills_in_what_is_the_masters(rig: Rig) -> None:
    given = pod()
    given.metadata.uid = "mine"
    given.metadata.generation = 7
    given.metadata.deletionTimestamp.seconds = 5
    given.status.phase = "Running"
    made = await rig.create(given)
    assert isinstance(made, core.Pod)
    meta = made.metadata
    assert len(meta.uid) == 36
    assert (meta.generation, meta.resourceVersion, meta.actor) == (1, str(rig.revision), "admin")
    assert meta.creationTimestamp.seconds == int(rig.clock.wall())
    assert not meta.HasField("deletionTimestamp")
    assert (made.status.phase, made.status.qosClass) == ("Pending", "BestEffort")
    tolerations = [(t.key, t.operator, t.effect, t.tolerationSeconds) for t in made.spec.tolerations]
    assert tolerations == [
        ("node.kubernetes.io/not-ready", "Exists", "NoExecute", 0),
        ("node.kubernetes.io/unreachable", "Exists", "NoExecute", 0),
    ]
    assert rig.find("Pod", "web") == made


async def test_create_keeps_tolerations_that_say_otherwise(rig: Rig) -> None:
    given = pod()
    given.spec.tolerations.add(key="node.kubernetes.io/unreachable", operator="Exists", effect="NoExecute")
    made = await rig.create(given)
    assert isinstance(made, core.Pod)
    assert [(t.key, t.HasField("tolerationSeconds")) for t in made.spec.tolerations] == [
        ("node.kubernetes.io/unreachable", False),
        ("node.kubernetes.io/not-ready", True),
    ]


async def test_create_makes_up_names(rig: Rig) -> None:
    given = pod("")
    given.metadata.generateName = "web-"
    names = {(await rig.create(given)).metadata.name for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_create_refuses(rig: Rig) -> None:
    await rig.pod()
    with pytest.raises(AlreadyExists, match='pods "web" already exists'):
        await rig.create(pod())
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await rig.create(pod(namespace="nowhere"))
    with pytest.raises(Invalid):
        await rig.create(pod("Not_A_Name"))
    versioned = pod("other")
    versioned.metadata.resourceVersion = "1"
    with pytest.raises(Invalid, match="resourceVersion"):
        await rig.create(versioned)
    with pytest.raises(Invalid, match="no object"):
        await rig.write(wire.Operation(create=wire.CreateOperation()))
    with pytest.raises(BadRequest):
        await rig.write(wire.Operation())
    assert rig.revision == 2


async def test_unknown_fields_are_refused_wherever_they_are(rig: Rig) -> None:
    data = pod().SerializeToString() + b"\xfa\xff\x07\x01x"
    sneaky = core.Pod.FromString(data)
    with pytest.raises(Invalid):
        await rig.create(sneaky)
    made = await rig.pod()
    update = core.Pod.FromString(made.SerializeToString())
    update.status.MergeFromString(b"\xfa\xff\x07\x01x")
    with pytest.raises(Invalid):
        await rig.write(ops.update_status(update))


async def test_update_leaves_the_status_and_what_is_the_masters(rig: Rig) -> None:
    made = await rig.pod()
    changed = copy(made)
    changed.metadata.labels["tier"] = "fe"
    changed.metadata.uid = ""
    changed.metadata.creationTimestamp.seconds = 1
    changed.metadata.generation = 99
    changed.status.phase = "Failed"
    after = await rig.write(ops.update(changed))
    assert isinstance(after, core.Pod)
    assert dict(after.metadata.labels) == {"app": "web", "tier": "fe"}
    assert after.status == made.status
    assert after.metadata.uid == made.metadata.uid
    assert after.metadata.creationTimestamp == made.metadata.creationTimestamp
    assert after.metadata.generation == 1, "labels are no generation"


async def test_generation_counts_changes_of_the_spec(rig: Rig) -> None:
    template = core.PodTemplateSpec(metadata=core.ObjectMeta(labels={"app": "web"}), spec=pod().spec)
    rc = core.ReplicationController(metadata=core.ObjectMeta(name="rc"), spec={"replicas": 1, "template": template})
    await rig.create(rc)
    key = Key("ReplicationController", "default", "rc")
    scaled = await rig.write(ops.patch(key, {"spec": {"replicas": 3}}))
    assert scaled.metadata.generation == 2
    status = core.ReplicationController(metadata=core.ObjectMeta(name="rc"), status={"replicas": 3})
    assert (await rig.write(ops.update_status(status))).metadata.generation == 2


async def test_a_write_that_changes_nothing_writes_nothing(rig: Rig) -> None:
    made = await rig.pod()
    before = rig.revision
    for operation in (
        ops.update(made),
        ops.update_status(made),
        ops.patch(WEB, {"metadata": {"labels": {"app": "web"}}}),
        ops.patch(WEB, {}),
    ):
        response = await rig.request(wire.WriteRequest(operations=[operation]), "admin")
        assert response.results[0].unchanged
        assert response.results[0].object.pod == made
    assert rig.revision == before


async def test_the_stamp_of_the_last_writer_alone_is_no_change(rig: Rig) -> None:
    made = await rig.pod()
    before = rig.revision
    request = wire.WriteRequest(operations=[ops.update_status(made)], cause=core.Cause(reason="resync"))
    assert (await rig.request(request, "controllers")).results[0].unchanged
    assert rig.revision == before


async def test_a_stale_version_is_a_conflict(rig: Rig) -> None:
    made = await rig.pod()
    await rig.write(ops.patch(WEB, {"metadata": {"labels": {"a": "b"}}}))
    words = (
        'Operation cannot be fulfilled on pods "web": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    stale = str(made.metadata.resourceVersion)
    for operation in (
        ops.update(made),
        ops.update_status(made),
        ops.patch(WEB, {}, version=stale),
        ops.patch(WEB, {"metadata": {"resourceVersion": stale}}),
        ops.bind(WEB, "n1", version=stale),
        ops.delete(WEB, version=stale),
    ):
        with pytest.raises(Conflict) as caught:
            await rig.write(operation)
        assert str(caught.value) == words
    unconditional = copy(made)
    unconditional.metadata.resourceVersion = ""
    await rig.write(ops.update(unconditional))


async def test_another_object_of_the_same_name_is_a_conflict(rig: Rig) -> None:
    old = await rig.pod()
    await rig.write(ops.delete(WEB))
    new = await rig.pod()
    for operation in (
        ops.patch(WEB, {}, uid=old.metadata.uid),
        ops.delete(WEB, uid=old.metadata.uid, grace_period_s=0),
        ops.bind(WEB, "n1", uid=old.metadata.uid),
        ops.update_status(core.Pod(metadata=core.ObjectMeta(name="web", uid=old.metadata.uid))),
    ):
        with pytest.raises(Conflict, match="Precondition failed: UID in precondition"):
            await rig.write(operation)
    assert rig.find("Pod", "web") == new


async def test_a_patch_merges_and_cannot_rename(rig: Rig) -> None:
    await rig.pod()
    after = await rig.write(ops.patch(WEB, {"metadata": {"labels": {"app": None, "x": "y"}}}))
    assert dict(after.metadata.labels) == {"x": "y"}
    for patch in ({"metadata": {"name": "other"}}, {"kind": "Node"}, {"spec": {"nodeNam": "x"}}, {"spec": 7}):
        with pytest.raises(Invalid):
            await rig.write(ops.patch(WEB, patch))
    for text in (b"not json", b"[1]", b"[" * 100000):
        operation = ops.patch(WEB, {})
        operation.patch.merge_patch = text
        with pytest.raises(BadRequest):
            await rig.write(operation)


async def test_a_status_patch_changes_the_status_only(rig: Rig) -> None:
    await rig.pod()
    after = await rig.write(ops.patch(WEB, {"status": {"phase": "Running"}, "spec": {"nodeName": "n9"}}, status=True))
    assert isinstance(after, core.Pod)
    assert (after.status.phase, after.spec.nodeName) == ("Running", "")
    await rig.create(core.Endpoints(metadata=core.ObjectMeta(name="e")))
    with pytest.raises(BadRequest, match="have no status"):
        await rig.write(ops.patch(Key("Endpoints", "default", "e"), {}, status=True))


async def test_bind_places_a_pod_once(rig: Rig) -> None:
    await rig.node()
    await rig.pod()
    with pytest.raises(NotFound, match='nodes "n2" not found'):
        await rig.write(ops.bind(WEB, "n2"))
    bound = await rig.write(ops.bind(WEB, "n1"), "scheduler")
    assert isinstance(bound, core.Pod)
    assert (bound.spec.nodeName, bound.metadata.generation, bound.metadata.actor) == ("n1", 1, "scheduler")
    condition = get_condition(bound.status, "PodScheduled")
    assert condition is not None
    assert condition.status == "True"
    with pytest.raises(Conflict, match='already assigned to node "n1"'):
        await rig.write(ops.bind(WEB, "n1"))
    await rig.write(ops.delete(WEB))
    with pytest.raises(Conflict, match="is being deleted"):
        await rig.write(ops.bind(WEB, "n1"))


async def test_an_update_cannot_move_a_pod(rig: Rig) -> None:
    await rig.node()
    made = await rig.pod(node="n1")
    made.spec.nodeName = "n2"
    with pytest.raises(Invalid):
        await rig.write(ops.update(made))


async def test_each_operation_has_its_own_result_and_revision(rig: Rig) -> None:
    found = await rig.try_write(ops.create(pod("a")), ops.create(pod("Bad Name")), ops.create(pod("b")))
    assert isinstance(found[1], Invalid)
    revisions = [int(o.metadata.resourceVersion) for o in (found[0], found[2]) if isinstance(o, core.Pod)]
    assert revisions == [rig.revision - 1, rig.revision]


async def test_all_or_nothing(rig: Rig) -> None:
    before = rig.revision
    found = await rig.try_write(ops.create(pod("a")), ops.create(service()), ops.create(pod("a")), atomic=True)
    assert [type(o) for o in found] == [Aborted, Aborted, AlreadyExists]
    assert rig.revision == before
    assert rig.find("Pod", "a") is None
    found = await rig.try_write(ops.create(pod("a")), ops.create(service()), ops.bind(Key("Pod", "", "a"), "x"))
    assert isinstance(found[2], NotFound)
    await rig.node()
    before = rig.revision
    found = await rig.try_write(
        ops.create(pod("b")), ops.create(pod("c")), ops.bind(Key("Pod", "", "b"), "n1"), atomic=True
    )
    assert rig.revision == before + 1
    bound = rig.find("Pod", "b")
    assert isinstance(bound, core.Pod)
    assert bound.spec.nodeName == "n1"
    assert {int(o.metadata.resourceVersion) for o in found if isinstance(o, core.Pod)} == {before + 1}


async def test_the_write_fence_of_replication(rig: Rig) -> None:
    """Two controllers that acted on the same version: the second one's pods are not made."""
    template = core.PodTemplateSpec(metadata=core.ObjectMeta(labels={"app": "web"}), spec=pod().spec)
    rc = core.ReplicationController(metadata=core.ObjectMeta(name="rc"), spec={"replicas": 2, "template": template})
    made = await rig.create(rc)
    assert isinstance(made, core.ReplicationController)
    made.status.createdReplicas = 2
    batch = [ops.create(pod("p1")), ops.create(pod("p2")), ops.update_status(made)]
    assert not any(isinstance(o, Exception) for o in await rig.try_write(*batch, atomic=True, who="controllers"))
    again = [ops.create(pod("p3")), ops.create(pod("p4")), ops.update_status(made)]
    found = await rig.try_write(*again, atomic=True, who="controllers")
    assert [type(o) for o in found] == [Aborted, Aborted, Conflict]
    assert rig.master.store.state.count("Pod") == 2


async def test_a_dry_run_answers_and_leaves_nothing(rig: Rig) -> None:
    before = rig.revision
    (found,) = await rig.try_write(ops.create(service()), dry_run=True)
    assert isinstance(found, core.Service)
    assert found.spec.clusterIP == "127.1.1.0"
    assert rig.revision == before
    assert rig.find("Service", "svc") is None
    assert not rig.master._admission.services.addresses.pool.is_taken(
        rig.master._admission.services.addresses.pool.first
    )


async def test_every_write_says_who_and_why(rig: Rig) -> None:
    cause = core.Cause(revision=3, object="replicationcontrollers/default/web", reason="scale-up")
    response = await rig.request(wire.WriteRequest(operations=[ops.create(pod())], cause=cause), "controllers")
    meta = response.results[0].object.pod.metadata
    assert (meta.actor, meta.cause) == ("controllers", cause)
    after = await rig.write(ops.patch(WEB, {"metadata": {"labels": {"a": "b"}}}))
    assert (after.metadata.actor, after.metadata.HasField("cause")) == ("admin", False)


async def test_too_many_operations_are_refused(rig: Rig) -> None:
    with pytest.raises(BadRequest, match="at most 2000"):
        await rig.try_write(*[wire.Operation()] * 2001)


async def test_the_status_of_a_node_is_validated(rig: Rig) -> None:
    made = await rig.node()
    made.status.capacity["cpu"].string = "lots"
    with pytest.raises(Invalid):
        await rig.write(ops.update_status(made))


async def test_nothing_new_in_a_namespace_that_ends(rig: Rig) -> None:
    await rig.create(core.Namespace(metadata=core.ObjectMeta(name="team")))
    await rig.create(pod(namespace="team"))
    await rig.write(ops.delete(Key("Namespace", "", "team")))
    with pytest.raises(Forbidden, match="because it is being terminated") as refused:
        await rig.create(pod("other", namespace="team"))
    (cause,) = refused.value.causes
    assert (cause.path, cause.reason) == ("metadata.namespace", "NamespaceTerminating"), "as client-go looks for it"
