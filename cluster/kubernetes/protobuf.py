"""Answers in Kubernetes' protobuf: application/vnd.kubernetes.protobuf.

    k8s\0 Unknown{typeMeta{apiVersion, kind}, raw}      an object, a list, a Status ...: raw is its message
    LENGTH WatchEvent{type, object{raw}} ...            a watch: 4 bytes of length, the first the highest; raw as above

The messages that are stored have Kubernetes' names, numbers and types, so their bytes are what goes out. Fields of
Podium's own have numbers from 10,000, which nobody else knows, and passes over. What is put aside with an object is
shown where it was written, as in JSON (whole.py). The items of a list stand in it one
after the other, each as a field with the number 2, so a list is put together from bytes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from cluster.api import aside
from cluster.api.json import message_from_json
from cluster.api.json_parse import Lenient, parser
from cluster.api.kinds import AnyObject
from cluster.api.raw_pb import tag, varint
from cluster.kubernetes.query import duration_s
from cluster.kubernetes.whole import whole
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import kubernetes_pb2 as bodies

MAGIC = b"k8s\0"
METADATA = "PartialObjectMetadata"
METADATA_VERSION = "meta.k8s.io/v1"
_ITEM = tag(2, 2)
"""How an item of a list begins: the field 2, so many bytes long."""
_RAW = tag(2, 2)
"""So does what an envelope holds."""

_MESSAGES: dict[str, type[Message]] = {
    "Status": wire.Status,
    "Scale": bodies.Scale,
    "SelfSubjectAccessReview": bodies.SelfSubjectAccessReview,
    "SelfSubjectReview": bodies.SelfSubjectReview,
    "TokenRequest": bodies.TokenRequest,
    "SelfSubjectRulesReview": bodies.SelfSubjectRulesReview,
    "EndpointSlice": bodies.EndpointSlice,
    "NodeMetrics": bodies.NodeMetrics,
    "PodMetrics": bodies.PodMetrics,
    METADATA: bodies.PartialObjectMetadata,
}
"""What is no object of the table, by its kind."""


def envelope(kind: str, api_version: str, raw: bytes) -> bytes:
    """A whole body."""
    return envelope_head(kind, api_version, len(raw)) + raw


def envelope_head(kind: str, api_version: str, length: int) -> bytes:
    """A body up to the message that it holds, of so many bytes."""
    meta = bodies.Unknown(typeMeta=bodies.TypeMeta(apiVersion=api_version, kind=kind))
    return b"".join((MAGIC, meta.SerializeToString(), _RAW, varint(length)))


def raw_of(obj: AnyObject) -> bytes:
    """An object, as it stands in a list."""
    return _with_aside(obj) if aside.ANNOTATION in obj.metadata.annotations else obj.SerializeToString()


def _with_aside(obj: AnyObject) -> bytes:
    """An object with what is aside where it was written. What has no field (volumes that Kubernetes has given up), or
    is of a wrong type, because nobody has checked it, can be seen in the annotation only, which is there then."""
    content = aside.plain(obj, exact=True)
    del content["kind"], content["apiVersion"]
    cls, problems = whole(obj.DESCRIPTOR.name), Lenient()
    arguments = parser(cls.DESCRIPTOR)(content, None, problems)
    if problems:
        return obj.SerializeToString()
    message: Any = cls(**arguments)
    if problems.unknown or problems.not_carried_out:
        message.metadata.annotations[aside.ANNOTATION] = obj.metadata.annotations[aside.ANNOTATION]
    return bytes(message.SerializeToString())


def raw_metadata_of(obj: AnyObject) -> bytes:
    """Its metadata alone, as it stands in a list of such."""
    found = bodies.PartialObjectMetadata(metadata=obj.metadata)
    found.metadata.annotations.pop(aside.ANNOTATION, None)
    return found.SerializeToString()


def items(raws: Iterable[bytes]) -> bytes:
    """Items of a list, one after the other."""
    parts: list[bytes] = []
    for raw in raws:
        parts += (_ITEM, varint(len(raw)), raw)
    return b"".join(parts)


def list_head(kind: str, api_version: str, metadata: dict[str, Any], length: int) -> bytes:
    """A list up to its items, which take so many bytes."""
    about = bodies.ListHead(metadata=message_from_json(bodies.ListMeta, metadata)).SerializeToString()
    return envelope_head(kind, api_version, len(about) + length) + about


def values(data: dict[str, Any]) -> bytes:
    """A body with what is no object of the table, or a list of such, as JSON's values."""
    kind, api_version = data["kind"], data["apiVersion"]
    if kind.endswith("List"):
        found = items(_message(kind.removesuffix("List"), item).SerializeToString() for item in data["items"])
        return list_head(kind, api_version, data["metadata"], len(found)) + found
    return envelope(kind, api_version, _message(kind, data).SerializeToString())


def event(word: str, body: bytes) -> bytes:
    """A frame of a watch."""
    frame = bodies.WatchFrame(type=word, object=bodies.RawExtension(raw=body)).SerializeToString()
    return len(frame).to_bytes(4, "big") + frame


def _message(kind: str, data: dict[str, Any]) -> Message:
    content = {key: value for key, value in data.items() if key not in ("kind", "apiVersion")}
    if kind == "Status":
        content.pop("metadata", None)  # of lists; it says nothing
    if isinstance(window := content.get("window"), str):
        content["window"] = {"duration": round((duration_s({"window": window}, "window") or 0.0) * 1e9)}
    return message_from_json(_MESSAGES[kind], content)
