"""Which of several endpoints to ask: one, as long as it answers; when it fails, the next. Pure.

All calls and watches of a client share it. Many of them fail together when a member dies, and only the first of them
moves on: a failure of an endpoint that is no longer in use is no news.
"""

from __future__ import annotations

from collections.abc import Sequence


class Rotation:
    """The endpoints of one client, and which one is in use."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        """They are used in this order. Raises ValueError if there are none, or one twice."""
        if not endpoints:
            raise ValueError("there is no endpoint")
        if len(set(endpoints)) != len(endpoints):
            raise ValueError(f"an endpoint is named twice: {', '.join(endpoints)}")
        self.endpoints = tuple(endpoints)
        self._index = 0
        self._suspects: set[str] = set()

    @property
    def current(self) -> str:
        return self.endpoints[self._index]

    def failed(self, endpoint: str) -> None:
        """It did not answer, or said that it cannot."""
        self._suspects.add(endpoint)
        if endpoint == self.current:
            self._index = (self._index + 1) % len(self.endpoints)

    def answered(self, endpoint: str) -> None:
        """It works."""
        self._suspects.discard(endpoint)

    def is_suspect(self, endpoint: str) -> bool:
        """It has failed and not answered since: nothing that may not be repeated should be sent there unasked."""
        return endpoint in self._suspects
