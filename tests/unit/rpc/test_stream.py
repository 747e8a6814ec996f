"""The client's end of a stream, over a call that is made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from cluster.api.errors import Unavailable
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.stream import ResponseStream

FOREVER_S = 60.0


class Call:
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[object] = asyncio.Queue()

    async def read(self) -> object:
        return await self.messages.get()

    def cancel(self) -> None:
        self.messages.put_nowait(grpc.aio.EOF)


@pytest.fixture
def call() -> Call:
    return Call()


@pytest.fixture
async def stream(call: Call) -> AsyncIterator[ResponseStream[wire.WatchBatch]]:
    made: ResponseStream[wire.WatchBatch] = ResponseStream(call, "Test.Watch")
    yield made
    await made.close()


async def test_silence_is_noticed(stream: ResponseStream[wire.WatchBatch]) -> None:
    with pytest.raises(Unavailable, match="heard nothing for 0 s"):
        await stream.next(0)


async def test_a_shorter_patience_counts_at_once(call: Call, stream: ResponseStream[wire.WatchBatch]) -> None:
    call.messages.put_nowait(wire.WatchBatch(store_id="1"))
    first = await stream.next(FOREVER_S)
    assert first is not None
    assert first.store_id == "1"
    with pytest.raises(Unavailable, match="heard nothing for 0 s"):
        await stream.next(0)


async def test_a_wait_that_was_given_up_ends_no_other(call: Call, stream: ResponseStream[wire.WatchBatch]) -> None:
    for turns in range(6):  # whenever the time is up: before, while and after it is given up
        given_up = asyncio.ensure_future(stream.next(0))
        for _ in range(turns):
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait({given_up})
        assert given_up.cancelled() or isinstance(given_up.exception(), Unavailable)
        assert stream.take() == []
        following = asyncio.ensure_future(stream.next(FOREVER_S))
        await asyncio.sleep(0)
        call.messages.put_nowait(wire.WatchBatch(store_id=str(turns)))
        batch = await following
        assert batch is not None
        assert batch.store_id == str(turns)


async def test_the_end_comes_after_what_was_said(call: Call, stream: ResponseStream[wire.WatchBatch]) -> None:
    call.messages.put_nowait(wire.WatchBatch(store_id="1"))
    call.messages.put_nowait(grpc.aio.EOF)
    assert await stream.next(FOREVER_S) is not None
    assert await stream.next(FOREVER_S) is None
