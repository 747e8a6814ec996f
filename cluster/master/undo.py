"""The call Undo: an object as it was, written anew.

What comes back is what somebody wanted: labels, annotations and specification. What the master or the cluster decided
(uid, owners, finalizers, status, where a pod was placed) does not: that is made anew, or stays. An object that is gone
is made again, with a new uid. Worked example, a replication controller that was applied at 7 and scaled at 9:

    undo                    as at 7, written at 12, because of 7          (what was changed last is undone)
    undo                    as at 9, written at 14, because of 9          (undoing an undo is doing it again)
    undo --to 7             as at 7, written at 15

The annotation in which `podium apply` remembers what it applied comes back with the rest, so that the next apply
compares with what was applied then, and is right.

Undo is a write like others: the same rules, the same admission, the caller's identity. It holds for the version that
was looked at; a status that was written meanwhile does not matter, a wish that was changed meanwhile is a Conflict.

What to restore and how (`before_wish`, `restored`, `revived` ...) are pure decisions; `Undo` reads and writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from cluster.api.errors import AlreadyExists, ApiError, BadRequest, Conflict, Expired, Invalid, NotFound
from cluster.api.kinds import AnyObject, kind_named, kind_of, unwrap, wrap
from cluster.api.meta import Key, called, is_terminating, path_of
from cluster.api.secrets import hide_object
from cluster.master.history import Past, steps
from cluster.master.lineage import ADDED, DELETED, Step, content_of, field_changes, without_status
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.rpc.outcome import from_status, to_status
from cluster.store.interface import Request

REASON = "undo"
_ATTEMPTS = 5
"""Others may write the status that often while we read the log."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be restored."""

    object: AnyObject
    revision: int
    """Of the write that made it so."""


def restored(current: AnyObject, target: AnyObject) -> AnyObject:
    """The current object with the labels, annotations and specification of the target."""
    new = content_of(target)
    new.metadata.CopyFrom(current.metadata)
    for mine, theirs in (
        (new.metadata.labels, target.metadata.labels),
        (new.metadata.annotations, target.metadata.annotations),
    ):
        mine.clear()
        mine.update(theirs)
    if isinstance(new, core.CustomObject) and isinstance(current, core.CustomObject) and current.HasField("status"):
        new.status = current.status  # whether it is apart is said by its definition
    if isinstance(new, core.Pod) and isinstance(current, core.Pod):
        new.spec.nodeName = current.spec.nodeName
        if not current.spec.nodeName:
            new.spec.ClearField("nodeName")
    return new


def revived(target: AnyObject) -> AnyObject:
    """The target as a new object: nobody owns it, it is not placed, and its priority is what its class gives now."""
    new = content_of(target)
    meta = target.metadata
    new.metadata.name, new.metadata.namespace = meta.name, meta.namespace
    if not meta.namespace:
        new.metadata.ClearField("namespace")
    new.metadata.labels.update(meta.labels)
    new.metadata.annotations.update(meta.annotations)
    if isinstance(new, core.Pod):
        for field in ("nodeName", "priority", "preemptionPolicy"):
            new.spec.ClearField(field)
    return new


def as_of(step: Step, revision: int) -> Target:
    """The target of an undo to a revision; `step` is the newest change up to there. Raises NotFound."""
    if step.type == DELETED:
        raise NotFound(
            f"{called(step.key)} did not exist at revision {revision}: it was deleted at "
            f"revision {step.revision}; as it was before: --to {step.record.previous}"
        )
    return Target(step.object, step.revision)


def before_wish(step: Step, oldest: int) -> Target | None:
    """The target of an undo of the last change, going back step by step; None: it is not this one.

    Raises Invalid if there is nothing to undo, Expired if what was before is no longer kept.
    """
    if step.type == DELETED:
        return Target(step.object, step.record.previous)
    kind = kind_of(step.object)
    if step.type == ADDED:
        raise Invalid(
            f"{called(step.key)} has not been changed since it was made at revision {step.revision}; "
            f"there is nothing to undo. To remove it: podium delete {kind.field}/{step.key.name}"
        )
    if step.before is None:
        raise expired(f"what {called(step.key)} was before revision {step.revision} is no longer kept", oldest)
    return Target(step.before, step.record.previous) if step.is_wish else None


def same_object(one: AnyObject, other: AnyObject) -> bool:
    """Nothing was changed between the two but the status."""
    return without_status(one) == without_status(other)


def expired(message: str, oldest: int) -> Expired:
    """The error of who asks for what is no longer kept."""
    error = Expired(f"{message}; the oldest revision is {oldest}")
    error.oldest_revision = oldest
    return error


def in_words(error: ApiError, key: Key, target: Target, *, is_new: bool) -> ApiError:
    """The error of the write, as an answer to who wanted to undo."""
    kind = kind_named(key.kind)
    what = f"{called(key)} cannot be as it was at revision {target.revision}"
    if isinstance(error, Invalid):
        name = f"{kind.field}/{key.name}" + (f" -n {key.namespace}" if key.namespace else "")
        if is_new:
            advice = "write it from a manifest that leaves this out"
        else:
            again = f"podium delete {name}; podium undo {name} --to {target.revision}"
            advice = f"delete it, and make it anew as it was: {again}"
        return Invalid(f"{what}: {error.message}. To go on: {advice}", causes=error.causes)
    return error


