"""Time travel: the calls History, Undo and Trace, with what they share.

What they tell of secret values are words (`cluster.api.secrets`), made with a key that is drawn here, at the start of
the master, and told to nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cluster.actor.clock import new_uid
from cluster.api.errors import BadRequest, Invalid
from cluster.api.kinds import kind_named
from cluster.api.meta import Key
from cluster.master.admission import DEFAULT_NAMESPACE
from cluster.master.history import Past, history
from cluster.master.trace import trace
from cluster.master.undo import Undo
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity


class TimeTravel:
    """Who may call is decided before. `write` is the door's own write."""

    def __init__(self, past: Past, write: Callable[[Identity, wire.WriteRequest], Awaitable[bytes]]) -> None:
        self._past = past
        self._secret = new_uid().encode()
        self._undo = Undo(past, write, self._secret)

    async def history(self, request: wire.HistoryRequest) -> wire.HistoryResponse:
        """See `history.py`. Raises NotFound, BadRequest, Invalid, StoreRewound, Unavailable."""
        key = await self._key(request)
        await self._reach(request.after_revision, request.until_revision)
        return await history(self._past, key, request, self._secret)

    async def undo(self, identity: Identity, request: wire.UndoRequest) -> wire.UndoResponse:
        """See `undo.py`. Raises NotFound, BadRequest, Invalid, Conflict, Expired, StoreRewound, and as a write does."""
        key = await self._key(request)
        await self._reach(request.to_revision)
        return await self._undo.undo(identity, key, request)

    async def trace(self, request: wire.TraceRequest) -> wire.TraceResponse:
        """See `trace.py`. Raises NotFound, BadRequest, Invalid, Unavailable."""
        key = await self._key(request)
        await self._reach()
        return await trace(self._past, key, self._secret)

    async def _reach(self, *revisions: int) -> None:
        """Waits until everything is visible here that was acknowledged by whichever master, and these revisions."""
        for revision in revisions:
            if revision < 0:
                raise BadRequest(f"a revision must not be negative, but is {revision}")
            await self._past.reach(revision)
        await self._past.barrier()

    async def _key(self, request: wire.HistoryRequest | wire.UndoRequest | wire.TraceRequest) -> Key:
        """The object that is meant. Raises BadRequest, Invalid."""
        kind = kind_named(request.kind)
        if not request.name:
            raise BadRequest("name: is required")
        if not kind.namespaced:
            if request.namespace:
                raise Invalid(f"{kind.plural} have no namespace")
            return Key(kind.name, "", request.name)
        key = Key(kind.name, request.namespace or DEFAULT_NAMESPACE, request.name)
        if kind.message is core.CustomObject and not request.namespace:
            # Whether such objects have a namespace is said by their definition, which may be gone: the log knows.
            outside = key._replace(namespace="")
            if await self._past.read_key(outside, self._past.revision, 1):
                return outside
        return key
