"""A client that watches by listening, so that the contract of watches holds for `ClusterClient.listen`, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from cluster.api.errors import ApiError
from cluster.api.kinds import AnyObject
from cluster.client.interface import ClusterClient, WatchEvent, WatchStream


def by_listening(client: ClusterClient) -> ClusterClient:
    """The same client; what it watches it hears over the stream that all its watches share."""
    return cast(ClusterClient, _ByListening(client))


class _ByListening:
    def __init__(self, client: ClusterClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def watch(self, kind: type[AnyObject], *selection: str, **others: Any) -> AbstractAsyncContextManager[Any]:
        return self._watch(kind, *selection, **others)

    @asynccontextmanager
    async def _watch(
        self, kind: type[AnyObject], *selection: str, **others: Any
    ) -> AsyncIterator[WatchStream[AnyObject]]:
        heard = _Heard()
        end = self._client.listen(kind, heard, *selection, **others)
        try:
            yield heard
        finally:
            end()
            end()


class _Heard:
    """A listener, and the stream of what it has heard."""

    def __init__(self) -> None:
        self.store_id = ""
        self._said: asyncio.Queue[tuple[Sequence[WatchEvent[AnyObject]], str] | ApiError] = asyncio.Queue()

    def heard(self, batch: Sequence[WatchEvent[AnyObject]], store_id: str) -> None:
        self._said.put_nowait((batch, store_id))

    def ended(self, error: ApiError) -> None:
        self._said.put_nowait(error)

    def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent[AnyObject]]]:
        return self

    async def __anext__(self) -> Sequence[WatchEvent[AnyObject]]:
        said = await self._said.get()
        if isinstance(said, ApiError):
            raise said
        batch, self.store_id = said
        return batch
