"""What a store needs from whatever makes its log durable: the `Journal`.

Two implement it: `memory.MemoryJournal` (tests, simulation) and `journal.SqliteJournal`. One contract suite
(tests/contract/store_suite.py) runs against both, through `Store`. A journal knows records and revisions; it does not
know what an object means, who watches, or what time it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.store.version import Record


class StoreError(Exception):
    """The store cannot be opened or used. The message says why and what to do."""


class StoreRefused(StoreError):
    """This directory holds something else, something newer, something damaged, or belongs to another process."""


class DiskFull(StoreError):
    """Nothing was written, for want of space. What is there can still be read, and writing may work again later."""


class JournalFailed(StoreError):
    """The disk failed in the middle of a write: nobody knows what is on it. Only a new start can tell."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a journal says of itself when it is opened."""

    store_id: str
    """Made with the store, and with it for ever: revisions of two stores cannot be compared."""
    compacted: int
    """Changes up to this revision are no longer kept one by one, only what they led to."""


class Journal(Protocol):
    """An append-only log of records with a compacted beginning. One caller at a time appends and compacts."""

    async def open(self) -> Opening:
        """Opens or creates. Raises StoreRefused."""
        ...

    def load(self) -> AsyncIterator[Sequence[Record]]:
        """The whole log in order, in pieces: first what is left of the compacted beginning, then every change."""
        ...

    async def append(self, records: Sequence[Record]) -> None:
        """All of them, or none; durable when it returns. Raises DiskFull, JournalFailed."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[tuple[Record, Record | None]]:
        """Changes after a revision that is not compacted, each with the record that it replaced, in order.

        About `limit` of them, never part of a revision; empty: there are no more.
        """
        ...

    async def read_at(self, revision: int, kind: str, namespace: str) -> Sequence[Record]:
        """What existed of a kind (in a namespace, or everywhere) at a revision that is not before the compacted one."""
        ...

    async def compact(self, revision: int, limit: int) -> bool:
        """Forgets changes up to a revision, except what they led to. Does a piece of about `limit`; True: all done."""
        ...

    async def close(self) -> None:
        """Lets go of everything. Twice is fine."""
        ...
