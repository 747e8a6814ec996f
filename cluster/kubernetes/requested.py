"""What a request wants to be written: from its body to an object, and from an operation to its outcome.

Fields that Podium does not carry out are put aside; those that nobody knows are refused, warned of or ignored, as
fieldValidation says, and so are those that are there twice; the kind, the namespace and the name are those of the path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from cluster.api import aside
from cluster.api.defaults import apply_defaults
from cluster.api.errors import BadRequest, Invalid
from cluster.api.json import Reading, message_from_json, read_custom, read_object
from cluster.api.json_parse import MAX_PROBLEMS
from cluster.api.kinds import AnyObject, unwrap
from cluster.api.structural import default, prune
from cluster.api.validation_schema import unknown_keys
from cluster.client import operations
from cluster.kubernetes import patching, query, views
from cluster.kubernetes.bodies import YAMLS, media_type, read_body, read_dict
from cluster.kubernetes.call import Call
from cluster.kubernetes.negotiation import JSON, PROTOBUF, YAML
from cluster.kubernetes.statuses import Refused
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import kubernetes_pb2 as bodies

M = TypeVar("M", bound=Message)

_MANAGED = ("create", "update", "update_status")
TRIES = 20
"""Of what names no version, when others write at the same time; patches through this API do not (turns.py)."""


@dataclass(frozen=True, slots=True)
class Given:
    """An object that was sent."""

    object: AnyObject
    warnings: list[str]


def read_sent(call: Call) -> tuple[dict[str, Any], list[str]]:
    """The object that was sent, as JSON's values, and what it says twice. Raises BadRequest, Refused."""
    row = call.target.resource
    if media_type(call.content_type) == PROTOBUF and not row.in_protobuf and row.view is None:
        message = f"the body of the request was in an unknown format - accepted media types include: {JSON}, {YAML}"
        raise Refused(415, "UnsupportedMediaType", message)
    doubled: list[str] = []
    return read_dict(call.content_type, call.body, row.kind.name, doubled), doubled


def given_object(
    call: Call, data: dict[str, Any], kept: Mapping[str, Any] | None = None, doubled: Sequence[str] = ()
) -> Given:
    """The object that was sent, of the kind and at the place that the path names. `kept`: what was aside with it
    before, of which nobody needs to be warned again. `doubled`: which keys it had twice. Raises BadRequest, Invalid."""
    row = call.target.resource
    kind = row.kind
    if data.get("kind") not in (None, "", kind.name):
        raise BadRequest(f'the object is a "{str(data["kind"])[:80]}", and the path is of {row.plural} ({kind.name})')
    if data.get("apiVersion") not in (None, "", row.api_version):
        raise BadRequest(f'the object is of "{str(data["apiVersion"])[:80]}", and the path is of {row.api_version}')
    strictness = query.field_validation(call.query)
    data, misplaced = views.stored(row, data)
    data = {**data, "kind": kind.name, "apiVersion": kind.api_version}
    unknown: list[str] = []
    if row.custom is not None:
        data = deepcopy(data)
        unknown = prune(data, row.custom.schema.data)
        reading = read_custom(data, row.custom.name)
    else:
        if kind.message is core.CustomResourceDefinition:
            data = deepcopy(data)
            unknown = _unknown_in_schemas(data)
        reading = _decoded(call, data)
    warnings: list[str] = []
    unknown = [*misplaced, *(problem.path for problem in reading.unknown), *unknown]
    unknown = [*doubled, *(f'unknown field "{path}"' for path in unknown)]
    if unknown:
        if strictness == "Strict":
            raise BadRequest(
                f'{kind.name} in version "{row.version}" cannot be handled as a {kind.name}: '
                f"strict decoding error: {', '.join(unknown)}"
            )
        if strictness == "Warn":
            warnings += unknown
    obj = reading.object
    if row.custom is None:
        warnings += aside.keep(obj, reading.not_carried_out, kept)
        if call.target.subresource == "status":
            obj.metadata.annotations.setdefault(aside.ANNOTATION, "{}")  # nothing is aside of this status any more
    if strictness == "Ignore":
        warnings = []
    check_name(call, obj.metadata)
    if kind.namespaced:
        obj.metadata.namespace = call.namespace
    return Given(obj, warnings[:MAX_PROBLEMS])


def _decoded(call: Call, data: dict[str, Any]) -> Reading:
    """An object out of JSON's values. Raises BadRequest for a body that holds values of other types than its fields
    have, Invalid if it is a patch that leads there; so does Kubernetes."""
    try:
        return read_object(data)
    except Invalid as error:
        row = call.target.resource
        if media_type(call.content_type) not in (JSON, *YAMLS) or row.kind.message is core.CustomResourceDefinition:
            raise
        name = row.kind.name
        text = f'{name} in version "{row.version}" cannot be handled as a {name}: {error.message}'
        raise BadRequest(text, causes=error.causes) from error


def completed(call: Call, data: dict[str, Any]) -> dict[str, Any]:
    """An object of the call's kind as it would be shown once it is kept: its defaults have come in. Raises BadRequest,
    Invalid."""
    row = call.target.resource
    obj = given_object(call, data).object
    if row.custom is None:
        apply_defaults(obj)
    shown = views.plain(obj, row, exact=True)
    if row.custom is not None:
        default(shown, row.custom.schema.data)
    return shown


