"""Room for the bodies of requests: how much memory those may take that are read and answered at the same time.

A body is given all the room that it may take as soon as its head has come, and has it for as long as its request lasts:
so one that was begun is read to its end, and many that come slowly are refused at once, instead of filling the memory
together. Nobody takes more than half, so that who sends slowly keeps no other caller from writing. Small bodies need no
room, and are never refused: a connection keeps as much of what has come in anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from cluster.api.errors import Overloaded

SMALL = 64 * 1024
"""Bytes."""
ROOM = 64 * 1024 * 1024
"""Bytes: twenty of the largest bodies that are taken."""


class Room:
    """See above."""

    def __init__(self) -> None:
        self._taken: Counter[Hashable] = Counter()

    @property
    def taken(self) -> int:
        """Bytes."""
        return self._taken.total()

    @contextmanager
    def held(self, caller: Hashable, size: int) -> Iterator[None]:
        """Room for a body of at most `size` bytes, for as long as the context lasts. Raises Overloaded if there is not
        enough, or if the caller would have more than half of all."""
        if size <= SMALL:
            yield
            return
        if self.taken + size > ROOM or self._taken[caller] + size > ROOM // 2:
            raise Overloaded("too many large requests at the same time, please try again later")
        self._taken[caller] += size
        try:
            yield
        finally:
            self._taken[caller] -= size
            if not self._taken[caller]:
                del self._taken[caller]
