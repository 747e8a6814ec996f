"""Gangs: pods of one group (spec.podGroup) of a namespace, of which at least `minMember` are placed together or none.

    need = minMember - members that have a place        (a place: bound, or about to be; not failed, not on its way out)

While more is needed than 0, the members that wait go together: as many as that are placed at once, or none. From then
on each goes for itself. A member that has succeeded has done its part and counts. If members name different numbers,
the largest counts. The word is Kubernetes' coscheduling's. A table; who waits is the queue's.

No two gangs can hold half of what each needs and wait for the other half: a gang is tried as a whole within one
decision, what it does not get together is given back before anything else is decided, and what it gets is bound by one
atomic write. So nothing is ever held by a gang that does not run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cluster.scheduler.lots import GangKey

MOST_TOGETHER = 2000
"""So many pods can be bound by one write: the master takes no more operations at once."""


@dataclass(slots=True, eq=False)
class _Gang:
    members: dict[str, tuple[int, bool]] = field(default_factory=dict)
    """By uid: the minMember that it names, and whether it has a place."""
    least: Counter[int] = field(default_factory=Counter)
    placed: int = 0
    timeout_s: float = 0.0


class Gangs:
    """All groups of which there are pods."""

    def __init__(self) -> None:
        self._gangs: dict[GangKey, _Gang] = {}
        self._gang_of: dict[str, GangKey] = {}

    def __contains__(self, key: GangKey) -> bool:
        return key in self._gangs

    def put(self, key: GangKey, uid: str, least: int, timeout_s: float, *, placed: bool) -> None:
        """A member is there, with a place or without."""
        if self._gang_of.get(uid) not in (None, key):
            self.remove(uid)
        gang = self._gangs.setdefault(key, _Gang())
        self._take(gang, uid)
        self._gang_of[uid] = key
        gang.members[uid] = (least, placed)
        gang.least[least] += 1
        gang.placed += placed
        gang.timeout_s = timeout_s

    def place(self, uid: str, *, placed: bool) -> None:
        """A member has got a place, or has lost it."""
        gang = self._gangs[self._gang_of[uid]]
        least, before = gang.members[uid]
        gang.members[uid] = (least, placed)
        gang.placed += placed - before

    def remove(self, uid: str) -> GangKey | None:
        """A member is gone. Its group; None if it was of none."""
        key = self._gang_of.pop(uid, None)
        if key is not None:
            gang = self._gangs[key]
            self._take(gang, uid)
            if not gang.members:
                del self._gangs[key]
        return key

    def need(self, key: GangKey) -> int:
        """How many more have to be placed at once."""
        gang = self._gangs.get(key)
        return 0 if gang is None else max(0, max(gang.least) - gang.placed)

    def size(self, key: GangKey) -> tuple[int, int]:
        """How many members there are, and how many there have to be."""
        gang = self._gangs.get(key)
        return (0, 0) if gang is None else (len(gang.members), max(gang.least))

    def timeout_s(self, key: GangKey) -> float:
        """How long members wait for others before they say so."""
        gang = self._gangs.get(key)
        return 0.0 if gang is None else gang.timeout_s

    def _take(self, gang: _Gang, uid: str) -> None:
        known = gang.members.pop(uid, None)
        if known is not None:
            least, placed = known
            gang.placed -= placed
            gang.least[least] -= 1
            if not gang.least[least]:
                del gang.least[least]