def _unknown_in_schemas(data: dict[str, Any]) -> list[str]:
    """Takes out of the schemas of a definition, in place, what no schema has; the paths of that."""
    spec = data.get("spec")
    versions = spec.get("versions") if isinstance(spec, dict) else None
    found = []
    for index, version in enumerate(versions if isinstance(versions, list) else []):
        schema = version.get("schema") if isinstance(version, dict) else None
        if isinstance(schema, dict):
            where = f"spec.versions[{index}].schema.openAPIV3Schema"
            found += unknown_keys(schema.get("openAPIV3Schema"), where)
    return found


def check_name(call: Call, meta: core.ObjectMeta) -> None:
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


async def write(call: Call, operation: wire.Operation, *, applied: bool = False) -> AnyObject:
    """Carries out one operation in the name of the call's manager. `applied`: the object has its managedFields already.
    Raises what the master says."""
    if operation.WhichOneof("operation") in _MANAGED:
        operations.by_manager(operation, call.manager, subresource=call.target.subresource, applied=applied)
    dry_run = query.dry_run(call.query)
    written = await call.client.write([operation], dry_run=dry_run, timeout_s=call.timeout_s)
    obj = written.outcomes[0].unwrap()
    if dry_run:
        _as_before(obj, operation)
    elif isinstance(obj, core.CustomResourceDefinition):
        await call.settled(obj, operation.HasField("delete"))
    return obj


def _as_before(obj: AnyObject, operation: wire.Operation) -> None:
    """What a dry run answers has the version that there is, or none yet, for nothing was written: so that `kubectl
    diff` shows what would become of an object, and not that it would have been written by somebody."""
    word = operation.WhichOneof("operation")
    if word == "create":
        obj.metadata.ClearField("resourceVersion")
    elif word in ("update", "update_status"):
        given = unwrap(getattr(operation, word).object).metadata
        for name in ("resourceVersion", "actor", "cause"):
            if given.HasField(name):
                obj.metadata.ClearField(name)
                obj.metadata.MergeFrom(core.ObjectMeta(**{name: getattr(given, name)}))


def body_of(call: Call, cls: type[M], kind: str, *, lenient: bool = False) -> M:
    data = read_dict(call.content_type, call.body, kind, [] if lenient else None)
    return message_of(data, cls, kind, lenient=lenient)


def message_of(data: dict[str, Any], cls: type[M], kind: str, *, lenient: bool = False) -> M:
    """A body that is no object of the table. Raises BadRequest for fields of the wrong type, and, unless `lenient`, for
    those that are not known: they are passed over then, as Kubernetes does in options of a deletion."""
    if data.get("kind") not in (None, "", kind):
        raise BadRequest(f'a "{kind}" is expected, not "{str(data["kind"])[:80]}"')
    content = {key: value for key, value in data.items() if key not in ("kind", "apiVersion")}
    try:
        return message_from_json(cls, content, lenient=lenient)
    except Invalid as error:
        raise BadRequest(f"{kind}: {error.message}", causes=error.causes) from error


def delete_options(call: Call) -> bodies.DeleteOptions:
    """What the body says, or else the query."""
    options = bodies.DeleteOptions()
    if call.body:
        options = body_of(call, bodies.DeleteOptions, "DeleteOptions", lenient=True)
    else:
        grace_s = query.number(call.query, "gracePeriodSeconds", signed=True)
        if grace_s is not None:
            options.gracePeriodSeconds = grace_s
        if policy := call.query.get("propagationPolicy"):
            options.propagationPolicy = policy
        if call.query.get("orphanDependents"):
            options.orphanDependents = query.flag(call.query, "orphanDependents")
    if options.HasField("orphanDependents") and options.propagationPolicy:
        raise Invalid("propagationPolicy: orphanDependents and propagationPolicy cannot both be set")
    return options


def propagation(options: bodies.DeleteOptions) -> str:
    """What becomes of what the object owns; empty: what is usual."""
    if options.HasField("orphanDependents"):
        return "Orphan" if options.orphanDependents else "Background"
    return options.propagationPolicy


def dry(call: Call, options: bodies.DeleteOptions) -> Call:
    """The same call, as a dry run if the options ask for one. Raises Invalid."""
    if not options.dryRun:
        return call
    query.dry_run({"dryRun": ",".join(options.dryRun)})
    return replace(call, query={**call.query, "dryRun": "All"})


def read_applied(call: Call, kind: str, doubled: list[str] | None = None) -> dict[str, Any]:
    """What is applied by the server; for `doubled`, see `read_body`. Raises BadRequest."""
    wanted = read_dict(YAML, call.body, kind, doubled)
    metadata = wanted.get("metadata", {})
    if not isinstance(metadata, dict) or not isinstance(wanted.get("kind"), str):
        raise BadRequest("what is applied must have apiVersion, kind and metadata")
    if metadata.get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")
    return wanted


def read_patch(call: Call, media: str, doubled: list[str] | None = None) -> Any:
    """A patch of one of the other kinds; for `doubled`, see `read_body`. Raises BadRequest, Refused."""
    served = patching.patch_kinds(strategic=call.target.resource.custom is None)
    if media not in served:
        supported = ", ".join((*served, patching.APPLY))
        raise Refused(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - accepted media types include: {supported}",
        )
    return read_body(JSON, call.body, "", doubled)
