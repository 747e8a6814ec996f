"""Watches over one stream, and mirrors by listening: each told for itself, and all of them when the stream breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from google.protobuf.message import Message

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Forbidden, Unavailable
from cluster.api.meta import key_of
from cluster.client import operations
from cluster.client.interface import WatchEvent
from cluster.client.listening import Listening
from cluster.client.shared_watches import SharedWatches
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Identity, issue, make_ca
from cluster.rpc.outcome import to_status
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import cluster_service
from cluster.rpc.stub import ClusterStub
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.kit.memory_handler import MemoryHandler

HOST = "127.0.0.1"
PATIENCE_S = 20.0


class Handler(MemoryHandler):
    """Says what the test wants said."""

    def __init__(self) -> None:
        super().__init__(MemoryCluster())
        self.messages: list[list[str]] = []
        """Of each message its calls: "+selector" for a watch that begins, "-number" for one that ends."""
        self.numbers: dict[str, int] = {}
        self.streams = 0
        self._out: asyncio.Queue[wire.WatchAnswers | Exception] = asyncio.Queue()
        self._news = asyncio.Event()

    async def watch_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WatchCalls]
    ) -> AsyncIterator[wire.WatchAnswers]:
        self.streams += 1
        self.numbers.clear()
        tasks = Tasks("handler")
        tasks.spawn(self._read(requests), name="read")
        try:
            while True:
                said = await self._out.get()
                if isinstance(said, Exception):
                    raise said
                yield said
        finally:
            await tasks.cancel_all()

    async def _read(self, requests: AsyncIterator[wire.WatchCalls]) -> None:
        async for message in requests:
            for call in message.calls:
                if not call.end:
                    self.numbers[call.begin.field_selector] = call.id
            self.messages.append([f"-{c.id}" if c.end else f"+{c.begin.field_selector}" for c in message.calls])
            self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def say(self, **revisions: int) -> None:
        """In one message, a bookmark for each of these watches."""
        bookmarks = {
            name: wire.WatchBatch(events=[wire.WatchEvent(type=wire.WatchEvent.BOOKMARK, revision=revision)])
            for name, revision in revisions.items()
        }
        answers = [wire.WatchAnswer(id=self.numbers[name], batch=batch) for name, batch in bookmarks.items()]
        self._out.put_nowait(wire.WatchAnswers(answers=answers))

    def refuse(self, name: str, error: ApiError) -> None:
        answer = wire.WatchAnswer(id=self.numbers[name], error=to_status(error))
        self._out.put_nowait(wire.WatchAnswers(answers=[answer]))

    def break_off(self, error: Exception) -> None:
        self._out.put_nowait(error)


class Scene:
    def __init__(self, directory: Path) -> None:
        make_ca(directory / "ca", "demo")
        self.master = issue(directory / "ca", directory / "master", Identity("master"), hosts=[HOST])
        self.admin = issue(directory / "ca", directory / "admin", Identity("admin"))
        self.handler = Handler()
        self.clock = VirtualClock()
        self.denied = False
        self.broken: list[ApiError] = []
        self.heard: list[str] = []
        self._news = asyncio.Event()

    async def start(self) -> None:
        self.server = RpcServer(f"{HOST}:0", self.master, [cluster_service(self.handler)], self._authorize)
        self.channels = Channels(await self.server.start(), self.admin)
        self.watches = SharedWatches(ClusterStub(self.channels), self.clock, self.broken.append)

    async def stop(self) -> None:
        await self.watches.close()
        await self.channels.close()
        await self.server.stop(0.1)

    def _authorize(self, identity: Identity, method: str, message: Message | None) -> None:
        if self.denied:
            raise Forbidden("not today")

    def begin(self, name: str) -> Callable[[], None]:
        def hear(batch: wire.WatchBatch) -> None:
            self.heard.append(f"{name}@{batch.events[-1].revision}")
            self._news.set()

        def ended(error: ApiError) -> None:
            self.heard.append(f"{name} {type(error).__name__}")
            self._news.set()

        return self.watches.begin(wire.WatchRequest(kind="Pod", field_selector=name), hear=hear, ended=ended)

    async def until(self, *lines: str) -> None:
        """Returns when all of this was heard."""
        async with asyncio.timeout(PATIENCE_S):
            while not set(lines) <= set(self.heard):
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    await scene.start()
    yield scene
    await scene.stop()


async def test_all_watches_share_a_stream_and_each_hears_its_own(scene: Scene) -> None:
    ends = [scene.begin(name) for name in "abc"]
    await scene.handler.until(lambda: len(scene.handler.numbers) == 3)
    assert scene.handler.messages == [["+a", "+b", "+c"]], "what is begun at one moment travels together"
    scene.handler.say(a=5, c=6)
    await scene.until("a@5", "c@6")
    scene.handler.refuse("b", Forbidden("no"))
    await scene.until("b Forbidden")
    ends[0]()
    ends[0]()
    ends[1]()
    await scene.handler.until(lambda: len(scene.handler.messages) == 2)
    assert scene.handler.messages[1] == [f"-{scene.handler.numbers['a']}"]
    scene.handler.say(a=7, c=8)
    await scene.until("c@8")
    assert scene.heard == ["a@5", "c@6", "b Forbidden", "c@8"]
    assert scene.handler.streams == 1


async def test_one_that_ends_before_it_was_sent_is_never_sent(scene: Scene) -> None:
    scene.begin("a")()
    scene.begin("b")
    await scene.handler.until(lambda: bool(scene.handler.messages))
    assert scene.handler.messages == [["+b"]]


async def test_when_the_stream_breaks_each_is_told_and_the_next_opens_another(scene: Scene) -> None:
    for name in "ab":
        scene.begin(name)
    await scene.handler.until(lambda: len(scene.handler.numbers) == 2)
    scene.handler.say(a=1)
    await scene.until("a@1")
    scene.handler.break_off(Forbidden("out"))
    await scene.until("a Unavailable", "b Unavailable")
    assert len(scene.broken) == 1
    scene.begin("c")
    await scene.handler.until(lambda: "c" in scene.handler.numbers)
    assert scene.handler.streams == 2


async def test_a_refused_stream_says_why(scene: Scene) -> None:
    scene.denied = True
    scene.begin("a")
    await scene.until("a Forbidden")


async def test_a_silent_stream_is_broken_but_not_one_without_watches(scene: Scene) -> None:
    end = scene.begin("a")
    await scene.handler.until(lambda: "a" in scene.handler.numbers)
    scene.handler.say(a=1)
    await scene.until("a@1")
    end()
    await scene.clock.run_for(60.0)
    scene.begin("b")
    await scene.handler.until(lambda: "b" in scene.handler.numbers)
    await scene.clock.run_for(14.0)
    assert "b Unavailable" not in scene.heard
    await scene.clock.run_for(3.0)
    await scene.until("b Unavailable")
    assert scene.handler.streams == 1


async def test_closing_ends_all(scene: Scene) -> None:
    scene.begin("a")
    await scene.handler.until(lambda: "a" in scene.handler.numbers)
    await scene.watches.close()
    await scene.watches.close()
    assert scene.heard == ["a Unavailable"]
    with pytest.raises(Unavailable):
        scene.begin("b")


# --- mirrors


class Pods:
    """A sink."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.replaced = 0

    def replace(self, objects: Sequence[core.Pod], revision: int) -> None:
        self.names = {pod.metadata.name for pod in objects}
        self.replaced += 1

    def apply(self, events: Sequence[WatchEvent[core.Pod]], revision: int) -> None:
        for event in events:
            assert event.object is not None
            (self.names.discard if event.type.name == "DELETED" else self.names.add)(event.object.metadata.name)


