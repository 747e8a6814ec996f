"""Several masters: who is asked, when the next one is, and what happens to what was under way."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from google.protobuf.message import Message

from cluster.actor.clock import SystemClock
from cluster.api.errors import ApiError, DeadlineExceeded, Forbidden, NotFound, Unavailable
from cluster.client import masters as module
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.informer import Informer
from cluster.client.masters import Master, Masters
from cluster.config.errors import ConfigError
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import cluster_service
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.kit.memory_handler import MemoryHandler

HOST = "127.0.0.1"
PATIENCE_S = 20.0


class Sly(MemoryHandler):
    """A master of a cluster that all share, which may be told to misbehave."""

    def __init__(self, cluster: MemoryCluster, done: dict[str, wire.WriteResponse]) -> None:
        super().__init__(cluster)
        self.asked: Counter[str] = Counter()
        self.refuses = False
        self.is_mute = False
        self.loses_answers = False
        self.denies = False
        self.allowed_stale: list[bool] = []
        """Of each read."""
        self._done = done
        """By request id, as a log that all share has them."""

    async def _behave(self, call: str) -> None:
        self.asked[call] += 1
        if self.is_mute:
            await asyncio.Event().wait()
        if self.refuses:
            raise Unavailable("nobody leads")
        if self.denies:
            raise Forbidden("not you")

    async def get(self, identity: Identity, request: wire.GetRequest) -> wire.GetResponse:
        self.allowed_stale.append(request.allow_stale)
        await self._behave("get")
        return await super().get(identity, request)

    async def list(self, identity: Identity, request: wire.ListRequest) -> bytes:
        self.allowed_stale.append(request.allow_stale)
        return await super().list(identity, request)

    async def write(self, identity: Identity, request: wire.WriteRequest) -> wire.WriteResponse:
        await self._behave("write")
        if request.request_id not in self._done:
            self._done[request.request_id] = await super().write(identity, request)
        if self.loses_answers:
            raise Unavailable("the connection broke")
        return self._done[request.request_id]

    async def write_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]
    ) -> AsyncIterator[wire.WriteAnswers]:
        async for calls in requests:
            for call in calls.calls:
                answer = wire.WriteAnswer(id=call.id)
                answer.response.CopyFrom(await self.write(identity, call.request))
                yield wire.WriteAnswers(answers=[answer])

    async def watch(self, identity: Identity, request: wire.WatchRequest) -> AsyncIterator[bytes]:
        self.allowed_stale.append(request.allow_stale)
        await self._behave("watch")
        async for batch in super().watch(identity, request):
            yield batch


class Scene:
    """Three masters and their addresses."""

    def __init__(self, directory: Path) -> None:
        make_ca(directory / "ca", "demo")
        self._master = issue(directory / "ca", directory / "master", Identity("master"), hosts=[HOST])
        self.admin: Credentials = issue(directory / "ca", directory / "admin", Identity("admin"))
        self.cluster = MemoryCluster(rng=random.Random(1))
        self.written: dict[str, wire.WriteResponse] = {}
        self.handlers = [Sly(self.cluster, self.written) for _ in range(3)]
        self.servers: list[RpcServer] = []
        self.addresses: list[str] = []

    async def start(self) -> None:
        for handler in self.handlers:
            server = RpcServer(f"{HOST}:0", self._master, [cluster_service(handler)], _allow)
            self.addresses.append(await server.start())
            self.servers.append(server)

    def client(self) -> GrpcClusterClient:
        """One that begins with the first master."""
        return GrpcClusterClient(",".join(self.addresses), self.admin, rng=First())

    async def stop(self) -> None:
        for server in self.servers:
            await server.stop(0.0)


class First(random.Random):
    """Dice that always choose the first."""

    def randrange(self, *_: object, **__: object) -> int:
        return 0


def _allow(identity: Identity, method: str, message: Message | None) -> None:
    pass


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    await scene.start()
    yield scene
    await scene.stop()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a master that is well may take its time."""
    monkeypatch.setattr(module, "TRY_S", PATIENCE_S)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    """For tests in which one says nothing: it is waited for only so long."""
    monkeypatch.setattr(module, "TRY_S", 2.0)


