"""Who restarts, and when."""

import pytest

from node_agent.restart_policy import CrashBackoff, format_duration, should_restart


@pytest.mark.parametrize(
    ("policy", "exit_code", "restarts"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("OnFailure", 137, True),
        ("Never", 0, False),
        ("Never", 1, False),
        ("", 0, True),
    ],
)
def test_policy_table(policy: str, exit_code: int, restarts: bool) -> None:
    assert should_restart(policy, exit_code) is restarts
    assert not should_restart(policy, exit_code, stopping=True)


def test_the_row_of_kubernetes() -> None:
    backoff = CrashBackoff(initial_s=10, max_s=300, reset_s=600)
    assert [backoff.delay_s(n) for n in range(9)] == [0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert backoff.delay_s(10_000) == 300


def test_the_row_of_a_laptop() -> None:
    backoff = CrashBackoff(initial_s=0.5, max_s=10, reset_s=20)
    assert [backoff.delay_s(n) for n in range(7)] == [0, 0.5, 1, 2, 4, 8, 10]


def test_a_long_run_starts_the_row_anew() -> None:
    backoff = CrashBackoff(initial_s=10, max_s=300, reset_s=600)
    assert backoff.row_after(5, ran_s=600) == 5
    assert backoff.row_after(5, ran_s=600.1) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (1, "1s"), (1.5, "1.5s"), (20, "20s"), (160, "2m40s"), (300, "5m0s"), (3661, "1h1m1s")],
)
def test_durations_read_as_go_prints_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
