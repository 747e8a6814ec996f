"""Objects as the bytes that go out: each version of an object is encoded once.

To print an object as JSON takes ten times as long as to read it from the master, so what was printed is kept: for each
object its last version, by uid, as much as fits MAX_BYTES; the oldest goes first. A list is then made by putting bytes
together. What pods of one template have in common, their containers and the like, is encoded once for all of them. What
is kept is the same for everyone: who may read it was decided by the master before it came here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from google.protobuf.message import Message

from cluster.api import aside
from cluster.api.json import to_json
from cluster.api.json_print import Print, Printers
from cluster.api.kinds import AnyObject
from cluster.kubernetes import views
from cluster.kubernetes.resources import Resource
from cluster.pb.v1 import core_pb2 as core

MAX_BYTES = 64 * 1024 * 1024
"""Of encoded objects that are kept."""


def metadata_of(obj: AnyObject) -> dict[str, Any]:
    """Its metadata, without what is put aside."""
    found: dict[str, Any] = to_json(obj.metadata)
    if aside.ANNOTATION in obj.metadata.annotations:
        data = {"metadata": found}
        aside.restore(data)
        found = data["metadata"]
    return found


def dumps(data: Any) -> bytes:
    """JSON."""
    return orjson.dumps(data)


MAX_SHARED, SHARED_BYTES = 256, 8192
"""Of each of these parts: how many are kept, and how large one may be."""
_SHARED = [
    message.DESCRIPTOR
    for message in (
        *(core.Container, core.Volume, core.Toleration),
        *(core.Affinity, core.PodSecurityContext, core.TopologySpreadConstraint),
    )
]
"""Parts of a pod that are equal in all of a template."""
TAIL = b"]}"
"""Of a list, and of a Table."""


class Encoder:
    """Encodes objects, and remembers; see above. Every method may be called with any object at any time."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[str, tuple[str, bytes]] = {}
        self._metadata: dict[str, tuple[str, bytes]] = {}
        self._pods = Printers(instead=dict.fromkeys(_SHARED, _once)).of(core.Pod.DESCRIPTOR)

    @property
    def keeps(self) -> bool:
        """It remembers anything."""
        return self._max_bytes > 0

    def json(self, obj: AnyObject, row: Resource) -> bytes:
        """The object, of the kind and in the version of that row."""
        if isinstance(obj, core.CustomObject):
            form = row.custom.tag if row.custom is not None and row.custom.defaults.any else row.api_version
            return self._encode(self._kept, obj, form, lambda: _custom(obj, row))
        form = row.api_version if row.view is not None else ""
        return self._encode(self._kept, obj, form, lambda: orjson.dumps(self._plain(obj, row)))

    def _plain(self, obj: AnyObject, row: Resource) -> dict[str, Any]:
        if isinstance(obj, core.Pod) and aside.ANNOTATION not in obj.metadata.annotations:
            return {"apiVersion": "v1", "kind": "Pod", **self._pods(obj)}
        return views.plain(obj, row)

    def metadata(self, obj: AnyObject, values: dict[str, Any] | None = None) -> bytes:
        """A PartialObjectMetadata. `values`: what `metadata_of` says, if somebody has asked already."""
        return self._encode(self._metadata, obj, "", lambda: orjson.dumps(_partial(values or metadata_of(obj))))

    def forget(self, uid: str) -> None:
        """Nothing that was encoded of this object is used again."""
        for kept in (self._kept, self._metadata):
            found = kept.pop(uid, None)
            if found is not None:
                self._bytes -= len(found[1])

    def _encode(
        self, kept: dict[str, tuple[str, bytes]], obj: AnyObject, form: str, build: Callable[[], bytes]
    ) -> bytes:
        """`form`: in which of several versions; the last one that was asked for is kept."""
        meta = obj.metadata
        uid, version = meta.uid, f"{meta.resourceVersion} {form}" if form else meta.resourceVersion
        found = kept.get(uid)
        if found is not None and found[0] == version:
            return found[1]
        data = build()
        if uid and version and self.keeps:
            data = _packed(data)
            if found is not None:
                self._bytes -= len(found[1])
                del kept[uid]  # so that it is the youngest again
            kept[uid] = (version, data)
            self._bytes += len(data)
            while self._bytes > self._max_bytes:
                self._shrink(kept if len(kept) > 1 else self._kept if self._kept is not kept else self._metadata)
        return data

    def _shrink(self, kept: dict[str, tuple[str, bytes]]) -> None:
        if not kept:
            self._bytes = 0
            return
        oldest = next(iter(kept))
        self._bytes -= len(kept.pop(oldest)[1])


def _packed(data: bytes) -> bytes:
    """The same in no more memory than it needs: orjson leaves so much room behind what it returns that a kilobyte would
    take eight for as long as it is kept."""
    return memoryview(data).tobytes()


def _once(printer: Print) -> Print:
    """A printer of messages of which many are equal: bytes of JSON, and of the latest ones those from last time."""
    kept: dict[bytes, orjson.Fragment] = {}

    def printed(message: Message) -> orjson.Fragment:
        content = message.SerializeToString()
        found = kept.get(content)
        if found is None:
            found = orjson.Fragment(_packed(orjson.dumps(printer(message))))
            if len(content) <= SHARED_BYTES:
                if len(kept) >= MAX_SHARED:
                    kept.clear()
                kept[content] = found
        return found

    return printed


def _partial(metadata: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}


def _custom(obj: core.CustomObject, row: Resource) -> bytes:
    """What it holds is kept as JSON, so it only has to be put between the rest, unless a default is missing there."""
    metadata = to_json(obj.metadata)
    if row.custom is not None and row.custom.defaults.any:
        data, is_as_stored = views.custom(obj, row, metadata)
        if not is_as_stored:
            return orjson.dumps(data)
    head = {"apiVersion": row.api_version, "kind": row.kind.name, "metadata": metadata}
    parts = [orjson.dumps(head)[:-1]]
    if len(obj.content) > len(b"{}"):
        parts.append(obj.content[1:-1])
    if obj.status:
        parts.append(b'"status":' + obj.status)
    return b",".join(parts) + b"}"


def list_head(kind: str, api_version: str, metadata: dict[str, Any]) -> bytes:
    """A list up to its items, which follow with commas between them, and then `TAIL`."""
    return orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})[:-1] + b',"items":['
