"""The tries of a connection, without a connection."""

from __future__ import annotations

from proxy.balancer import Balancer, Target
from proxy.dialing import Dial, DialPlan, GiveUp, Hold
from proxy.session import Affinity

A, B, C = (Target(f"127.0.16.{n}", 8080) for n in range(1, 4))


def plan(*targets: Target, hold_s: float = 1.0) -> tuple[DialPlan, Balancer]:
    balancer = Balancer(targets)
    return DialPlan(balancer, "127.0.0.1", hold_s=hold_s), balancer


def test_growing_timeouts_each_on_the_next_endpoint() -> None:
    tries, _ = plan(A, B)
    seen = []
    while isinstance(step := tries.next(0.0), Dial):
        seen.append((step.target, step.timeout_s))
        tries.timed_out(step.target, 0.0)
    assert seen == [(A, 0.25), (B, 0.5), (A, 1.0), (B, 2.0)]
    assert step == GiveUp("dial")


def test_refusals_cost_no_try_and_are_not_repeated() -> None:
    tries, _ = plan(A, B, C)
    assert tries.next(0.0) == Dial(A, 0.25)
    tries.refused(A, 0.0)
    assert tries.next(0.0) == Dial(B, 0.25)
    tries.timed_out(B, 0.0)
    assert tries.next(0.25) == Dial(C, 0.5)
    tries.refused(C, 0.0)
    assert tries.next(0.25) == Dial(B, 0.5)
    tries.refused(B, 0.0)
    assert tries.next(0.25) == Hold(1.0)


def test_held_until_the_endpoints_change() -> None:
    tries, balancer = plan()
    assert tries.next(5.0) == Hold(1.0)
    tries.changed()
    assert tries.next(5.25) == Hold(0.75)
    balancer.replace([A], None, 10)
    tries.changed()
    assert tries.next(5.5) == Dial(A, 0.25)


def test_held_for_once_only() -> None:
    tries, balancer = plan(A)
    tries.next(0.0)
    tries.refused(A, 0.0)
    assert tries.next(0.0) == Hold(1.0)
    tries.changed()
    assert tries.next(0.9) == Dial(A, 0.25)
    tries.refused(A, 0.0)
    assert tries.next(1.0) == GiveUp("dial")
    balancer.replace([], None, 10)
    assert tries.next(1.0) == GiveUp("no-endpoint")


def test_no_hold() -> None:
    tries, _ = plan(hold_s=0)
    assert tries.next(0.0) == GiveUp("no-endpoint")


def test_a_client_does_not_stick_to_who_failed() -> None:
    balancer = Balancer([A, B], Affinity(60, 10))
    tries = DialPlan(balancer, "127.0.0.1", hold_s=1)
    assert tries.next(0.0) == Dial(A, 0.25)
    tries.timed_out(A, 0.0)
    assert tries.next(0.0) == Dial(B, 0.5)
    assert DialPlan(balancer, "127.0.0.1", hold_s=1).next(0.0) == Dial(B, 0.25)