def pod(name: str) -> core.Pod:
    spec = core.PodSpec(containers=[core.Container(name="c", command=["true"])])
    return core.Pod(metadata=core.ObjectMeta(name=name, namespace="default"), spec=spec)


async def until(condition: Callable[[], bool], story: Callable[[], object]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)
    assert condition(), story()


async def test_one_is_asked_as_long_as_it_answers(scene: Scene) -> None:
    scene.cluster.put(pod("p"))
    async with aclosing(scene.client()) as client:
        for _ in range(5):
            await client.get(core.Pod, "p", "default")
        with pytest.raises(NotFound):
            await client.get(core.Pod, "nobody", "default")
    assert [handler.asked["get"] for handler in scene.handlers] == [6, 0, 0]


async def test_who_is_first_is_left_to_chance() -> None:
    credentials = Credentials(b"", b"", b"")
    masters = [Masters(("a:1", "b:1", "c:1"), credentials, SystemClock(), random.Random(n)) for n in range(30)]
    assert {each.current.address for each in masters} == {"a:1", "b:1", "c:1"}
    for each in masters:
        await each.close()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("how", ["stopped", "refuses", "is_mute"])
async def test_a_master_that_does_not_answer_is_left_for_the_next(scene: Scene, how: str) -> None:
    scene.cluster.put(pod("p"))
    async with aclosing(scene.client()) as client:
        await client.get(core.Pod, "p", "default")
        if how == "stopped":
            await scene.servers[0].stop(0.0)
        else:
            setattr(scene.handlers[0], how, True)
        await client.get(core.Pod, "p", "default")
        await client.write([operations.create(pod("q"))])
        assert scene.handlers[1].asked == {"get": 1, "write": 1}, "and it is kept to"


async def test_a_write_whose_answer_is_lost_happens_once(scene: Scene) -> None:
    scene.handlers[0].loses_answers = True
    async with aclosing(scene.client()) as client:
        (outcome,) = (await client.write([operations.create(pod("p"))])).outcomes
    assert outcome.unwrap().metadata.name == "p"
    assert len(scene.written) == 1
    assert scene.handlers[1].asked["write"] == 1


async def test_many_writes_move_together_and_each_happens_once(scene: Scene) -> None:
    scene.handlers[0].loses_answers = True
    async with aclosing(scene.client()) as client:
        written = await asyncio.gather(*(client.write([operations.create(pod(f"p-{n}"))]) for n in range(200)))
    assert all(outcome.error is None for write in written for outcome in write.outcomes)
    assert len(scene.written) == 200
    assert scene.handlers[2].asked["write"] == 0, "one failure is one step on, however many calls it fails"


async def test_a_dry_run_needs_no_name(scene: Scene) -> None:
    async with aclosing(scene.client()) as client:
        await client.write([operations.create(pod("p"))], dry_run=True)
    assert list(scene.written) == [""]


@pytest.mark.parametrize("allow_stale", [False, True])
async def test_whether_a_read_may_be_stale_is_told_to_the_master(scene: Scene, allow_stale: bool) -> None:
    scene.cluster.put(pod("a"))
    async with aclosing(scene.client()) as client, asyncio.timeout(PATIENCE_S):
        await client.get(core.Pod, "a", "default", allow_stale=allow_stale)
        await client.list(core.Pod, allow_stale=allow_stale)
        async with client.watch(core.Pod, initial_state=True, allow_stale=allow_stale) as batches:
            await anext(aiter(batches))
    assert scene.handlers[0].allowed_stale == [allow_stale] * 3


async def test_when_no_master_answers_the_last_error_is_told_within_the_callers_time(scene: Scene) -> None:
    for handler in scene.handlers:
        handler.refuses = True
    async with aclosing(scene.client()) as client:
        asking = asyncio.ensure_future(client.get(core.Pod, "p", "default", timeout_s=2 * PATIENCE_S))
        asked = [handler.asked for handler in scene.handlers]
        await until(lambda: all(each["get"] >= 2 for each in asked), lambda: asked)  # in rounds
        asking.cancel()
        await asyncio.wait([asking])
        # Whichever of them is at work when the time is over; what one of them said is told in any case.
        with pytest.raises((Unavailable, DeadlineExceeded), match="nobody leads"):
            await client.get(core.Pod, "p", "default", timeout_s=2.0)
        for handler in scene.handlers:
            handler.is_mute = True
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await client.get(core.Pod, "p", "default", timeout_s=1.0)


