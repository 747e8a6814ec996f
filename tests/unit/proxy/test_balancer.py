"""Round robin: fair, and fair across changes; and clients that stick."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balancer import Balancer, RoundRobin, Target, Terms
from proxy.session import Affinity

A, B, C, D, E = (Target(f"127.0.16.{n}", 8080) for n in range(1, 6))
targets = st.lists(st.sampled_from([Target("127.0.16.1", port) for port in range(1, 9)]), max_size=8, unique=True)


def picks(ring: RoundRobin, count: int) -> list[Target | None]:
    return [ring.pick() for _ in range(count)]


def test_everyone_in_turn() -> None:
    assert picks(RoundRobin([A, B, C]), 7) == [A, B, C, A, B, C, A]


def test_nobody() -> None:
    assert RoundRobin().pick() is None
    assert RoundRobin([A]).pick(avoid={A}) is None


def test_avoided_ones_lose_their_turn() -> None:
    ring = RoundRobin([A, B, C])
    assert ring.pick(avoid={A}) == B
    assert picks(ring, 2) == [C, A]


def test_position_is_kept_and_newcomers_queue_behind() -> None:
    ring = RoundRobin([A, B, C])
    ring.pick()
    ring.replace([A, C, D, E])
    assert picks(ring, 5) == [C, A, D, E, C]


def test_the_next_one_leaves() -> None:
    ring = RoundRobin([A, B, C])
    ring.pick()
    ring.replace([A, C])
    assert picks(ring, 3) == [C, A, C]


def test_unchanged_targets_in_another_order_change_nothing() -> None:
    ring = RoundRobin([A, B, C])
    ring.pick()
    ring.replace([C, B, A])
    assert picks(ring, 3) == [B, C, A]


@given(first=targets, turns=st.lists(st.one_of(st.none(), targets), max_size=60))
@settings(max_examples=150)
def test_between_two_turns_everyone_who_stayed_had_exactly_one(
    first: list[Target], turns: list[list[Target] | None]
) -> None:
    """None: a pick; a list: the targets change to these."""
    ring = RoundRobin(first)
    present = set(first)
    since: dict[Target, Counter[Target]] = {}
    """For each target that had a turn: who had one since."""
    stayed: dict[Target, set[Target]] = {}
    """For each target that had a turn: who was there all the time since."""
    for turn in turns:
        if turn is not None:
            ring.replace(turn)
            present = set(turn)
            since = {target: counts for target, counts in since.items() if target in present}
            stayed = {target: others & present for target, others in stayed.items() if target in present}
            assert set(ring.targets) == present
            continue
        picked = ring.pick()
        if not present:
            assert picked is None
            continue
        assert picked is not None
        assert picked in present
        if picked in since:
            for other in stayed[picked] - {picked}:
                assert since[picked][other] == 1
        for counts in since.values():
            counts[picked] += 1
        since[picked] = Counter()
        stayed[picked] = set(present)


def test_without_affinity_clients_do_not_matter() -> None:
    balancer = Balancer([A, B])
    assert [balancer.choose("127.0.0.1", 0.0) for _ in range(3)] == [A, B, A]


def test_clients_stick_and_others_take_turns() -> None:
    balancer = Balancer([A, B, C], Affinity(60, 100))
    assert [balancer.choose("127.0.0.1", 0.0) for _ in range(3)] == [A, A, A]
    assert balancer.choose("127.0.0.2", 0.0) == B
    assert balancer.choose("127.0.0.1", 1.0) == A


def test_a_failed_dial_frees_the_client() -> None:
    balancer = Balancer([A, B], Affinity(60, 100))
    assert balancer.choose("127.0.0.1", 0.0) == A
    balancer.failed("127.0.0.1")
    assert balancer.choose("127.0.0.1", 0.0) == B
    assert balancer.choose("127.0.0.1", 0.0) == B


def test_a_removed_target_frees_its_clients_only() -> None:
    balancer = Balancer([A, B, C], Affinity(60, 100))
    assert (balancer.choose("127.0.0.1", 0.0), balancer.choose("127.0.0.2", 0.0)) == (A, B)
    balancer.replace([B, C], 60, 100)
    assert balancer.choose("127.0.0.2", 0.0) == B
    assert balancer.choose("127.0.0.1", 0.0) == C


def test_affinity_is_switched_on_and_off() -> None:
    balancer = Balancer([A, B])
    balancer.replace([A, B], 60, 100)
    assert [balancer.choose("127.0.0.1", 0.0) for _ in range(2)] == [A, A]
    balancer.replace([A, B], None, 100)
    assert {balancer.choose("127.0.0.1", 0.0) for _ in range(2)} == {A, B}


def test_an_ejected_endpoint_is_passed_over_unless_it_is_all_there_is() -> None:
    balancer = Balancer([A, B])
    assert [balancer.failed("", A, 0.0) for _ in range(5)] == [False] * 4 + [True]
    assert {balancer.choose("", 1.0) for _ in range(4)} == {B}
    assert balancer.choose("", 1.0, {B}) == A
    assert {balancer.choose("", 41.0) for _ in range(4)} == {A, B}


def test_clients_leave_an_endpoint_that_is_unfit() -> None:
    balancer = Balancer([A, B], Affinity(60, 100))
    assert balancer.choose("127.0.0.1", 0.0) == A
    balancer.unhealthy = frozenset({A})
    assert balancer.choose("127.0.0.1", 0.0) == B
    balancer.unhealthy = frozenset()
    assert balancer.choose("127.0.0.1", 0.0) == B, "and stay where they are then"


def test_those_that_are_going_serve_when_nobody_is_ready() -> None:
    balancer = Balancer([A])
    balancer.replace([A], None, 10, terminating=[B, C])
    assert [balancer.choose("", 0.0) for _ in range(2)] == [A, A]
    assert balancer.choose("", 0.0, {A}) == B, "everybody else has refused"
    balancer.replace([], None, 10, terminating=[B, C])
    assert {balancer.choose("", 0.0) for _ in range(2)} == {B, C}
    assert len(balancer) == 2
    balancer.replace([], None, 10)
    assert balancer.choose("", 0.0) is None
    assert len(balancer) == 0


def test_nobody_sticks_to_one_that_is_going_when_a_ready_one_is_back() -> None:
    balancer = Balancer([A], Affinity(60, 100))
    balancer.replace([A], 60, 10, terminating=[A, B])
    assert balancer.choose("127.0.0.1", 0.0, {A}) == B
    assert balancer.choose("127.0.0.1", 1.0) == A


def test_the_policy_changes_while_serving() -> None:
    loads = {A: 2, B: 0, C: 1}
    balancer = Balancer([A, B, C], load=loads.__getitem__)
    assert [balancer.choose("", 0.0) for _ in range(3)] == [A, B, C]
    balancer.replace([A, B, C], None, 10, terms=Terms(policy="LeastConnections"))
    assert [balancer.choose("", 0.0) for _ in range(2)] == [B, B]
    balancer.replace([A, B], None, 10, terms=Terms(policy="Weighted", weights={A: 3}))
    assert Counter(balancer.choose("", 0.0) for _ in range(8)) == {A: 6, B: 2}
    balancer.replace([A, B], None, 10, terms=Terms(policy="Weighted", weights={B: 0}))
    assert {balancer.choose("", 0.0) for _ in range(8)} == {A}


events = st.tuples(st.sampled_from(["endpoints", "fails", "ill", "choose", "choose"]), targets, targets)
POLICIES = st.sampled_from(["RoundRobin", "LeastConnections", "PowerOfTwoChoices", "Weighted", "ConsistentHash"])


@given(policy=POLICIES, sticky=st.booleans(), story=st.lists(events, max_size=40))
@settings(max_examples=150)
def test_somebody_who_is_there_is_chosen_whatever_has_happened(
    policy: str, sticky: bool, story: list[tuple[str, list[Target], list[Target]]]
) -> None:
    balancer = Balancer(terms=Terms(policy=policy))
    ready: list[Target] = []
    going: list[Target] = []
    now = 0.0
    for what, some, others in story:
        now += 1.0
        if what == "endpoints":
            ready, going = some, [target for target in others if target not in some]
            balancer.replace(ready, 5 if sticky else None, 3, terminating=going)
        elif what == "fails":
            for target in some:
                for _ in range(5):
                    balancer.failed("127.0.0.1", target, now)
        elif what == "ill":
            balancer.unhealthy = frozenset(some) & frozenset(ready)
        else:
            chosen = balancer.choose("127.0.0.1", now, some)
            left = [target for target in (*ready, *going) if target not in some]
            if not left:
                assert chosen is None
            elif set(ready) - set(some):
                assert chosen in set(ready) - set(some), "those that are going come last"
                fit = set(ready) - set(some) - balancer.unhealthy - balancer.outliers.out(now)
                assert not fit or chosen in fit
            else:
                assert chosen in left
