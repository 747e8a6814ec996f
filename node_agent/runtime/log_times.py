"""When a line of a log was written: reading the index of times beside a part of it (`node_agent.log_file`).

Worked example, records as (time, offset):

    (10.00, 0) (10.02, 120) (11.50, 300)     the byte at 130 was written at 10.02, or up to a hundredth later
                                             since 10.5 begins at offset 300
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from pathlib import Path

from node_agent.log_file import TIME


def times_of(part: Path) -> Path:
    """The index of a part: 0.log has 0.times, 0.log.2 has 0.times.2."""
    return part.with_name(part.name.replace(".log", ".times", 1))


class TimeIndex:
    """The times of one part. It may grow while it is read; what is not there (yet) counts as written at time 0."""

    def __init__(self, part: Path) -> None:
        self._path = times_of(part)
        self._times: list[float] = []
        self._offsets: list[int] = []
        self.refresh()

    def refresh(self) -> None:
        """Reads what has come since."""
        try:
            with self._path.open("rb") as file:
                file.seek(len(self._times) * TIME.size)
                data = file.read()
        except OSError:
            return
        for time_s, offset in TIME.iter_unpack(data[: len(data) // TIME.size * TIME.size]):
            self._times.append(time_s)
            self._offsets.append(offset)

    def time_at(self, offset: int) -> float:
        """When the byte at this offset was written, seconds since 1970."""
        place = bisect_right(self._offsets, offset) - 1
        return self._times[place] if place >= 0 else 0.0

    def offset_since(self, time_s: float) -> int | None:
        """Where what was written at that time or later begins; None if there is nothing of it in this part."""
        place = bisect_left(self._times, time_s)
        return self._offsets[place] if place < len(self._times) else None


class Stamper:
    """Puts the time before each line of a stream of pieces of one log."""

    def __init__(self) -> None:
        self._within_a_line = False

    def stamp(self, data: bytes, offset: int, index: TimeIndex) -> bytes:
        """The piece that begins at `offset` of its part, with the times of the lines that begin in it."""
        index.refresh()
        out = []
        for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
            if not self._within_a_line:
                out.append(format_time(index.time_at(offset)).encode() + b" ")
            out.append(line)
            self._within_a_line = not line.endswith(b"\n")
            offset += len(line)
        return b"".join(out)


def format_time(time_s: float) -> str:
    """RFC 3339 in UTC, to the hundredth of a second that the index knows."""
    moment = datetime.fromtimestamp(time_s, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 10_000:02d}Z"
