"""What becomes of faults, and of calls that do not come back."""

from __future__ import annotations

import itertools
import signal
import time

import pytest

from cluster.actor.clock import SystemClock
from proxy.ambassadors.guard import (
    FAULTS,
    PAUSE_MAX_S,
    PAUSE_MIN_S,
    WINDOW_S,
    Alarm,
    Fault,
    Guard,
    Overrun,
    Spent,
    Standing,
)
from tests.kit.clock import VirtualClock


def test_a_few_faults_are_told_many_cut_out() -> None:
    standing = Standing()
    assert [standing.fault(now) for now in range(FAULTS)] == [None, None, PAUSE_MIN_S]
    assert standing.is_out(FAULTS)
    assert standing.fault(FAULTS) is None, "it is out already: a connection that still ran"
    assert not standing.is_out(FAULTS - 1 + PAUSE_MIN_S)


def test_faults_far_apart_are_forgiven() -> None:
    standing = Standing()
    assert [standing.fault(now * WINDOW_S / (FAULTS - 1)) for now in range(20)] == [None] * 20


def test_one_grave_fault_is_enough() -> None:
    assert Standing().fault(0.0, grave=True) == PAUSE_MIN_S


def test_who_was_out_has_one_fault_left_and_is_out_for_longer() -> None:
    standing = Standing()
    now = 0.0
    pauses: list[float] = []
    for _ in range(7):
        pause_s = standing.fault(now, grave=not pauses)
        assert pause_s is not None
        pauses.append(pause_s)
        now += pause_s + 1
    assert pauses == [30, 60, 120, 240, 480, 600, 600]
    now += PAUSE_MAX_S + WINDOW_S
    assert standing.fault(now) is None, "it did well for a while"
    assert standing.fault(now, grave=True) == PAUSE_MIN_S


def guard(limit_s: float = 5.0) -> tuple[Guard, Alarm, list[float]]:
    alarm, slow = Alarm(limit_s), []  # type: ignore[var-annotated]
    return Guard(alarm, SystemClock(), slow.append), alarm, slow


def test_an_endless_call_is_interrupted_whatever_it_catches() -> None:
    before = signal.getsignal(signal.SIGALRM)
    it, alarm, _ = guard(0.05)

    def stubborn() -> None:
        caught = 0
        while True:
            try:
                for _ in itertools.count():
                    pass
            except Exception:
                raise AssertionError("no Exception") from None
            except BaseException:
                caught += 1
                if caught == 3:
                    raise

    with pytest.raises(Fault, match=r"longer than .* interrupted") as caught:
        it.call("x.open", stubborn)
    assert caught.value.grave
    with pytest.raises(Fault, match="interrupted"):
        it.call("x.open", time.sleep, 60)
    alarm.close()
    alarm.close()
    assert signal.getsignal(signal.SIGALRM) is before


def test_the_alarm_rings_nowhere_else() -> None:
    it, alarm, _ = guard(0.01)
    assert it.call("x.open", lambda: 7) == 7
    time.sleep(0.05)
    signal.raise_signal(signal.SIGALRM)
    alarm.close()


def test_a_slow_call_is_told_with_its_time() -> None:
    it, alarm, slow = guard()
    assert it.call("x.open", time.sleep, 0.11) is None
    assert len(slow) == 1
    assert slow[0] > 0.1
    alarm.close()


def busy(seconds: float) -> None:
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        pass


def test_a_call_that_keeps_the_processor_is_slow() -> None:
    it, alarm, slow = guard()
    it.call("x.open", busy, 0.11)
    assert len(slow) == 1
    assert slow[0] > 0.1
    alarm.close()


def test_who_waits_for_a_processor_is_not_slow() -> None:
    clock, mine = VirtualClock(), [Spent(1.0, 7)]
    slow: list[float] = []
    alarm = Alarm()
    it = Guard(alarm, clock, slow.append, lambda: mine[0])

    def call(had: Spent) -> None:
        clock.advance(3.0)
        mine[0] = had

    it.call("x.open", call, Spent(1.09, 7))
    assert slow == [], "others had the processor"
    it.call("x.open", call, Spent(1.29, 7))
    it.call("x.open", call, Spent(1.30, 8))
    assert slow == [pytest.approx(0.2), 3.0], "it ran for that long; it slept, and who knows for how long"
    alarm.close()


def test_who_waits_for_a_processor_is_not_interrupted() -> None:
    looks = itertools.chain([Spent(0.0, 0)] * 2, (Spent(0.004 * rings, 0) for rings in itertools.count()))
    alarm = Alarm(0.01, lambda: next(looks))
    with pytest.raises(Overrun):
        alarm.call(busy, 60)
    assert next(looks).busy_s == pytest.approx(0.016), "it was let go on until it had run for as long as it may"
    alarm.close()


def test_the_words_of_a_fault() -> None:
    class Mean(Exception):
        def __str__(self) -> str:
            raise RuntimeError("even that")

    def raising() -> None:
        raise Mean

    it, alarm, _ = guard()
    with pytest.raises(Fault, match=r"x.open raised Mean: \(its text cannot be had\) in line \d+ of test_guard.py"):
        it.call("x.open", raising)
    with pytest.raises(Fault, match=r"ZeroDivisionError: integer division"):
        it.call("x.open", lambda: 1 // 0)
    with pytest.raises(KeyboardInterrupt):
        it.call("x.open", _interrupted)
    with pytest.raises(Fault, match="SystemExit: 3"):
        it.call("x.open", exit, 3)
    alarm.close()
    assert issubclass(Overrun, BaseException)
    assert not issubclass(Overrun, Exception)


def _interrupted() -> None:
    raise KeyboardInterrupt
