"""Decisions alone: the scheduler's world hears of nodes and pods, and decides; nothing is read or written.

`algorithm_*` is what decides where pods go (`Cycle`), given runs of one class; `decisions_*` goes through the queue,
and assumes and remembers each decision, as in the scheduler.

The workloads are scheduler_perf's, by their names there, on 5,000 nodes in three zones with 1,000 pods placed before:
what is measured is how fast the algorithm places pods of one class that come in one crowd. Beside these: a cluster
where every node is loaded differently, six classes in turn (no two neighbours in the queue are alike), and pods that
never fit beside pods that do.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.cycle import Placement
from cluster.scheduler.facts import placed_pod
from cluster.scheduler.podclass import PodClasses
from cluster.scheduler.settings import DEFAULT_SCHEDULER, SchedulerSettings
from cluster.scheduler.world import World
from tests.bench.harness import Sides, benchmark
from tests.bench.placing import make_node, make_pod

NODES = 5000
BEFORE = 1000
BATCH = 250
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"

Shaping = Callable[[core.Pod], None]


def _stamped(template: core.Pod, number: int, node: str = "") -> core.Pod:
    pod = core.Pod()
    pod.CopyFrom(template)
    pod.metadata.name, pod.metadata.uid = f"pod-{number}", f"uid-{number}"
    if node:
        pod.spec.nodeName = node
    return pod


def _world(*, uneven: bool) -> World:
    """The nodes; `uneven`: each with a pod of another size."""
    world, dice = World(SchedulerSettings(), random.Random(1)), random.Random(2)
    controller = core.ReplicationController()
    controller.metadata.uid = "rc"
    controller.spec.selector["app"] = "bench"
    world.controller_changed(None, controller)
    for i in range(NODES):
        world.node_changed(None, make_node(f"node-{i}"))
        if uneven:
            pod = _stamped(make_pod("load"), -i, f"node-{i}")
            pod.metadata.labels["app"] = "load"
            requests = pod.spec.containers[0].resources.requests
            requests["cpu"].string, requests["memory"].string = (
                f"{dice.randrange(16000)}m",
                f"{dice.randrange(32000)}Mi",
            )
            world.pod_changed(None, pod)
    return world


@contextmanager
def _as_a_daemon() -> Iterator[None]:
    """What is there for good is not looked at by each collection of garbage, as in a daemon that has started."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def decided_per_s(
    templates: Sequence[core.Pod], pods: int, *, uneven: bool = False, fitting: int | None = None
) -> float:
    """How many pods are placed per second, the templates taking turns; `fitting`: so many of them, if not all."""
    world = _world(uneven=uneven)
    crowd = [_stamped(templates[i % len(templates)], i) for i in range(BEFORE + pods)]
    for pod in crowd[:BEFORE]:
        world.pod_changed(None, pod)
    while world.has_work(0.0) and world.decide(BATCH, 0.0).bindings:
        pass
    for pod in crowd[BEFORE:]:
        world.pod_changed(None, pod)
    placed = 0
    with _as_a_daemon():
        begun = time.perf_counter()
        while world.has_work(0.0):
            placed += len(world.decide(BATCH, 0.0).bindings)
        taken = time.perf_counter() - begun
    assert placed == (pods if fitting is None else fitting), f"{placed} of {pods} were placed"
    return placed / taken


def placed_per_s(template: core.Pod, pods: int) -> float:
    """The algorithm alone: how many pods of one class are placed per second, in runs as the queue makes them."""
    world = _world(uneven=False)
    cycle, classes = world.cycles[DEFAULT_SCHEDULER], PodClasses()
    crowd = [placed_pod(pod, classes.of(pod)) for pod in (_stamped(template, i) for i in range(BEFORE + pods))]
    pod_class = crowd[0].pod_class
    cycle.decide_many(pod_class, crowd[:BEFORE])
    with _as_a_daemon():
        begun = time.perf_counter()
        outcomes = [
            outcome
            for start in range(BEFORE, len(crowd), BATCH)
            for outcome in cycle.decide_many(pod_class, crowd[start : start + BATCH])
        ]
        taken = time.perf_counter() - begun
    assert all(isinstance(outcome, Placement) for outcome in outcomes)
    return len(outcomes) / taken