async def test_an_error_that_says_no_is_an_answer(scene: Scene) -> None:
    scene.handlers[0].denies = True
    async with aclosing(scene.client()) as client:
        with pytest.raises(Forbidden):
            await client.get(core.Pod, "p", "default")
    assert scene.handlers[1].asked["get"] == 0


async def test_a_mirror_goes_on_at_the_next_master(scene: Scene) -> None:
    async with aclosing(scene.client()) as client:
        informer = Informer(client, core.Pod)
        told: list[str] = []
        informer.add_handler(lambda old, new: told.append(new.metadata.name if new is not None else "gone"))
        await informer.start()
        await informer.wait_synced(PATIENCE_S)
        for number in (0, 1):
            await scene.servers[number].stop(0.0)
            scene.cluster.put(pod(f"p-{number}"))
            await until(lambda: scene.cluster.store.revision == informer.revision, lambda: told)
        await informer.stop()
    assert told == ["p-0", "p-1"]
    assert informer.relists == 1


@pytest.mark.usefixtures("hasty")
async def test_a_watch_moves_when_a_call_finds_its_master_gone(scene: Scene) -> None:
    """Whoever notices first, all of the client moves: nothing stays with a master that does not answer."""
    scene.cluster.put(pod("p"))
    async with aclosing(scene.client()) as client:
        informer = Informer(client, core.Pod)
        await informer.start()
        await informer.wait_synced(PATIENCE_S)
        scene.handlers[0].is_mute = True
        await client.get(core.Pod, "p", "default")
        await until(lambda: scene.handlers[1].asked["watch"] == 1, lambda: scene.handlers[1].asked)
        await informer.stop()


async def test_heartbeats_find_another_master(scene: Scene) -> None:
    beat = wire.NodeHeartbeat(node="n")
    async with aclosing(scene.client()) as client:
        async with client.heartbeats() as line:
            await line.beat([beat])
        await scene.servers[0].stop(0.0)
        with pytest.raises(ApiError):
            async with client.heartbeats() as line:
                await line.beat([beat])
        async with client.heartbeats() as line:
            assert await line.beat([beat]) == ["n"]


async def test_a_closed_client_says_so_at_once(scene: Scene) -> None:
    client = scene.client()
    await client.close()
    with pytest.raises(Unavailable, match="closed"):
        await client.get(core.Pod, "p", "default", timeout_s=60.0)
    await client.close()


async def test_with_one_master_nothing_is_repeated(scene: Scene) -> None:
    scene.handlers[0].refuses = True
    async with aclosing(GrpcClusterClient(scene.addresses[0], scene.admin)) as client:
        with pytest.raises(Unavailable):
            await client.get(core.Pod, "p", "default")
        with pytest.raises(Unavailable):
            await client.write([operations.create(pod("p"))])
    assert scene.handlers[0].asked == {"get": 1, "write": 1}


async def test_a_slow_master_gets_more_time_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRY_S", 3.0)
    clock = VirtualClock()
    masters = Masters(("a:1", "b:1"), Credentials(b"", b"", b""), clock, First())
    given: list[tuple[str, float]] = []

    async def ask(master: Master, timeout_s: float) -> None:
        given.append((master.address, round(timeout_s, 1)))
        await clock.sleep(timeout_s)
        raise DeadlineExceeded("slow")

    calling = asyncio.ensure_future(masters.call(ask, 20.0))
    await clock.run_for(30.0)
    with pytest.raises(DeadlineExceeded):
        await calling
    await masters.close()
    assert given[:4] == [("a:1", 3.0), ("b:1", 3.0), ("a:1", 6.0), ("b:1", 6.0)]
    assert sum(time_s for _, time_s in given) <= 20.1


def test_addresses_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        GrpcClusterClient("somewhere", Credentials(b"", b"", b""))
