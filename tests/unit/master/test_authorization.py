"""Deny by default: who may call what, and do what with which objects."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from cluster.api import hollow
from cluster.api.errors import ApiError, Forbidden
from cluster.api.kinds import BY_NAME, AnyObject
from cluster.api.leases import COMPONENT_LEASES
from cluster.api.meta import Key
from cluster.api.rights import CALLS, TABLE, VERBS
from cluster.client import operations as ops
from cluster.master.authorization import authorize_call, authorize_write
from cluster.pb.v1 import agent_pb2
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import KINDS, Identity
from node_agent.service import authorize as authorize_agent_call
from tests.unit.master.rig import Rig, pod

WEB = Key("Pod", "default", "web")
OTHER = Key("Pod", "default", "other")
N1, N2 = Key("Node", "", "n1"), Key("Node", "", "n2")
H1, REAL = Key("Node", "", "h-1"), Key("Node", "", "h-real")
OTHERS = ("controllers", "scheduler", "node:n1", "hollow:h", "proxy", "dns", "master")

SERVICES: list[ServiceDescriptor] = [
    *wire.DESCRIPTOR.services_by_name.values(),
    *agent_pb2.DESCRIPTOR.services_by_name.values(),
    *health_pb2.DESCRIPTOR.services_by_name.values(),
    *reflection_pb2.DESCRIPTOR.services_by_name.values(),
]
METHODS = [f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods]


def identity(kind: str) -> Identity:
    return Identity(kind, {"node": "n1", "hollow": "h", "serviceaccount": "default/robot"}.get(kind, ""))


# --- calls


def test_every_call_of_every_service_has_a_rule() -> None:
    assert len(METHODS) >= 12
    assert [method for method in METHODS if method not in CALLS] == []


@pytest.mark.parametrize("method", ["", "/cluster.pb.v1.Cluster/Drop", "/other.Service/Get", "Get"])
def test_a_call_without_a_rule_is_nobodys(method: str) -> None:
    for kind in KINDS:
        with pytest.raises(Forbidden):
            authorize_call(identity(kind), method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_calls(method: str, kind: str) -> None:
    allowed = kind in CALLS[method]
    try:
        authorize_call(identity(kind), method)
        assert allowed
    except Forbidden:
        assert not allowed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [m for m in METHODS if "NodeAgent" in m])
def test_node_agents_say_the_same_of_their_calls(method: str, kind: str) -> None:
    try:
        authorize_agent_call(identity(kind), method, None)
        assert kind in CALLS[method]
    except Forbidden:
        assert kind not in CALLS[method]


def test_only_nodes_and_admin_send_heartbeats_and_only_controllers_and_admin_hear_them() -> None:
    assert CALLS["/cluster.pb.v1.Cluster/Heartbeat"] == {"admin", "node", "hollow"}
    assert CALLS["/cluster.pb.v1.Cluster/WatchHeartbeats"] == {"admin", "controllers"}
    assert CALLS["/cluster.pb.v1.NodeAgent/Exec"] == CALLS["/cluster.pb.v1.NodeAgent/Logs"] == {"admin"}


# --- the table


def test_the_table_speaks_of_kinds_and_verbs_that_exist() -> None:
    for (who, kind), verbs in TABLE.items():
        assert who in KINDS
        assert kind in BY_NAME
        assert set(verbs) <= set(VERBS)


EXPECTED = {
    ("controllers", "Pod"): "get list watch create update patch update_status delete evict",
    ("controllers", "ReplicationController"): "get list watch update patch update_status delete",
    ("controllers", "Service"): "get list watch delete",
    ("controllers", "Endpoints"): "get list watch create update patch delete",
    ("controllers", "Node"): "get list watch update patch update_status delete",
    ("controllers", "Namespace"): "get list watch update patch update_status delete",
    ("controllers", "Event"): "get list watch create update patch delete",
    ("controllers", "Lease"): "get list watch create update delete",
    ("controllers", "ConfigMap"): "get list watch delete",
    ("controllers", "Secret"): "get list watch delete",
    ("controllers", "PriorityClass"): "get list watch delete",
    ("controllers", "PodDisruptionBudget"): "get list watch update_status delete",
    ("controllers", "ServiceAccount"): "get list watch delete",
    ("controllers", "Fault"): "get list watch delete",
    ("controllers", "CustomResourceDefinition"): "get list watch patch delete",
    ("controllers", "CustomObject"): "get list watch delete",
    ("kubernetes", "CustomResourceDefinition"): "get list watch",
    ("scheduler", "Lease"): "get create update",
    ("scheduler", "Pod"): "get list watch bind update_status delete",
    ("scheduler", "Node"): "get list watch",
    ("scheduler", "Namespace"): "get list watch",
    ("scheduler", "PriorityClass"): "get list watch",
    ("scheduler", "PodDisruptionBudget"): "get list watch",
    ("scheduler", "ReplicationController"): "get list watch",
    ("scheduler", "Service"): "get list watch",
    ("scheduler", "Event"): "get list create update patch",
    ("proxy", "Service"): "get list watch",
    ("proxy", "Endpoints"): "get list watch",
    ("proxy", "Node"): "get list watch",
    ("proxy", "Fault"): "get list watch",
    ("proxy", "Event"): "get create update patch",
    ("dns", "Service"): "get list watch",
    ("dns", "Endpoints"): "get list watch",
    ("dns", "Namespace"): "get list watch",
    ("dns", "Pod"): "get list watch",
    ("node", "Node"): "get list watch create update patch update_status",
    ("node", "Pod"): "get list watch update_status delete",
    ("node", "Service"): "get list watch",
    ("node", "Fault"): "list watch",
    ("node", "Endpoints"): "get list watch",
    ("node", "ReplicationController"): "get",
    ("node", "ConfigMap"): "get",
    ("node", "Secret"): "get",
    ("node", "Event"): "get create update patch",
    ("hollow", "Node"): "get list watch create patch update_status delete",
    ("hollow", "Pod"): "get list watch update_status delete",
    ("hollow", "Endpoints"): "get",
    ("hollow", "ReplicationController"): "get",
    ("hollow", "Event"): "get create update patch",
    **{
        ("serviceaccount", kind): "get list watch"
        for kind in (
            *("Pod", "ReplicationController", "Service", "Endpoints", "Event", "Lease", "ConfigMap"),
            *("PodDisruptionBudget", "ServiceAccount", "Fault", "CustomObject"),
        )
    },
}


class Nothing:
    """A state in which there is nothing."""

    def bound_to(self, pod: Key) -> str | None:
        return None

    def hollow_prefix(self, node: str) -> str | None:
        return None


@pytest.mark.parametrize("who", [kind for kind in KINDS if kind != "admin"])
@pytest.mark.parametrize("kind", BY_NAME)
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_not_allowed_is_denied(who: str, kind: str, verb: str) -> None:
    """Written down twice on purpose: whoever widens the table has to mean it."""
    allowed = verb in EXPECTED.get((who, kind), "").split()
    try:
        authorize_write(identity(who), verb, kind, None, None, Nothing())
        assert allowed
    except Forbidden:
        assert not allowed


# --- nodes


async def _two_nodes(rig: Rig) -> tuple[core.Pod, core.Pod]:
    """Pod web on n1, pod other on n2."""
    await rig.node("n1")
    await rig.node("n2")
    return await rig.pod("web", node="n1"), await rig.pod("other", node="n2")


async def test_a_node_reports_the_status_of_its_own_pods_only(rig: Rig) -> None:
    mine, foreign = await _two_nodes(rig)
    for made in (mine, foreign):
        made.metadata.resourceVersion = ""
        made.status.phase = "Running"
    await rig.write(ops.update_status(mine), "node:n1")
    with pytest.raises(Forbidden, match="only those bound to it"):
        await rig.write(ops.update_status(foreign), "node:n1")
    with pytest.raises(Forbidden):
        await rig.write(ops.patch(OTHER, {"status": {"phase": "Failed"}}, status=True), "node:n1")


async def test_a_node_cannot_claim_a_pod_by_saying_it_is_bound(rig: Rig) -> None:
    _, foreign = await _two_nodes(rig)
    foreign.spec.nodeName = "n1"
    with pytest.raises(Forbidden):
        await rig.write(ops.update_status(foreign), "node:n1")
    await rig.pod("loose")
    with pytest.raises(Forbidden):
        await rig.write(ops.bind(Key("Pod", "default", "loose"), "n1"), "node:n1")


DENIED_TO_N1: dict[str, wire.Operation] = {
    "create a pod": ops.create(pod("new")),
    "update its pod": ops.update(pod("web")),
    "patch its pod's labels": ops.patch(WEB, {"metadata": {"labels": {"app": "evil"}}}),
    "patch its pod's node": ops.patch(WEB, {"spec": {"nodeName": "n2"}}),
    "delete its pod without uid": ops.delete(WEB, grace_period_s=0),
    "delete its pod with grace": ops.delete(WEB, uid="x", grace_period_s=5),
    "delete its pod, grace by default": ops.delete(WEB, uid="x"),
    "delete another's pod": ops.delete(OTHER, uid="x", grace_period_s=0),
    "make another node": ops.create(core.Node(metadata=core.ObjectMeta(name="n3"))),
    "patch another node": ops.patch(N2, {"metadata": {"labels": {"podium.dev/rack": "r"}}}),
    "another node's status": ops.update_status(core.Node(metadata=core.ObjectMeta(name="n2"))),
    "delete itself": ops.delete(N1),
    "cordon itself": ops.patch(N1, {"spec": {"unschedulable": True}}),
    "take off its taints": ops.patch(N1, {"spec": {"taints": None}}),
    "move its addresses": ops.patch(N1, {"spec": {"podCIDR": "127.1.99.0/25"}}),
    "attract pods by a label": ops.patch(N1, {"metadata": {"labels": {"team": "secret"}}}),
    "attract pods by an admin's label": ops.patch(
        N1, {"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}
    ),
    "pretend to be hollow": ops.patch(N1, {"metadata": {"labels": {"podium.dev/hollow": "true"}}}),
    "pretend to be of a prefix": ops.patch(N1, {"metadata": {"labels": {"podium.dev/hollow-prefix": "h"}}}),
    "hold itself": ops.patch(N1, {"metadata": {"finalizers": ["a/b"]}}),
    "own itself": ops.patch(
        N1, {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u"}]}}
    ),
    "make a namespace": ops.create(core.Namespace(metadata=core.ObjectMeta(name="x"))),
    "make a service": ops.create(core.Service(metadata=core.ObjectMeta(name="x"))),
    "delete endpoints": ops.delete(Key("Endpoints", "default", "x")),
    "scale": ops.patch(Key("ReplicationController", "default", "x"), {"spec": {"replicas": 0}}),
    "an event about another's pod": ops.create(
        core.Event(
            metadata=core.ObjectMeta(name="e"),
            involvedObject=core.ObjectReference(kind="Pod", namespace="default", name="other"),
        )
    ),
    "an event about another node": ops.create(
        core.Event(metadata=core.ObjectMeta(name="e"), involvedObject=core.ObjectReference(kind="Node", name="n2"))
    ),
    "an event about a service": ops.create(
        core.Event(metadata=core.ObjectMeta(name="e"), involvedObject=core.ObjectReference(kind="Service", name="s"))
    ),
}


@pytest.mark.parametrize("what", DENIED_TO_N1)
async def test_a_node_may_not(rig: Rig, what: str) -> None:
    await _two_nodes(rig)
    revision = rig.revision
    with pytest.raises(Forbidden):
        await rig.write(DENIED_TO_N1[what], "node:n1")
    assert rig.revision == revision


async def test_a_node_registers_and_reports_itself(rig: Rig) -> None:
    labels = {"kubernetes.io/hostname": "n1", "disk": "ssd"}
    made = await rig.create(core.Node(metadata=core.ObjectMeta(name="n1", labels=labels)), "node:n1")
    assert isinstance(made, core.Node)
    assert made.spec.podCIDR
    made.status.capacity["cpu"].string = "4"
    await rig.write(ops.update_status(made), "node:n1")
    await rig.write(ops.patch(N1, {"metadata": {"labels": {"podium.dev/rack": "r1"}}}), "node:n1")
    for given in (
        core.Node(metadata=core.ObjectMeta(name="n9"), spec=core.NodeSpec(podCIDR="127.1.20.0/25")),
        core.Node(metadata=core.ObjectMeta(name="n9", labels={"node-restriction.kubernetes.io/x": "y"})),
        core.Node(metadata=core.ObjectMeta(name="n9", finalizers=["a/b"])),
        core.Node(metadata=core.ObjectMeta(name="n9", labels={"podium.dev/hollow": "true"})),
    ):
        with pytest.raises(Forbidden):
            await rig.create(given, "node:n9")


async def test_a_node_tells_of_itself_and_its_pods(rig: Rig) -> None:
    await _two_nodes(rig)
    for number, about in enumerate(
        (
            core.ObjectReference(kind="Node", name="n1"),
            core.ObjectReference(kind="Pod", namespace="default", name="web"),
            core.ObjectReference(kind="Pod", namespace="default", name="gone-already"),
        )
    ):
        event = core.Event(metadata=core.ObjectMeta(name=f"e{number}", namespace="default"), reason="Started")
        event.involvedObject.CopyFrom(about)
        made = await rig.create(event, "node:n1")
        assert isinstance(made, core.Event)
        made.count = 2
        await rig.write(ops.update(made), "node:n1")
        made.metadata.resourceVersion = ""
        made.involvedObject.name = "n2" if about.kind == "Node" else "other"
        with pytest.raises(ApiError):
            await rig.write(ops.update(made), "node:n1")


async def _get(rig: Rig, who: str, key: Key) -> AnyObject:
    request = wire.GetRequest(kind=key.kind, namespace=key.namespace, name=key.name)
    answer = wire.GetResponse.FromString(await rig.master.api.get(Identity.parse(who), request))
    found: AnyObject = getattr(answer.object, answer.object.WhichOneof("object") or "")
    return found


async def test_what_a_node_reads(rig: Rig) -> None:
    await _two_nodes(rig)
    assert (await _get(rig, "node:n1", WEB)).metadata.name == "web"
    assert (await _get(rig, "node:n1", N1)).metadata.name == "n1"
    for key in (OTHER, N2, Key("Namespace", "", "default"), Key("Lease", "default", "x")):
        with pytest.raises(Forbidden):
            await _get(rig, "node:n1", key)


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
async def test_a_node_reads_the_configuration_of_its_own_pods_and_no_other(rig: Rig, kind: str) -> None:
    """Of n1's pod one is used as a variable, of n2's pod as a volume."""
    row = BY_NAME[kind]
    for name in ("used", "others", "nobodys"):
        await rig.write(ops.create(row.message(metadata=core.ObjectMeta(name=name, namespace="default"))))
    mine, others = pod("mine"), pod("others")
    variable = mine.spec.containers[0].env.add(name="A").valueFrom
    volume = others.spec.volumes.add(name="v").volumeSource
    if kind == "Secret":
        variable.secretKeyRef.localObjectReference.name, variable.secretKeyRef.key = "used", "a"
        volume.secret.secretName = "others"
    else:
        variable.configMapKeyRef.localObjectReference.name, variable.configMapKeyRef.key = "used", "a"
        volume.configMap.localObjectReference.name = "others"
    for one, node in ((mine, "n1"), (others, "n2")):
        one.spec.nodeName = node
        await rig.write(ops.create(one))
    assert (await _get(rig, "node:n1", Key(kind, "default", "used"))).metadata.name == "used"
    assert (await _get(rig, "node:n2", Key(kind, "default", "others"))).metadata.name == "others"
    for who, name in (("n1", "others"), ("n2", "used"), ("n1", "nobodys"), ("n1", "absent")):
        with pytest.raises(Forbidden):
            await _get(rig, f"node:{who}", Key(kind, "default", name))


SELECTIONS = [
    ("Pod", "", False),
    ("Pod", "spec.nodeName=n2", False),
    ("Pod", "spec.nodeName!=n2", False),
    ("Pod", "metadata.name=web", False),
    ("Pod", "status.phase=Running,spec.nodeName=n1", True),
    ("Pod", "spec.nodeName=n1,spec.nodeName=n2", False),
    ("Pod", "spec.nodeName=n1", True),
    ("Node", "", False),
    ("Node", "metadata.name=n2", False),
    ("Node", "metadata.name=n1", True),
    ("Service", "", True),
    ("Endpoints", "", True),
    ("Event", "", False),
    ("Namespace", "", False),
    ("ReplicationController", "", False),
    ("Lease", "", False),
    ("ConfigMap", "", False),
    ("Secret", "metadata.name=used", False),
]


@pytest.mark.parametrize(("kind", "selector", "allowed"), SELECTIONS)
async def test_what_a_node_lists_and_watches(rig: Rig, kind: str, selector: str, allowed: bool) -> None:
    who = Identity.parse("node:n1")
    listing = rig.master.api.list(who, wire.ListRequest(kind=kind, field_selector=selector))
    batches = rig.master.api.watch(who, wire.WatchRequest(kind=kind, field_selector=selector, initial_state=True))
    if allowed:
        await listing
        await anext(batches)
    else:
        with pytest.raises(Forbidden):
            await listing
        with pytest.raises(Forbidden):
            await anext(batches)
    await batches.aclose()


async def test_contradicting_selectors_show_a_node_nothing_foreign(rig: Rig) -> None:
    await _two_nodes(rig)
    request = wire.ListRequest(kind="Pod", field_selector="spec.nodeName=n2,spec.nodeName=n1")
    answer = wire.ListResponse.FromString(await rig.master.api.list(Identity.parse("node:n1"), request))
    assert not answer.items


async def test_a_node_beats_for_itself_only(rig: Rig) -> None:
    await _two_nodes(rig)
    beat = rig.master.api.hear
    mine, foreign = wire.NodeHeartbeat(node="n1"), wire.NodeHeartbeat(node="n2")
    beat(Identity.parse("node:n1"), wire.HeartbeatRequest(heartbeats=[mine]))
    for request in ([foreign], [mine, foreign]):
        with pytest.raises(Forbidden):
            beat(Identity.parse("node:n1"), wire.HeartbeatRequest(heartbeats=request))
    for who in ("scheduler", "controllers", "proxy"):
        with pytest.raises(Forbidden):
            beat(Identity.parse(who), wire.HeartbeatRequest(heartbeats=[mine]))
    batches = rig.master.api.watch_heartbeats(Identity.parse("node:n1"), wire.WatchHeartbeatsRequest())
    with pytest.raises(Forbidden):
        await anext(batches)


# --- who plays hollow nodes


def hollow_node(name: str, prefix: str = "h", **labels: str) -> core.Node:
    return core.Node(metadata=core.ObjectMeta(name=name, labels={**hollow.labels_of(prefix), **labels}))


async def _hollow_scene(rig: Rig) -> None:
    """Pod web on h-1, which h plays; pod other on h-real, an agent's node of such a name; pod third on g-1, which g
    plays."""
    await rig.create(hollow_node("h-1"), "hollow:h")
    await rig.node("h-real")
    await rig.create(hollow_node("g-1", "g"), "hollow:g")
    for name, node in (("web", "h-1"), ("other", "h-real"), ("third", "g-1")):
        await rig.pod(name, node=node)


async def test_it_registers_reports_and_removes_its_nodes(rig: Rig) -> None:
    made = await rig.create(hollow_node("h-1", **{"topology.kubernetes.io/zone": "z", "disk": "ssd"}), "hollow:h")
    assert isinstance(made, core.Node)
    made.status.capacity["cpu"].string = "4"
    await rig.write(ops.update_status(made), "hollow:h")
    await rig.write(ops.patch(H1, {"metadata": {"labels": {"podium.dev/rack": "r1"}}}), "hollow:h")
    assert (await _get(rig, "hollow:h", H1)).metadata.labels["podium.dev/rack"] == "r1"
    await rig.write(ops.delete(H1, uid=made.metadata.uid, grace_period_s=0), "hollow:h")
    assert rig.find("Node", "h-1") is None


async def test_it_reports_and_removes_the_pods_of_its_nodes(rig: Rig) -> None:
    await _hollow_scene(rig)
    mine = rig.find("Pod", "web")
    assert isinstance(mine, core.Pod)
    report = core.Pod(metadata=mine.metadata, status=core.PodStatus(phase="Running"))
    report.metadata.ClearField("resourceVersion")
    await rig.write(ops.update_status(report), "hollow:h")
    assert (await _get(rig, "hollow:h", WEB)).metadata.name == "web"
    await rig.write(ops.delete(WEB, uid=mine.metadata.uid, grace_period_s=0), "hollow:h")
    assert rig.find("Pod", "web") is None


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({}, "h-1"),
        ({"podium.dev/hollow": "true"}, "h-1"),
        ({"podium.dev/hollow-prefix": "h"}, "h-1"),
        ({"podium.dev/hollow": "false", "podium.dev/hollow-prefix": "h"}, "h-1"),
        (hollow.labels_of("g"), "h-1"),
        (hollow.labels_of("h"), "g-1"),
        (hollow.labels_of("h"), "h"),
        (hollow.labels_of("h"), "hh-1"),
        (hollow.labels_of("h"), "node-1"),
        ({**hollow.labels_of("h"), "node-restriction.kubernetes.io/x": "y"}, "h-1"),
    ],
)
async def test_it_makes_no_other_nodes(rig: Rig, labels: dict[str, str], name: str) -> None:
    with pytest.raises(Forbidden):
        await rig.create(core.Node(metadata=core.ObjectMeta(name=name, labels=labels)), "hollow:h")
    assert rig.find("Node", name) is None


def _status_of(name: str) -> wire.Operation:
    return ops.update_status(core.Node(metadata=core.ObjectMeta(name=name)))


def _event(about: core.ObjectReference) -> wire.Operation:
    return ops.create(core.Event(metadata=core.ObjectMeta(name="e"), involvedObject=about))


DENIED_TO_H: dict[str, wire.Operation] = {
    "create a pod": ops.create(pod("new")),
    "bind a pod": ops.bind(WEB, "h-1"),
    "update its pod": ops.update(pod("web")),
    "patch its pod": ops.patch(WEB, {"metadata": {"labels": {"app": "evil"}}}),
    "delete its pod without uid": ops.delete(WEB, grace_period_s=0),
    "delete its pod with grace": ops.delete(WEB, uid="x", grace_period_s=5),
    "delete a pod of a real node of such a name": ops.delete(OTHER, uid="x", grace_period_s=0),
    "report a pod of a real node of such a name": ops.update_status(pod("other")),
    "delete a pod of another prefix": ops.delete(Key("Pod", "default", "third"), uid="x", grace_period_s=0),
    "report a pod of another prefix": ops.update_status(pod("third")),
    "the status of a real node of such a name": _status_of("h-real"),
    "the status of a node of another prefix": _status_of("g-1"),
    "take over a real node": ops.patch(REAL, {"metadata": {"labels": hollow.labels_of("h")}}),
    "remove a real node": ops.delete(REAL, uid="x", grace_period_s=0),
    "remove its node without uid": ops.delete(H1, grace_period_s=0),
    "update its node": ops.update(hollow_node("h-1")),
    "take its label off": ops.patch(H1, {"metadata": {"labels": {"podium.dev/hollow": None}}}),
    "hand it to another prefix": ops.patch(H1, {"metadata": {"labels": {"podium.dev/hollow-prefix": "g"}}}),
    "cordon its node": ops.patch(H1, {"spec": {"unschedulable": True}}),
    "take off its taints": ops.patch(H1, {"spec": {"taints": None}}),
    "move its addresses": ops.patch(H1, {"spec": {"podCIDR": "127.1.99.0/25"}}),
    "attract pods by a label": ops.patch(H1, {"metadata": {"labels": {"team": "secret"}}}),
    "hold its node": ops.patch(H1, {"metadata": {"finalizers": ["a/b"]}}),
    "make a namespace": ops.create(core.Namespace(metadata=core.ObjectMeta(name="x"))),
    "make a service": ops.create(core.Service(metadata=core.ObjectMeta(name="x"))),
    "scale": ops.patch(Key("ReplicationController", "default", "x"), {"spec": {"replicas": 0}}),
    "an event about a pod of a real node": _event(core.ObjectReference(kind="Pod", namespace="default", name="other")),
    "an event about a real node": _event(core.ObjectReference(kind="Node", name="h-real")),
    "an event about a node of another prefix": _event(core.ObjectReference(kind="Node", name="g-1")),
    "an event about a node that is not there": _event(core.ObjectReference(kind="Node", name="h-2")),
}


@pytest.mark.parametrize("what", DENIED_TO_H)
async def test_it_may_not(rig: Rig, what: str) -> None:
    await _hollow_scene(rig)
    revision = rig.revision
    with pytest.raises(Forbidden):
        await rig.write(DENIED_TO_H[what], "hollow:h")
    assert rig.revision == revision


async def test_a_node_that_is_hollow_no_more_is_none_of_its_own_at_once(rig: Rig) -> None:
    await _hollow_scene(rig)
    await rig.write(_status_of("h-1"), "hollow:h")
    await rig.write(ops.patch(H1, {"metadata": {"labels": {"podium.dev/hollow": None}}}))
    mine = rig.find("Pod", "web")
    assert mine is not None
    for operation in (_status_of("h-1"), ops.delete(WEB, uid=mine.metadata.uid, grace_period_s=0)):
        with pytest.raises(Forbidden):
            await rig.write(operation, "hollow:h")
    with pytest.raises(Forbidden):
        rig.master.api.hear(identity("hollow"), wire.HeartbeatRequest(heartbeats=[wire.NodeHeartbeat(node="h-1")]))


async def test_what_it_reads(rig: Rig) -> None:
    await _hollow_scene(rig)
    assert (await _get(rig, "hollow:h", WEB)).metadata.name == "web"
    await rig.write(ops.create(core.Secret(metadata=core.ObjectMeta(name="s", namespace="default"))))
    for key in (
        *(OTHER, Key("Pod", "default", "third"), REAL, Key("Node", "", "g-1"), Key("Namespace", "", "default")),
        *(Key("Secret", "default", "s"), Key("ConfigMap", "default", "c"), Key("Service", "default", "x")),
    ):
        with pytest.raises(Forbidden):
            await _get(rig, "hollow:h", key)


BY_LABELS = hollow.selector_of("h")
HOLLOW_SELECTIONS = [
    ("Pod", "spec.nodeName=h-1", "", True),
    ("Pod", "spec.nodeName=h-1,status.phase=Running", "app=web", True),
    ("Pod", "", "", False),
    ("Pod", "", BY_LABELS, False),
    ("Pod", "spec.nodeName=h-real", "", False),
    ("Pod", "spec.nodeName=g-1", "", False),
    ("Pod", "spec.nodeName=h-2", "", False),
    ("Pod", "spec.nodeName!=g-1", "", False),
    ("Pod", "spec.nodeName=", "", False),
    ("Node", "", BY_LABELS, True),
    ("Node", "", f"{BY_LABELS},podium.dev/rack=r", True),
    ("Node", "", "", False),
    ("Node", "metadata.name=h-real", "", False),
    ("Node", "", "podium.dev/hollow=true", False),
    ("Node", "", "podium.dev/hollow-prefix=h", False),
    ("Node", "", "podium.dev/hollow=true,podium.dev/hollow-prefix in (g,h)", False),
    ("Node", "", hollow.selector_of("g"), False),
    ("Service", "", "", False),
    ("Endpoints", "", "", False),
    ("Event", "", "", False),
    ("Secret", "", "", False),
]


@pytest.mark.parametrize(("kind", "fields", "labels", "allowed"), HOLLOW_SELECTIONS)
async def test_what_it_lists_and_watches(rig: Rig, kind: str, fields: str, labels: str, allowed: bool) -> None:
    await _hollow_scene(rig)
    who = identity("hollow")
    listing = rig.master.api.list(who, wire.ListRequest(kind=kind, field_selector=fields, label_selector=labels))
    watch = wire.WatchRequest(kind=kind, initial_state=True, field_selector=fields, label_selector=labels)
    batches = rig.master.api.watch(who, watch)
    if allowed:
        found = wire.ListResponse.FromString(await listing)
        assert {item.node.metadata.name or item.pod.spec.nodeName for item in found.items} <= {"h-1"}
        await anext(batches)
    else:
        with pytest.raises(Forbidden):
            await listing
        with pytest.raises(Forbidden):
            await anext(batches)
    await batches.aclose()


async def test_it_beats_for_its_nodes_only(rig: Rig) -> None:
    await _hollow_scene(rig)

    def beat(*nodes: str) -> list[str]:
        request = wire.HeartbeatRequest(heartbeats=[wire.NodeHeartbeat(node=node) for node in nodes])
        return list(rig.master.api.hear(identity("hollow"), request).unknown_nodes)

    assert beat("h-1") == []
    assert beat("h-1", "h-2") == ["h-2"], "of a node that is gone it is told so"
    for nodes in (("h-real",), ("h-1", "h-real"), ("g-1",), ("n1",), ("g-2",), ("",)):
        with pytest.raises(Forbidden):
            beat(*nodes)


# --- scheduler and proxy


async def test_the_scheduler_writes_two_conditions_and_where_a_pod_is_nominated(rig: Rig) -> None:
    made = await rig.pod()
    made.status.conditions.add(type="PodScheduled", status="False", reason="Unschedulable")
    made.status.nominatedNodeName = "n1"
    made.status.conditions.add(type="DisruptionTarget", status="True", reason="PreemptionByScheduler")
    made.metadata.resourceVersion = ""
    await rig.write(ops.update_status(made), "scheduler")
    made.status.phase = "Running"
    with pytest.raises(Forbidden, match="only the conditions PodScheduled and DisruptionTarget, and nominatedNodeName"):
        await rig.write(ops.update_status(made), "scheduler")
    made.status.phase = "Pending"
    made.status.conditions.add(type="Ready", status="True")
    with pytest.raises(Forbidden):
        await rig.write(ops.update_status(made), "scheduler")


@pytest.mark.parametrize(("agent", "node"), [("node:n1", "n1"), ("hollow:h", "h-1")])
async def test_a_node_takes_no_condition_away_that_others_have_set(rig: Rig, agent: str, node: str) -> None:
    """It writes the status that it knows, and may not have heard of the latest."""
    await rig.node("n1")
    await rig.create(hollow_node("h-1"), "hollow:h")
    made = await rig.pod()
    await rig.write(ops.bind(WEB, node), "scheduler")
    seen = rig.find("Pod", "web")
    assert isinstance(seen, core.Pod)
    by_scheduler = core.Pod()
    by_scheduler.CopyFrom(seen)
    by_scheduler.status.conditions.add(type="DisruptionTarget", status="True", reason="PreemptionByScheduler")
    await rig.write(ops.update_status(by_scheduler), "scheduler")
    blind = core.Pod(metadata=core.ObjectMeta(name="web", namespace="default", uid=made.metadata.uid))
    blind.status.phase = "Running"
    blind.status.conditions.add(type="PodScheduled", status="True")
    blind.status.conditions.add(type="Ready", status="True")
    await rig.write(ops.update_status(blind), agent)
    del blind.status.conditions[1]
    await rig.write(ops.update_status(blind), agent)
    after = rig.find("Pod", "web")
    assert isinstance(after, core.Pod)
    assert after.status.phase == "Running"
    assert [condition.type for condition in after.status.conditions] == ["PodScheduled", "DisruptionTarget"]


async def test_a_component_holds_its_own_lease_only(rig: Rig) -> None:
    def lease(name: str, namespace: str = "kube-system") -> core.Lease:
        return core.Lease(metadata=core.ObjectMeta(name=name, namespace=namespace))

    for who, other in (("controllers", "scheduler"), ("scheduler", "controllers")):
        with pytest.raises(Forbidden, match=f"only kube-system/podium-{who}"):
            await rig.create(lease(f"podium-{other}"), who)
        with pytest.raises(Forbidden):
            await rig.create(lease(f"podium-{who}", "default"), who)
        with pytest.raises(Forbidden):
            await rig.create(lease(f"podium-{who}", ""), who)
        made = await rig.create(lease(f"podium-{who}"), who)
        assert isinstance(made, core.Lease)
        assert await _get(rig, who, COMPONENT_LEASES[who]) == made
        made.spec.holderIdentity = who
        await rig.write(ops.update(made), who)
    foreign = rig.find("Lease", "podium-controllers", "kube-system")
    assert isinstance(foreign, core.Lease)
    foreign.spec.holderIdentity = ""
    for who in ("scheduler", "proxy", "node:n1"):
        with pytest.raises(Forbidden):
            await rig.write(ops.update(foreign), who)
        with pytest.raises(Forbidden):
            await _get(rig, who, COMPONENT_LEASES["controllers"])


async def test_who_may_do_nothing_with_a_kind_does_not_learn_what_exists(rig: Rig) -> None:
    await rig.pod()
    for name in ("web", "missing"):
        with pytest.raises(Forbidden):
            await rig.write(ops.delete(Key("Pod", "default", name)), "proxy")
        with pytest.raises(Forbidden):
            await _get(rig, "proxy", Key("Pod", "default", name))


@pytest.mark.parametrize("who", OTHERS)
async def test_nobody_but_admin_makes_services(rig: Rig, who: str) -> None:
    with pytest.raises(Forbidden):
        await rig.create(core.Service(metadata=core.ObjectMeta(name="x")), who)


def test_who_serves_kubernetes_api_has_no_rights_of_its_own_but_to_see_which_kinds_there_are() -> None:
    """It calls with those of who calls it (cluster.rpc.gate)."""
    assert {kind: set(verbs) for (who, kind), verbs in TABLE.items() if who == "kubernetes"} == {
        "CustomResourceDefinition": {"get", "list", "watch"}
    }
    allowed = {call for call, who in CALLS.items() if "kubernetes" in who}
    reads = {f"/cluster.pb.v1.Cluster/{call}" for call in ("Get", "List", "Watch", "WatchStream")}
    assert all(call in reads or call.startswith(("/grpc.health.", "/grpc.reflection.")) for call in allowed), allowed


# --- service accounts


async def test_a_service_account_reads_its_namespace_and_no_secrets(rig: Rig) -> None:
    await rig.create(core.Namespace(metadata=core.ObjectMeta(name="team")))
    for namespace in ("default", "team"):
        await rig.create(core.ConfigMap(metadata=core.ObjectMeta(name="c", namespace=namespace)))
    robot = Identity("serviceaccount", "team/robot")
    server = rig.master.api

    async def asks(call: str, request: Any) -> Any:
        return await getattr(server, call)(robot, request)

    await asks("get", wire.GetRequest(kind="ConfigMap", namespace="team", name="c"))
    await asks("list", wire.ListRequest(kind="ConfigMap", namespace="team"))
    for call, request in (
        ("get", wire.GetRequest(kind="ConfigMap", namespace="default", name="c")),
        ("get", wire.GetRequest(kind="ConfigMap", namespace="default", name="none")),
        ("list", wire.ListRequest(kind="ConfigMap", namespace="default")),
        ("list", wire.ListRequest(kind="ConfigMap")),
        ("get", wire.GetRequest(kind="Secret", namespace="team", name="s")),
        ("get", wire.GetRequest(kind="Namespace", name="team")),
    ):
        with pytest.raises(Forbidden):
            await asks(call, request)
    for operation in (ops.delete(Key("ConfigMap", "team", "c")), ops.create(pod("x", namespace="team"))):
        with pytest.raises(Forbidden, match="may not"):
            await rig.write(operation, "serviceaccount:team/robot")
