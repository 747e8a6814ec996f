"""Quantities: Kubernetes' grammar, exact values, and the one canonical way to write each."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.quantities import (
    canonical,
    format_bytes,
    format_milli,
    milli,
    parse_quantity,
    quantity,
    whole,
)
from tests.unit.api.messages import quantity_texts


@pytest.mark.parametrize(
    ("text", "value", "written"),
    [
        ("0", "0", "0"),
        ("0Ki", "0", "0"),
        ("1", "1", "1"),
        ("+1", "1", "1"),
        ("1000m", "1", "1"),
        ("100m", "0.1", "100m"),
        ("0.5", "0.5", "500m"),
        (".5", "0.5", "500m"),
        ("5.", "5", "5"),
        ("1.5Gi", "1610612736", "1536Mi"),
        ("64Mi", "67108864", "64Mi"),
        ("1024", "1024", "1024"),
        ("1024Ki", "1048576", "1Mi"),
        ("0.5Ki", "512", "512"),
        ("1.1Ki", "1126.4", "1127"),
        ("100000", "100000", "100k"),
        ("1E", "1e18", "1E"),
        ("2e3", "2000", "2e3"),
        ("1e2", "100", "100"),
        ("2E3", "2000", "2e3"),
        ("12e-3", "0.012", "12e-3"),
        ("100u", "0.0001", "100u"),
        ("0.1n", "1e-9", "1n"),
        ("-1500m", "-1.5", "-1500m"),
        ("9223372036854775807", "9223372036854775807", "9223372036854775807"),
    ],
)
def test_value_and_canonical_form(text: str, value: str, written: str) -> None:
    assert parse_quantity(text) == Decimal(value)
    assert canonical(text) == written


@pytest.mark.parametrize(
    "text",
    ["", "x", "1x", "1 ", " 1", "1KI", "1ki", "1mi", ".", "-", "1.2.3", "1e", "1e1000", "0x10", "١", "1\n", "nan",
     "inf", "8Ei", "1e19", "9" * 65, "1_000", "--1", "1Kim"],
)  # fmt: skip
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)


@given(quantity_texts)
@settings(max_examples=200)
def test_canonical_is_the_same_amount_and_stays_as_it_is(text: str) -> None:
    written = canonical(text)
    assert canonical(written) == written
    if "i" not in text:  # binary suffixes know no fractions, and round up
        assert parse_quantity(written) == parse_quantity(text)
    assert whole(quantity(written)) == whole(quantity(text))


def test_integers_are_rounded_up() -> None:
    assert milli(quantity("0.0001")) == 1
    assert milli(quantity("1500m")) == 1500
    assert whole(quantity("1500m")) == 2
    assert whole(quantity("-1500m")) == -1
    assert milli(quantity(3)) == 3000


@given(st.integers(0, 2**50))
def test_formats_are_read_back(value: int) -> None:
    assert milli(quantity(format_milli(value % 10**9))) == value % 10**9
    assert whole(quantity(format_bytes(value))) == value
    assert format_bytes(value) == canonical(format_bytes(value)) or value % 1000 == 0


def test_formats() -> None:
    assert [format_milli(value) for value in (0, 250, 2000, 2500)] == ["0", "250m", "2", "2500m"]
    assert [format_bytes(value) for value in (0, 1000, 1024, 67108864)] == ["0", "1000", "1Ki", "64Mi"]
