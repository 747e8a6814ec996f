"""Backups of a store that is in use: everything it keeps, as of one revision, while writing goes on.

What is copied is the log itself (`Journal.copy`), in pieces; between two of them nothing is held but a pin, which keeps
compaction away. A reader who takes nothing loses the pin after a while, and is told so if something was forgotten
meanwhile: a backup that has an end is whole, and any other is refused by whoever reads it (`backup_format`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from cluster.actor.clock import Clock
from cluster.api.errors import Expired, Internal, Overloaded
from cluster.store import failpoints
from cluster.store.backup_format import Header, Writing
from cluster.store.interface import Compacted, JournalFailed
from cluster.store.store import Store

AT_ONCE = 2
"""More are refused: each reads the whole disk."""
LONGEST_S = 600.0
"""No backup keeps history from being forgotten for longer."""
_PIECE = 200
"""Records that are encoded in one go, so that calls beside it do not wait long."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a backup comes from, as far as the store does not know it. See Header."""

    cluster: str = ""
    podium: str = ""
    service_cidr: str = ""
    pod_cidr_base: str = ""


class Backups:
    """Makes backups of one store."""

    def __init__(self, store: Store, clock: Clock, origin: Origin) -> None:
        self._store = store
        self._clock = clock
        self._origin = origin
        self._running = 0

    async def run(self) -> AsyncGenerator[bytes, None]:
        """The bytes of a backup, in pieces of about backup_format.FRAME_BYTES. It has everything that was acknowledged
        before this was called.

        Raises Overloaded, Unavailable; Expired for one that takes too long; Internal for a log that is damaged.
        """
        if self._running >= AT_ONCE:
            raise Overloaded(f"{self._running} backups are being made; try again when one of them is done")
        self._running += 1
        try:
            async with aclosing(self._run()) as pieces:
                async for piece in pieces:
                    yield piece
        except Compacted as error:
            raise Expired(f"the backup was too slow: {error}; begin again") from error
        except (JournalFailed, ValueError) as error:
            raise Internal(f"there is no backup of a log that is damaged: {error}") from error
        finally:
            self._running -= 1

    async def _run(self) -> AsyncGenerator[bytes, None]:
        store, clock, origin = self._store, self._clock, self._origin
        until_s = clock.monotonic() + LONGEST_S
        await store.barrier()
        revision = store.revision
        requests = store.requests.until(revision)
        async with store.history.copying(revision, clock.monotonic) as copy:
            header = Header(
                store.store_id,
                origin.cluster,
                revision,
                copy.base,
                clock.wall(),
                store.journal.engine,
                origin.podium,
                origin.service_cidr,
                origin.pod_cidr_base,
            )
            writing = Writing(header)
            failpoints.hit("backup.before_begin")
            yield writing.begin()
            async for records in copy.records:
                for start in range(0, len(records), _PIECE):
                    for frame in writing.records(records[start : start + _PIECE]):
                        if clock.monotonic() > until_s:
                            raise Compacted(f"it was not done within {LONGEST_S:g} s")
                        yield frame
                failpoints.hit("backup.between_pieces")
            for frame in writing.requests(requests):
                yield frame
            failpoints.hit("backup.before_end")
            yield writing.end()