class Undo:
    """Carries out the call. `write` is the one writer's, as bytes; `secret` the key of the words for hidden values."""

    def __init__(
        self,
        past: Past,
        write: Callable[[Identity, wire.WriteRequest], Awaitable[bytes]],
        secret: bytes,
    ) -> None:
        self._past = past
        self._write = write
        self._secret = secret

    async def undo(self, identity: Identity, key: Key, request: wire.UndoRequest) -> wire.UndoResponse:
        """Raises NotFound, Invalid, Conflict, Expired, Forbidden, and what a write raises."""
        if key.kind == "Event":
            raise BadRequest("events are what happened; they cannot be undone")
        if key.kind == "Lease":
            raise BadRequest(
                "a lease says who acts now; who held it before may be gone, or must not come back unasked. To take it "
                f"from its holder: podium delete lease/{key.name} -n {key.namespace}"
            )
        if request.request_id and not request.dry_run:
            done = self._past.requests.find(f"{identity}/{request.request_id}", now_s=0.0)  # however long ago
            if done is not None:
                return await self._again(key, done)
        current = self._current(key)
        target = await self._target(key, request.to_revision if request.HasField("to_revision") else None)
        for _ in range(_ATTEMPTS):
            written = await self._try(identity, key, current, target, request)
            error = from_status(written.results[0].status)
            if error is None:
                return self._answer(current, target, written)
            if not isinstance(error, Conflict | AlreadyExists):
                raise in_words(error, key, target, is_new=current is None)
            before, current = current, self._current(key)
            if before is None or current is None or not same_object(before, current):
                break
        raise Conflict(f"{called(key)} was changed while it was to be undone; look at it, and try again")

    def _current(self, key: Key) -> AnyObject | None:
        version = self._past.get(key)
        if version is None:
            return None
        current = version.parse()
        if is_terminating(current):
            raise Conflict(
                f"{called(key)} is being deleted, which cannot be taken back; when it is gone, undo makes it anew"
            )
        return current

    async def _target(self, key: Key, to: int | None) -> Target:
        until = self._past.revision if to is None else to
        async with aclosing(steps(self._past, key, until)) as found:
            async for step in found:
                if to is not None:
                    return as_of(step, to)
                target = before_wish(step, self._past.oldest)
                if target is not None:
                    return target
        oldest = self._past.oldest
        if to is not None and to < oldest:
            raise expired(f"revision {to} is no longer kept", oldest)
        when = f" at revision {to}" if to is not None else ", and nothing of it is kept in the history"
        raise NotFound(f"{called(key)} not found{when}")

    async def _try(
        self,
        identity: Identity,
        key: Key,
        current: AnyObject | None,
        target: Target,
        request: wire.UndoRequest,
    ) -> wire.WriteResponse:
        if current is None:
            operation = wire.Operation(create=wire.CreateOperation(object=wrap(revived(target.object))))
        else:
            # With the version that was looked at: whoever has written since wins.
            new = restored(current, target.object)
            operation = wire.Operation(update=wire.UpdateOperation(object=wrap(new)))
        cause = core.Cause(revision=target.revision, object=path_of(key), reason=REASON)
        write = wire.WriteRequest(operations=[operation], cause=cause)
        if request.dry_run:
            write.dry_run = True
        if request.request_id:
            write.request_id = request.request_id
        return wire.WriteResponse.FromString(await self._write(identity, write))

    async def _again(self, key: Key, done: Request) -> wire.UndoResponse:
        """The answer of an undo that has happened: what was undone must not be undone again."""
        records = await self._past.read_key(key, done.revision, 2)
        step = Step(records[0], records[1] if len(records) > 1 else None) if records else None
        if step is None or step.revision != done.revision or step.cause.reason != REASON:
            raise BadRequest("request_id: another request was sent with this id; every request needs one of its own")
        result = wire.OperationResult(status=to_status(None), object=wrap(hide_object(step.object, self._secret)))
        return wire.UndoResponse(
            result=result,
            to_revision=step.cause.revision,
            changes=[] if step.before is None else self._changes(step.before, step.object),
            revision=done.revision,
            store_id=self._past.store_id,
        )

    def _answer(self, current: AnyObject | None, target: Target, written: wire.WriteResponse) -> wire.UndoResponse:
        (result,) = written.results
        obj = unwrap(result.object)
        shown = wire.OperationResult(status=result.status, object=wrap(hide_object(obj, self._secret)))
        if result.unchanged:
            shown.unchanged = True
        return wire.UndoResponse(
            result=shown,
            to_revision=target.revision,
            changes=[] if current is None else self._changes(current, obj),
            revision=written.revision,
            store_id=written.store_id,
        )

    def _changes(self, before: AnyObject, after: AnyObject) -> list[wire.FieldChange]:
        return field_changes(without_status(before), without_status(after), self._secret)
