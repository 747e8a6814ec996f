"""How times and rates are typed."""

from __future__ import annotations

import click
import pytest

from cluster.cli.fault import bytes_per_second, milliseconds


@pytest.mark.parametrize(("text", "ms"), [("200ms", 200), ("1.5s", 1500), ("2m", 120_000), ("0ms", 0)])
def test_times(text: str, ms: int) -> None:
    assert milliseconds(text, "--delay") == ms


@pytest.mark.parametrize(("text", "rate"), [("5000", 5000), ("64k", 64_000), ("2M", 2_000_000), ("1G", 10**9)])
def test_rates(text: str, rate: int) -> None:
    assert bytes_per_second(text) == rate


@pytest.mark.parametrize("text", ["", "200", "-1s", "1h", "s", "1 s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.UsageError, match="--for"):
        milliseconds(text, "--for")


@pytest.mark.parametrize("text", ["", "fast", "1.5M", "-1"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(click.UsageError, match="--bandwidth"):
        bytes_per_second(text)
