"""Who is ejected, when, for how long, and how many at a time."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.outlier import OutlierDetector, OutlierTerms
from proxy.policies import Target

MANY = [Target("127.0.16.1", port) for port in range(1, 31)]
A, B, C = MANY[:3]
TERMS = OutlierTerms()


def detector(count: int = 3, terms: OutlierTerms = TERMS) -> OutlierDetector:
    made = OutlierDetector()
    made.replace(MANY[:count], terms)
    return made


def fail(outliers: OutlierDetector, target: Target, now: float, times: int = 5) -> bool:
    return [outliers.failed(target, now) for _ in range(times)].count(True) > 0


def test_five_failures_in_a_row() -> None:
    outliers = detector()
    assert not fail(outliers, A, 0.0, 4)
    outliers.connected(A)
    assert not fail(outliers, A, 0.0, 4)
    assert outliers.out(0.0) == frozenset()
    assert outliers.failed(A, 1.0)
    assert outliers.out(1.0) == {A}
    assert outliers.ejections == 1


def test_back_at_the_first_sweep_after_the_time_and_longer_each_time() -> None:
    outliers = detector()
    now = 0.0
    for times in range(1, 13):
        assert fail(outliers, A, now)
        lasts = min(30.0 * times, 300.0)
        assert outliers.out(now + lasts - 0.1) == {A}
        now += lasts + 10
        assert outliers.out(now) == frozenset()


def test_who_behaves_is_forgiven() -> None:
    outliers = detector()
    fail(outliers, A, 0.0)
    assert outliers.out(40.0) == frozenset()
    outliers.out(50.0)  # one interval of good behaviour
    assert fail(outliers, A, 60.0)
    assert outliers.out(60.0 + 29.9) == {A}
    assert outliers.out(60.0 + 40.0) == frozenset(), "it counted as the first time"


def test_a_tenth_at_most_but_one_always() -> None:
    outliers = detector(3)
    assert fail(outliers, A, 0.0)
    assert not fail(outliers, B, 0.0, 20)
    assert outliers.out(0.0) == {A}
    outliers = detector(30)
    assert [fail(outliers, target, 0.0) for target in MANY[:5]] == [True, True, True, False, False]
    alone = detector(1)
    assert fail(alone, A, 0.0)


def test_whoever_was_over_the_limit_is_ejected_when_there_is_room() -> None:
    outliers = detector(2)
    fail(outliers, A, 0.0)
    assert not fail(outliers, B, 0.0)
    assert outliers.out(40.0) == frozenset()
    assert outliers.failed(B, 41.0)


def test_switched_off() -> None:
    outliers = detector()
    fail(outliers, A, 0.0)
    outliers.replace(MANY[:3], replace(TERMS, consecutive_failures=0))
    assert outliers.out(0.0) == frozenset()
    assert not fail(outliers, A, 0.0, 50)


def test_who_is_gone_is_forgotten() -> None:
    outliers = detector()
    fail(outliers, A, 0.0)
    outliers.replace([B, C], TERMS)
    assert outliers.out(0.0) == frozenset()
    assert not fail(outliers, A, 0.0, 50), "a late failure of who is not there any more"
    outliers.replace([A, B, C], TERMS)
    assert outliers.out(1.0) == frozenset()


events = st.tuples(st.sampled_from(["fail", "connect", "wait", "change"]), st.integers(0, 11))


@given(count=st.integers(1, 12), percent=st.integers(0, 100), story=st.lists(events, max_size=200))
@settings(max_examples=100)
def test_never_more_than_allowed_and_all_come_back(count: int, percent: int, story: list[tuple[str, int]]) -> None:
    terms = replace(TERMS, consecutive_failures=2, max_percent=percent)
    outliers, now = detector(count, terms), 0.0
    present, before = count, 0
    for what, number in story:
        if what == "fail":
            outliers.failed(MANY[number], now)
        elif what == "connect":
            outliers.connected(MANY[number])
        elif what == "wait":
            now += number
        else:
            present = number + 1
            outliers.replace(MANY[:present], terms)
        out = outliers.out(now)
        assert out <= set(MANY[:present])
        if len(out) > before:
            assert len(out) <= max(1, present * percent // 100)
        before = len(out)
    for _ in range(100):
        now += 10
        outliers.out(now)
    assert outliers.out(now) == frozenset()
