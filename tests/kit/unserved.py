"""The calls of the service Cluster that a fake leaves out."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cluster.api.errors import BadRequest
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity


class Unserved:
    """The calls of the service Cluster that a partial handler leaves out: refused, in words. Inherit."""

    def watch_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WatchCalls]
    ) -> AsyncIterator[wire.WatchAnswers | bytes]:
        raise _unserved("WatchStream")

    async def resolve(self, identity: Identity, request: wire.ResolveRequest) -> wire.ResolveResponse:
        raise _unserved("Resolve")

    def watch_service(self, identity: Identity, request: wire.ResolveRequest) -> AsyncIterator[wire.ServiceUpdate]:
        raise _unserved("WatchService")

    def write_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]
    ) -> AsyncIterator[wire.WriteAnswers | bytes]:
        raise _unserved("WriteStream")

    async def history(self, identity: Identity, request: wire.HistoryRequest) -> wire.HistoryResponse:
        raise _unserved("History")

    async def undo(self, identity: Identity, request: wire.UndoRequest) -> wire.UndoResponse:
        raise _unserved("Undo")

    async def trace(self, identity: Identity, request: wire.TraceRequest) -> wire.TraceResponse:
        raise _unserved("Trace")

    async def store_status(self, identity: Identity, request: wire.StoreStatusRequest) -> wire.StoreStatusResponse:
        raise _unserved("StoreStatus")

    def backup(self, identity: Identity, request: wire.BackupRequest) -> AsyncIterator[wire.BackupChunk]:
        raise _unserved("Backup")


def _unserved(call: str) -> BadRequest:
    return BadRequest(f"this server does not serve {call}")
