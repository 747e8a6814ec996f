"""What one change of one object was: the words that history, undo and trace have in common.

A `Step` is a record of the log with the record that it replaced. Worked example, one replication controller that was
applied at 7, scaled at 9, counted by its controller at 10, and deleted at 12:

    Step(12, before 10)   DELETED
    Step(10, before 9)    MODIFIED, only_status
    Step(9,  before 7)    MODIFIED
    Step(7)               ADDED
After compaction at 10 there is a Step(10) whose record says that something was before, which is no longer known.

Pure.
"""

from __future__ import annotations

import json
from typing import Any

from cluster.api.diff import ABSENT, LAST_APPLIED, object_differences
from cluster.api.kinds import BY_NAME, AnyObject, kind_of
from cluster.api.meta import Key
from cluster.api.secrets import hide_object
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.store.version import Record

ADDED, MODIFIED, DELETED = wire.WatchEvent.ADDED, wire.WatchEvent.MODIFIED, wire.WatchEvent.DELETED


class Step:
    """One change of one object. What it parses, it keeps: do not keep many."""

    __slots__ = ("_before", "_object", "_older", "record")

    def __init__(self, record: Record, older: Record | None) -> None:
        """`older`: the next older record of that key that is kept, whatever it is."""
        self.record = record
        self._older = older if older is not None and older.revision == record.previous else None
        self._object: AnyObject | None = None
        self._before: AnyObject | None = None

    @property
    def key(self) -> Key:
        return Key(self.record.kind, self.record.namespace, self.record.name)

    @property
    def revision(self) -> int:
        return self.record.revision

    @property
    def type(self) -> wire.WatchEvent.Type:
        """ADDED, MODIFIED or DELETED."""
        if self.record.deleted:
            return DELETED
        return MODIFIED if self.record.previous else ADDED

    @property
    def is_known(self) -> bool:
        """What was before is known, be it that there was nothing."""
        return self.record.previous == 0 or self._older is not None

    @property
    def object(self) -> AnyObject:
        """After the change; of a deletion, the last content. Not to be modified."""
        if self._object is None:
            self._object = BY_NAME[self.record.kind].message.FromString(self.record.data)
        return self._object

    @property
    def before(self) -> AnyObject | None:
        """None: there was no such object, or it is not known. Not to be modified."""
        if self._before is None and self._older is not None:
            self._before = BY_NAME[self.record.kind].message.FromString(self._older.data)
        return self._before

    @property
    def time_before_s(self) -> float | None:
        """Wall time of the change before, if it is known."""
        return self._older.time_s if self._older is not None else None

    @property
    def actor(self) -> str:
        return self.object.metadata.actor

    @property
    def cause(self) -> core.Cause:
        return self.object.metadata.cause

    @property
    def only_status(self) -> bool:
        """It changed nothing but the status, as far as one knows."""
        if self.type != MODIFIED or self.before is None or not kind_of(self.object).has_status:
            return False
        return without_status(self.before) == without_status(self.object)

    @property
    def is_wish(self) -> bool:
        """It changed what somebody wants of the object: its labels, annotations or specification."""
        return self.type != MODIFIED or self.before is None or not same_wish(self.before, self.object)

    @property
    def is_applied(self) -> bool:
        """It was made by `podium apply`, or by what does the same."""
        memory = self.object.metadata.annotations.get(LAST_APPLIED)
        before = self.before.metadata.annotations.get(LAST_APPLIED) if self.before is not None else None
        return memory is not None and self.type != DELETED and memory != before

    def __repr__(self) -> str:
        return f"<{wire.WatchEvent.Type.Name(self.type)} {self.key} at {self.revision}>"


def without_status(obj: AnyObject) -> AnyObject:
    """A copy without the status, and without what the master stamps on every write."""
    bare = content_of(obj)
    bare.metadata.CopyFrom(obj.metadata)
    bare.metadata.ClearField("resourceVersion")
    bare.metadata.ClearField("generation")
    bare.metadata.ClearField("actor")
    bare.metadata.ClearField("cause")
    return bare


def same_wish(one: AnyObject, other: AnyObject) -> bool:
    """Labels, annotations and specification are the same, but for what only the cluster writes there."""
    return wish_of(one) == wish_of(other)


def wish_of(obj: AnyObject) -> AnyObject:
    """What somebody wants of an object, and nothing else: labels, annotations, and all but metadata and status.

    Not where a pod was placed, and not the memory of apply, which repeats the rest.
    """
    wish = content_of(obj)
    wish.metadata.labels.update(obj.metadata.labels)
    wish.metadata.annotations.update(obj.metadata.annotations)
    wish.metadata.annotations.pop(LAST_APPLIED, None)
    if isinstance(wish, core.Pod):
        wish.spec.ClearField("nodeName")
    return wish


def content_of(obj: AnyObject) -> AnyObject:
    """A copy without metadata and status: the spec, or what a kind without one has."""
    content = type(obj)()
    content.CopyFrom(obj)  # type: ignore[arg-type]
    content.ClearField("metadata")
    if kind_of(obj).has_status:
        content.ClearField("status")
    return content


def field_changes(before: AnyObject | None, after: AnyObject | None, secret: bytes) -> list[wire.FieldChange]:
    """What differs, with words in the place of secret values; `secret` is the key of those words."""
    differences = object_differences(
        hide_object(before, secret) if before is not None else None,
        hide_object(after, secret) if after is not None else None,
    )
    return [
        wire.FieldChange(
            path=difference.path,
            old=None if difference.old is ABSENT else _json(difference.old),
            new=None if difference.new is ABSENT else _json(difference.new),
        )
        for difference in differences
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
