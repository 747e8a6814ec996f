"""POST, PUT, PATCH, DELETE: what is written.

A body becomes an object (requested.py), and that an operation, which the master judges. A patch is applied here, to
what the object is now, and written only over that: if somebody else was faster, it is applied again.
"""

from __future__ import annotations

from typing import Any

from cluster.api import aside
from cluster.api.caveats import caveats
from cluster.api.errors import AlreadyExists, Conflict, Invalid, NotFound
from cluster.api.kinds import AnyObject
from cluster.client import operations
from cluster.kubernetes import applying, patching, query, reading, views
from cluster.kubernetes.bodies import media_type
from cluster.kubernetes.call import Answer, Call
from cluster.kubernetes.requested import (
    TRIES,
    completed,
    delete_options,
    dry,
    given_object,
    propagation,
    read_applied,
    read_patch,
    read_sent,
    write,
)
from cluster.kubernetes.statuses import Refused, success
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

_DELETE_AT_ONCE = 500
_MADE_BY_PUT = ("Endpoints", "Event", "Lease", "Service")
"""Kinds whose objects come to be by a PUT that names no version, as in Kubernetes."""


async def create(call: Call) -> Answer:
    """POST to a collection."""
    row = call.target.resource
    if row.custom is not None and row.custom.terminating:
        message = "create not allowed while custom resource definition is terminating"
        raise Refused(405, "MethodNotAllowed", message)
    data, doubled = read_sent(call)
    views.check_new(row, data)
    given = given_object(call, data, doubled=doubled)
    query.dry_run(call.query)
    try:
        obj = await write(call, operations.create(given.object))
    except Invalid as error:
        raise _named(error, row.kind.name, given.object.metadata.name) from error
    return Answer(call.one(obj), 201, [*given.warnings, *caveats(obj)])


def _named(error: Invalid, kind: str, name: str) -> Invalid:
    """The same, saying of which new object, if it does not: the path does not name it."""
    if not name or f'"{name}" is invalid: ' in error.message:
        return error
    return Invalid(f'{kind} "{name}" is invalid: {error.message}', causes=error.causes)


async def _apply(call: Call) -> Answer:
    """PATCH with what a manager wants of the object, or of its status: server-side apply (applying.py)."""
    row = call.target.resource
    doubled: list[str] = []
    wanted = read_applied(call, row.kind.name, doubled)
    named = wanted.get("metadata", {}).get("resourceVersion")
    # Of the right kind, at the right place, and made of fields that there are, before it is merged with anything.
    asked = given_object(call, wanted, doubled=doubled)
    for attempt in range(1, TRIES + 1):
        current: AnyObject | None = None
        try:
            current = await call.current()
        except NotFound:
            if named or call.target.subresource:
                raise
            views.check_new(row, wanted)
        live = views.plain(current, row, exact=True) if current is not None else None
        merged = applying.apply(
            live,
            views.plain(asked.object, row, exact=True, with_defaults=False),
            row.shape,
            call.manager,
            force=query.flag(call.query, "force"),
            now=call.time,
            subresource=call.target.subresource,
            complete=lambda data: completed(call, data),
        )
        given = given_object(call, merged, aside.kept(current) if current is not None else None)
        try:
            operation = operations.create(given.object) if current is None else _update(call, given.object)
            obj = await write(call, operation, applied=True)
        except (Conflict, AlreadyExists):
            if attempt == TRIES or named:
                raise
            continue
        if current is not None:
            return Answer(call.one(obj), 200, [*asked.warnings, *_new_caveats(current, obj)])
        return Answer(call.one(obj), 201, [*asked.warnings, *caveats(obj)])
    raise AssertionError("the last attempt returns or raises")


async def update(call: Call) -> Answer:
    """PUT of an object, or of its status. Of some kinds it makes what is not there."""
    data, doubled = read_sent(call)
    given = given_object(call, data, doubled=doubled)
    is_blind = not given.object.metadata.resourceVersion
    # What is to be said of a pod depends on its status, which who replaces it need not send.
    is_notable = not call.target.subresource and (isinstance(given.object, core.Pod) or bool(caveats(given.object)))
    may_make = is_blind and not call.target.subresource and call.target.resource.kind.name in _MADE_BY_PUT
    before = await _before(call) if is_notable or may_make else None
    if may_make and before is None:
        obj = await write(call, operations.create(given.object))
        return Answer(call.one(obj), 201, [*given.warnings, *caveats(obj)])
    if is_blind and not _may_be_blind(call):
        raise Invalid("metadata.resourceVersion: must be specified for an update")
    obj = await write(call, _update(call, given.object))
    return Answer(call.one(obj), 200, [*given.warnings, *_new_caveats(before or obj, obj)])