# -- the workloads


def _template(*shapings: Shaping, app: str = "bench", owner: str = "") -> core.Pod:
    pod = make_pod("template", owner)
    pod.metadata.labels["app"] = app
    for shape in shapings:
        shape(pod)
    return pod


def _apart(key: str) -> Shaping:
    def shape(pod: core.Pod) -> None:
        term = pod.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.add(topologyKey=key)
        term.labelSelector.matchLabels["app"] = pod.metadata.labels["app"]

    return shape


def _near(key: str) -> Shaping:
    def shape(pod: core.Pod) -> None:
        term = pod.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution.add(topologyKey=key)
        term.labelSelector.matchLabels["app"] = pod.metadata.labels["app"]

    return shape


def _near_if_possible(pod: core.Pod) -> None:
    preferred = pod.spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=1)
    preferred.podAffinityTerm.topologyKey = HOST
    preferred.podAffinityTerm.labelSelector.matchLabels["app"] = pod.metadata.labels["app"]


def _in_two_zones(pod: core.Pod) -> None:
    required = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    term = required.nodeSelectorTerms.add()
    term.matchExpressions.add(key=ZONE, operator="In", values=["zone-0", "zone-1"])


def _spread(when: str) -> Shaping:
    def shape(pod: core.Pod) -> None:
        constraint = pod.spec.topologySpreadConstraints.add(maxSkew=5, topologyKey=ZONE, whenUnsatisfiable=when)
        constraint.labelSelector.matchLabels["app"] = pod.metadata.labels["app"]

    return shape


def _huge(pod: core.Pod) -> None:
    pod.spec.containers[0].resources.requests["cpu"].string = "1000"


def _measure(name: str, what: str, aim: str, ours: Callable[[], float]) -> None:
    @benchmark(name, unit="pods/s", what=f"{name.split('_')[0]} alone, {NODES} nodes: {what}", aim=aim, runs=3)
    @asynccontextmanager
    async def stage() -> AsyncIterator[Sides]:
        async def measured() -> float:
            return ours()

        yield Sides(measured)


def _measure_algorithm(name: str, what: str, template: core.Pod) -> None:
    what = f"{what}, 50000 pods of one class"
    _measure(f"algorithm_{name}", what, ">= 50000", lambda: placed_per_s(template, 50_000))


def _measure_class(name: str, what: str, template: core.Pod, pods: int = 10_000) -> None:
    what = f"{what}, {pods} pods of one class"
    _measure(f"decisions_{name}", what, ">= 5000", lambda: decided_per_s([template], pods))


_measure_algorithm("basic", "no constraints", _template())
_measure_algorithm("default_spreading", "of a controller", _template(owner="rc"))
_measure_class("basic", "no constraints", _template(), 50_000)
_measure_class("default_spreading", "of a controller", _template(owner="rc"), 50_000)
_measure_class("pod_anti_affinity", "apart by host", _template(_apart(HOST)), pods=4000 - BEFORE)
_measure_class("pod_affinity", "near by zone", _template(_near(ZONE)))
_measure_class("preferred_pod_affinity", "near by host if possible", _template(_near_if_possible))
_measure_class("node_affinity", "two of three zones", _template(_in_two_zones))
_measure_class("topology_spreading", "over zones, required", _template(_spread("DoNotSchedule")))
_measure_class("preferred_topology_spreading", "over zones, preferred", _template(_spread("ScheduleAnyway")))

_MIXED = [
    _template(),
    _template(_apart(HOST), app="apart"),
    _template(_near(ZONE)),
    _template(_near_if_possible),
    _template(_spread("DoNotSchedule")),
    _template(_in_two_zones),
]
_measure("decisions_mixed", "six classes in turn, one pod each", ">= 5000", lambda: decided_per_s(_MIXED, 6000))
_measure(
    "decisions_uneven",
    "every node loaded differently, pods of a controller",
    ">= 3000",
    lambda: decided_per_s([_template(owner="rc")], 10_000, uneven=True),
)
_measure(
    "decisions_beside_those_that_never_fit",
    "every other pod fits nowhere; those that fit are counted",
    ">= 5000",
    lambda: decided_per_s([_template(), _template(_huge)], 20_000, fitting=10_000),
)
