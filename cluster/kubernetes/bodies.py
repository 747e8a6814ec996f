"""What the body of a request says: JSON, YAML, or Kubernetes' protobuf.

Without a Content-Type it is JSON. Protobuf bodies (kubectl sends them from `create` and a few others, and knows no
other way) are an envelope with the bytes of an object (whole.py); they are turned into what the same body would say in
JSON, so that everything after this file knows one form only.

Go writes every field into protobuf that is no pointer, set or not: an empty text, 0 and an empty time mean that nothing
was said. Where Go has a pointer (replicas, runAsUser), 0 means 0. Pure.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from cluster.api import aside
from cluster.api.errors import BadRequest
from cluster.api.json import read_json, to_json
from cluster.api.json_parse import NOT_CARRIED_OUT, describe
from cluster.api.yaml_reader import Refused as RefusedYaml
from cluster.api.yaml_reader import read_yaml
from cluster.kubernetes.negotiation import JSON, PROTOBUF, YAML
from cluster.kubernetes.protobuf import MAGIC
from cluster.kubernetes.resources import BY_KIND, RESOURCES
from cluster.kubernetes.statuses import Refused
from cluster.kubernetes.whole import whole
from cluster.pb.v1 import kubernetes_pb2 as bodies

MAX_BYTES = 3 * 1024 * 1024
"""Of a body, as in Kubernetes."""
YAMLS = (YAML, "application/x-yaml")

_OTHERS: dict[str, type[Message]] = {
    "DeleteOptions": bodies.DeleteOptions,
    "Binding": bodies.Binding,
    "Eviction": bodies.Eviction,
    "Scale": bodies.Scale,
    "SelfSubjectAccessReview": bodies.SelfSubjectAccessReview,
    "SelfSubjectReview": bodies.SelfSubjectReview,
    "SelfSubjectRulesReview": bodies.SelfSubjectRulesReview,
    "TokenRequest": bodies.TokenRequest,
}
_VIEWS = {(row.api_version, row.kind.name): row.view for row in RESOURCES if row.view is not None}
_POINTERS = frozenset(
    (
        *("replicas", "controller", "blockOwnerDeletion", "gracePeriodSeconds", "deletionGracePeriodSeconds"),
        *("terminationGracePeriodSeconds", "activeDeadlineSeconds", "runAsUser", "runAsGroup", "runAsNonRoot"),
        *("privileged", "allowPrivilegeEscalation", "readOnlyRootFilesystem", "enableServiceLinks", "priority"),
        *("tolerationSeconds", "optional", "defaultMode", "mode", "started", "immutable", "orphanDependents"),
        *("leaseDurationSeconds", "leaseTransitions", "holderIdentity", "fsGroup", "automountServiceAccountToken"),
        *("shareProcessNamespace", "setHostnameAsFQDN", "allocateLoadBalancerNodePorts", "hostProcess", "hostUsers"),
        *("expirationSeconds",),
    )
)
"""Fields that are pointers in Go: 0, false and "" mean just that."""
_STRUCTS = frozenset(
    (
        *(
            "Time",
            "MicroTime",
            "ObjectMeta",
            "ResourceRequirements",
            "EventSource",
            "ObjectReference",
            "ContainerState",
        ),
        *("NodeSystemInfo", "NodeDaemonEndpoints", "DaemonEndpoint", "Handler", "VolumeSource", "LocalObjectReference"),
    )
)
"""Messages that are no pointers in Go: empty, they say nothing. So are all whose names end in Spec or Status."""


def media_type(header: str) -> str:
    """The type that a Content-Type names, without its parameters; JSON if there is none."""
    return header.partition(";")[0].strip().lower() or JSON


def read_body(content_type: str, body: bytes, kind: str, doubled: list[str] | None = None) -> Any:
    """What a body says, as JSON's values. `kind`: the kind that protobuf bodies may leave out. `doubled`: where it is
    noted, in Kubernetes' words, which keys an object has twice; the last one counts then.

    Raises BadRequest for what does not parse and, without `doubled`, for such keys; Refused (415) for a type of content
    that is not read.
    """
    media = media_type(content_type)
    if media == JSON:
        paths: list[str] | None = None if doubled is None else []
        data = read_json(body, paths)
        if doubled is not None:
            doubled += [f'duplicate field "{path}"' for path in paths or ()]
        return data
    if media in YAMLS:
        return _read_yaml(body, doubled)
    if media == PROTOBUF:
        return _read_protobuf(body, kind)
    read = ", ".join((JSON, YAML, PROTOBUF))
    raise Refused(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {read}",
    )


def read_dict(content_type: str, body: bytes, kind: str, doubled: list[str] | None = None) -> dict[str, Any]:
    """The same for a body that is an object. Raises BadRequest if it is something else."""
    data = read_body(content_type, body, kind, doubled)
    if not isinstance(data, dict):
        raise BadRequest(f"the body must be an object, not {describe(data)}")
    return data


def _read_yaml(body: bytes, doubled: list[str] | None) -> Any:
    try:
        documents = read_yaml(body.decode())
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None
    except RefusedYaml as refused:
        raise BadRequest(f"line {refused.line}: {refused.message}") from None
    if len(documents) != 1:
        raise BadRequest(f"the body holds {len(documents)} documents of YAML instead of one")
    twice = documents[0].duplicates
    if doubled is not None:
        doubled += [f'line {each.line}: key "{each.key}" already set in map' for each in twice]
    elif twice:
        raise BadRequest(f"line {twice[0].line}: {twice[0].path}: {twice[0].message}")
    return documents[0].data


def _read_protobuf(body: bytes, kind: str) -> dict[str, Any]:
    if not body.startswith(MAGIC):
        raise BadRequest("the body is not Kubernetes' protobuf: it does not begin with k8s and a zero byte")
    envelope = bodies.Unknown()
    try:
        envelope.ParseFromString(body[len(MAGIC) :])
    except DecodeError:
        raise BadRequest("the body is not protobuf") from None
    kind = envelope.typeMeta.kind or kind
    row = BY_KIND.get(kind)
    message_type = whole(row.kind.message.DESCRIPTOR.name) if row is not None else _OTHERS.get(kind)
    message_type = _VIEWS.get((envelope.typeMeta.apiVersion, kind), message_type)
    if message_type is None:
        raise Refused(415, "UnsupportedMediaType", f'a "{kind[:80]}" is not read from protobuf; send it as JSON')
    message = message_type()
    try:
        message.ParseFromString(envelope.raw)
    except DecodeError:
        raise BadRequest(f"the body does not hold a {kind} in protobuf") from None
    _drop_unset(message, kind)
    data = {"apiVersion": envelope.typeMeta.apiVersion, "kind": kind, **to_json(message, exact=True)}
    aside.restore(data)  # what protobuf has no field for was shown there (protobuf.py)
    return data


def _drop_unset(message: Message, path: str) -> None:
    """Takes out what Go has written although nothing was said. Raises BadRequest for a field that has no message."""
    unknown: Any = UnknownFieldSet(message)
    for field in unknown:
        if field.data not in (0, b""):
            raise BadRequest(f"{path}: field number {field.field_number} {NOT_CARRIED_OUT}; send it as JSON to keep it")
    for field, value in message.ListFields():
        if field.message_type is None:
            if not field.is_repeated and not value and field.name not in _POINTERS:
                message.ClearField(field.name)
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in list(value):
                    _drop_unset(value[key], f"{path}.{field.name}[{key}]")
        elif field.is_repeated:
            for index, item in enumerate(value):
                _drop_unset(item, f"{path}.{field.name}[{index}]")
        else:
            _drop_unset(value, f"{path}.{field.name}")
            name = field.message_type.name
            is_struct = name in _STRUCTS or name.endswith(("Spec", "Status")) or field.name in ("targetPort", "port")
            if not value.ListFields() and is_struct:
                message.ClearField(field.name)
    message.DiscardUnknownFields()
