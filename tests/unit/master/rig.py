"""A master in this process: memory instead of a disk, virtual time, seeded dice; no wire."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.api.errors import ApiError
from cluster.api.kinds import BY_NAME, AnyObject, unwrap
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.master.server import Master
from cluster.master.settings import MasterSettings
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.rpc.outcome import from_status
from cluster.store.interface import Journal
from cluster.store.memory import MemoryJournal
from tests.kit.clock import VirtualClock

ADMIN = "admin"


class Rig:
    """A running master and short words for talking to it."""

    def __init__(self, master: Master, clock: VirtualClock) -> None:
        self.master = master
        self.clock = clock

    @property
    def revision(self) -> int:
        return self.master.store.revision

    async def request(self, request: wire.WriteRequest, who: str = ADMIN) -> wire.WriteResponse:
        return wire.WriteResponse.FromString(await self.master.api.write(Identity.parse(who), request))

    async def try_write(
        self, *operations: wire.Operation, who: str = ADMIN, atomic: bool = False, dry_run: bool = False
    ) -> list[AnyObject | ApiError]:
        """Per operation the object, or the error."""
        request = wire.WriteRequest(operations=operations, atomic=atomic, dry_run=dry_run)
        results = (await self.request(request, who)).results
        return [from_status(r.status) or unwrap(r.object) for r in results]

    async def write(self, operation: wire.Operation, who: str = ADMIN) -> AnyObject:
        """The object after one operation. Raises its error."""
        (found,) = await self.try_write(operation, who=who)
        if isinstance(found, ApiError):
            raise found
        return found

    async def create(self, obj: AnyObject, who: str = ADMIN) -> AnyObject:
        return await self.write(ops.create(obj), who)

    async def pod(self, name: str = "web", node: str = "", grace_s: int | None = None) -> core.Pod:
        """A pod, made and, if a node is named, bound."""
        made = await self.create(pod(name, grace_s=grace_s))
        if node:
            made = await self.write(ops.bind(Key("Pod", "default", name), node))
        assert isinstance(made, core.Pod)
        return made

    async def node(self, name: str = "n1") -> core.Node:
        made = await self.create(core.Node(metadata=core.ObjectMeta(name=name)))
        assert isinstance(made, core.Node)
        return made

    def find(self, kind: str, name: str, namespace: str = "default") -> AnyObject | None:
        version = self.master.store.get(Key(kind, namespace if BY_NAME[kind].namespaced else "", name))
        return None if version is None else version.object


def pod(name: str = "web", *, namespace: str = "default", grace_s: int | None = None, app: str = "web") -> core.Pod:
    made = core.Pod(
        metadata=core.ObjectMeta(name=name, namespace=namespace, labels={"app": app}),
        spec=core.PodSpec(containers=[core.Container(name="c", command=["sleep", "inf"])]),
    )
    if grace_s is not None:
        made.spec.terminationGracePeriodSeconds = grace_s
    return made


def service(name: str = "svc", ip: str = "") -> core.Service:
    spec = core.ServiceSpec(ports=[core.ServicePort(port=80)], selector={"app": "web"})
    if ip:
        spec.clusterIP = ip
    return core.Service(metadata=core.ObjectMeta(name=name, namespace="default"), spec=spec)


def settings(**changes: object) -> MasterSettings:
    return MasterSettings("127.0.0.1:0", Path("unused"), Path("unused"), **{"profile": "test", **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def running(journal: Journal | None = None, **changes: object) -> AsyncIterator[Rig]:
    clock = VirtualClock()
    failures: list[BaseException] = []
    master = Master(
        settings(**changes),
        journal or MemoryJournal("store"),
        clock=clock,
        rng=random.Random(7),
        on_failure=failures.append,
    )
    await master.start()
    try:
        yield Rig(master, clock)
    finally:
        await master.stop()
