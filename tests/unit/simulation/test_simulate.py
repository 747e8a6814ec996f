"""What becomes of small clusters: nodes that fail, too little room, too many failures, manifests, more nodes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest

from cluster.actor.clock import SystemClock
from cluster.api.errors import DeadlineExceeded
from cluster.api.manifest import Manifest, read_manifests
from cluster.api.meta import revision_of
from cluster.client import operations
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.settings import ProfileSettings, SchedulerSettings
from cluster.simulation import (
    AddNodes,
    Apply,
    Change,
    Cordon,
    NodeDown,
    Pace,
    Report,
    Scale,
    SimulationSettings,
    hollow,
    run,
    simulate,
)
from cluster.simulation.fork import Fork
from tests.kit.scene import Scene

RC = "ReplicationController/web"


def what_if(scene: Scene, *changes: Change, **settings: object) -> Report:
    return simulate(scene.snapshot(), changes, settings=SimulationSettings(**settings))  # type: ignore[arg-type]


def manifests(text: str) -> Sequence[Manifest]:
    return read_manifests(text, "web.yaml")


@pytest.fixture
def three() -> Scene:
    """Three nodes, a controller with a pod on each, and a service."""
    scene = Scene()
    scene.nodes("n1", "n2", "n3")
    scene.controller("web", ["n1", "n2", "n3"])
    scene.service("web", endpoints=["web-0", "web-1", "web-2"])
    return scene


def test_nothing_happens_if_nothing_is_changed(three: Scene) -> None:
    report = what_if(three)
    assert (report.ending, report.fits) == ("quiet", True)
    assert (report.nodes, report.placed, report.removed, report.outages, report.restless) == ((), (), (), (), ())


def test_the_pods_of_a_dead_node_move(three: Scene) -> None:
    report = what_if(three, NodeDown("n2"))
    assert (report.ending, report.fits, report.changes) == ("quiet", True, ("node/n2 goes down",))
    (node,) = report.nodes
    assert node.failed_s is not None
    assert 2.0 < node.failed_s <= 2.5, "after its grace, as the monitor looks"
    assert node.evicted_s == node.failed_s
    (removed,) = report.removed
    assert (removed.pod, removed.node, removed.why, removed.because) == ("web-1", "n2", "evicted", "nodes/n2")
    assert removed.gone_s is None, "its node does not say that it has ended"
    (placed,) = report.placed
    assert (placed.replaces, placed.owner) == ("web-1", RC)
    assert placed.node in ("n1", "n3")
    assert (removed.replaced_by, removed.replaced_on) == (placed.pod, placed.node)
    assert placed.ready_s == pytest.approx(removed.left_s + 1.0, abs=0.1)
    assert not report.outages, "two pods were left"
    assert report.quiet_at_s == pytest.approx(placed.ready_s or 0.0, abs=0.1)


def test_without_room_they_stay_pending_and_the_scheduler_says_why() -> None:
    scene = Scene()
    scene.nodes("n1", "n2", cpu="1")
    scene.controller("web", ["n1", "n2"], cpu="600m")
    report = what_if(scene, NodeDown("n2"))
    assert report.is_quiet
    assert not report.fits
    (pending,) = report.pending
    assert pending.message == (
        "0/2 nodes are available: 1 Insufficient cpu, "
        "1 node(s) had taint {node.kubernetes.io/unreachable: }, that the pod didn't tolerate."
    )
    assert (pending.owner, pending.was_pending) == (RC, False)
    (removed,) = report.removed
    assert (removed.replaced_by, removed.replaced_on) == (pending.pod, "")
    assert not report.placed


def test_when_most_nodes_die_evictions_stop() -> None:
    scene = Scene()
    scene.nodes("n1", "n2", "n3", "n4", "n5")
    scene.controller("web", ["n1", "n2", "n3", "n4", "n5"])
    report = what_if(scene, NodeDown("n1"), NodeDown("n2"), NodeDown("n3"))
    assert report.is_quiet
    assert [node.name for node in report.nodes if node.failed_s is not None] == ["n1", "n2", "n3"]
    assert [node.name for node in report.nodes if node.evicted_s is not None] == []
    assert not report.removed
    two = what_if(scene, NodeDown("n1"), NodeDown("n2"))
    assert [removed.node for removed in two.removed] == ["n1", "n2"]


def test_when_all_nodes_die_nothing_moves(three: Scene) -> None:
    report = what_if(three, *(NodeDown(name) for name in ("n1", "n2", "n3")))
    assert report.is_quiet
    assert len(report.nodes) == 3
    assert not report.removed
    (outage,) = report.outages
    assert (outage.service, outage.until_s) == ("web", None)


def test_evictions_follow_the_rate_and_the_patience_of_the_profile() -> None:
    scene = Scene()
    nodes = [f"n{number}" for number in range(1, 7)]
    scene.nodes(*nodes)
    web = scene.controller("web", ["n4", "n5", "n6"])
    for name in ("n1", "n2"):
        scene.pod(f"patient-{name}", name, web, tolerates_s=300)
    web.spec.replicas = web.status.replicas = 5
    report = what_if(scene, NodeDown("n1"), NodeDown("n2"), profile="kubernetes")
    assert report.is_quiet
    first, second = report.nodes
    assert first.failed_s is not None
    assert second.evicted_s is not None
    assert first.evicted_s is not None
    assert 40.0 < first.failed_s <= 45.0
    assert second.evicted_s - first.evicted_s >= 10.0, "a tenth of a node each second"
    for removed, node in zip(report.removed, (first, second), strict=True):
        assert removed.left_s - (node.evicted_s or 0.0) == pytest.approx(300.0, abs=0.1)
    assert report.fits


def test_pods_that_tolerate_the_failure_stay_as_long_as_they_say() -> None:
    scene = Scene()
    scene.nodes("n1", "n2", "n3")
    scene.pod("bare", "n2")
    scene.pod("patient", "n2", tolerates_s=100)
    faithful = scene.pod("faithful", "n2")
    for toleration in faithful.spec.tolerations:
        toleration.ClearField("tolerationSeconds")
    report = what_if(scene, NodeDown("n2"))
    assert report.is_quiet
    assert [(removed.pod, round(removed.left_s, 1)) for removed in report.removed] == [
        ("bare", 2.2),
        ("patient", 102.2),
    ]
    assert all(removed.replaced_by == "" for removed in report.removed), "nobody makes them anew"


def test_a_service_is_without_endpoints_until_its_pod_is_replaced() -> None:
    scene = Scene()
    scene.nodes("n1", "n2", "n3")
    scene.controller("db", ["n2"])
    scene.controller("web", ["n1", "n3"])
    scene.service("db", endpoints=["db-0"])
    scene.service("web", endpoints=["web-0", "web-1"])
    scene.service("nobody", "nobody")
    report = what_if(scene, NodeDown("n2"), pace=Pace(start_s=5.0))
    (outage,) = report.outages
    assert outage.service == "db"
    assert outage.until_s is not None
    assert outage.until_s - outage.from_s == pytest.approx(5.0, abs=0.2)


def test_a_cordoned_node_keeps_its_pods_and_gets_none(three: Scene) -> None:
    report = what_if(three, Cordon("n1"), Scale("web", 6))
    assert report.is_quiet
    assert [(node.name, node.cordoned) for node in report.nodes] == [("n1", True)]
    assert not report.removed
    assert sorted(placed.node for placed in report.placed) == ["n2", "n2", "n3"] or sorted(
        placed.node for placed in report.placed
    ) == ["n2", "n3", "n3"]
    assert all(placed.replaces == "" for placed in report.placed)


def test_scaling_down_says_who_goes(three: Scene) -> None:
    report = what_if(three, Scale("web", 1))
    assert [removed.why for removed in report.removed] == ["scaled down"] * 2
    assert all(removed.gone_s is not None and removed.gone_s >= 1.0 for removed in report.removed)
    assert not report.placed


def test_more_nodes_take_what_was_pending() -> None:
    scene = Scene()
    scene.nodes("n1", cpu="1")
    scene.controller("web", ["n1", "", ""], cpu="900m")
    assert len(what_if(scene).pending) == 2
    report = what_if(scene, AddNodes(2, like="n1"))
    assert report.fits
    assert [(node.name, node.joined_s) for node in report.nodes] == [("n1-new-1", 0.0), ("n1-new-2", 0.0)]
    assert sorted(placed.node for placed in report.placed) == ["n1-new-1", "n1-new-2"]
    assert all(placed.was_pending for placed in report.placed)


def test_several_changes_happen_together(three: Scene) -> None:
    report = what_if(three, NodeDown("n1"), Cordon("n2"), AddNodes(1, like="n1"), Scale("web", 5))
    assert report.fits
    assert {placed.node for placed in report.placed} <= {"n3", "n1-new-1"}
    assert len(report.placed) == 3
    assert report.changes == (
        "node/n1 goes down",
        "node/n2 is cordoned",
        "1 node like node/n1 join",
        "rc/web is scaled to 5",
    )


# --- priorities and profiles

URGENT = """
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
value: 1000
---
apiVersion: v1
kind: Pod
metadata: {name: urgent}
spec:
  priorityClassName: high
  containers: [{name: main, command: [sleep, inf], resources: {requests: {cpu: 800m}}}]
