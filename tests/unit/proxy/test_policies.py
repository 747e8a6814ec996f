"""The policies: nobody who is absent or avoided is picked, shares are what they are to be, and few clients move."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policies import ConsistentHash, LeastConnections, Policy, PowerOfTwoChoices, RoundRobin, Target, Weighted

A, B, C, D = (Target(f"127.0.16.{n}", 8080) for n in range(1, 5))
MANY = [Target("127.0.16.1", port) for port in range(1, 13)]
CLIENTS = [f"127.0.{n >> 8}.{n & 255}" for n in range(2000)]
some = st.lists(st.sampled_from(MANY), max_size=12, unique=True)


def make(name: str, targets: Sequence[Target], load: Callable[[Target], int] = lambda target: 0) -> Policy:
    match name:
        case "RoundRobin":
            return RoundRobin(targets)
        case "LeastConnections":
            return LeastConnections(targets, load)
        case "PowerOfTwoChoices":
            return PowerOfTwoChoices(targets, load, random.Random(1))
        case "Weighted":
            return Weighted(targets, {MANY[0]: 5, MANY[1]: 0}, 1)
        case _:
            return ConsistentHash(targets)


POLICIES = ["RoundRobin", "LeastConnections", "PowerOfTwoChoices", "Weighted", "ConsistentHash"]


@pytest.mark.parametrize("name", POLICIES)
@given(first=some, changes=st.lists(st.tuples(some, st.sets(st.sampled_from(MANY)), st.integers(0, 9)), max_size=8))
@settings(max_examples=60)
def test_only_those_who_are_there_and_not_avoided_and_somebody_if_there_is_one(
    name: str, first: list[Target], changes: list[tuple[list[Target], set[Target], int]]
) -> None:
    loads: Counter[Target] = Counter()
    policy = make(name, first, lambda target: loads[target])
    for targets, avoid, client in changes:
        policy.replace(targets)
        for _ in range(3):
            picked = policy.pick(f"127.0.0.{client}", avoid)
            fit = set(targets) - avoid
            assert (picked in fit) if fit else (picked is None)
            if picked is not None:
                loads[picked] += 1


@pytest.mark.parametrize("name", ["RoundRobin", "LeastConnections"])
@given(targets=st.lists(st.sampled_from(MANY), min_size=1, max_size=12, unique=True), rounds=st.integers(1, 5))
@settings(max_examples=30)
def test_connections_that_stay_are_spread_evenly(name: str, targets: list[Target], rounds: int) -> None:
    loads: Counter[Target] = Counter()
    policy = make(name, targets, lambda target: loads[target])
    for _ in range(rounds * len(targets)):
        picked = policy.pick("127.0.0.1")
        assert picked is not None
        loads[picked] += 1
    assert set(loads.values()) == {rounds}


def test_least_connections() -> None:
    loads = {A: 3, B: 1, C: 1, D: 2}
    policy = LeastConnections([A, B, C, D], loads.__getitem__)
    assert [policy.pick("") for _ in range(4)] == [B, C, B, C], "equals take turns"
    loads[B] = loads[C] = 5
    assert policy.pick("") == D
    assert policy.pick("", {D}) == A


def test_two_choices_are_nearly_even_and_take_the_less_loaded() -> None:
    loads: Counter[Target] = Counter()
    policy = PowerOfTwoChoices(MANY, lambda target: loads[target], random.Random(7))
    for _ in range(1200):
        picked = policy.pick("")
        assert picked is not None
        loads[picked] += 1
    assert max(loads.values()) - min(loads.values()) <= 6, "at random it would be some sixty"
    busy = PowerOfTwoChoices([A, B], {A: 9, B: 0}.__getitem__, random.Random(7))
    assert {busy.pick("") for _ in range(20)} == {B}


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=8), rounds=st.integers(1, 3))
@settings(max_examples=60)
def test_weights_are_exact_over_each_round(weights: list[int], rounds: int) -> None:
    targets = MANY[: len(weights)]
    policy = Weighted(targets, dict(zip(targets, weights, strict=True)), 1)
    for _ in range(rounds):
        turns = Counter(policy.pick("") for _ in range(sum(weights)))
        assert [turns[target] for target in targets] == weights


def test_weights_are_spread_out() -> None:
    policy = Weighted([A, B, C], {A: 5}, 1)
    assert [policy.pick("") for _ in range(7)] == [A, A, B, A, C, A, A]


def test_weight_zero_is_for_when_there_is_nobody_else() -> None:
    policy = Weighted([A, B], {A: 0}, 1)
    assert {policy.pick("") for _ in range(5)} == {B}
    assert policy.pick("", {B}) == A
    policy.replace([A])
    assert policy.pick("") == A


def test_a_client_keeps_its_endpoint_and_shares_are_about_even() -> None:
    policy = ConsistentHash(MANY)
    owners = {client: policy.pick(client) for client in CLIENTS}
    assert owners == {client: policy.pick(client) for client in CLIENTS}
    shares = Counter(owners.values())
    even = len(CLIENTS) / len(MANY)
    assert all(0.6 * even < shares[target] < 1.5 * even for target in MANY)
    shuffled = ConsistentHash(MANY[::-1])
    assert owners == {client: shuffled.pick(client) for client in CLIENTS}, "the order does not matter"


@given(gone=st.sampled_from(MANY))
@settings(max_examples=12)
def test_when_one_leaves_only_its_own_clients_move_and_they_spread(gone: Target) -> None:
    policy = ConsistentHash(MANY)
    before = {client: policy.pick(client) for client in CLIENTS}
    avoiding = {client: policy.pick(client, {gone}) for client in CLIENTS}
    policy.replace([target for target in MANY if target != gone])
    after = {client: policy.pick(client) for client in CLIENTS}
    assert after == avoiding, "whoever is only avoided leaves its clients to the same ones"
    moved = [client for client in CLIENTS if before[client] != after[client]]
    assert set(moved) == {client for client, owner in before.items() if owner == gone}
    assert len({after[client] for client in moved}) > 3
    policy.replace(MANY)
    assert before == {client: policy.pick(client) for client in CLIENTS}
