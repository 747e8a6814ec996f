"""What a journal that nobody shares says of leading and following: one process has it, for as long as it is open.

`MemoryJournal` and `SqliteJournal` inherit this; what makes it true is, for a directory, the lock on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cluster.store.interface import Appended


class Alone:
    """The part of `Journal` about others, when there are none."""

    def __init__(self) -> None:
        self._address = ""

    async def campaign(self, address: str) -> Forever:
        self._address = address
        return Forever()

    async def leader(self) -> str:
        return self._address

    async def follow(self, after: int) -> AsyncIterator[Appended]:
        await asyncio.Event().wait()  # until the reader is cancelled: nobody else appends
        yield Appended((), (), 0)


class Forever:
    """A term that does not end."""

    async def ended(self) -> str:
        await asyncio.Event().wait()
        return ""

    async def resign(self) -> None:
        """There is nobody else to have it."""
