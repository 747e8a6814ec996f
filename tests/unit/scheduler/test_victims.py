"""Who has to go: the rules one by one, budgets included, and the choice among nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from cluster.api.labels import parse_selector
from cluster.scheduler.budgets import Budget, Budgets
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.podclass import PodClass, PodClasses
from cluster.scheduler.victims import Victims, cost, importance, select
from tests.unit.scheduler.build import make_pod

CLASSES = PodClasses()


def class_with(labels: dict[str, str] | None = None, cpu: str = "1") -> PodClass:
    return CLASSES.of(make_pod("any", {"cpu": cpu}, labels=labels))


def placed(
    name: str, priority: int = 0, started_s: float = math.inf, labels: dict[str, str] | None = None, cpu: str = "1"
) -> PlacedPod:
    return PlacedPod(f"uid-{name}", class_with(labels, cpu), name=name, priority=priority, started_s=started_s)


@dataclass
class Cpus:
    """A node with so many cpus free when nobody is back, and a pod that wants some."""

    free: int
    wanted: int

    def fits(self) -> bool:
        return self.free >= self.wanted

    def takes_back(self, pod: PlacedPod) -> bool:
        cpus = dict(pod.pod_class.shape.requests)["cpu"] // 1000
        if self.free - cpus < self.wanted:
            return False
        self.free -= cpus
        return True


def names(victims: Victims | None) -> list[str]:
    assert victims is not None
    return [pod.name for pod in victims.pods]


def choose(free: int, wanted: int, pods: list[PlacedPod], violating: set[str] = frozenset()) -> Victims | None:  # type: ignore[assignment]
    return select(Cpus(free, wanted), sorted(pods, key=importance), frozenset(f"uid-{name}" for name in violating))


# -- on one node


def test_where_not_even_all_of_them_make_room_there_is_nobody_to_send_away() -> None:
    assert choose(2, 3, [placed("a"), placed("b")]) is None


def test_only_as_many_go_as_have_to_the_least_important_ones() -> None:
    pods = [placed("low", 1), placed("high", 9), placed("middle", 5)]
    assert names(choose(3, 1, pods)) == ["low"]
    assert names(choose(3, 2, pods)) == ["middle", "low"]


def test_of_equal_priority_the_younger_goes_and_one_that_has_not_started_first() -> None:
    pods = [placed("old", 1, 10.0), placed("young", 1, 20.0), placed("new", 1)]
    assert names(choose(3, 1, pods)) == ["new"]
    assert names(choose(3, 2, pods)) == ["young", "new"]


def test_one_that_is_too_large_goes_even_if_less_important_ones_may_stay() -> None:
    pods = [placed("large", 5, cpu="3"), placed("small", 1)]
    assert names(choose(4, 2, pods)) == ["large"]


def test_who_is_protected_comes_back_first() -> None:
    pods = [placed("important", 9), placed("protected", 1), placed("other", 1)]
    victims = choose(3, 2, pods, {"protected"})
    assert victims is not None
    assert (names(victims), victims.violations) == (["important", "other"], 0)
    victims = choose(3, 3, pods, {"protected"})
    assert victims is not None
    assert (names(victims), victims.violations) == (["important", "other", "protected"], 1)


# -- among nodes: (violations, [(priority, start), ...]); the first of each pair is chosen, and why


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((0, [(9, 0.0), (9, 0.0)]), (1, [(1, 0.0)])),
        ((1, [(9, 0.0), (9, 0.0)]), (2, [(1, 0.0)])),
        ((0, [(3, 0.0), (3, 0.0), (3, 0.0)]), (0, [(4, 0.0)])),
        ((0, [(5, 0.0), (1, 0.0)]), (0, [(5, 0.0), (2, 0.0)])),
        ((0, [(5, 0.0)]), (0, [(5, 0.0), (-100, 0.0)])),
        ((0, [(5, 0.0), (-1, 0.0)]), (0, [(5, 0.0), (0, 0.0)])),
        ((0, [(5, 20.0)]), (0, [(5, 10.0)])),
        ((0, [(5, math.inf)]), (0, [(5, 10.0)])),
        ((0, [(5, 20.0), (5, 30.0)]), (0, [(5, 10.0), (5, 40.0)])),
        ((0, [(5, 20.0), (1, 1.0)]), (0, [(5, 10.0), (1, 50.0)])),
    ],
    ids=[
        "fewest violations",
        "fewest violations, even more than none",
        "lowest highest priority, however many",
        "smallest sum",
        "a further victim is never a smaller sum",
        "smallest sum of negative ones",
        "latest start",
        "not started is latest",
        "of the most important ones, the one that started first",
        "starts of less important ones do not count",
    ],
)
def test_which_node(better: tuple[int, list[tuple[int, float]]], worse: tuple[int, list[tuple[int, float]]]) -> None:
    def victims(violations: int, pods: list[tuple[int, float]]) -> Victims:
        made = [placed(f"p{i}", priority, start) for i, (priority, start) in enumerate(pods)]
        return Victims(tuple(sorted(made, key=importance)), violations)

    assert cost(victims(*better), "z") < cost(victims(*worse), "a")


def test_of_equal_nodes_the_first_by_name_and_one_without_victims_before_all() -> None:
    victims = Victims((placed("a", -5),), 0)
    assert cost(victims, "n1") < cost(victims, "n2")
    assert cost(Victims((), 0), "n9") < cost(victims, "n1")


# -- budgets


def budget(name: str, allowed: int, selector: str = "app=web", disrupted: set[str] = frozenset()) -> Budget:  # type: ignore[assignment]
    return Budget("default", name, parse_selector(selector), allowed, frozenset(disrupted))


def webs(count: int) -> list[PlacedPod]:
    return [placed(f"web-{i}", labels={"app": "web"}) for i in range(count)]


def violating(budgets: Budgets, pods: list[PlacedPod]) -> set[str]:
    return {uid.removeprefix("uid-") for uid in budgets.violating(pods)}


def test_a_budget_lets_as_many_go_as_it_allows_in_order() -> None:
    budgets = Budgets()
    assert violating(budgets, webs(3)) == set()
    budgets.set(budget("web", 1))
    assert violating(budgets, [placed("other"), *webs(3)]) == {"web-1", "web-2"}
    budgets.set(budget("everything", 1, ""))
    assert violating(budgets, [placed("other"), *webs(2)]) == {"web-0", "web-1"}
    budgets.remove("default", "web")
    budgets.remove("default", "web")
    assert violating(budgets, webs(2)) == {"web-1"}


def test_budgets_speak_of_their_namespace_only() -> None:
    budgets = Budgets()
    budgets.set(Budget("elsewhere", "web", parse_selector(""), 0, frozenset()))
    assert violating(budgets, webs(2)) == set()


def test_who_is_being_evicted_already_is_paid_for() -> None:
    budgets = Budgets()
    budgets.set(budget("web", 1, disrupted={"web-0"}))
    assert violating(budgets, webs(3)) == {"web-2"}


def test_who_was_sent_away_counts_until_the_budget_has_seen_it() -> None:
    budgets = Budgets()
    budgets.set(budget("web", 2))
    first, second, third = webs(3)
    budgets.sent(first)
    assert violating(budgets, [second, third]) == {"web-2"}
    budgets.set(budget("web", 2))  # news that cannot have counted it
    assert violating(budgets, [second, third]) == {"web-2"}
    budgets.goes(first)
    assert violating(budgets, [second, third]) == {"web-2"}
    budgets.set(budget("web", 1))
    assert violating(budgets, [second, third]) == {"web-2"}, "now its number says it"
    budgets.sent(second)
    assert violating(budgets, [third]) == {"web-2"}
    budgets.stays(second)
    assert violating(budgets, [third]) == set()
