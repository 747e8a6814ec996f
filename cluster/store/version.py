"""What the log is made of: a `Version` is one object at one revision, a `Change` takes it from one version to the next.

Worked example, one pod: created at 7, changed at 9, deleted at 12.

    Change(7,  old=None, new=V7)      ADDED
    Change(9,  old=V7,   new=V9)      MODIFIED
    Change(12, old=V9,   new=V12)     DELETED; V12.deleted, its bytes are V9's content with resourceVersion 12

A deletion has a version of its own (a tombstone) so that the log says who removed the object and why, and so that a
watcher gets the last content with the revision of the removal. All changes of one atomic write share one revision.

The bytes are the truth here. The parsed message takes several times their memory, so it is kept only while a write or
a publication works with it: `object` parses once and keeps, `parse` does not keep, `release` lets go.
"""

from __future__ import annotations

from typing import NamedTuple

from cluster.api.kinds import BY_NAME, AnyObject
from cluster.api.meta import Key
from cluster.store import encoding

MAX_CHANGES = 4096
"""Of one revision: journals pack the position of a change into twelve bits."""


class Version:
    """One object at one revision. Immutable."""

    __slots__ = ("_object", "data", "deleted", "key", "node", "revision")

    def __init__(
        self,
        key: Key,
        revision: int,
        data: bytes,
        node: str = "",
        deleted: bool = False,
        parsed: AnyObject | None = None,
    ) -> None:
        self.key = key
        self.revision = revision
        self.data = data
        """The object's protobuf encoding."""
        self.node = node
        """What it belongs to, for the index that is called after the most of it: a pod's node, or the definition of an
        object of a kind that users define (`cluster.api.meta.place_of`); empty: nothing."""
        self.deleted = deleted
        self._object = parsed

    @property
    def object(self) -> AnyObject:
        """The parsed object, kept for the next who asks: copy it before changing anything. Somebody must `release`."""
        if self._object is None:
            self._object = BY_NAME[self.key.kind].message.FromString(self.data)
        return self._object

    def parse(self) -> AnyObject:
        """The parsed object, not kept. It may be shared all the same: copy it before changing anything."""
        return self._object if self._object is not None else BY_NAME[self.key.kind].message.FromString(self.data)

    def parse_own(self) -> AnyObject:
        """The parsed object, for the caller to change."""
        return BY_NAME[self.key.kind].message.FromString(self.data)

    def release(self) -> None:
        """Lets go of the parsed object."""
        self._object = None

    def __repr__(self) -> str:
        return f"<{'deleted ' if self.deleted else ''}{self.key} at {self.revision}>"


class Change:
    """One step of one object. Its events are encoded once, whoever and however many read them."""

    __slots__ = ("_added", "_deleted", "_left", "_modified", "new", "old", "time_s")

    def __init__(self, old: Version | None, new: Version, time_s: float) -> None:
        self.old = old
        """The version before; None: there was no object."""
        self.new = new
        self.time_s = time_s
        """Wall time of the write, seconds since 1970."""
        self._added: bytes | None = None
        self._modified: bytes | None = None
        self._deleted: bytes | None = None
        self._left: bytes | None = None

    @property
    def revision(self) -> int:
        return self.new.revision

    @property
    def key(self) -> Key:
        return self.new.key

    def release(self) -> None:
        """Lets go of parsed objects."""
        self.new._object = None
        if self.old is not None:
            self.old._object = None

    @property
    def size_bytes(self) -> int:
        """Roughly what it holds in memory: the new content, and once its event."""
        return 2 * len(self.new.data) + 400

    def added(self) -> bytes:
        """The event for a reader who has not seen the object before."""
        if self._added is None:
            self._added = self._event(encoding.ADDED, self.new.data)
        return self._added

    def modified(self) -> bytes:
        """The event for a reader who knows the object."""
        if self._modified is None:
            self._modified = self._event(encoding.MODIFIED, self.new.data)
        return self._modified

    def removed(self) -> bytes:
        """The event for a reader who knew the object and shall not see it any more.

        If it was deleted, its last content; if it only ceased to match the reader's selector, the content that still
        matched. Either way with the revision of this change.
        """
        if self.new.deleted:
            if self._deleted is None:
                self._deleted = self._event(encoding.DELETED, self.new.data)
            return self._deleted
        if self._left is None:
            assert self.old is not None, f"{self.new!r} left without having been there"
            before = BY_NAME[self.key.kind].message.FromString(self.old.data)
            before.metadata.resourceVersion = str(self.revision)
            self._left = self._event(encoding.DELETED, before.SerializeToString(deterministic=True))
        return self._left

    def _event(self, event_type: int, data: bytes) -> bytes:
        return encoding.event(event_type, self.revision, self.key.kind, data)

    def __repr__(self) -> str:
        return f"<{self.old!r} -> {self.new!r}>"


class Record(NamedTuple):
    """A change as the log keeps it."""

    revision: int
    position: int
    """Among the changes of one revision, from 0."""
    kind: str
    namespace: str
    name: str
    previous: int
    """Revision of the version before; 0: there was no object."""
    deleted: bool
    node: str
    time_s: float
    data: bytes

    def version(self) -> Version:
        """The version that this record made."""
        return Version(Key(self.kind, self.namespace, self.name), self.revision, self.data, self.node, self.deleted)


def records_of(changes: list[Change]) -> list[Record]:
    """The changes as records, in order; positions count up within each revision."""
    records: list[Record] = []
    revision = position = 0
    for change in changes:
        new = change.new
        position = position + 1 if new.revision == revision else 0
        revision = new.revision
        kind, namespace, name = new.key
        previous = change.old.revision if change.old is not None else 0
        records.append(
            Record(revision, position, kind, namespace, name, previous, new.deleted, new.node, change.time_s, new.data)
        )
    return records
