"""A group of writes on its way to the log: what they see, and what they would change.

The one writer applies a group of requests to a `Stage`, commits all their changes at once, and only then answers. Each
request sees what those before it in the group did; nobody else does until the commit. Worked example, store at 40:

    begin; put pod a; finish                    revision 41: [a]
    begin; put pod b; put rc r; finish          revision 42: [b, r]       one atomic write, one revision
    begin; put pod c; abort                     nothing, and what c had claimed (an address) is given back
    changes                                     [a@41, b@42, r@42]

Pure. If the commit fails, `discard` gives back every claim, and the stage is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.api.errors import BadRequest
from cluster.api.kinds import AnyObject
from cluster.api.meta import Key, place_of
from cluster.pb.v1 import core_pb2 as core
from cluster.store.version import MAX_CHANGES, Change, Version


class Reader(Protocol):
    """What can be asked of the state, durable or staged."""

    @property
    def revision(self) -> int: ...

    def get(self, key: Key) -> Version | None: ...

    def list(self, kind: str, namespace: str = "", node: str = "") -> Sequence[Version]: ...


class Stage:
    """Staged changes over a state, in units that each become one revision."""

    def __init__(self, base: Reader, now_s: float) -> None:
        self.changes: list[Change] = []
        """Of finished units, in order."""
        self.now_s = now_s
        """Wall time of this group, seconds since 1970."""
        self._base = base
        self._base_get = base.get
        self._revision = base.revision
        self._read: list[Version] = []
        """What was handed out of the state; parsed objects are let go with the stage."""
        self._done: dict[Key, Version] = {}
        """Newest versions made by finished units; tombstones too."""
        self._unit: dict[Key, Change] = {}
        self._kinds: set[str] = set()
        """Of everything that was ever staged here: of other kinds the state alone says what there is."""
        self._unit_undo: list[Callable[[], None]] = []
        self._undo: list[Callable[[], None]] = []

    @property
    def revision(self) -> int:
        """The newest revision, staged ones included."""
        return self._revision

    # --- reading

    def get(self, key: Key) -> Version | None:
        """The object of that key as the current write sees it."""
        change = self._unit.get(key) if self._unit else None
        version = change.new if change is not None else self._before(key)
        if version is None or version.deleted:
            return None
        self._read.append(version)
        return version

    def _before(self, key: Key) -> Version | None:
        """As it was before the current unit."""
        version = self._done.get(key) if self._done else None
        if version is None:
            return self._base_get(key)
        return None if version.deleted else version

    def list(self, kind: str, namespace: str = "", node: str = "") -> Sequence[Version]:
        """What exists of a kind as the current write sees it; in no order when something is staged."""
        base = self._base.list(kind, namespace, node)
        if kind not in self._kinds:
            return base
        staged = {**self._done, **{key: change.new for key, change in self._unit.items()}}
        mine = {key: version for key, version in staged.items() if key.kind == kind}
        if not mine:
            return base
        return [version for version in base if version.key not in mine] + [
            version
            for key, version in mine.items()
            if not version.deleted and namespace in ("", key.namespace) and node in ("", version.node)
        ]

    # --- changing

    def begin(self) -> None:
        """Starts a unit."""
        assert not self._unit, "a unit is open already"

    def put(self, obj: AnyObject, key: Key, actor: str, cause: core.Cause | None) -> Version:
        """Stages an object; it is stamped and encoded here, and belongs to the stage from now on."""
        return self._add(key, obj, actor, cause, place_of(obj), deleted=False)

    def remove(self, version: Version, actor: str, cause: core.Cause | None) -> Version:
        """Stages the removal of an object: its last content, stamped with who removes it. Returns the tombstone."""
        return self._add(version.key, version.parse_own(), actor, cause, version.node, deleted=True)

    def _add(
        self, key: Key, obj: AnyObject, actor: str, cause: core.Cause | None, node: str, *, deleted: bool
    ) -> Version:
        revision = self._revision + 1
        meta = obj.metadata
        meta.resourceVersion = str(revision)
        meta.actor = actor
        if cause is not None:
            meta.cause.CopyFrom(cause)
        else:
            meta.ClearField("cause")
        data = obj.SerializeToString(deterministic=True)
        version = Version(key, revision, data, node, deleted, obj)
        unit = self._unit
        staged = unit.get(key) if unit else None
        if staged is not None and staged.new.deleted:
            raise BadRequest(f"an all-or-nothing write cannot remove {key} and make it again; use two writes")
        old = self._before(key)
        if old is None and deleted:
            unit.pop(key, None)  # made and removed in one revision: nobody will ever have seen it
        else:
            if staged is None and len(unit) >= MAX_CHANGES:
                raise BadRequest(f"this would change more than {MAX_CHANGES} objects in one revision")
            unit[key] = Change(old, version, self.now_s)
            self._kinds.add(key.kind)
        return version

    def claim(self, undo: Callable[[], None]) -> None:
        """Remembers how to give back what the current unit has taken (or taken back) outside of the stage."""
        self._unit_undo.append(undo)

    def finish(self) -> None:
        """Ends the unit; if it changed anything, that is one revision."""
        if self._unit:
            self._revision += 1
            for key, change in self._unit.items():
                self.changes.append(change)
                self._done[key] = change.new
            self._unit = {}
        if self._unit_undo:
            self._undo += self._unit_undo
            self._unit_undo = []

    def abort(self) -> None:
        """Ends the unit as if it had not begun."""
        self._unit = {}
        _run(self._unit_undo)

    def release(self) -> None:
        """Lets go of the parsed objects that writes worked with. For the end, when all is answered."""
        for version in self._read:
            version.release()

    def discard(self) -> None:
        """Gives back all claims: nothing of this stage will be."""
        self.abort()
        _run(self._undo)


def copy_of(obj: AnyObject) -> AnyObject:
    """A copy that may be changed, and that does not keep a whole request in memory."""
    copy = type(obj)()
    copy.CopyFrom(obj)  # type: ignore[arg-type]
    return copy


def _run(undo: list[Callable[[], None]]) -> None:
    while undo:
        undo.pop()()