"""


def test_who_has_to_make_room_is_told_with_whom_for() -> None:
    scene = Scene()
    scene.nodes("n1", "n2", cpu="1")
    scene.controller("low", ["n1", "n2"], cpu="800m")
    report = what_if(scene, Apply(manifests(URGENT)))
    assert report.is_quiet
    (removed,) = report.removed
    assert (removed.why, removed.because) == ("preempted", "pods/default/urgent")
    (placed,) = report.placed
    assert (placed.pod, placed.node) == ("urgent", removed.node)
    assert placed.bound_s == removed.gone_s
    (pending,) = report.pending
    assert (removed.replaced_by, removed.replaced_on) == (pending.pod, "")


def test_the_clusters_own_profiles_of_the_scheduler_count() -> None:
    scene = Scene()
    scene.nodes("n1", "n2", "n3")
    scene.controller("first", ["n2"])
    scene.controller("web", [], replicas=3, schedulerName="full")
    lost = what_if(scene)
    assert len(lost.pending) == 3
    assert not lost.placed
    report = what_if(scene, scheduler=SchedulerSettings(profiles={"full": ProfileSettings(based_on="binpack")}))
    assert [placed.node for placed in report.placed] == ["n2"] * 3, "it fills up the node that is in use"


# --- manifests

WEB = """
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: %d
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, command: [sleep, inf], resources: {requests: {cpu: 100m}}}]}
"""
API = """---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: api}
spec:
  replicas: 2
  selector: {app: api}
  template:
    metadata: {labels: {app: api}}
    spec: {containers: [{name: main, command: [sleep, inf], envFrom: [{configMapRef: {name: settings}}]}]}
