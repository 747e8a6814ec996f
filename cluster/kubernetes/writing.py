"""POST, PUT, PATCH, DELETE: what is written, and the subresources.

A body becomes an object in three steps: its values (bodies.py); the object, with the fields that Podium does not carry
out put aside and those that nobody knows refused, warned of or ignored, as fieldValidation says; and an operation,
which the master judges. A patch is applied here, to what the object is now, and written only over that: if somebody
else was faster, it is applied again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from cluster.api import aside
from cluster.api.caveats import caveats
from cluster.api.errors import AlreadyExists, BadRequest, Conflict, Invalid, NotFound
from cluster.api.json import message_from_json, read_object, to_json
from cluster.api.json_parse import MAX_PROBLEMS
from cluster.api.kinds import AnyObject
from cluster.api.labels import selector_from_map
from cluster.api.meta import Key
from cluster.client import operations
from cluster.kubernetes import applying, patching, query, reading
from cluster.kubernetes.bodies import media_type, read_body, read_dict
from cluster.kubernetes.call import Answer, Call
from cluster.kubernetes.encoding import plain
from cluster.kubernetes.resources import BY_KIND
from cluster.kubernetes.statuses import Refused, success
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import kubernetes_pb2 as bodies

M = TypeVar("M", bound=Message)

_TRIES = 5
"""Of a patch that names no version, when others write at the same time."""
_DELETE_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Given:
    """An object that was sent."""

    object: AnyObject
    warnings: list[str]


async def create(call: Call) -> Answer:
    """POST to a collection."""
    given = _object(call, read_dict(call.content_type, call.body, call.target.resource.kind.name))
    del given.object.metadata.managedFields[:]  # nobody has applied it yet
    obj = await _write(call, operations.create(given.object))
    return Answer(call.one(obj), 201, [*given.warnings, *caveats(obj)])


async def _apply(call: Call) -> Answer:
    """PATCH with what a manager wants of the object: server-side apply (applying.py)."""
    if call.target.subresource:
        raise Refused(415, "UnsupportedMediaType", "server-side apply is for whole objects")
    if not call.query.get("fieldManager"):
        raise BadRequest("fieldManager: Required value: is required for apply patch")
    kind = call.target.resource.kind
    wanted = read_dict("application/yaml", call.body, kind.name)
    if not isinstance(wanted.get("metadata", {}), dict) or not isinstance(wanted.get("kind"), str):
        raise BadRequest("what is applied must have apiVersion, kind and metadata")
    if wanted.get("metadata", {}).get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")
    named = wanted.get("metadata", {}).get("resourceVersion")
    # Of the right kind, at the right place, and made of fields that there are, before it is merged with anything.
    asked = _object(call, wanted)
    for attempt in range(1, _TRIES + 1):
        current: AnyObject | None = None
        try:
            current = await call.client.get(kind.message, call.target.name, call.namespace, timeout_s=call.timeout_s)
        except NotFound:
            if named:
                raise
        live = plain(current, exact=True) if current is not None else None
        merged = applying.apply(
            live,
            plain(asked.object, exact=True),
            call.target.resource.descriptor,
            call.manager,
            force=query.flag(call.query, "force"),
            now=call.time,
        )
        given = _object(call, merged, aside.kept(current) if current is not None else None)
        try:
            operation = operations.create(given.object) if current is None else _update(call, given.object)
            obj = await _write(call, operation)
        except (Conflict, AlreadyExists):
            if attempt == _TRIES or named:
                raise
            continue
        if current is not None:
            return Answer(call.one(obj), 200, asked.warnings)
        return Answer(call.one(obj), 201, [*asked.warnings, *caveats(obj)])
    raise AssertionError("the last attempt returns or raises")


async def update(call: Call) -> Answer:
    """PUT of an object, or of its status."""
    data = read_dict(call.content_type, call.body, call.target.resource.kind.name)
    if not call.target.subresource:
        data = await _noted(call, data)
    given = _object(call, data)
    if not given.object.metadata.resourceVersion and not _may_be_blind(call):
        raise Invalid("metadata.resourceVersion: must be specified for an update")
    obj = await _write(call, _update(call, given.object))
    return Answer(call.one(obj), 200, given.warnings)


async def patch(call: Call) -> Answer:
    """PATCH of an object, or of its status."""
    media = media_type(call.content_type)
    if media == patching.APPLY:
        return await _apply(call)
    wanted = _read_patch(call, media)
    kind = call.target.resource.kind
    for attempt in range(1, _TRIES + 1):
        current = await call.client.get(kind.message, call.target.name, call.namespace, timeout_s=call.timeout_s)
        before = plain(current, exact=True)
        patched = patching.apply_patch(media, before, wanted, call.target.resource.descriptor)
        meta = patched.get("metadata")
        named = meta.get("resourceVersion") if isinstance(meta, dict) else None
        if isinstance(meta, dict) and not named:
            patched["metadata"] = {**meta, "resourceVersion": current.metadata.resourceVersion}
        if not call.target.subresource:
            patched = applying.noted(before, patched, call.target.resource.descriptor, call.manager, now=call.time)
        given = _object(call, patched, aside.kept(current))
        try:
            obj = await _write(call, _update(call, given.object))
        except Conflict:
            if attempt == _TRIES or named != current.metadata.resourceVersion or _names_version(media, wanted):
                raise
            continue
        return Answer(call.one(obj), 200, given.warnings)
    raise AssertionError("the last attempt returns or raises")


async def delete(call: Call) -> Answer:
    """DELETE of an object: the object if it is still there, otherwise that it is gone."""
    options = _delete_options(call)
    call = _dry(call, options)
    target = call.target
    key = Key(target.resource.kind.name, call.namespace, target.name)
    operation = operations.delete(
        key,
        uid=options.preconditions.uid,
        version=options.preconditions.resourceVersion,
        grace_period_s=options.gracePeriodSeconds if options.HasField("gracePeriodSeconds") else None,
        propagation=_propagation(options),
    )
    obj = await _write(call, operation)
    if obj.metadata.HasField("deletionTimestamp") or isinstance(obj, core.Pod):
        return Answer(call.one(obj))
    details = {"name": target.name, "kind": target.resource.plural, "uid": obj.metadata.uid}
    if target.resource.group:
        details["group"] = target.resource.group
    return call.answer(success(details))


async def delete_collection(call: Call) -> Answer:
    """DELETE of a collection: each object that the selectors choose, the very ones that were found."""
    options = _delete_options(call)
    call = _dry(call, options)
    found = (await reading.find(call)).items
    kind = call.target.resource.kind
    for start in range(0, len(found), _DELETE_AT_ONCE):
        batch = [
            operations.delete(
                Key(kind.name, obj.metadata.namespace, obj.metadata.name),
                uid=obj.metadata.uid,
                grace_period_s=options.gracePeriodSeconds if options.HasField("gracePeriodSeconds") else None,
                propagation=_propagation(options),
            )
            for obj in found[start : start + _DELETE_AT_ONCE]
        ]
        written = await call.client.write(batch, dry_run=query.dry_run(call.query), timeout_s=call.timeout_s)
        for outcome in written.outcomes:
            # Gone, or another one of that name by now: not what was to be deleted.
            if outcome.error is not None and outcome.error.reason not in ("NotFound", "Conflict"):
                raise outcome.error
    return call.answer(success({"kind": call.target.resource.plural}))


# --- subresources


async def bind(call: Call) -> Answer:
    """POST pods/NAME/binding."""
    binding = _body(call, bodies.Binding, "Binding")
    if binding.target.kind not in ("", "Node") or not binding.target.name:
        raise Invalid("target.name: must name a Node")
    _check_name(call, binding.metadata)
    key = Key("Pod", call.namespace, call.target.name)
    await _write(call, operations.bind(key, binding.target.name, uid=binding.metadata.uid))
    return call.answer(success(code=201), 201)


async def evict(call: Call) -> Answer:
    """POST pods/NAME/eviction."""
    eviction = _body(call, bodies.Eviction, "Eviction")
    _check_name(call, eviction.metadata)
    options = eviction.deleteOptions
    call = _dry(call, options)
    operation = operations.evict(
        Key("Pod", call.namespace, call.target.name),
        uid=options.preconditions.uid,
        version=options.preconditions.resourceVersion,
        grace_period_s=options.gracePeriodSeconds if options.HasField("gracePeriodSeconds") else None,
    )
    await _write(call, operation)
    return call.answer(success(code=201), 201)


async def scale(call: Call, method: str) -> Answer:
    """GET, PUT and PATCH of replicationcontrollers/NAME/scale."""
    for attempt in range(1, _TRIES + 1):
        current = await call.client.get(
            core.ReplicationController, call.target.name, call.namespace, timeout_s=call.timeout_s
        )
        shown = _scale_of(current)
        if method == "GET":
            return call.answer(shown)
        if method == "PUT":
            wanted = read_dict(call.content_type, call.body, "Scale")
        else:
            media = media_type(call.content_type)
            if media == patching.APPLY:
                raise Refused(415, "UnsupportedMediaType", "server-side apply is not served")
            wanted = patching.apply_patch(media, shown, _read_patch(call, media), None)
        given = _message(wanted, bodies.Scale, "Scale")
        _check_name(call, given.metadata)
        if not given.spec.HasField("replicas") and method == "PUT":
            given.spec.replicas = 0  # an int32 without a pointer in Go: left out, it is 0
        if given.spec.replicas < 0:
            raise Invalid("spec.replicas: must be greater than or equal to 0")
        changed = core.ReplicationController()
        changed.CopyFrom(current)
        changed.spec.replicas = given.spec.replicas
        if current.metadata.managedFields:
            row = BY_KIND["ReplicationController"]
            noted = applying.noted(
                plain(current, exact=True), plain(changed, exact=True), row.descriptor, call.manager, now=call.time
            )
            reading_ = read_object(noted)
            assert isinstance(reading_.object, core.ReplicationController)
            changed = reading_.object
            aside.keep(changed, reading_.not_carried_out)
        if method == "PUT":
            changed.metadata.resourceVersion = given.metadata.resourceVersion
        try:
            written = await _write(call, operations.update(changed))
        except Conflict:
            if attempt == _TRIES or method == "PUT":
                raise
            continue
        assert isinstance(written, core.ReplicationController)
        return call.answer(_scale_of(written))
    raise AssertionError("the last attempt returns or raises")


def _scale_of(rc: core.ReplicationController) -> dict[str, Any]:
    meta = rc.metadata
    shown = core.ObjectMeta(
        name=meta.name, namespace=meta.namespace, uid=meta.uid, resourceVersion=meta.resourceVersion
    )
    if meta.HasField("creationTimestamp"):
        shown.creationTimestamp.CopyFrom(meta.creationTimestamp)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": to_json(shown),
        "spec": {"replicas": rc.spec.replicas},
        "status": {"replicas": rc.status.replicas, "selector": str(selector_from_map(rc.spec.selector))},
    }


# --- steps


async def _noted(call: Call, data: dict[str, Any]) -> dict[str, Any]:
    """What replaces an object, with who answers for which fields of it, if that is kept of this one."""
    kind = call.target.resource.kind
    try:
        current = await call.client.get(kind.message, call.target.name, call.namespace, timeout_s=call.timeout_s)
    except NotFound:
        return data  # that is for the master to say
    if not current.metadata.managedFields and not (data.get("metadata") or {}).get("managedFields"):
        return data
    live = plain(current, exact=True)
    return applying.noted(live, data, call.target.resource.descriptor, call.manager, now=call.time)


def _read_patch(call: Call, media: str) -> Any:
    if media not in patching.patch_kinds(strategic=True):
        supported = ", ".join(patching.patch_kinds(strategic=True))
        raise Refused(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - accepted media types include: {supported}",
        )
    return read_body("application/json", call.body, "")


def _names_version(media: str, patch: Any) -> bool:
    """Whether a patch is meant for one version only."""
    if media == patching.JSON_PATCH:
        return any(isinstance(each, dict) and each.get("path") == "/metadata/resourceVersion" for each in patch)
    meta = patch.get("metadata")
    return isinstance(meta, dict) and bool(meta.get("resourceVersion"))


def _object(call: Call, data: dict[str, Any], kept: Mapping[str, Any] | None = None) -> _Given:
    """The object that was sent, of the kind and at the place that the path names. `kept`: what was aside with it
    before, of which nobody needs to be warned again. Raises BadRequest, Invalid."""
    row = call.target.resource
    kind = row.kind
    if data.get("kind") not in (None, "", kind.name):
        raise BadRequest(f'the object is a "{str(data["kind"])[:80]}", and the path is of {row.plural} ({kind.name})')
    if data.get("apiVersion") not in (None, "", kind.api_version):
        raise BadRequest(f'the object is of "{str(data["apiVersion"])[:80]}", and the path is of {kind.api_version}')
    strictness = query.field_validation(call.query)
    reading = read_object({**data, "kind": kind.name, "apiVersion": kind.api_version})
    warnings: list[str] = []
    if reading.unknown:
        unknown = [f'unknown field "{problem.path}"' for problem in reading.unknown]
        if strictness == "Strict":
            raise BadRequest(
                f'{kind.name} in version "{row.version}" cannot be handled as a {kind.name}: '
                f"strict decoding error: {', '.join(unknown)}"
            )
        if strictness == "Warn":
            warnings += unknown
    obj = reading.object
    warnings += aside.keep(obj, reading.not_carried_out, kept)
    if strictness == "Ignore":
        warnings = []
    _check_name(call, obj.metadata)
    if kind.namespaced:
        obj.metadata.namespace = call.namespace
    return _Given(obj, warnings[:MAX_PROBLEMS])


def _check_name(call: Call, meta: core.ObjectMeta) -> None:
    """The body is about what the path names. Raises BadRequest."""
    if meta.namespace and meta.namespace != call.namespace:
        raise BadRequest(
            f"the namespace of the provided object ({meta.namespace[:80]}) does not match the namespace sent on the "
            f"request ({call.namespace})"
        )
    name = call.target.name
    if name and meta.name and meta.name != name:
        raise BadRequest(f"the name of the object ({meta.name[:80]}) does not match the name on the URL ({name})")
    if name and not meta.name:
        meta.name = name


def _may_be_blind(call: Call) -> bool:
    """Kinds that are replaced without naming a version; Kubernetes wants one of leases and of budgets."""
    return call.target.resource.kind.name not in ("Lease",) or bool(call.target.subresource)


def _update(call: Call, obj: AnyObject) -> wire.Operation:
    return operations.update_status(obj) if call.target.subresource == "status" else operations.update(obj)


async def _write(call: Call, operation: wire.Operation) -> AnyObject:
    """Carries out one operation. Raises what the master says."""
    written = await call.client.write([operation], dry_run=query.dry_run(call.query), timeout_s=call.timeout_s)
    return written.outcomes[0].unwrap()


def _body(call: Call, cls: type[M], kind: str) -> M:
    return _message(read_dict(call.content_type, call.body, kind), cls, kind)


def _message(data: dict[str, Any], cls: type[M], kind: str) -> M:
    """A body that is no object of the table. Raises BadRequest for fields that are not known or of the wrong type."""
    if data.get("kind") not in (None, "", kind):
        raise BadRequest(f'a "{kind}" is expected, not "{str(data["kind"])[:80]}"')
    content = {key: value for key, value in data.items() if key not in ("kind", "apiVersion")}
    try:
        return message_from_json(cls, content)
    except Invalid as error:
        raise BadRequest(f"{kind}: {error.message}", causes=error.causes) from error


def _delete_options(call: Call) -> bodies.DeleteOptions:
    """What the body says, or else the query."""
    options = bodies.DeleteOptions()
    if call.body:
        options = _body(call, bodies.DeleteOptions, "DeleteOptions")
    else:
        grace_s = query.number(call.query, "gracePeriodSeconds")
        if grace_s is not None:
            options.gracePeriodSeconds = grace_s
        if policy := call.query.get("propagationPolicy"):
            options.propagationPolicy = policy
        if call.query.get("orphanDependents"):
            options.orphanDependents = query.flag(call.query, "orphanDependents")
    if options.HasField("orphanDependents") and options.propagationPolicy:
        raise Invalid("propagationPolicy: orphanDependents and propagationPolicy cannot both be set")
    return options


def _propagation(options: bodies.DeleteOptions) -> str:
    if options.HasField("orphanDependents"):
        return "Orphan" if options.orphanDependents else "Background"
    return options.propagationPolicy


def _dry(call: Call, options: bodies.DeleteOptions) -> Call:
    """The same call, as a dry run if the options ask for one. Raises Invalid."""
    if not options.dryRun:
        return call
    query.dry_run({"dryRun": ",".join(options.dryRun)})
    return replace(call, query={**call.query, "dryRun": "All"})
