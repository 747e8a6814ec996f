"""A watch of a range of keys that mends itself."""

from __future__ import annotations

from types import TracebackType

from cluster.rpc.etcd.model import WatchBatch


class Watch:
    """Every change of a range from a revision on, in order, each once; see EtcdClient.watch."""

    async def __aenter__(self) -> Watch:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> WatchBatch:
        """Waits for more for ever. Raises Compacted, ClusterChanged, PermissionDenied, Refused; Unreachable if the
        client was closed."""
        raise NotImplementedError

    async def next(self, timeout_s: float) -> WatchBatch | None:
        """The next batch, or None if nothing came in time."""
        raise NotImplementedError

    def restart(self, reason: str) -> None:
        """For a caller who knows by other means that there is something that this watch has not delivered: asks again,
        of the next endpoint, from the revision after the last that was delivered."""
        raise NotImplementedError