"""
SETTINGS = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: b}}\n"


def test_a_manifest_says_what_it_changes_and_what_follows(three: Scene) -> None:
    report = what_if(three, Apply(manifests(WEB % 5 + API + SETTINGS)))
    assert report.changes == ("4 manifests of web.yaml are applied",)
    assert [(each.kind, each.name, each.verb) for each in report.applied] == [
        ("ReplicationController", "web", "configured"),
        ("Service", "api", "created"),
        ("ReplicationController", "api", "created"),
        ("ConfigMap", "settings", "created"),
    ]
    assert "spec.replicas: 3 -> 5" in report.applied[0].differences
    assert report.fits
    assert [re.sub("-.*", "", placed.pod) for placed in report.placed] == ["api", "api", "web", "web"]
    assert not report.outages, "a new service that gets its pods was never without"


def test_what_is_so_already_is_unchanged(three: Scene) -> None:
    snapshot = three.snapshot()
    first = simulate(snapshot, [Apply(manifests(WEB % 3))])
    assert [each.verb for each in first.applied] == ["configured"], "it was not made by apply"
    assert not first.placed


def test_a_manifest_without_its_configuration_says_what_is_missing(three: Scene) -> None:
    report = what_if(three, Apply(manifests(API)))
    assert report.is_quiet
    assert not report.fits
    (stuck,) = report.stuck
    assert (stuck.owner, stuck.reason) == ("ReplicationController/api", "CreateContainerConfigError")
    assert stuck.message == 'configmap "settings" not found'
    assert len(stuck.pods) == 2
    assert [(outage.service, outage.until_s) for outage in report.outages] == [("api", None)]


def test_configuration_that_comes_frees_who_waits_for_it() -> None:
    scene = Scene()
    scene.nodes("n1")
    waiting = scene.pod("waiting", "n1")
    waiting.spec.containers[0].envFrom.add().configMapRef.localObjectReference.name = "settings"
    waiting.status.CopyFrom(hollow.unprepared(waiting, "missing", pod_ip="10.0.0.9", host_ip="", now_s=0.0))
    assert not what_if(scene).fits
    assert what_if(scene, Apply(manifests(SETTINGS))).fits


def test_what_the_master_would_refuse_is_told_and_nothing_is_simulated(three: Scene) -> None:
    elsewhere = API.replace("metadata: {name: api}", "metadata: {name: api, namespace: nowhere}", 1)
    report = what_if(three, Apply(manifests(WEB % 9 + elsewhere)), NodeDown("n1"))
    assert report.ending == "refused"
    assert [(each.name, each.verb, each.line) for each in report.applied] == [
        ("web", "configured", 2),
        ("api", "refused", 12),
        ("api", "created", 17),
    ]
    assert report.applied[1].message == 'namespaces "nowhere" not found'
    assert not report.placed
    assert not report.removed


def test_secret_values_are_not_shown(three: Scene) -> None:
    secret = core.Secret(metadata=core.ObjectMeta(name="key", namespace="default"), type="Opaque")
    secret.data["password"] = b"hunter2"
    three.objects.append(secret)
    changed = "{apiVersion: v1, kind: Secret, metadata: {name: key}, type: Opaque, stringData: {password: swordfish}}"
    report = what_if(three, Apply(manifests(changed)))
    (applied,) = report.applied
    assert "data.password: (hidden)" in applied.differences
    assert not re.search("hunter2|swordfish|aHVud|c3dvcm", str(report))


# --- what does not become quiet


@pytest.fixture
def stubborn() -> Scene:
    """A controller whose template names a node that has no room: its pods are refused there, for ever."""
    scene = Scene()
    scene.nodes("n1", cpu="1")
    scene.controller("web", ["n1"], replicas=2, cpu="800m", nodeName="n1")
    return scene


def test_a_controller_that_goes_on_in_vain_is_named(stubborn: Scene) -> None:
    report = what_if(stubborn, limit_s=120.0)
    assert (report.ending, report.is_quiet, report.fits) == ("limit", False, False)
    assert report.restless[0].what == RC
    (stuck,) = report.stuck
    assert (stuck.owner, stuck.reason) == (RC, "OutOfcpu")
    assert len(stuck.pods) > 50


def test_real_time_has_an_end_as_well(stubborn: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ticking(SystemClock):
        """Each look at it takes a millisecond."""

        looks = 0

        def monotonic(self) -> float:
            Ticking.looks += 1
            return Ticking.looks / 1000

    monkeypatch.setattr(run, "SystemClock", Ticking)
    report = what_if(stubborn, limit_s=1e9, deadline_s=2.0)
    assert report.ending == "deadline"
    assert report.restless
    with pytest.raises(DeadlineExceeded, match="had not even begun"):
        what_if(stubborn, deadline_s=0.002)


async def test_a_coroutine_is_told_how_to_ask(three: Scene) -> None:
    with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
        simulate(three.snapshot(), [])
    report = await asyncio.to_thread(simulate, three.snapshot(), [NodeDown("n1")])
    assert report.is_quiet


def test_a_bug_in_a_part_of_it_ends_the_simulation(three: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **words: object) -> core.PodStatus:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(hollow, "running", broken)
    with pytest.raises(ZeroDivisionError):
        what_if(three, NodeDown("n1"))


def test_a_bug_that_hurts_nobody_else_is_told(three: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> float:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(hollow, "acts_in_s", broken)
    report = what_if(three, Scale("web", 4))
    assert re.search(
        "this report may be wrong.*a handler failed for Pod/default/web-.*ZeroDivisionError", report.notes[0]
    )


async def test_revisions_and_addresses_go_on_from_those_that_are_there(three: Scene) -> None:
    snapshot = three.snapshot()
    fork = Fork(snapshot, seed=0, settings=SimulationSettings())
    await fork.open()
    try:
        service = core.Service(metadata=core.ObjectMeta(name="new", namespace="default"))
        service.spec.ports.add(port=80)
        node = core.Node(metadata=core.ObjectMeta(name="new"))
        written = await fork.client("admin").write([operations.create(service), operations.create(node)])
        objects: list[Any] = [outcome.unwrap() for outcome in written.outcomes]
        first, second = (revision_of(obj) for obj in objects)
        assert snapshot.revision < first == second - 1
        assert objects[0].spec.clusterIP.startswith("127.5.")
        assert objects[1].spec.podCIDR == "10.0.0.128/25"
    finally:
        await fork.stop()


def test_nodes_that_are_down_already_stay_so() -> None:
    scene = Scene()
    scene.nodes("n1", "n2")
    scene.node("n3", ready="Unknown")
    scene.controller("web", ["n1", "n2"])
    report = what_if(scene, Scale("web", 6))
    assert report.fits
    assert "n3" not in {placed.node for placed in report.placed}
