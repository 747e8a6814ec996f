"""What simulated nodes decide, when it is quiet, which changes make sense, and what a log is told as."""

from __future__ import annotations

import pytest

from cluster.api.conditions import is_node_ready, is_pod_ready, set_condition
from cluster.api.errors import ApiError, Conflict, Invalid, NotFound
from cluster.api.fit import Rejection
from cluster.api.kinds import AnyObject
from cluster.api.meta import key_of, to_time
from cluster.config.errors import ConfigError
from cluster.config.profiles import PROFILES
from cluster.pb.v1 import core_pb2 as core
from cluster.simulation import AddNodes, Change, Cordon, NodeDown, Pace, Scale, SimulationSettings, hollow
from cluster.simulation.changes import check
from cluster.simulation.quiet import MARGIN_S, patience_s
from cluster.simulation.reckoning import Reckoning
from cluster.store.version import Record
from tests.kit.scene import SINCE_S, TAKEN_AT_S, Scene

PACE = Pace(start_s=3.0, stop_s=2.0)


# --- simulated nodes


def test_what_is_new_starts_and_what_was_reported_stays_as_it_is() -> None:
    scene = Scene()
    assert hollow.acts_in_s(scene.pod("new"), PACE) == 3.0
    assert hollow.acts_in_s(scene.pod("runs", "n1"), PACE) is None
    crashing = scene.pod("crashing")
    status = crashing.status.containerStatuses.add(name="main", restartCount=3)
    status.state.waiting.reason = "CrashLoopBackOff"
    assert hollow.acts_in_s(crashing, PACE) is None
    status.state.waiting.reason, status.restartCount = "ContainerCreating", 0
    assert hollow.acts_in_s(crashing, PACE) == 3.0
    crashing.status.phase = "Failed"
    assert hollow.acts_in_s(crashing, PACE) is None


@pytest.mark.parametrize(("grace_s", "expected"), [(30, 2.0), (1, 1.0), (0, 0.0)])
def test_what_is_deleted_goes_within_its_grace(grace_s: int, expected: float) -> None:
    pod = Scene().pod("web", "n1")
    pod.metadata.deletionTimestamp.CopyFrom(to_time(0.0))
    pod.metadata.deletionGracePeriodSeconds = grace_s
    assert hollow.acts_in_s(pod, PACE) == expected
    pod.status.phase = "Succeeded"
    assert hollow.acts_in_s(pod, PACE) == 0.0


def test_a_pod_that_runs_says_what_a_real_one_says() -> None:
    pod = Scene().pod("web")
    pod.spec.initContainers.add(name="first")
    pod.spec.initContainers.add(name="side", restartPolicy="Always")
    pod.status.CopyFrom(hollow.running(pod, pod_ip="10.0.0.1", host_ip="10.1.0.1", now_s=50.0))
    assert (pod.status.phase, pod.status.podIP, pod.status.hostIP) == ("Running", "10.0.0.1", "10.1.0.1")
    assert is_pod_ready(pod)
    first, side = pod.status.initContainerStatuses
    assert first.state.terminated.reason == "Completed"
    assert side.state.running.startedAt.seconds == 50
    assert [status.ready for status in pod.status.containerStatuses] == [True]
    assert not hollow.is_new(pod)


def test_a_pod_that_is_refused_says_why() -> None:
    pod = Scene().pod("web")
    status = hollow.refused(pod, Rejection("OutOfcpu", "too much"), 50.0)
    assert (status.phase, status.reason, status.message) == ("Failed", "OutOfcpu", "too much")


def test_configuration_that_is_needed_must_be_there() -> None:
    pod = Scene().pod("web")
    container = pod.spec.containers[0]
    container.envFrom.add().configMapRef.localObjectReference.name = "a"
    maybe = container.envFrom.add().secretRef
    maybe.localObjectReference.name, maybe.optional = "perhaps", True
    container.env.add(name="X").valueFrom.secretKeyRef.localObjectReference.name = "b"
    pod.spec.volumes.add(name="v").volumeSource.configMap.localObjectReference.name = "c"
    pod.spec.volumes.add(name="w").volumeSource.secret.secretName = "d"
    there: set[tuple[str, str, str]] = set()
    for kind, name in (("ConfigMap", "a"), ("Secret", "b"), ("ConfigMap", "c"), ("Secret", "d")):
        missing = hollow.missing_configuration(pod, lambda *what: what in there)
        assert missing == f'{kind.lower()} "{name}" not found'
        there.add((kind, "default", name))
    assert hollow.missing_configuration(pod, lambda *what: what in there) == ""


