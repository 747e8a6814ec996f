"""All controllers over an in-memory cluster and a virtual clock, with a client that can be made to lie."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Generic, TypeVar

from cluster.actor.tasks import Tasks
from cluster.api.errors import Aborted, ApiError, Unavailable
from cluster.api.kinds import AnyObject
from cluster.api.pods import is_active
from cluster.client import operations
from cluster.client.interface import DEFAULT_TIMEOUT_S, OperationOutcome, WatchEvent, WatchStream, WriteOutcome
from cluster.config.profiles import PROFILES, Profile
from cluster.controllers.manager import ControllerManager
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryClient, MemoryCluster

T = TypeVar("T", bound=AnyObject)

LAPTOP = PROFILES["laptop"]


class Fate(Enum):
    """What happens to a write."""

    DONE = "done, and answered"
    LOST = "never happens, and nobody answers"
    UNANSWERED = "done, but nobody answers"
    LATE = "nobody answers, and it happens at the next `deliver_late`"


class _GatedStream(Generic[T]):
    """A watch that tells nothing while the gate of its kind is shut."""

    def __init__(self, stream: WatchStream[T], gate: Callable[[], asyncio.Event]) -> None:
        self._stream = stream
        self._gate = gate

    @property
    def store_id(self) -> str:
        return self._stream.store_id

    def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent[T]]]:
        return self

    async def __anext__(self) -> Sequence[WatchEvent[T]]:
        batch = await self._stream.__anext__()
        await self._gate().wait()
        return batch


class TreacherousClient(MemoryClient):
    """A client whose writes meet the fate that `fate` names, and whose watches lag behind while they are shut."""

    def __init__(self, cluster: MemoryCluster, identity: str) -> None:
        super().__init__(cluster, identity)
        self.fate: Callable[[], Fate] = lambda: Fate.DONE
        self.late: list[Callable[[], WriteOutcome]] = []
        self.refusal: ApiError | None = None
        """Answers the creation of pods."""
        self._gates: dict[type, asyncio.Event] = {}

    def shut(self, kind: type) -> None:
        """From now on watches of this kind tell nothing."""
        self._gate(kind).clear()

    def open(self) -> None:
        """All watches catch up."""
        for gate in self._gates.values():
            gate.set()

    def _gate(self, kind: type) -> asyncio.Event:
        if kind not in self._gates:
            self._gates[kind] = asyncio.Event()
            self._gates[kind].set()
        return self._gates[kind]

    @asynccontextmanager
    async def watch(
        self,
        kind: type[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        after_revision: int | None = None,
        initial_state: bool = False,
        store_id: str = "",
        allow_stale: bool = False,
    ) -> AsyncIterator[WatchStream[T]]:
        async with super().watch(
            kind,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            after_revision=after_revision,
            initial_state=initial_state,
            store_id=store_id,
            allow_stale=allow_stale,
        ) as stream:
            yield _GatedStream(stream, lambda: self._gate(kind))

    async def write(
        self,
        operations: Sequence[wire.Operation],
        *,
        atomic: bool = False,
        cause: core.Cause | None = None,
        dry_run: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> WriteOutcome:
        fate = self.fate()
        if self.refusal is not None and operations[0].create.object.HasField("pod"):
            aborted = Aborted("another operation failed")
            outcomes = [OperationOutcome(aborted, None) for _ in operations]
            return WriteOutcome([OperationOutcome(self.refusal, None), *outcomes[1:]], 0)

        def apply() -> WriteOutcome:
            return self._cluster.write(self.identity, operations, atomic=atomic, cause=cause, dry_run=dry_run)

        if fate is Fate.LATE:
            self.late.append(apply)
        if fate is Fate.DONE:
            return apply()
        if fate is Fate.UNANSWERED:
            apply()
        raise Unavailable("the connection broke")

    def deliver_late(self) -> None:
        late, self.late = self.late, []
        for apply in late:
            apply()


class Rig:
    """A cluster, its controllers, and what a test asks about them."""

    def __init__(self, *, seed: int = 0, profile: Profile = LAPTOP) -> None:
        self.clock = VirtualClock()
        self.profile = profile
        self.rng = random.Random(seed)
        self.cluster = MemoryCluster(clock=self.clock, rng=random.Random(seed))
        self.client = TreacherousClient(self.cluster, "controllers")
        self.admin = self.cluster.client("admin")
        self.manager: ControllerManager | None = None
        self.beating: set[str] = set()
        self.beats_flow = True
        self._beat = 0
        self._tasks = Tasks("rig")

    async def start(self) -> None:
        self.manager = ControllerManager(self.client, self.profile, clock=self.clock, rng=self.rng)
        await self.manager.start()

    async def stop(self) -> None:
        if self.manager is not None:
            await self.manager.stop()
            self.manager = None

    async def restart(self) -> None:
        """As after kill -9: a new manager that knows nothing."""
        await self.stop()
        await self.start()

    async def run(self, seconds: float = 0.05) -> None:
        await self.clock.run_for(seconds)

    async def close(self) -> None:
        await self._tasks.cancel_all()
        await self.stop()

    # --- words

    async def create(self, *objects: core.ReplicationController | core.Service | core.Pod | core.Node) -> None:
        for obj in objects:
            for field in ("uid", "resourceVersion", "generation", "creationTimestamp"):
                obj.metadata.ClearField(field)
        written = await self.admin.write([operations.create(obj) for obj in objects])
        for outcome in written.outcomes:
            outcome.unwrap()

    async def scale(self, replicas: int, name: str = "web") -> None:
        rc = self.rc(name)
        changed = core.ReplicationController()
        changed.CopyFrom(rc)
        changed.spec.replicas = replicas
        changed.metadata.ClearField("resourceVersion")
        (await self.admin.write([operations.update(changed)])).outcomes[0].unwrap()

    def rc(self, name: str = "web") -> core.ReplicationController:
        found = self.cluster.find(core.ReplicationController, name)
        assert found is not None
        return found

    def pods(self) -> list[core.Pod]:
        return self.cluster.objects(core.Pod)

    def active(self) -> list[core.Pod]:
        return [pod for pod in self.pods() if is_active(pod)]

    def change(self, obj: T, edit: Callable[[T], object]) -> T:
        """Changes a stored object past all rules, as the node agent of a pod would report it."""
        changed = type(obj)()
        changed.CopyFrom(obj)  # type: ignore[arg-type]
        edit(changed)
        return self.cluster.put(changed)

    def events(self, reason: str) -> list[core.Event]:
        return [event for event in self.cluster.objects(core.Event) if event.reason == reason]

    def node(self, name: str) -> core.Node:
        found = self.cluster.find(core.Node, name, "")
        assert found is not None
        return found

    def start_heartbeats(self, *nodes: str) -> None:
        """These nodes are alive, until they are taken out of `beating`."""
        self.beating.update(nodes)
        self._tasks.spawn(self._beats(), name="heartbeats")

    async def _beats(self) -> None:
        async with self.cluster.client("nodes").heartbeats() as line:
            while True:
                if self.beats_flow:
                    self._beat += 1
                    # "nobody" has no Node object: a sign of life of the master when all nodes are silent.
                    nodes = sorted({*self.beating, "nobody"})
                    await line.beat([wire.NodeHeartbeat(node=node, sequence=self._beat) for node in nodes])
                await self.clock.sleep(self.profile.heartbeat_interval_s)


@asynccontextmanager
async def running(*, seed: int = 0, profile: Profile = LAPTOP) -> AsyncIterator[Rig]:
    """A rig with started controllers; everything is stopped at the end."""
    rig = Rig(seed=seed, profile=profile)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.close()
