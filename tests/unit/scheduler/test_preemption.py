"""Where room is made: the planner over arrays against the rules written plainly, one node after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.labels import parse_selector
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.budgets import Budget, Budgets
from cluster.scheduler.facts import PlacedPod, facts_of
from cluster.scheduler.filters import FILTERS
from cluster.scheduler.podclass import PodClass, PodClasses
from cluster.scheduler.preemption import Plan, Preemption
from cluster.scheduler.rooms import LocalRoom
from cluster.scheduler.snapshot import Snapshot
from tests.unit.scheduler.build import host_port, make_node, make_pod

CLASSES = PodClasses()
MANY = {"cpu": "64", "memory": "64Gi", "pods": "500"}


@dataclass
class Scene:
    """Nodes, what is on them, and the planner; and the same once more, for the plain rules."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    budgets: Budgets = field(default_factory=Budgets)
    nominated: set[str] = field(default_factory=set)
    nodes: dict[str, core.Node] = field(default_factory=dict)
    pods: dict[str, list[PlacedPod]] = field(default_factory=dict)
    plain_budgets: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.planner = Preemption(self.snapshot, self.budgets, self.nominated)

    def node(self, name: str, cpu: int = 4, pods: int = 110, **more: object) -> None:
        node = make_node(name, {"cpu": str(cpu), "pods": str(pods)}, **more)  # type: ignore[arg-type]
        self.nodes[name] = node
        self.pods.setdefault(name, [])
        self.snapshot.set_node(name, facts_of(node))

    def pod(
        self,
        name: str,
        node: str,
        cpu: int = 1,
        priority: int = 0,
        started_s: float = math.inf,
        app: str = "",
        going: bool = False,
        **more: object,
    ) -> PlacedPod:
        labels = {"app": app} if app else None
        pod_class = CLASSES.of(make_pod("x", {"cpu": str(cpu)}, labels=labels, **more))  # type: ignore[arg-type]
        pod = PlacedPod(f"uid-{name}", pod_class, going, name=name, priority=priority, started_s=started_s)
        self.snapshot.place(pod, node)
        self.pods[node].append(pod)
        return pod

    def leaves(self, pod: PlacedPod, node: str) -> None:
        self.snapshot.remove(pod.uid)
        self.pods[node].remove(pod)

    def budget(self, app: str, allowed: int) -> None:
        self.budgets.set(Budget("default", app, parse_selector(f"app={app}"), allowed, frozenset()))
        self.plain_budgets.append((app, allowed))

    def plan(self, pod_class: PodClass, priority: int) -> tuple[str, list[str], int] | None:
        plan = self.planner.plan(pod_class, priority, FILTERS)
        return None if plan is None else (plan.node, names(plan), plan.victims.violations)

    def plain(self, pod_class: PodClass, priority: int) -> tuple[str, list[str], int] | None:
        """Kubernetes' rules, as they are written down."""
        found = []
        for name in self.nodes:
            going = [pod for pod in self.pods[name] if pod.terminating]
            lower = [pod for pod in self.pods[name] if pod.priority < priority and not pod.terminating]
            kept = [pod for pod in self.pods[name] if pod not in lower and pod not in going]
            if (not lower and not going) or not self._fits(name, kept, pod_class):
                continue
            lower.sort(key=lambda pod: (-pod.priority, pod.started_s, pod.uid))
            left = dict(self.plain_budgets)
            protected = []
            for pod in lower:
                app = pod.pod_class.label_map.get("app", "")
                if app in left:
                    left[app] -= 1
                    if left[app] < 0:
                        protected.append(pod)
            victims = []
            for pod in protected + [pod for pod in lower if pod not in protected]:
                if self._fits(name, [*kept, pod], pod_class):
                    kept.append(pod)
                else:
                    victims.append(pod)
            violations = sum(pod in protected for pod in victims)
            if not victims:
                if not going:
                    continue
                found.append(((0, -math.inf, 0, 0, -math.inf), name, victims, 0))
                continue
            highest = max(pod.priority for pod in victims)
            earliest = min(pod.started_s for pod in victims if pod.priority == highest)
            total = sum(pod.priority + 2**31 for pod in victims)
            found.append(((violations, highest, total, len(victims), -earliest), name, victims, violations))
        if not found:
            return None
        _, name, victims, violations = min(found, key=lambda each: (each[0], each[1]))
        victims.sort(key=lambda pod: (-pod.priority, pod.started_s, pod.uid))
        return name, [pod.name for pod in victims], violations

    def _fits(self, node: str, kept: list[PlacedPod], pod_class: PodClass) -> bool:
        for resource, asked in pod_class.shape.requests:
            has = dict(facts_of(self.nodes[node]).allocatable)[resource]
            used = sum(dict(pod.pod_class.shape.requests).get(resource, 0) for pod in kept)
            if used + asked > has:
                return False
        return True


def names(plan: Plan) -> list[str]:
    return [pod.name for pod in plan.victims.pods]


def wanted(cpu: int = 1, **more: object) -> PodClass:
    return CLASSES.of(make_pod("wanted", {"cpu": str(cpu)}, **more))  # type: ignore[arg-type]


OCCUPANTS = st.tuples(
    st.integers(0, 3),  # node
    st.integers(1, 3),  # cpus
    st.integers(-1, 4),  # priority
    st.sampled_from([1.0, 2.0, 3.0, math.inf]),
    st.sampled_from(["", "a", "b"]),
    st.booleans().map(lambda going: going),
)