def test_a_new_node_is_like_its_model_and_well() -> None:
    scene = Scene()
    model = scene.node("n1", ready="Unknown", zone="a")
    set_condition(model.status, "MemoryPressure", "True", 0.0)
    model.spec.taints.add(key="for", value="db", effect="NoSchedule")
    model.spec.taints.add(key="node.kubernetes.io/unreachable", effect="NoExecute")
    node = hollow.node_like(model, "n2")
    assert dict(node.metadata.labels) == {"kubernetes.io/hostname": "n2", "topology.kubernetes.io/zone": "a"}
    assert [taint.key for taint in node.spec.taints] == ["for"]
    assert not node.spec.podCIDR
    assert is_node_ready(node)
    assert [(c.type, c.status) for c in node.status.conditions] == [("Ready", "True"), ("MemoryPressure", "False")]
    assert node.status.allocatable["cpu"].string == "4"


# --- quiet


def patience(scene: Scene, profile: str = "laptop") -> float:
    nodes = [obj for obj in scene.objects if isinstance(obj, core.Node)]
    pods = [obj for obj in scene.objects if isinstance(obj, core.Pod)]
    controllers = [obj for obj in scene.objects if isinstance(obj, core.ReplicationController)]
    found = patience_s(
        PROFILES[profile], nodes, lambda name: [pod for pod in pods if pod.spec.nodeName == name], controllers
    )
    return found - MARGIN_S


def test_the_sweep_is_waited_for_and_the_grace() -> None:
    assert patience(Scene()) == 22.0
    assert patience(Scene(), "kubernetes") == 60.0


def test_a_failed_node_waits_for_its_turn() -> None:
    scene = Scene()
    node = scene.node("n1", ready="Unknown")
    assert patience(scene, "kubernetes") == 100.0
    node.spec.taints.add(key="node.kubernetes.io/unreachable", effect="NoExecute")
    assert patience(scene, "kubernetes") == 60.0, "its turn has come"


def test_pods_under_a_taint_stay_as_long_as_they_say() -> None:
    scene = Scene()
    node = scene.node("n1")
    pod = scene.pod("patient", "n1", tolerates_s=300)
    scene.pod("elsewhere", "n2", tolerates_s=900)
    assert patience(scene) == 22.0
    node.spec.taints.add(key="node.kubernetes.io/unreachable", effect="NoExecute")
    assert patience(scene) == 300.0
    pod.metadata.deletionTimestamp.CopyFrom(to_time(0.0))
    assert patience(scene) == 22.0


def test_pods_become_available_after_a_while() -> None:
    scene = Scene()
    controller = scene.controller("web", ["n1", "n2"])
    controller.spec.minReadySeconds = 120
    assert patience(scene) == 22.0, "all are"
    controller.status.availableReplicas = 1
    assert patience(scene) == 120.0


# --- changes


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (NodeDown("n9"), NotFound, 'nodes "n9" not found; there are n1, n2$'),
        (NodeDown("n2"), Conflict, r"node/n2 is down already \(Ready=False\)"),
        (Cordon("x"), NotFound, 'nodes "x" not found'),
        (AddNodes(1, "x"), NotFound, 'nodes "x" not found'),
        (AddNodes(0, "n1"), Invalid, "from 1 to 5000"),
        (Scale("api", 3), NotFound, 'replicationcontrollers "api" not found in default; there is web'),
        (Scale("web", 3, "shop"), NotFound, "not found in shop"),
        (Scale("web", -1), Invalid, "no negative number"),
    ],
)
def test_changes_that_make_no_sense(change: Change, error: type[ApiError], words: str) -> None:
    scene = Scene()
    scene.node("n1")
    scene.node("n2", ready="False")
    scene.controller("web", ["n1"])
    with pytest.raises(error, match=words):
        check(scene.snapshot(), [change])


def test_changes_that_contradict_each_other() -> None:
    scene = Scene()
    scene.nodes("n1")
    scene.controller("web", ["n1"])
    snapshot = scene.snapshot()
    check(snapshot, [NodeDown("n1"), Scale("web", 0), Cordon("n1")])
    with pytest.raises(Conflict, match="named twice"):
        check(snapshot, [NodeDown("n1"), NodeDown("n1")])
    with pytest.raises(Conflict, match="scaled twice"):
        check(snapshot, [Scale("web", 3), Scale("web", 4)])


def test_many_names_are_not_all_offered() -> None:
    scene = Scene()
    scene.nodes(*(f"n{number:02}" for number in range(30)))
    with pytest.raises(NotFound, match=r"there are n00, .*, n09 and 20 more$"):
        check(scene.snapshot(), [NodeDown("x")])


def test_new_nodes_get_names_that_are_free() -> None:
    assert AddNodes(2, "n1").names(["n1", "n1-new-1"]) == ["n1-new-2", "n1-new-3"]


