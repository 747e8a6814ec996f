"""Writes over one stream: what travels together, and that each call ends once, whatever happens to the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest
from google.protobuf.message import Message

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, BadRequest, DeadlineExceeded, Forbidden, Overloaded, Unavailable
from cluster.client import write_stream
from cluster.client.write_stream import WriteStream
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.rpc.outcome import to_status
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import cluster_service
from cluster.rpc.stub import ClusterStub
from tests.kit.memory_client import MemoryCluster
from tests.kit.memory_handler import MemoryHandler

HOST = "127.0.0.1"
PATIENCE_S = 20.0


class Handler(MemoryHandler):
    """Keeps the calls that come until the test answers them."""

    def __init__(self) -> None:
        super().__init__(MemoryCluster())
        self.messages: list[list[str]] = []
        """The request ids of the calls of each message."""
        self.streams = 0
        self.alone: list[str] = []
        self._calls: dict[str, int] = {}
        self._out: asyncio.Queue[wire.WriteAnswers | Exception] = asyncio.Queue()
        self._news = asyncio.Event()

    async def write(self, identity: Identity, request: wire.WriteRequest) -> wire.WriteResponse:
        self.alone.append(request.request_id)
        return wire.WriteResponse(revision=1)

    async def write_stream(
        self, identity: Identity, requests: AsyncIterator[wire.WriteCalls]
    ) -> AsyncIterator[wire.WriteAnswers]:
        self.streams += 1
        self._calls.clear()
        tasks = Tasks("handler")
        tasks.spawn(self._read(requests), name="read")
        try:
            while True:
                answers = await self._out.get()
                if isinstance(answers, Exception):
                    raise answers
                yield answers
        finally:
            await tasks.cancel_all()

    async def _read(self, requests: AsyncIterator[wire.WriteCalls]) -> None:
        async for message in requests:
            self.messages.append([call.request.request_id for call in message.calls])
            self._calls.update((call.request.request_id, call.id) for call in message.calls)
            self._news.set()

    async def heard(self, *names: str) -> None:
        """Returns when these calls have come."""
        async with asyncio.timeout(PATIENCE_S):
            while not set(names) <= set(self._calls):
                self._news.clear()
                await self._news.wait()

    def answer(self, *names: str, revision: int = 1) -> None:
        """Answers these calls, in one message."""
        answers = wire.WriteAnswers()
        for name in names:
            answers.answers.add(id=self._calls[name], response=wire.WriteResponse(revision=revision))
        self._out.put_nowait(answers)

    def refuse(self, name: str, error: ApiError) -> None:
        self._out.put_nowait(
            wire.WriteAnswers(answers=[wire.WriteAnswer(id=self._calls[name], error=to_status(error))])
        )

    def end(self, error: Exception) -> None:
        """Ends the stream."""
        self._out.put_nowait(error)


class Scene:
    def __init__(self, directory: Path) -> None:
        make_ca(directory / "ca", "demo")
        self.master = issue(directory / "ca", directory / "master", Identity("master"), hosts=[HOST])
        admin: Credentials = issue(directory / "ca", directory / "admin", Identity("admin"))
        self.handler = Handler()
        self.denied = False
        self.address = f"{HOST}:0"
        self._admin = admin

    async def start(self) -> None:
        self.server = RpcServer(self.address, self.master, [cluster_service(self.handler)], self._authorize)
        self.address = await self.server.start()
        self.channels = Channels(self.address, self._admin)
        self.stream = WriteStream(ClusterStub(self.channels))

    async def stop(self) -> None:
        await self.stream.close()
        await self.channels.close()
        await self.server.stop(0.1)

    def write(self, name: str, timeout_s: float = PATIENCE_S) -> asyncio.Task[wire.WriteResponse]:
        return asyncio.ensure_future(self.stream.write(wire.WriteRequest(request_id=name), timeout_s))

    def _authorize(self, identity: Identity, method: str, message: Message | None) -> None:
        if self.denied:
            raise Forbidden("not today")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    await scene.start()
    yield scene
    await scene.stop()


async def test_what_is_written_at_the_same_moment_travels_together(scene: Scene) -> None:
    writes = [scene.write(f"w-{number}") for number in range(50)]
    await scene.handler.heard(*(f"w-{number}" for number in range(50)))
    assert len(scene.handler.messages) == 1
    scene.handler.answer(*(f"w-{number}" for number in range(50)))
    assert [(await write).revision for write in writes] == [1] * 50
    assert scene.handler.streams == 1
    assert scene.handler.alone == []


async def test_answers_find_their_calls_in_any_order(scene: Scene) -> None:
    first, second, third = (scene.write(name) for name in ("first", "second", "third"))
    await scene.handler.heard("first", "second", "third")
    scene.handler.answer("third", revision=30)
    assert (await third).revision == 30
    assert not first.done()
    scene.handler.answer("second", revision=20)
    scene.handler.answer("first", revision=10)
    assert [(await write).revision for write in (first, second)] == [10, 20]


async def test_the_writes_of_one_caller_arrive_in_their_order(scene: Scene) -> None:
    async def caller(name: str) -> None:
        for number in range(5):
            write = scene.write(f"{name}-{number}")
            await scene.handler.heard(f"{name}-{number}")
            scene.handler.answer(f"{name}-{number}")
            await write

    await asyncio.gather(*(caller(name) for name in "abc"))
    heard = [name for message in scene.handler.messages for name in message]
    for caller_name in "abc":
        mine = [name for name in heard if name.startswith(caller_name)]
        assert mine == [f"{caller_name}-{number}" for number in range(5)]


async def test_a_call_that_is_refused_leaves_the_others_alone(scene: Scene) -> None:
    good, bad = scene.write("good"), scene.write("bad")
    await scene.handler.heard("good", "bad")
    scene.handler.refuse("bad", Overloaded("too much", retry_after_s=1))
    with pytest.raises(Overloaded, match="too much") as caught:
        await bad
    assert caught.value.retry_after_s == 1
    scene.handler.answer("good")
    await good


async def test_a_deadline_is_that_of_its_call(scene: Scene) -> None:
    patient, hasty = scene.write("patient"), scene.write("hasty", 0.05)
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await hasty
    await scene.handler.heard("patient", "hasty")
    scene.handler.answer("hasty")  # nobody waits for it any more
    scene.handler.answer("patient", revision=7)
    assert (await patient).revision == 7


class HeldLine:
    """A line that takes nothing until the test lets it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.free = asyncio.Event()
        self.sending = asyncio.Event()

    async def send(self, message: bytes) -> None:
        self.sent.append(message)
        self.sending.set()
        await self.free.wait()

    async def ended(self) -> ApiError:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        pass


