"""Which endpoint is next."""

from __future__ import annotations

import random
from collections import Counter

import hypothesis.strategies as st
from hypothesis import given

from cluster.client.choosing import ByKey, PowerOfTwo, RoundRobin
from cluster.client.resolved import Endpoint


def endpoint(number: int) -> Endpoint:
    return Endpoint(f"127.0.0.{number}", {"http": 80}, pod=f"p{number}")


def idle(_: Endpoint) -> int:
    return 0


def test_everybody_has_a_turn_and_a_newcomer_waits_like_the_others() -> None:
    policy = RoundRobin()
    three = [endpoint(n) for n in (1, 2, 3)]
    assert [policy.choose(three, idle, "").pod for _ in range(6)] == ["p1", "p2", "p3"] * 2
    assert policy.choose(three, idle, "").pod == "p1"
    four = [*three, endpoint(4)]
    assert [policy.choose(four, idle, "").pod for _ in range(5)] == ["p2", "p3", "p1", "p4", "p2"]


@given(st.lists(st.sets(st.integers(1, 6), min_size=1), min_size=1, max_size=40))
def test_who_stays_is_never_passed_over_for_long(sets: list[set[int]]) -> None:
    """Between two turns of one that stays there is one turn of each other that stays."""
    policy = RoundRobin()
    turns: list[tuple[int, set[int]]] = []
    for present in sets:
        chosen = policy.choose([endpoint(n) for n in sorted(present)], idle, "")
        turns.append((int(chosen.pod[1:]), present))
    for last, (one, _) in enumerate(turns):
        for first in range(last - 1, -1, -1):
            if turns[first][0] == one:
                there = set.intersection(*(present for _, present in turns[first : last + 1]))
                between = Counter(name for name, _ in turns[first + 1 : last])
                assert all(between[other] for other in there - {one}), (turns, first, last)
                if one in there:
                    assert all(between[other] == 1 for other in there - {one}), (turns, first, last)
                break


def test_those_that_went_are_forgotten() -> None:
    policy = RoundRobin()
    for number in range(1000):
        policy.choose([endpoint(number % 250)], idle, "")
        policy.choose([Endpoint(f"a{number}", {})], idle, "")
    assert len(policy._turns) <= 70


def test_the_less_busy_of_two_is_chosen() -> None:
    policy = PowerOfTwo(random.Random(1))
    both = [endpoint(1), endpoint(2)]
    busy = {"p1": 5, "p2": 1}
    assert {policy.choose(both, lambda each: busy[each.pod], "").pod for _ in range(50)} == {"p2"}
    assert policy.choose(both[:1], idle, "").pod == "p1"
    many = [endpoint(n) for n in range(10)]
    loads: Counter[str] = Counter()
    for _ in range(1000):
        loads[policy.choose(many, lambda each: loads[each.pod], "").pod] += 1
    assert max(loads.values()) - min(loads.values()) <= 5, "nobody is far from the others"
    assert len({policy.choose(many, idle, "").pod for _ in range(500)}) == 10


def test_keys_stay_where_they_are() -> None:
    policy = ByKey()
    ten = [endpoint(n) for n in range(10)]
    keys = [f"user-{n}" for n in range(1000)]
    before = {key: policy.choose(ten, idle, key).pod for key in keys}
    assert before == {key: policy.choose(list(reversed(ten)), idle, key).pod for key in keys}
    counts = Counter(before.values())
    assert min(counts.values()) > 60
    assert max(counts.values()) < 150
    left = [each for each in ten if each.pod != "p3"]
    after = {key: policy.choose(left, idle, key).pod for key in keys}
    assert {key for key in keys if before[key] != after[key]} == {key for key in keys if before[key] == "p3"}
    again = Endpoint("127.0.0.99", {"http": 80}, pod="p3")
    assert {key: policy.choose([*left, again], idle, key).pod for key in keys} == before, "its name is the same"
