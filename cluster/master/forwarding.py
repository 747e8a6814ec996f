"""How a master that does not lead serves what only the leader can: it hands the call on, for its caller.

Writes, and heartbeats with those who listen for them, are the leader's. A follower calls it with the certificate of
masters and says for whom (cluster.rpc.gate); the leader judges that caller's rights. A call is handed on once: a master
that is believed to lead and does not says Unavailable, and the caller tries again.

    nobody leads                     wait for up to 2 s, then Unavailable: nothing was written
    the leader changes, or is gone   the connection to it is closed; what is under way ends with Unavailable, and
                                     whoever named his write (request_id) may send it again

Here nothing is repeated: whether a write may be is known to who sent it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import Unavailable
from cluster.master.leadership import Leadership
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity
from cluster.store.interface import Journal, Unreachable

_log = logging.getLogger("podium.master")

WAIT_S = 2.0
"""How long a call waits until somebody leads."""
_ASK_EVERY_S = 0.1
_WATCH_EVERY_S = 0.5


class Peer(Protocol):
    """Another master, to be called on behalf of an identity. Raises as its door does; Unavailable once it is closed."""

    async def write(self, identity: Identity, request: wire.WriteRequest) -> bytes: ...

    async def undo(self, identity: Identity, request: wire.UndoRequest) -> wire.UndoResponse: ...

    def write_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]
    ) -> AsyncGenerator[bytes, None]: ...

    def heartbeat(
        self, identity: Identity, requests: AsyncIterator[wire.HeartbeatRequest]
    ) -> AsyncGenerator[wire.HeartbeatResponse, None]: ...

    def watch_heartbeats(
        self, identity: Identity, request: wire.WatchHeartbeatsRequest
    ) -> AsyncGenerator[wire.HeartbeatBatch, None]: ...

    async def close(self) -> None:
        """Ends all calls. Twice is fine."""
        ...


class Forwarding:
    """Finds the leader and keeps the connection to it."""

    def __init__(
        self, journal: Journal, leadership: Leadership, connect: Callable[[str], Peer] | None, clock: Clock
    ) -> None:
        """`connect` makes a peer of an address; None: there is no way to others."""
        self._journal = journal
        self._leadership = leadership
        self._connect = connect
        self._clock = clock
        self._tasks = Tasks("forwarding")
        self._peer: tuple[str, Peer] | None = None
        self._closing = False

    async def leader(self) -> Peer | None:
        """The master that leads; None: it is this one. Raises Unavailable if nobody does within WAIT_S."""
        deadline_s = self._clock.monotonic() + WAIT_S
        while not self._leadership.leads:
            peer = self._peer[1] if self._peer is not None else self._reach(await self._ask())
            if peer is not None:
                return peer
            if self._closing:
                raise Unavailable("the master is stopping; nothing was written")
            if self._clock.monotonic() >= deadline_s:
                raise Unavailable("no master leads at the moment; nothing was written; try again")
            await self._clock.sleep(_ASK_EVERY_S)
        return None

    def _reach(self, address: str) -> Peer | None:
        """The master at that address, if that is another, and it leads as far as is known here."""
        if self._peer is not None:
            return self._peer[1]
        if not address or address == self._leadership.address or self._closing or self._connect is None:
            return None
        peer = self._connect(address)
        self._peer = address, peer
        self._tasks.spawn(self._watch(address), name=f"peer {address}")
        return peer

    async def stop(self) -> None:
        """Closes the connection. Twice is fine."""
        self._closing = True
        await self._tasks.cancel_all()
        await self._drop()

    async def _ask(self) -> str:
        try:
            return await self._journal.leader()
        except Unreachable as error:
            raise Unavailable(f"who leads is not known, nothing was written: {error}") from error

    async def _watch(self, address: str) -> None:
        """Until another leads, or nobody."""
        while True:
            await self._clock.sleep(_WATCH_EVERY_S)
            try:
                now = await self._journal.leader()
            except Unreachable:
                continue  # it may well lead still, and be reached
            if now != address:
                _log.info("%s leads no more; now it is %s", address, now or "nobody")
                await self._drop()
                return

    async def _drop(self) -> None:
        if self._peer is not None:
            _, peer = self._peer
            self._peer = None
            await peer.close()