@settings(max_examples=80)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.lists(OCCUPANTS, max_size=14),
    st.tuples(st.integers(-1, 2), st.integers(-1, 2)),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_the_planner_says_what_the_rules_say(
    cpus: list[int],
    occupants: list[tuple[int, int, int, float, str, bool]],
    budgets: tuple[int, int],
    askers: list[tuple[int, int]],
    leaving: int,
) -> None:
    scene = Scene()
    for i, cpu in enumerate(cpus):
        scene.node(f"n{i}", cpu, pods=6)
    for app, allowed in zip("ab", budgets, strict=True):
        if allowed >= 0:
            scene.budget(app, allowed)
    placed = []
    for i, (node, cpu, priority, started_s, app, going) in enumerate(occupants):
        name = f"n{node % len(cpus)}"
        pod = scene.pod(f"p{i}", name, cpu, priority, started_s, app, going and priority % 2 == 0)
        placed.append((pod, name))
    for cpu, priority in askers:
        assert scene.plan(wanted(cpu), priority) == scene.plain(wanted(cpu), priority)
    for pod, name in placed[:leaving]:  # what was found out is kept, and has to be found out anew
        scene.leaves(pod, name)
        for cpu, priority in askers:
            assert scene.plan(wanted(cpu), priority) == scene.plain(wanted(cpu), priority)
    scene.pod("late", "n0", 1, 1, 9.0)
    for cpu, priority in askers:
        assert scene.plan(wanted(cpu), priority) == scene.plain(wanted(cpu), priority)


def test_nodes_that_would_not_do_even_if_they_were_empty_are_no_help() -> None:
    scene = Scene()
    scene.node("small", 1)
    scene.node("tainted", 8, taints=[("for", "db", "NoSchedule")])
    scene.node("cordoned", 8, unschedulable=True)
    scene.node("full", 8)
    for node, priority in (("small", 0), ("tainted", 0), ("cordoned", 0), ("full", 9)):
        scene.pod(f"on-{node}", node, 1 if node == "small" else 8, priority)
    assert scene.plan(wanted(2), 5) is None
    assert scene.planner.refusal(wanted(2), 5, FILTERS) == (
        "preemption: 0/4 nodes are available: 2 No preemption victims found for incoming pod,"
        " 2 Preemption is not helpful for scheduling."
    )


def test_a_port_of_the_node_is_room_too() -> None:
    scene = Scene()
    for name in ("n1", "n2", "n3"):
        scene.node(name)
    scene.pod("a", "n1", priority=9, ports=[host_port(80)])
    scene.pod("b", "n2", priority=1, ports=[host_port(80)])
    scene.pod("c", "n2", priority=0)
    scene.pod("d", "n3", priority=2, ports=[host_port(80, ip="127.0.0.1")])
    asks = wanted(1, ports=[host_port(80)])
    assert scene.plan(asks, 5) == ("n2", ["b"], 0)
    assert scene.plan(asks, 1) is None


def test_a_thousand_of_a_class_make_one_look_at_all_nodes_and_then_at_one_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    for i in range(100):
        scene.node(f"n{i:03}")
        for k in range(4):
            scene.pod(f"p{i}-{k}", f"n{i:03}", 1, k)
    looked = 0
    collect = LocalRoom.fits

    def counting(room: LocalRoom) -> bool:
        nonlocal looked
        looked += 1
        return collect(room)

    monkeypatch.setattr(LocalRoom, "fits", counting)
    preemptor = wanted(1)
    victims = []
    for i in range(200):
        plan = scene.planner.plan(preemptor, 10, FILTERS)
        assert plan is not None
        scene.planner.send(plan.victims.pods)
        scene.snapshot.place(PlacedPod(f"uid-new-{i}", preemptor, name=f"new-{i}", priority=10), plan.node)
        victims += [pod.priority for pod in plan.victims.pods]
    assert victims == [0] * 100 + [1] * 100
    assert looked <= 100 + 200


def test_who_is_going_makes_room_for_nothing_and_is_not_told_again() -> None:
    scene = Scene()
    for name in ("n1", "n2"):
        scene.node(name, 2)
        scene.pod(f"a-{name}", name, 2, 1)
    plan = scene.planner.plan(wanted(2), 5, FILTERS)
    assert plan is not None
    assert (plan.node, names(plan)) == ("n1", ["a-n1"])
    scene.planner.send(plan.victims.pods)
    assert scene.plan(wanted(2), 5) == ("n1", [], 0)
    scene.planner.stays(plan.victims.pods[0].uid)
    assert scene.plan(wanted(2), 5) == ("n1", ["a-n1"], 0)


def test_a_pod_that_is_only_nominated_gives_way_to_a_more_important_one_without_being_sent_away() -> None:
    scene = Scene()
    scene.node("n1", 2)
    scene.nominated.add("uid-nominated")
    scene.pod("nominated", "n1", 1, 3)
    scene.pod("a", "n1", 1, 1)
    assert scene.plan(wanted(2), 5) == ("n1", ["a"], 0)
    assert scene.plan(wanted(2), 3) is None


def test_budgets_are_gone_beyond_only_where_nothing_else_helps() -> None:
    scene = Scene()
    for name in ("n1", "n2"):
        scene.node(name, 1)
    scene.pod("a", "n1", 1, 0, app="a")
    scene.pod("b", "n2", 1, 4)
    scene.budget("a", 0)
    assert scene.plan(wanted(1), 5) == ("n2", ["b"], 0)
    assert scene.plan(wanted(1), 3) == ("n1", ["a"], 1)


def test_many_priorities_share_levels_and_the_answer_is_the_same() -> None:
    scene = Scene()
    scene.node("n1", 200, pods=300)
    for i in range(150):
        scene.pod(f"p{i}", "n1", 1, i * 7)
    assert scene.plan(wanted(60), 70) == scene.plain(wanted(60), 70)
    assert scene.plan(wanted(60), 71) == scene.plain(wanted(60), 71)
    assert scene.plan(wanted(51), 6) == scene.plain(wanted(51), 6)
