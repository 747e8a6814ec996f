"""The window of requests that must not happen twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.store.interface import Request
from cluster.store.requests import Requests


def made(number: int, time_s: float) -> Request:
    return Request(f"admin/{number}", number, time_s, b"")


def test_the_oldest_fall_out_when_there_are_too_many() -> None:
    requests = Requests(limit=3)
    requests.add([made(number, 100.0) for number in range(1, 6)])
    assert len(requests) == 3
    assert [requests.find(f"admin/{number}", 100.0) is not None for number in range(1, 6)] == [False] * 2 + [True] * 3


def test_those_that_are_too_old_are_not_found_even_before_they_are_forgotten() -> None:
    requests = Requests(age_s=600.0)
    requests.add([made(1, 100.0)])
    assert requests.find("admin/1", 700.0) is not None
    assert requests.find("admin/1", 700.5) is None
    requests.add([made(2, 800.0)])
    assert len(requests) == 1


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0.0, 2000.0)), max_size=60), st.floats(0.0, 2000.0))
def test_like_a_dictionary_with_a_window(steps: list[tuple[int, float]], now_s: float) -> None:
    requests, model = Requests(limit=10), dict[str, Request]()
    for number, time_s in sorted(steps, key=lambda step: step[1]):
        requests.add([made(number, time_s)])
        requests.add([made(number, time_s)])
        model[f"admin/{number}"] = made(number, time_s)
    assert len(requests) <= 10
    for number in range(1, 31):
        found = requests.find(f"admin/{number}", now_s)
        assert found in (None, model.get(f"admin/{number}"))
        assert found is None or found.time_s >= now_s - 600.0
