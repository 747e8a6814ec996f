"""A cluster's objects as of one revision: what a simulation begins with.

    snapshot = await take_snapshot(client)        # reads, and has nothing to write with

The first list says which revision it shows; the others are asked for as of that revision, so the objects fit together
although several calls have fetched them. All kinds are taken, also those that are added later; events are left out, for
nothing is decided by them and there are more of them than of anything else.

`take_snapshot` is given `Reads`: of a client, the two methods that it calls. Whatever else the client could do is not
in reach of a simulation (`only_reads`).
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

from cluster.actor.clock import Clock, SystemClock
from cluster.api.errors import Expired, Forbidden
from cluster.api.kinds import KINDS, AnyObject, kind_of_type
from cluster.api.meta import Key, key_of, place_of, revision_of
from cluster.client.interface import ListResult
from cluster.store.version import Record

T = TypeVar("T", bound=AnyObject)

LEFT_OUT = frozenset({"Event"})
"""Kinds that decide nothing."""
ATTEMPTS = 3
"""A revision that is forgotten while it is read is given up for a newer one so often."""
LIST_TIMEOUT_S = 60.0
"""For all objects of one kind."""


class Reads(Protocol):
    """A part of `cluster.client.interface.ClusterClient`: what cannot change anything."""

    async def list(
        self, kind: type[T], *, revision: int | None = None, timeout_s: float = LIST_TIMEOUT_S
    ) -> ListResult[T]:
        """All objects of a kind, now or as of a revision."""
        ...


class ReadOnly:
    """Of somebody's client, what reads; there is no way from here to the rest."""

    __slots__ = ("list",)

    def __init__(self, client: Reads) -> None:
        self.list = client.list
        """See `Reads`."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """See above. The objects are shared: read them, do not change them."""

    revision: int
    """No object is of a later one."""
    taken_at_s: float
    """When, in seconds since 1970: the wall time at which a simulation begins."""
    objects: Mapping[str, Sequence[AnyObject]] = field(default_factory=dict)
    """Kind -> objects, sorted by namespace and name; each has its uid and resourceVersion."""
    unread: tuple[str, ...] = ()
    """Kinds that could not be read for want of rights: a simulation knows nothing of them."""

    def of(self, kind: type[T]) -> Sequence[T]:
        """All objects of a kind, sorted by namespace and name."""
        return cast(Sequence[T], self.objects.get(kind_of_type(kind).name, ()))

    def find(self, kind: type[T], name: str, namespace: str = "") -> T | None:
        """The object of that name, or None."""
        wanted = Key(kind_of_type(kind).name, namespace, name)
        return next((obj for obj in self.of(kind) if key_of(obj) == wanted), None)

    def records(self) -> builtins.list[Record]:
        """The objects as the log of a store would have them, in the order of their last writes."""
        objects = [obj for of_kind in self.objects.values() for obj in of_kind]
        objects.sort(key=lambda obj: (revision_of(obj), key_of(obj)))
        records: list[Record] = []
        for obj in objects:
            kind, namespace, name = key_of(obj)
            revision = revision_of(obj)
            position = records[-1].position + 1 if records and records[-1].revision == revision else 0
            place, data = place_of(obj), obj.SerializeToString(deterministic=True)
            records.append(Record(revision, position, kind, namespace, name, 0, False, place, self.taken_at_s, data))
        return records

    @classmethod
    def made_of(cls, objects: Iterable[AnyObject], *, taken_at_s: float = 1_700_000_000.0) -> Snapshot:
        """A snapshot of objects that no cluster has, to plan one: each gets the uid and the revision that it lacks."""
        by_kind: dict[str, list[AnyObject]] = {}
        revision = 0
        for number, given in enumerate(objects, 1):
            obj = type(given)()
            obj.CopyFrom(given)  # type: ignore[arg-type]
            meta = obj.metadata
            meta.uid = meta.uid or f"{number:08x}-0000-4000-8000-000000000000"
            meta.resourceVersion = meta.resourceVersion or str(number)
            revision = max(revision, revision_of(obj))
            by_kind.setdefault(key_of(obj).kind, []).append(obj)
        return cls(revision, taken_at_s, {kind: sorted(found, key=key_of) for kind, found in by_kind.items()})


async def take_snapshot(client: Reads, *, clock: Clock | None = None) -> Snapshot:
    """All objects of a cluster as of one revision, read with the rights that the client has.

    Raises Unavailable, DeadlineExceeded, Forbidden (not one kind may be read), Expired (the cluster forgets faster than
    it can be read).
    """
    reads, clock = ReadOnly(client), clock or SystemClock()
    for attempt in range(ATTEMPTS):
        try:
            return await _read(reads, clock.wall())
        except Expired:
            if attempt + 1 == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


async def _read(reads: ReadOnly, now_s: float) -> Snapshot:
    revision: int | None = None
    objects: dict[str, Sequence[AnyObject]] = {}
    unread: list[str] = []
    for kind in KINDS:
        if kind.name in LEFT_OUT:
            continue
        try:
            listed = await reads.list(kind.message, revision=revision, timeout_s=LIST_TIMEOUT_S)
        except Forbidden:
            unread.append(kind.name)
            continue
        revision = listed.revision if revision is None else revision
        objects[kind.name] = listed.items
    if revision is None:
        raise Forbidden("you may not list objects of any kind")
    return Snapshot(revision, now_s, objects, tuple(unread))