def test_settings_that_make_no_sense() -> None:
    for wrong in ({"profile": "desktop"}, {"limit_s": 0.0}, {"deadline_s": -1.0}, {"pace": Pace(start_s=0.0)}):
        with pytest.raises(ConfigError):
            SimulationSettings(**wrong)


# --- the log


class Log:
    """Writes of a scene's objects, at virtual times."""

    def __init__(self, scene: Scene) -> None:
        self.snapshot = scene.snapshot()
        self.records: list[Record] = []

    def write(self, at_s: float, obj: AnyObject, *, deleted: bool = False) -> None:
        key = key_of(obj)
        obj.metadata.resourceVersion = str(self.snapshot.revision + len(self.records) + 1)
        data = obj.SerializeToString(deterministic=True)
        revision, time_s = int(obj.metadata.resourceVersion), TAKEN_AT_S + at_s
        self.records.append(Record(revision, 0, *key, 0, deleted, "", time_s, data))

    def delete(self, at_s: float, pod: core.Pod, actor: str, reason: str, because: str) -> None:
        pod.metadata.deletionTimestamp.CopyFrom(to_time(TAKEN_AT_S + at_s))
        pod.metadata.actor = actor
        pod.metadata.cause.CopyFrom(core.Cause(object=because, reason=reason))
        self.write(at_s, pod)

    @property
    def told(self) -> Reckoning:
        return Reckoning(self.snapshot, self.records, TAKEN_AT_S)


def test_pods_of_a_group_keep_their_places_for_a_while() -> None:
    scene = Scene()
    pod = scene.pod("one-of-two")
    pod.spec.podGroup.scheduleTimeoutSeconds = 60
    assert patience(scene) == 60.0
    pod.spec.nodeName = "n1"
    assert patience(scene) == 22.0


def test_who_made_room_is_told_with_whom_it_was_made_for() -> None:
    scene = Scene()
    scene.nodes("n1")
    small, big = scene.pod("small", "n1"), scene.pod("big")
    log = Log(scene)
    log.delete(0.5, small, "scheduler", "schedule", "")
    said = core.Event(metadata=core.ObjectMeta(name="said", namespace="default"), reason="Preempted")
    said.involvedObject.uid, said.message = small.metadata.uid, "Preempted by default/big on node n1"
    log.write(0.55, said)
    log.write(1.5, small, deleted=True)
    big.spec.nodeName = "n1"
    log.write(1.5, big)
    (removed,) = log.told.removed()
    assert (removed.why, removed.because, removed.left_s, removed.gone_s) == ("preempted", "pods/default/big", 0.5, 1.5)
    (placed,) = log.told.placed()
    assert (placed.pod, placed.node, placed.bound_s, placed.was_pending) == ("big", "n1", 1.5, True)


def test_a_new_pod_replaces_the_earliest_that_had_left_by_then() -> None:
    scene = Scene()
    scene.nodes("n1", "n2")
    web = scene.controller("web", ["n1", "n2"])
    first, second = (obj for obj in scene.objects if isinstance(obj, core.Pod))
    log = Log(scene)
    log.delete(2.0, second, "controllers", "taint-eviction", "nodes/n2")
    early = scene.pod("early", owner=web)
    log.write(1.0, early)
    late = scene.pod("late", owner=web)
    log.write(2.0, late)
    log.delete(3.0, first, "admin", "delete", "")
    assert [(r.pod, r.why, r.replaced_by) for r in log.told.removed()] == [
        ("web-1", "evicted", "late"),
        ("web-0", "deleted", ""),
    ]
    assert [(p.pod, p.since_s) for p in log.told.pending()] == [("early", 1.0), ("late", 2.0)]


def test_what_was_on_its_way_out_before_is_no_news() -> None:
    scene = Scene()
    scene.nodes("n1")
    pod = scene.pod("web", "n1")
    pod.metadata.deletionTimestamp.CopyFrom(to_time(SINCE_S))
    log = Log(scene)
    log.write(1.0, pod, deleted=True)
    assert (log.told.removed(), log.told.placed(), log.told.passing()) == ((), (), 0)


def test_a_service_that_loses_its_endpoints_twice() -> None:
    scene = Scene()
    scene.nodes("n1")
    scene.pod("web-0", "n1")
    scene.service("web", endpoints=["web-0"])
    scene.service("idle")
    empty = core.Endpoints(metadata=core.ObjectMeta(name="web", namespace="default"))
    full = core.Endpoints(metadata=empty.metadata)
    full.subsets.add().addresses.add(ip="10.0.0.1")
    log = Log(scene)
    for at_s, endpoints in ((1.0, empty), (2.5, full), (4.0, empty)):
        log.write(at_s, endpoints)
    assert [(o.service, o.from_s, o.until_s) for o in log.told.outages()] == [("web", 1.0, 2.5), ("web", 4.0, None)]
