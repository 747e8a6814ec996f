"""Turns: patches of one object are carried out one after the other, in the order in which they came.

    async with turns.turn(key, timeout_s): read the object, change it, write it over what was read

A patch that names no version is not refused because somebody else was faster; so it is in Kubernetes, and controllers
rely on it that write into one object, each a part of its own. It is applied again to what the object has become; but of
two hundred that do so at the same time, one gets through each time, and most would give up in the end. In turn, each is
applied once. Others write as well (a PUT, gRPC), so a patch still has to look whether it was overtaken, and is applied
again then, while it has its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from cluster.api.errors import DeadlineExceeded
from cluster.kubernetes.call import Call


class Turns:
    """Use from one event loop. Who waits is counted where requests are (server.py)."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._users: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """Keys whose turn somebody has, or waits for."""
        return len(self._locks)

    def of(self, call: Call, method: str) -> AbstractAsyncContextManager[None]:
        """Of a patch, the turn of its object; nothing else waits."""
        target = call.target
        if method != "PATCH" or not target.name:
            return nullcontext()
        return self.turn(target.resource.key(call.namespace, target.name), call.timeout_s)

    @asynccontextmanager
    async def turn(self, key: Hashable, timeout_s: float) -> AsyncIterator[None]:
        """The turn of a key, for as long as the context lasts. Raises DeadlineExceeded if it does not come so soon."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] = self._users.get(key, 0) + 1
        try:
            try:
                async with asyncio.timeout(timeout_s):
                    await lock.acquire()
            except TimeoutError:
                raise DeadlineExceeded(f"others are patching this object since {timeout_s:g} s") from None
            try:
                yield
            finally:
                lock.release()
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._locks[key], self._users[key]
