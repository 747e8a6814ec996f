"""Session affinity: a client's connections go to the same endpoint until it has been away for a while.

As in Kubernetes, a client is its IP address and the time counts from its last connection, per service port. On one
machine most clients are 127.0.0.1, so affinity there sends everything to one pod unless clients bind addresses of their
own. The table is bounded: when it is full, the client that has been away longest is forgotten (and simply gets a new
endpoint when it comes back).

It knows nothing of sockets and takes the time as an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Generic, TypeVar

T = TypeVar("T")


class Affinity(Generic[T]):
    """Which client sticks to what. Ordered by last use, so that what expires is in front."""

    __slots__ = ("_clients", "_limit", "timeout_s")

    def __init__(self, timeout_s: float, limit: int) -> None:
        self.timeout_s = timeout_s
        """Since the last use; Kubernetes' default is 10800 (three hours)."""
        self._limit = limit
        self._clients: OrderedDict[str, tuple[T, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clients)

    def get(self, client: str, now: float) -> T | None:
        """What the client sticks to, and counts as a use; None if nothing, or if it was away for too long."""
        self._expire(now)
        entry = self._clients.get(client)
        if entry is None:
            return None
        self.put(client, entry[0], now)
        return entry[0]

    def put(self, client: str, target: T, now: float) -> None:
        """From now on the client sticks to this."""
        self._clients[client] = (target, now)
        self._clients.move_to_end(client)
        if len(self._clients) > self._limit:
            self._clients.popitem(last=False)

    def forget(self, client: str) -> None:
        """The client sticks to nothing any more."""
        self._clients.pop(client, None)

    def keep_only(self, targets: Collection[T]) -> None:
        """Forgets every client of any other target."""
        for client in [client for client, (target, _) in self._clients.items() if target not in targets]:
            del self._clients[client]

    def _expire(self, now: float) -> None:
        while self._clients:
            client, (_, used) = next(iter(self._clients.items()))
            if now - used < self.timeout_s:
                return
            del self._clients[client]