class Mirrors:
    """Mirrors of the pods of nodes, in virtual time."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.cluster = MemoryCluster(clock=self.clock, rng=random.Random(1))
        self.client = self.cluster.client("test")
        self.tasks = Tasks("mirrors")
        self.pods = {f"n{number}": Pods() for number in range(3)}
        self.mirrors = [
            Listening(
                self.client,
                core.Pod,
                pods,
                field_selector=f"spec.nodeName={node}",
                clock=self.clock,
                rng=random.Random(2),
                tasks=self.tasks,
            )
            for node, pods in self.pods.items()
        ]
        for mirror in self.mirrors:
            mirror.start()

    def put(self, name: str, node: str) -> core.Pod:
        return self.cluster.put(
            core.Pod(metadata=core.ObjectMeta(name=name, namespace="default"), spec=core.PodSpec(nodeName=node))
        )

    def names(self) -> list[set[str]]:
        return [pods.names for pods in self.pods.values()]


@pytest.fixture
async def mirrors() -> AsyncIterator[Mirrors]:
    mirrors = Mirrors()
    yield mirrors
    for mirror in mirrors.mirrors:
        mirror.stop()
    await mirrors.tasks.cancel_all()


async def test_mirrors_become_and_stay_true(mirrors: Mirrors) -> None:
    old = mirrors.put("old", "n0")
    await mirrors.clock.settle()
    assert all(mirror.has_synced for mirror in mirrors.mirrors)
    mirrors.put("a", "n1")
    mirrors.put("b", "n2")
    mirrors.cluster.remove(old)
    await mirrors.clock.settle()
    assert mirrors.names() == [set(), {"a"}, {"b"}]


async def test_mirrors_resume_after_a_break_and_read_anew_when_history_is_lost(mirrors: Mirrors) -> None:
    await mirrors.clock.settle()
    mirrors.cluster.break_watches()
    mirrors.put("a", "n1")
    await mirrors.clock.run_for(1.0)
    assert mirrors.names() == [set(), {"a"}, set()]
    assert [pods.replaced for pods in mirrors.pods.values()] == [1, 1, 1]
    mirrors.cluster.hold_watches()
    gone = mirrors.put("b", "n2")
    mirrors.cluster.remove(gone)
    mirrors.put("c", "n2")
    mirrors.cluster.compact()
    mirrors.cluster.release_watches()
    await mirrors.clock.run_for(5.0)
    assert mirrors.names() == [set(), {"a"}, {"c"}]
    assert [pods.replaced for pods in mirrors.pods.values()] == [2, 2, 2]


async def test_another_store_is_read_anew(mirrors: Mirrors) -> None:
    mirrors.put("a", "n1")
    await mirrors.clock.settle()
    mirrors.cluster.replace_store()
    mirrors.put("b", "n1")
    await mirrors.clock.run_for(5.0)
    assert mirrors.names() == [set(), {"b"}, set()]


async def test_one_that_was_stopped_hears_nothing_more(mirrors: Mirrors) -> None:
    await mirrors.clock.settle()
    mirrors.mirrors[0].stop()
    mirrors.mirrors[0].stop()
    pod = mirrors.put("a", "n0")
    mirrors.put("b", "n1")
    mirrors.cluster.break_watches()
    await mirrors.clock.run_for(5.0)
    assert mirrors.names() == [set(), {"b"}, set()]
    assert key_of(pod).name == "a"
    await mirrors.client.write([operations.delete(key_of(pod))])


async def test_a_closed_client_is_tried_again_in_vain_and_without_noise(mirrors: Mirrors) -> None:
    await mirrors.clock.settle()
    await mirrors.client.close()
    await mirrors.clock.run_for(30.0)
    assert len(mirrors.tasks) == 3
