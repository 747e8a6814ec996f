"""Identity and time of objects: keys, and Kubernetes' Time to and from seconds."""

from __future__ import annotations

from typing import NamedTuple

from cluster.api.kinds import BY_NAME, AnyObject, kind_of
from cluster.pb.v1 import core_pb2 as core


class Key(NamedTuple):
    """Names an object within the cluster. Namespace is empty for kinds without one."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)


def key_of(obj: AnyObject) -> Key:
    """The key of an object. One of a kind that users define is found under RESOURCE/NAME: widgets.example.com/blue."""
    if isinstance(obj, core.CustomObject):
        return custom_key(obj.resource, obj.metadata.namespace, obj.metadata.name)
    return Key(kind_of(obj).name, obj.metadata.namespace, obj.metadata.name)


def custom_key(resource: str, namespace: str, name: str) -> Key:
    """Of an object of the kind that the definition `resource` (PLURAL.GROUP) describes."""
    return Key("CustomObject", namespace, f"{resource}/{name}")


def called(key: Key) -> str:
    """An object as errors call it: pods "web", widgets.example.com "blue"."""
    if key.kind == "CustomObject":
        resource, _, name = key.name.partition("/")
        return f'{resource} "{name}"'
    return f'{BY_NAME[key.kind].plural} "{key.name}"'


def type_of(obj: AnyObject) -> tuple[str, str]:
    """Its apiVersion and kind, as references name them."""
    if isinstance(obj, core.CustomObject):
        return obj.apiVersion, obj.kind
    kind = kind_of(obj)
    return kind.api_version, kind.name


def path_of(key: Key) -> str:
    """As causes name objects: replicationcontrollers/default/web, customobjects/default/widgets.example.com/blue."""
    return "/".join(part for part in (BY_NAME[key.kind].plural, key.namespace, key.name) if part)


def key_of_path(path: str) -> Key | None:
    """The object that such a path names; None if it names none."""
    plural, *rest = path.split("/")
    kind = next((kind for kind in BY_NAME.values() if kind.plural == plural), None)
    if kind is None:
        return None
    if kind.message is core.CustomObject:  # the name is two steps; whether there is a namespace depends on the kind
        return Key(kind.name, "/".join(rest[:-2]), "/".join(rest[-2:])) if len(rest) in (2, 3) else None
    if len(rest) != (2 if kind.namespaced else 1):
        return None
    return Key(kind.name, rest[0] if len(rest) == 2 else "", rest[-1])


def place_of(obj: AnyObject) -> str:
    """By what an index finds an object besides its key: a pod by its node, an object of a kind that users define by its
    definition."""
    if isinstance(obj, core.Pod):
        return obj.spec.nodeName
    return obj.resource if isinstance(obj, core.CustomObject) else ""


def revision_of(obj: AnyObject) -> int:
    """The revision of the object's last write; 0 if it was never stored."""
    return int(obj.metadata.resourceVersion or 0)


def to_time(epoch_s: float) -> core.Time:
    """Seconds since 1970 (UTC) as a Time, to the microsecond."""
    micros = round(epoch_s * 1e6)
    return core.Time(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def to_micro_time(epoch_s: float) -> core.MicroTime:
    """Seconds since 1970 (UTC) as a MicroTime."""
    time = to_time(epoch_s)
    return core.MicroTime(seconds=time.seconds, nanos=time.nanos)


def from_time(time: core.Time | core.MicroTime) -> float:
    """A Time or MicroTime as seconds since 1970 (UTC)."""
    return time.seconds + time.nanos / 1e9


def is_terminating(obj: AnyObject) -> bool:
    """A delete was accepted; the object is on its way out."""
    return obj.metadata.HasField("deletionTimestamp")


def reference_to(obj: AnyObject) -> core.ObjectReference:
    """A reference for events: kind, name, namespace, uid, version."""
    meta = obj.metadata
    api_version, kind = type_of(obj)
    return core.ObjectReference(
        kind=kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        apiVersion=api_version,
        resourceVersion=meta.resourceVersion,
    )