class HeldStub:
    def __init__(self) -> None:
        self.line = HeldLine()

    def write_stream(self, on_message: Callable[[bytes], None]) -> HeldLine:
        return self.line


async def test_a_cancelled_call_that_was_not_sent_is_not_sent() -> None:
    stub = HeldStub()
    stream = WriteStream(cast("ClusterStub", stub))
    first, kept, cancelled = (
        asyncio.ensure_future(stream.write(wire.WriteRequest(request_id=name), PATIENCE_S))
        for name in ("first", "kept", "cancelled")
    )
    stub.line.sending.clear()
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    stub.line.free.set()
    await stream.close()
    assert [write.exception() for write in (first, kept)]
    assert b"cancelled" not in b"".join(stub.line.sent)


async def _opened(scene: Scene) -> None:
    write = scene.write("opening")
    await scene.handler.heard("opening")
    scene.handler.answer("opening")
    await write


async def test_a_broken_stream_ends_every_call_once_and_the_next_opens_another(scene: Scene) -> None:
    answered = scene.write("answered")
    lost = [scene.write(f"lost-{number}") for number in range(20)]
    await scene.handler.heard("answered", *(f"lost-{number}" for number in range(20)))
    scene.handler.answer("answered")
    await answered
    scene.handler.end(RuntimeError("a bug"))
    ended = await asyncio.gather(*lost, return_exceptions=True)
    assert {type(error) for error in ended} == {Unavailable}, "whether they were written is unknown"
    assert len({id(error) for error in ended}) == 20, "each has an error of its own"
    await _opened(scene)
    assert scene.handler.streams == 2


async def test_a_server_that_goes_away_ends_every_call(scene: Scene) -> None:
    lost = [scene.write(f"lost-{number}") for number in range(3)]
    await scene.handler.heard("lost-0", "lost-1", "lost-2")
    await scene.server.stop(0)
    ended = await asyncio.gather(*lost, return_exceptions=True)
    assert {type(error) for error in ended} == {Unavailable}
    with pytest.raises(Unavailable):
        await scene.write("nobody is there")


async def test_who_may_not_write_is_told_so_each_time(scene: Scene) -> None:
    scene.denied = True
    for _ in range(2):
        with pytest.raises(Forbidden, match="not today"):
            await scene.write("secret")
    scene.denied = False
    await _opened(scene)


async def test_closing_ends_what_is_under_way_and_what_comes_later(scene: Scene) -> None:
    write = scene.write("late")
    await scene.handler.heard("late")
    await scene.stream.close()
    await scene.stream.close()
    with pytest.raises(Unavailable):
        await write
    with pytest.raises(Unavailable, match="closed"):
        await scene.write("later")


async def test_only_so_many_calls_are_under_way(scene: Scene) -> None:
    stream = WriteStream(ClusterStub(scene.channels), outstanding=2)
    first, second, third = (
        asyncio.ensure_future(stream.write(wire.WriteRequest(request_id=name), PATIENCE_S))
        for name in ("first", "second", "third")
    )
    await scene.handler.heard("first", "second")
    with pytest.raises(DeadlineExceeded, match="2 writes"):
        await stream.write(wire.WriteRequest(request_id="fourth"), 0.05)
    assert scene.handler.messages == [["first", "second"]]
    scene.handler.answer("first")
    await first
    await scene.handler.heard("third")
    scene.handler.answer("second", "third")
    await asyncio.gather(second, third)
    await stream.close()


async def test_a_large_write_goes_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_stream, "LONE_BYTES", 1000)
    large = wire.WriteRequest(request_id="large", operations=[_patch(2000)])
    assert (await scene.stream.write(large, PATIENCE_S)).revision == 1
    assert scene.handler.alone == ["large"]
    assert scene.handler.streams == 0


async def test_messages_have_a_size(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_stream, "MESSAGE_BYTES", 3000)
    names = [f"w-{number}" for number in range(6)]
    writes = [
        asyncio.ensure_future(
            scene.stream.write(wire.WriteRequest(request_id=name, operations=[_patch(1000)]), PATIENCE_S)
        )
        for name in names
    ]
    await scene.handler.heard(*names)
    assert scene.handler.messages == [names[:2], names[2:4], names[4:]]
    scene.handler.answer(*names)
    await asyncio.gather(*writes)


def _patch(size: int) -> wire.Operation:
    return wire.Operation(patch=wire.PatchOperation(kind="Pod", name="p", merge_patch=b"x" * size))


async def test_errors_keep_their_class(scene: Scene) -> None:
    write = scene.write("odd")
    await scene.handler.heard("odd")
    scene.handler.refuse("odd", BadRequest("nonsense"))
    with pytest.raises(BadRequest, match="nonsense"):
        await write
