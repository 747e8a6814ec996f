"""Points in time as text: RFC 3339, in UTC, as Kubernetes writes them.

Printed to the second, because that is Kubernetes' resolution (to the microsecond where it has those); or exactly, where
a text must be read back without loss. Read with or without a fraction, in any time zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_S, MAX_S = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, in seconds since 1970; what RFC 3339 can say."""
_time = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@lru_cache(maxsize=4096)
def format_time(seconds: int) -> str:
    """Seconds since 1970 as "2026-03-01T12:00:00Z". What no year from 1 to 9999 can hold is cut to the nearest."""
    moment = _EPOCH + timedelta(seconds=min(max(seconds, MIN_S), MAX_S))
    return moment.replace(tzinfo=None).isoformat() + "Z"


def format_time_exactly(seconds: int, nanos: int) -> str:
    """As `format_time`, with the fraction of the second; at least one digit, so that 0 nanoseconds are said too."""
    fraction = f"{min(max(nanos, 0), 999_999_999):09d}".rstrip("0")
    return f"{format_time(seconds)[:-1]}.{fraction or '0'}Z"


def format_micro_time(seconds: int, nanos: int) -> str:
    """As `format_time`, with exactly six digits after the point: what is finer is cut off."""
    return f"{format_time(seconds)[:-1]}.{min(max(nanos, 0), 999_999_999) // 1000:06d}Z"


@lru_cache(maxsize=4096)
def parse_time(text: str) -> tuple[int, int | None]:
    """Seconds since 1970, and nanoseconds if a fraction is given. Raises ValueError with a sentence for people."""
    match = _time.fullmatch(text)
    if match is not None:
        date, clock, fraction, zone = match.groups()
        try:
            moment = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
            seconds = (moment - _EPOCH) // timedelta(seconds=1)
        except (ValueError, OverflowError):
            pass
        else:
            if MIN_S <= seconds <= MAX_S:
                return seconds, int(fraction[1:].ljust(9, "0")) if fraction else None
    raise ValueError(f'"{text[:64]}" is not a time like 2026-03-01T12:00:00Z (RFC 3339)')
