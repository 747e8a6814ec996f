"""What a row of probe results means."""

from collections.abc import Iterable

import pytest

from cluster.pb.v1 import core_pb2 as core
from node_agent.probe_state import LIVENESS, READINESS, ProbeState, ProbeTimes, first_delay_s


def run(kind: str, results: Iterable[bool], times: ProbeTimes) -> list[bool]:
    state, answers = ProbeState.initial(kind), []
    for result in results:
        state = state.observe(result, times)
        answers.append(state.healthy)
    return answers


@pytest.mark.parametrize(
    ("ran_s", "spread", "delay_s"),
    [(0.0, 0.0, 30.0), (12.0, 0.0, 18.0), (31.0, 0.0, 0.0), (31.0, 0.25, 2.5), (28.0, 0.5, 7.0)],
)
def test_when_the_first_probe_is(ran_s: float, spread: float, delay_s: float) -> None:
    times = ProbeTimes(initial_delay_s=30.0, period_s=10.0)
    assert first_delay_s(times, ran_s=ran_s, spread=spread) == delay_s


def test_initial_values() -> None:
    assert not ProbeState.initial(READINESS).healthy
    assert ProbeState.initial(LIVENESS).healthy


@pytest.mark.parametrize(
    ("kind", "results", "answers"),
    [
        (READINESS, [True], [True]),
        (READINESS, [False, False, True, False, False, False], [False, False, True, True, True, False]),
        (LIVENESS, [False, False, True, False, False, False], [True, True, True, True, True, False]),
    ],
)
def test_thresholds(kind: str, results: list[bool], answers: list[bool]) -> None:
    assert run(kind, results, ProbeTimes()) == answers


def test_success_threshold() -> None:
    times = ProbeTimes(success_threshold=2, failure_threshold=1)
    assert run(READINESS, [True, False, True, True, False], times) == [False, False, False, True, False]


def test_defaults_are_those_of_kubernetes() -> None:
    assert ProbeTimes.of(core.Probe()) == ProbeTimes(0, 1, 10, 1, 3)
    probe = core.Probe(initialDelaySeconds=1, timeoutSeconds=2, periodSeconds=3, successThreshold=4, failureThreshold=5)
    assert ProbeTimes.of(probe) == ProbeTimes(1, 2, 3, 4, 5)
