"""Keeps the catalog of what is served true, as users define kinds and remove them.

    definitions, as they change  -- the process's own watch -->  Keeper  -->  Catalog, a new one for each change

Whoever writes a definition through this server gets its answer when the catalog knows what came of it, so that objects
of the kind can be written in the next breath (`settled`); what others define appears when the watch says so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.definitions import is_established
from cluster.api.meta import is_terminating, revision_of
from cluster.client.interface import ClusterClient, EventType, WatchEvent
from cluster.client.reflector import Reflector
from cluster.kubernetes.catalog import OWN, Catalog
from cluster.kubernetes.definitions import is_decided, rows_of
from cluster.kubernetes.resources import Resource
from cluster.pb.v1 import core_pb2 as core

SETTLED_S = 5.0
"""How long the answer to a write of a definition waits for what comes of it. It is given then in any case."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of a definition, besides its rows."""

    uid: str
    revision: int
    decided: bool
    terminating: bool


class Keeper:
    """Keeps the catalog true, by a watch of definitions. Its `current` is always there to be used."""

    def __init__(self, client: ClusterClient, clock: Clock, rng: random.Random) -> None:
        """`client`: with the rights of this process itself; it is the caller's to close."""
        self.current = OWN
        self.on_change: list[Callable[[Catalog], None]] = []
        """Called with each new catalog."""
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._rows: dict[str, list[Resource]] = {}
        self._revision = 0
        self._synced = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks = Tasks("catalog")
        self._reflector: Reflector[core.CustomResourceDefinition] = Reflector(
            client, core.CustomResourceDefinition, self, clock=clock, rng=rng
        )

    async def start(self) -> None:
        """Begins to watch, and returns at once."""
        self._tasks.spawn(self._reflector.run(), name="definitions")

    async def stop(self) -> None:
        """Ends the watch. Twice is fine."""
        await self._tasks.cancel_all()

    @property
    def is_synced(self) -> bool:
        """All definitions have been read at least once."""
        return self._synced.is_set()

    async def wait_synced(self, timeout_s: float) -> bool:
        """Whether it is, within that time."""
        if not self._synced.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._synced.wait()
            except TimeoutError:
                pass
        return self._synced.is_set()

    async def settled(
        self, crd: core.CustomResourceDefinition, *, deleted: bool = False, timeout_s: float = SETTLED_S
    ) -> None:
        """Returns when the catalog is what follows from this version of a definition, which was just written, or from
        a newer one; or when so much time has passed."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._is_settled(crd, deleted):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass

    def _is_settled(self, crd: core.CustomResourceDefinition, deleted: bool) -> bool:
        known = self._known.get(crd.metadata.name)
        if deleted:
            return known is None or known.uid != crd.metadata.uid or known.terminating
        if known is None:
            return self._revision >= revision_of(crd)
        return known.revision >= revision_of(crd) and (known.decided or known.terminating)

    # --- what the reflector tells (its Sink)

    def replace(self, objects: Sequence[core.CustomResourceDefinition], revision: int) -> None:
        """See Sink."""
        self._known = {}
        self._revision = revision
        kept = self._rows
        self._rows = {}
        for crd in objects:
            self._place(crd, kept.get(crd.metadata.name, []))
        self._publish(changed=kept != self._rows)
        self._synced.set()

    def apply(self, events: Sequence[WatchEvent[core.CustomResourceDefinition]], revision: int) -> None:
        """See Sink."""
        changed = False
        for event in events:
            crd = event.object
            assert crd is not None
            name = crd.metadata.name
            before = self._rows.pop(name, [])
            if event.type is EventType.DELETED:
                self._known.pop(name, None)
            else:
                self._place(crd, before)
            changed |= before != self._rows.get(name, [])
        self._revision = revision
        self._publish(changed=changed)

    def _place(self, crd: core.CustomResourceDefinition, before: list[Resource]) -> None:
        """Takes a definition in. Its rows are those that there are already, if nothing of them has changed."""
        meta = crd.metadata
        self._known[meta.name] = _Known(meta.uid, revision_of(crd), is_decided(crd), is_terminating(crd))
        if is_established(crd):
            rows = rows_of(crd)
            self._rows[crd.metadata.name] = before if _signs(rows) == _signs(before) else rows

    def _publish(self, *, changed: bool) -> None:
        if changed:
            self.current = Catalog(row for rows in self._rows.values() for row in rows)
            for tell in self.on_change:
                tell(self.current)
        self._news.set()


def _signs(rows: Sequence[Resource]) -> list[tuple[str, bool]]:
    """What tells rows of a definition from its rows before."""
    return [(row.custom.tag, row.custom.terminating) for row in rows if row.custom is not None]
