"""The callers of the API, and the client library's client that works for each, with the rights that the caller has.

    with callers.working(identity):          whatever the caller asks for, for as long as it is answered
        callers.client(identity)

A client costs a connection to the master, so those of callers that come back are kept: of MAX_CLIENTS, and of all whose
requests and watches go on. When there are more, the one that was idle for longest is closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.actor.tasks import Tasks
from cluster.client.interface import ClusterClient
from cluster.rpc.identity import Identity

MAX_CLIENTS = 256


class Callers:
    """See above."""

    def __init__(self, connect: Callable[[Identity], ClusterClient], tasks: Tasks, most: int = MAX_CLIENTS) -> None:
        """`connect` makes a client that calls with the rights of an identity; `tasks` close those that go."""
        self._connect = connect
        self._tasks = tasks
        self._most = most
        self._clients: dict[Identity, ClusterClient] = {}
        """Those that were used last are at the end."""
        self._working: Counter[Identity] = Counter()

    @contextmanager
    def working(self, identity: Identity) -> Iterator[None]:
        """Its client is in use."""
        self._working[identity] += 1
        try:
            yield
        finally:
            self._working[identity] -= 1
            if not self._working[identity]:
                del self._working[identity]

    def client(self, identity: Identity) -> ClusterClient:
        """The client of a caller."""
        client = self._clients.pop(identity, None)
        if client is None:
            client = self._connect(identity)
            if len(self._clients) >= self._most:
                self._close_one()
        self._clients[identity] = client
        return client

    def _close_one(self) -> None:
        idle = next((each for each in self._clients if not self._working[each]), None)
        if idle is not None:
            self._tasks.spawn(self._clients.pop(idle).close(), name=f"close the client of {idle}")

    async def close(self) -> None:
        """Closes all of them."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()
