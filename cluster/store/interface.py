"""What a store needs from whatever makes its log durable: the `Journal`.

Three implement it: `memory.MemoryJournal` (tests, simulation), `journal.SqliteJournal` (one machine) and
`etcd.journal.EtcdJournal` (several masters that share one log). One contract suite (tests/contract/store_suite.py) runs
against all of them, through `Store`. A journal knows records and revisions; it does not know what an object means, who
watches, or what time it is.

Who may append: the holder of a `Term`. A journal that nobody else can open gives it at once and for good; one that is
shared gives it to one process at a time, and refuses what is appended after the term has ended, whatever the process
believes: the right is proved with each append, never remembered. Everyone else follows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cluster.store.version import Record

if TYPE_CHECKING:
    from cluster.store.chain import Base


class StoreError(Exception):
    """The store cannot be opened or used. The message says why and what to do."""


class StoreRefused(StoreError):
    """This directory holds something else, something newer, something damaged, or belongs to another process."""


class DiskFull(StoreError):
    """Nothing was written, for want of space. What is there can still be read, and writing may work again later."""


class TooLarge(StoreError):
    """A single revision is larger than the engine takes at once. Nothing was written. The message is for the user."""


class JournalFailed(StoreError):
    """The disk failed in the middle of a write: nobody knows what is on it. Only a new start can tell."""


class NotLeading(StoreError):
    """This process may not append (any more). Nothing was written."""


class Undecided(StoreError):
    """A shared journal could not be reached in time: nobody knows yet whether it was written. The term has ended;
    whoever leads next will find it in the log, or not."""


class Unreachable(StoreError):
    """A shared journal could not be reached in time. Nothing was asked of it that changes anything."""


class Compacted(StoreError):
    """What was asked for is no longer kept one by one; read everything again."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a journal says of itself when it is opened."""

    store_id: str
    """Names the store and its incarnation: a restore gives it another one. Revisions of two cannot be compared."""
    compacted: int
    """Changes up to this revision are no longer kept one by one, only what they led to."""


class Request(NamedTuple):
    """A write that must not happen twice, and what it was answered."""

    request_id: str
    """With the identity that sent it: "admin/4f1c..."."""
    revision: int
    """The newest that it made."""
    time_s: float
    """Wall time of the write, seconds since 1970."""
    outcome: bytes
    """What was answered, with objects reduced to name, namespace and resourceVersion (`cluster.master.replay`)."""


class Appended(NamedTuple):
    """One append, as a follower sees it: complete revisions, in order, each once."""

    records: Sequence[Record]
    requests: Sequence[Request]
    compacted: int
    """As of then; see Opening."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A log as of one revision, to be taken elsewhere: what `load` would have given then."""

    base: Base
    """Its compacted beginning."""
    revision: int
    records: AsyncGenerator[Sequence[Record], None]
    """In order, in pieces, each verified before it is given. Raises Compacted if somebody compacts meanwhile,
    JournalFailed for damage, Unreachable. Must be closed."""


class Term(Protocol):
    """The right to append, while it lasts."""

    async def ended(self) -> str:
        """Returns when the term is over, with the reason. Never, for a journal that nobody shares."""
        ...

    async def resign(self) -> None:
        """Gives the right back, so that another may have it at once. Twice is fine, and so is after the end."""
        ...


class Journal(Protocol):
    """An append-only log of records with a compacted beginning. One caller at a time appends and compacts."""

    @property
    def engine(self) -> str:
        """ "memory", "sqlite" or "etcd"."""
        ...

    @property
    def version(self) -> str:
        """Of the engine: "3.40.1". Known once it is open."""
        ...

    @property
    def problems(self) -> Sequence[str]:
        """What is wrong at the moment, each like "DiskFull: ..."; empty: nothing."""
        ...

    async def open(self) -> Opening:
        """Opens or creates. Raises StoreRefused, DiskFull, Unreachable.

        A journal that is shared may be opened again while it is open, when `follow` has raised Compacted: it says what
        is compacted now, and `load` and `load_requests` give the log as of then.
        """
        ...

    def load(self) -> AsyncIterator[Sequence[Record]]:
        """The whole log in order, in pieces: first what is left of the compacted beginning, then every change."""
        ...

    async def load_requests(self) -> Sequence[Request]:
        """Requests of the last ten minutes or more, in order of revisions; up to what `load` gave or further."""
        ...

    async def append(self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        """All of them, or none; durable when it returns.

        `frees`: they make room (they delete, or mark for deletion), and may use what space is kept for that when there
        is no other. Raises DiskFull, TooLarge, JournalFailed, NotLeading, Undecided.
        """
        ...

    async def read(self, after: int, limit: int, kind: str = "") -> Sequence[tuple[Record, Record | None]]:
        """Changes (of a kind, or all) after a revision that is not compacted, each with the record that it replaced, in
        order.

        About `limit` of them, never part of a revision; empty: there are no more. Raises Compacted if another master
        has compacted it meanwhile, and Unreachable.
        """
        ...

    async def read_at(self, revision: int, kind: str, namespace: str) -> Sequence[Record]:
        """What existed of a kind (in a namespace, or everywhere) at a revision that is not before the compacted one.

        Raises Compacted if another master has compacted it meanwhile, and Unreachable.
        """
        ...

    async def read_key(
        self, kind: str, namespace: str, name: str, after: int, until: int, limit: int
    ) -> Sequence[Record]:
        """What is kept of one object's changes after a revision and up to another, the newest `limit`, newest first.

        Tombstones too. What is compacted may show as its last state only.
        """
        ...

    async def revision_at(self, time_s: float) -> int:
        """The newest revision that was made at or before a wall time; 0: all are younger, or none is known.

        If wall time was set back meanwhile, any revision at which it passed that time.
        """
        ...

    async def copy(self, revision: int) -> Copy:
        """The whole log as of a revision that is not before the compacted one, while others go on appending.

        Raises Compacted, Unreachable, JournalFailed.
        """
        ...

    async def compact(self, revision: int, limit: int) -> bool:
        """Forgets changes up to a revision, except what they led to. Does a piece of about `limit`; True: all done.
        Raises DiskFull, JournalFailed, NotLeading, Unreachable."""
        ...

    async def campaign(self, address: str) -> Term:
        """Waits until this process may append, and tells the others that it can be reached at `address`."""
        ...

    async def leader(self) -> str:
        """The address that the current leader gave; empty: nobody leads. Raises Unreachable.

        A follower that forwards asks twice a second."""
        ...

    async def head(self) -> int:
        """The newest revision of the log, as of some moment during this call, whoever made it. Raises Unreachable.

        Every read of a master asks: calls that wait at the same moment share one question.
        """
        ...

    def follow(self, after: int) -> AsyncIterator[Appended]:
        """Everything that is appended after a revision, by whomever; waits for more for ever. An append of one's own
        may be among it. Broken connections are mended inside. Raises Compacted if `after` is too old.

        A journal that nobody shares never yields.
        """
        ...

    async def close(self) -> None:
        """Lets go of everything. Twice is fine."""
        ...
