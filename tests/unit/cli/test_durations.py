"""How long, as users write it."""

from __future__ import annotations

import click
import pytest

from cluster.cli.durations import Duration, parse_duration, timeout_option
from cluster.cli.what_if import _LEAST_S
from cluster.simulation.settings import MIN_PACE_S


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("30", 30), ("30s", 30), ("1.5s", 1.5), ("0.5", 0.5), ("500ms", 0.5), ("2m", 120)),
        *(("1h2m3s", 3723), ("2d", 172800), ("1m500ms", 60.5)),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "3w", "1s2m", "s", "ms", "1.5m", "2 m"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time; write 30s, 500ms, 2m or 1h30m$"):
        parse_duration(text)


def test_an_option_says_which_it_is() -> None:
    @click.command()
    @timeout_option("For it.", default="1m")
    @click.option("--least", type=Duration(0.5), default="1s")
    def command(timeout: float, least: float) -> tuple[float, float]:
        return timeout, least

    assert command.main([], standalone_mode=False) == (60.0, 1.0)
    assert command.main(["--timeout", "2m", "--least", "500ms"], standalone_mode=False) == (120.0, 0.5)
    with pytest.raises(click.BadParameter, match='"soon" is not a time') as caught:
        command.main(["--timeout", "soon"], standalone_mode=False)
    assert caught.value.param is not None
    assert caught.value.param.opts == ["--timeout"]
    with pytest.raises(click.BadParameter, match=r"is too short: at least 0\.5s"):
        command.main(["--least", "499ms"], standalone_mode=False)


def test_what_if_takes_what_the_simulation_takes() -> None:
    assert _LEAST_S == MIN_PACE_S