async def patch(call: Call) -> Answer:
    """PATCH of an object, or of its status."""
    media = media_type(call.content_type)
    if media == patching.APPLY:
        return await _apply(call)
    row = call.target.resource
    doubled: list[str] = []
    wanted = read_patch(call, media, doubled)
    for attempt in range(1, TRIES + 1):
        current = await call.current()
        before = views.plain(current, row, exact=True)
        patched = patching.apply_patch(media, before, wanted, row.descriptor)
        meta = patched.get("metadata")
        named = meta.get("resourceVersion") if isinstance(meta, dict) else None
        if isinstance(meta, dict) and not named:
            patched["metadata"] = {**meta, "resourceVersion": current.metadata.resourceVersion}
        given = given_object(call, patched, aside.kept(current), doubled)
        try:
            obj = await write(call, _update(call, given.object))
        except Conflict:
            if attempt == TRIES or named != current.metadata.resourceVersion or _names_version(media, wanted):
                raise
            continue
        return Answer(call.one(obj), 200, [*given.warnings, *_new_caveats(current, obj)])
    raise AssertionError("the last attempt returns or raises")


async def delete(call: Call) -> Answer:
    """DELETE of an object: the object if it is still there, otherwise that it is gone."""
    options = delete_options(call)
    call = dry(call, options)
    target = call.target
    operation = operations.delete(
        target.resource.key(call.namespace, target.name),
        uid=options.preconditions.uid,
        version=options.preconditions.resourceVersion,
        grace_period_s=options.gracePeriodSeconds if options.HasField("gracePeriodSeconds") else None,
        propagation=propagation(options),
    )
    obj = await write(call, operation)
    if obj.metadata.HasField("deletionTimestamp") or isinstance(obj, core.Pod):
        return Answer(call.one(obj))
    details = {"name": target.name, "kind": target.resource.plural, "uid": obj.metadata.uid}
    if target.resource.group:
        details["group"] = target.resource.group
    return call.answer(success(details))


async def delete_collection(call: Call) -> Answer:
    """DELETE of a collection: each object that the selectors choose, the very ones that were found. The answer is the
    list of them, as they were then."""
    options = delete_options(call)
    call = dry(call, options)
    found = await reading.find(call)
    row = call.target.resource
    for start in range(0, len(found.items), _DELETE_AT_ONCE):
        batch = [
            operations.delete(
                row.key(obj.metadata.namespace, obj.metadata.name),
                uid=obj.metadata.uid,
                grace_period_s=options.gracePeriodSeconds if options.HasField("gracePeriodSeconds") else None,
                propagation=propagation(options),
            )
            for obj in found.items[start : start + _DELETE_AT_ONCE]
        ]
        written = await call.client.write(batch, dry_run=query.dry_run(call.query), timeout_s=call.timeout_s)
        for outcome in written.outcomes:
            # Gone, or another one of that name by now: not what was to be deleted.
            if outcome.error is not None and outcome.error.reason not in ("NotFound", "Conflict"):
                raise outcome.error
            if isinstance(outcome.object, core.CustomResourceDefinition) and not query.dry_run(call.query):
                await call.settled(outcome.object, True)
    return await reading.found_already(call, found)


# --- steps


async def _before(call: Call) -> AnyObject | None:
    """What is about to be replaced; None: nothing is there, which is for the master to say."""
    try:
        return await call.current()
    except NotFound:
        return None


def _new_caveats(before: AnyObject, after: AnyObject) -> list[str]:
    """What is to be said of a changed object that was not to be said before."""
    known = caveats(before)
    return [each for each in caveats(after) if each not in known]


def _names_version(media: str, patch: Any) -> bool:
    """Whether a patch is meant for one version only."""
    if media == patching.JSON_PATCH:
        # One that only tests the version is applied again: it then fails by its test, with 422, as in Kubernetes.
        return any(
            isinstance(each, dict)
            and each.get("path") == "/metadata/resourceVersion"
            and each.get("op") in ("add", "replace")
            for each in patch
        )
    meta = patch.get("metadata")
    return isinstance(meta, dict) and bool(meta.get("resourceVersion"))


def _may_be_blind(call: Call) -> bool:
    """Kinds that are replaced without naming a version; Kubernetes wants one of leases and of budgets, of definitions
    and of what they define."""
    row = call.target.resource
    if row.custom is not None:
        return False
    return row.kind.name not in ("Lease", "CustomResourceDefinition") or bool(call.target.subresource)


def _update(call: Call, obj: AnyObject) -> wire.Operation:
    return operations.update_status(obj) if call.target.subresource == "status" else operations.update(obj)
