"""Puts what arrives on a watch back into complete revisions, each once and in order. Pure.

etcd cuts a large answer into fragments wherever it likes, also within a revision. Some versions repeat events, or go
back to older ones. What arrives, and what is delivered (the letters are keys):

    fragment   4a 5a 5b        4a                  5 may go on in the next fragment
    last       5c 6a           5a 5b 5c 6a
    response   5c 6a 7a        7a                  5c and 6a were delivered
    response   9a 8b           Disorder            8 was never delivered: the watch must be made again, from 8 on
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.rpc.etcd.model import Event, WatchBatch


class Disorder(Exception):
    """An older event came after a newer one, and was not delivered before."""


class Joiner:
    """The memory of one stream; a resumed watch gets a new one."""

    def __init__(self, after: int) -> None:
        """Everything up to the revision `after` was delivered."""
        self.last = after
        """The newest revision that is delivered completely."""
        self.repeated = 0
        """Events that were left out because they had been delivered."""
        self._last_keys: set[bytes] = set()
        self._held: list[Event] = []
        self._held_keys: set[bytes] = set()

    def feed(self, events: Sequence[Event], more: bool) -> WatchBatch | None:
        """What can be delivered now. `more`: a further fragment of the same answer follows. Raises Disorder."""
        newest = self._held[-1].kv.mod_revision if self._held else self.last
        for event in events:
            revision, key = event.kv.mod_revision, event.kv.key
            if revision > newest:
                newest = revision
                self._held_keys = {key}
            elif revision == newest and self._held and key not in self._held_keys:
                self._held_keys.add(key)
            elif revision == newest == self.last and not self._held and self._last_keys and key not in self._last_keys:
                # A revision in two answers, which etcd does not do: torn, but not lost.
                self._held_keys = self._last_keys | {key}
            elif revision <= self.last or revision == newest:
                self.repeated += 1
                continue
            else:
                raise Disorder(f"revision {revision} came after {newest}")
            self._held.append(event)
        return self._deliver(len(self._held) if not more else self._complete())

    def _complete(self) -> int:
        """How many of the held events belong to revisions that are known to be complete."""
        if not self._held:
            return 0
        newest, index = self._held[-1].kv.mod_revision, len(self._held)
        while index and self._held[index - 1].kv.mod_revision == newest:
            index -= 1
        return index

    def _deliver(self, count: int) -> WatchBatch | None:
        if not count:
            return None
        ready, self._held = tuple(self._held[:count]), self._held[count:]
        self.last = ready[-1].kv.mod_revision
        if not self._held:
            self._last_keys = self._held_keys
        return WatchBatch(self.last, ready)
