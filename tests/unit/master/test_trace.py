"""How an object came to be what it is: causes, followed back; and how long each step took."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.conditions import set_condition
from cluster.api.diff import LAST_APPLIED
from cluster.api.errors import NotFound
from cluster.api.kinds import AnyObject
from cluster.api.meta import Key, key_of_path, path_of, revision_of, to_time
from cluster.client import operations as ops
from cluster.master.trace import MAX_STEPS
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.store.memory import MemoryJournal
from tests.unit.master.rig import Rig, pod, running, service
from tests.unit.master.travels import RC, compact, controller, scale, status, trace, undo, write

POD = Key("Pod", "default", "web-1")
NODE = Key("Node", "", "n1")


def because(obj: AnyObject, reason: str) -> core.Cause:
    key = {core.Pod: POD, core.Node: NODE, core.ReplicationController: RC}[type(obj)]
    return core.Cause(revision=revision_of(obj), object=path_of(key), reason=reason)


def told(found: wire.TraceResponse) -> list[str]:
    return [
        " ".join(
            filter(None, (step.object.rpartition("/")[2], step.step, step.actor and f"by {step.actor}", step.message))
        )
        for step in found.steps
    ]


async def applied(rig: Rig, replicas: int = 1) -> core.ReplicationController:
    wanted = controller(replicas)
    wanted.metadata.annotations[LAST_APPLIED] = "{}"
    made = await write(rig, ops.create(wanted), cause=core.Cause(reason="apply"))
    assert isinstance(made, core.ReplicationController)
    return made


async def running_pod(rig: Rig, rc: core.ReplicationController, name: str = "web-1") -> core.Pod:
    """A pod of that controller, from its making until it is ready; each step 0.1 s after the one before."""
    clock, key = rig.clock, Key("Pod", "default", name)
    if rig.find("Node", "n1") is None:
        await rig.node()
    clock.advance(0.1)
    await write(rig, ops.create(pod(name)), "controllers", because(rc, "scale"))
    clock.advance(0.1)
    bound = await write(rig, ops.bind(key, "n1"), "scheduler", core.Cause(revision=rig.revision, reason="schedule"))
    started_s = clock.wall() + 0.1
    clock.advance(0.15)
    up = await write_status(rig, bound, started_s=started_s)
    clock.advance(0.1)
    ready = await write_status(rig, up, started_s=started_s, ready_s=clock.wall() - 0.05)
    assert isinstance(ready, core.Pod)
    return ready


async def write_status(
    rig: Rig,
    old: AnyObject,
    *,
    started_s: float,
    ready_s: float | None = None,
    restarts: int = 0,
    phase: str = "Running",
) -> AnyObject:
    new = core.Pod()
    new.CopyFrom(old)  # type: ignore[arg-type]
    new.metadata.ClearField("resourceVersion")
    new.status.phase = phase
    del new.status.containerStatuses[:]
    container = new.status.containerStatuses.add(name="c", ready=ready_s is not None, restartCount=restarts)
    container.state.running.startedAt.CopyFrom(to_time(started_s))
    if restarts:
        container.lastState.terminated.exitCode = 3
    if ready_s is not None:
        set_condition(new.status, "Ready", "True", ready_s)
    return await write(rig, ops.update_status(new), "node:n1")


def seconds(found: wire.TraceResponse) -> list[float]:
    """From the first step to each."""
    first = found.steps[0].time
    return [round(s.time.seconds - first.seconds + (s.time.nanos - first.nanos) / 1e9, 3) for s in found.steps]


async def test_from_apply_to_ready_with_the_time_between(rig: Rig) -> None:
    await rig.node()
    rc = await applied(rig)
    await running_pod(rig, rc)
    found = await trace(rig, name="web-1")
    assert told(found) == [
        "web Applied by admin 1 replica",
        "web-1 Created by controllers",
        "web-1 Scheduled by scheduler bound to n1",
        "web-1 Started by node:n1 1 container",
        "web-1 Ready by node:n1",
    ]
    # Started and ready when the node says so, not when the master heard of it.
    assert seconds(found) == [0, 0.1, 0.2, 0.3, 0.4]
    created = found.steps[1]
    assert (created.cause.object, created.cause.revision, created.cause.reason) == (
        "replicationcontrollers/default/web",
        revision_of(rc),
        "scale",
    )
    assert [step.revision for step in found.steps] == sorted(step.revision for step in found.steps)
    assert (found.gap, found.revision, found.store_id) == ("", rig.revision, "store")


async def test_the_wish_that_was_acted_on_not_the_bookkeeping_after_it(rig: Rig) -> None:
    await applied(rig, 0)
    await scale(rig, 1, core.Cause(reason="scale"))
    counted = await status(rig, "controllers", replicas=0, observedGeneration=2)
    assert isinstance(counted, core.ReplicationController)
    await running_pod(rig, counted)
    assert told(await trace(rig, name="web-1"))[:2] == [
        "web Scaled by admin spec.replicas: 0 -> 1",
        "web-1 Created by controllers",
    ]


async def test_an_undone_wish_says_so(rig: Rig) -> None:
    await applied(rig, 1)
    await scale(rig, 0)
    await undo(rig)
    rc = rig.find("ReplicationController", "web")
    assert isinstance(rc, core.ReplicationController)
    await running_pod(rig, rc)
    assert told(await trace(rig, name="web-1"))[0] == "web Undone by admin spec.replicas: 0 -> 1"


async def test_what_ended_a_pod_its_node_and_the_taint(rig: Rig) -> None:
    rc = await applied(rig)
    await running_pod(rig, rc)
    node = rig.find("Node", "n1")
    assert isinstance(node, core.Node)
    silent, tainted = core.Node(), core.Node()
    silent.CopyFrom(node)
    set_condition(
        silent.status, "Ready", "Unknown", rig.clock.wall(), "NodeStatusUnknown", "Kubelet stopped posting node status."
    )
    silent = await write(rig, ops.update_status(silent), "controllers", because(node, "node-lifecycle"))  # type: ignore[assignment]
    tainted.CopyFrom(silent)
    tainted.spec.taints.add(key="node.kubernetes.io/unreachable", effect="NoExecute")
    tainted = await write(rig, ops.update(tainted), "controllers", because(silent, "node-lifecycle"))  # type: ignore[assignment]
    await write(rig, ops.delete(POD), "controllers", because(tainted, "taint-eviction"))
    old = rig.find("Pod", "web-1")
    assert old is not None
    old_key = core.Cause(revision=revision_of(old), object=path_of(POD), reason="replace")
    await write(rig, ops.create(pod("web-2")), "controllers", old_key)
    await write(rig, ops.delete(POD, grace_period_s=0), "controllers", core.Cause(reason="node-gone"))

    assert told(await trace(rig, name="web-1"))[-3:] == [
        "n1 Tainted by controllers node.kubernetes.io/unreachable:NoExecute",
        "web-1 Deleting by controllers within 30 s",
        "web-1 Deleted by controllers",
    ]
    # Its replacement knows why it was needed.
    assert told(await trace(rig, name="web-2")) == [
        "n1 Tainted by controllers node.kubernetes.io/unreachable:NoExecute",
        "web-1 Deleting by controllers within 30 s",
        "web-2 Created by controllers",
    ]


async def test_restarts_and_the_end(rig: Rig) -> None:
    rc = await applied(rig)
    up = await running_pod(rig, rc)
    again = await write_status(rig, up, started_s=rig.clock.wall(), restarts=1)
    done = core.Pod()
    done.CopyFrom(again)  # type: ignore[arg-type]
    done.metadata.ClearField("resourceVersion")
    done.status.phase = "Failed"
    done.status.containerStatuses[0].state.Clear()
    done.status.containerStatuses[0].state.terminated.exitCode = 7
    set_condition(done.status, "Ready", "False", rig.clock.wall(), "PodFailed")
    await write(rig, ops.update_status(done), "node:n1")
    assert told(await trace(rig, name="web-1"))[-3:] == [
        "web-1 Restarted by node:n1 c after exit code 3, 1 restart",
        "web-1 NotReady by node:n1 PodFailed",
        "web-1 Failed by node:n1 c: exit code 7",
    ]


async def test_a_pod_that_fits_nowhere(rig: Rig) -> None:
    made = await rig.create(pod("web-1"))
    new = core.Pod()
    new.CopyFrom(made)  # type: ignore[arg-type]
    set_condition(new.status, "PodScheduled", "False", rig.clock.wall(), "Unschedulable", "0/3 nodes are available")
    await write(rig, ops.update_status(new), "scheduler")
    assert told(await trace(rig, name="web-1")) == [
        "web-1 Created by admin",
        "web-1 Unschedulable by scheduler 0/3 nodes are available",
    ]


async def test_a_controller_from_its_last_wish_to_ready(rig: Rig) -> None:
    await applied(rig, 1)
    for count in (1, 2):
        if count == 2:
            await scale(rig, 2, core.Cause(reason="scale"))
        await status(rig, "controllers", replicas=count, readyReplicas=0, observedGeneration=count)
        await status(rig, "controllers", readyReplicas=count)
    assert told(await trace(rig, RC.kind)) == [
        "web Applied by admin 1 replica",
        "web Scaled by admin spec.replicas: 1 -> 2",
        "web Ready by controllers 2 of 2 ready",
    ]


async def test_a_service_and_its_endpoints_because_of_a_pod(rig: Rig) -> None:
    await rig.create(service("web"))
    rc = await applied(rig)
    ready = await running_pod(rig, rc)
    made = core.Endpoints(metadata=core.ObjectMeta(name="web", namespace="default"))
    await write(
        rig, ops.create(made), "controllers", core.Cause(revision=2, object="services/default/web", reason="endpoints")
    )
    change = {"subsets": [{"addresses": [{"ip": "127.0.0.9"}], "ports": [{"port": 80}]}]}
    key = Key("Endpoints", "default", "web")
    await write(rig, ops.patch(key, change), "controllers", because(ready, "endpoints"))
    assert told(await trace(rig, "Service")) == [
        "web Created by admin port 80",
        "web-1 Ready by node:n1",
        "web Created by controllers 0 addresses ready",
        "web Endpoints by controllers 1 address ready",
    ]


async def test_what_is_no_longer_kept_is_said_and_told_from_the_object() -> None:
    journal = MemoryJournal("store")
    async with running(journal) as rig:
        rc = await applied(rig)
        await running_pod(rig, rc)
        whole = await trace(rig, name="web-1")
        await compact(rig, journal, rig.revision)
        found = await trace(rig, name="web-1")
        assert told(found) == [
            "web-1 Created",
            "web-1 Scheduled bound to n1",
            "web-1 Started 1 container",
            "web-1 Ready",
        ]
        assert [step.HasField("revision") for step in found.steps] == [False] * 4
        assert seconds(found) == pytest.approx([t - 0.1 for t in seconds(whole)[1:]])
        assert found.gap == (
            f"what pods/default/web-1 went through before revision {rig.revision} is no longer kept change by change: "
            f"the history begins at revision {rig.revision}"
        )


async def test_a_cause_that_is_no_longer_kept() -> None:
    journal = MemoryJournal("store")
    async with running(journal) as rig:
        rc = await applied(rig)
        await scale(rig, 2)
        await compact(rig, journal, rig.revision)
        await running_pod(rig, rc)
        found = await trace(rig, name="web-1")
        assert told(found)[0] == "web-1 Created by controllers"
        assert found.gap == (
            f"replicationcontrollers/default/web at revision {revision_of(rc)}, which caused a write of "
            f"pods/default/web-1, is no longer kept: the history begins at revision {rig.master.store.oldest}"
        )


async def test_only_the_last_object_of_a_name(rig: Rig) -> None:
    await rig.create(pod("web-1"))
    await rig.write(ops.delete(POD))
    await rig.create(pod("web-1"))
    assert told(await trace(rig, name="web-1")) == ["web-1 Created by admin"]
    await rig.write(ops.delete(POD))
    assert told(await trace(rig, name="web-1")) == ["web-1 Created by admin", "web-1 Deleted by admin"]


async def test_a_name_of_which_nothing_is_known(rig: Rig) -> None:
    with pytest.raises(NotFound, match='pods "never" not found, and nothing of it is kept'):
        await trace(rig, name="never")


async def test_a_very_long_story_is_shortened_in_the_middle(rig: Rig) -> None:
    await rig.create(pod("web-1"))
    for count in range(MAX_STEPS + 50):
        await rig.write(ops.patch(POD, {"metadata": {"labels": {"n": str(count)}}}))
    found = await trace(rig, name="web-1")
    assert len(found.steps) == MAX_STEPS
    assert found.steps[0].step == "Created"
    assert found.steps[-1].revision == rig.revision
    assert found.gap.startswith("51 steps between revisions ")


def test_paths_of_causes() -> None:
    for key in (POD, NODE, RC):
        assert key_of_path(path_of(key)) == key
    nowhere: list[Any] = ["", "pods", "pods/web", "nodes/a/b", "things/default/x", "pods/a/b/c"]
    assert [key_of_path(path) for path in nowhere] == [None] * len(nowhere)
