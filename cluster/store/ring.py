"""The recent past, in memory: changes in order, bounded in number and in bytes.

There is one ring for all watchers. It decides what "recent" means for everything else: a watcher that has not read a
change by the time it falls out is closed, and the versions that only such changes could show are forgotten.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import islice

from cluster.store.version import Change


class Ring:
    """Changes after `horizon`, oldest first. Complete revisions only: an atomic write falls out as a whole."""

    def __init__(self, limit_changes: int, limit_bytes: int) -> None:
        self.horizon = 0
        """Every change after this revision is here; none up to it."""
        self._limit_changes = limit_changes
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._changes: deque[Change] = deque()

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def size_bytes(self) -> int:
        """Roughly what the changes hold in memory."""
        return self._size_bytes

    def push(self, change: Change) -> None:
        """Adds the newest change. Nothing falls out before `trim`."""
        self._changes.append(change)
        self._size_bytes += change.size_bytes

    def trim(self) -> list[Change]:
        """Takes out, in order, what is more than the limits allow; the newest revision always stays."""
        out: list[Change] = []
        changes = self._changes
        while changes and (len(changes) > self._limit_changes or self._size_bytes > self._limit_bytes):
            revision = changes[0].revision
            if revision == changes[-1].revision:
                break
            while changes[0].revision == revision:
                change = changes.popleft()
                self._size_bytes -= change.size_bytes
                out.append(change)
            self.horizon = revision
        return out

    def after(self, revision: int) -> Iterator[Change]:
        """Changes with a greater revision, in order. Only for revisions from the horizon on; not while pushing."""
        assert revision >= self.horizon, f"{revision} is before the ring, which begins after {self.horizon}"
        start = bisect_right(self._changes, revision, key=lambda change: change.revision)
        return islice(self._changes, start, None)

    def newest_until(self, time_s: float) -> int | None:
        """The newest revision that was made at or before a wall time; None: the ring does not go back so far."""
        for change in reversed(self._changes):
            if change.time_s <= time_s:
                return change.revision
        return None
