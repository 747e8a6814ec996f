"""Short words for the tests of history, undo and trace."""

from __future__ import annotations

from typing import Any

from cluster.api.kinds import AnyObject, unwrap
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.rpc.outcome import from_status
from cluster.store.memory import MemoryJournal
from tests.unit.master.rig import Rig, pod

RC = Key("ReplicationController", "default", "web")
ADMIN = Identity("admin")


def controller(replicas: int = 3) -> core.ReplicationController:
    made = core.ReplicationController(metadata=core.ObjectMeta(name="web", namespace="default"))
    made.spec.replicas = replicas
    made.spec.selector["app"] = "web"
    made.spec.template.metadata.labels["app"] = "web"
    made.spec.template.spec.CopyFrom(pod().spec)
    return made


async def write(rig: Rig, operation: wire.Operation, who: str = "admin", cause: core.Cause | None = None) -> AnyObject:
    """The object after one operation with a cause. Raises its error."""
    request = wire.WriteRequest(operations=[operation], cause=cause)
    (result,) = (await rig.request(request, who)).results
    error = from_status(result.status)
    if error is not None:
        raise error
    return unwrap(result.object)


async def scale(rig: Rig, replicas: int, cause: core.Cause | None = None) -> AnyObject:
    return await write(rig, ops.patch(RC, {"spec": {"replicas": replicas}}), cause=cause)


async def status(rig: Rig, who: str = "admin", cause: core.Cause | None = None, **fields: Any) -> AnyObject:
    found = rig.find("ReplicationController", "web")
    assert isinstance(found, core.ReplicationController)
    new = core.ReplicationController()
    new.CopyFrom(found)
    for name, value in fields.items():
        setattr(new.status, name, value)
    return await write(rig, ops.update_status(new), who, cause)


async def history(rig: Rig, kind: str = RC.kind, name: str = "web", **fields: Any) -> wire.HistoryResponse:
    return await rig.master.api.history(ADMIN, wire.HistoryRequest(kind=kind, name=name, **fields))


async def undo(rig: Rig, kind: str = RC.kind, name: str = "web", **fields: Any) -> wire.UndoResponse:
    return await rig.master.api.undo(ADMIN, wire.UndoRequest(kind=kind, name=name, **fields))


async def trace(rig: Rig, kind: str = "Pod", name: str = "web", **fields: Any) -> wire.TraceResponse:
    return await rig.master.api.trace(ADMIN, wire.TraceRequest(kind=kind, name=name, **fields))


def told(found: wire.HistoryResponse) -> list[str]:
    """A line per entry: what, by whom, and which fields."""
    return [
        f"{wire.WatchEvent.Type.Name(entry.type)} by {entry.actor}: "
        f"{', '.join(change_text(change) for change in entry.changes)}".rstrip()
        for entry in found.entries
    ]


def change_text(change: wire.FieldChange) -> str:
    return f"{change.path} {change.old or 'null'} -> {change.new or 'null'}"


async def compact(rig: Rig, journal: MemoryJournal, revision: int) -> None:
    """What housekeeping does in time."""
    await journal.compact(revision, 1000)
    rig.master.store.history.compacted = revision
