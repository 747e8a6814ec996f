"""The server's end of a stream of writes: every call answered for itself, room for others, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from cluster.api.errors import Unavailable
from cluster.master import actor, write_stream
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity
from tests.unit.master.rig import Rig, running
from tests.unit.master.test_actor import Disk, request, settle

PATIENCE_S = 20.0


class Caller:
    """The other end: says what it likes, and hears what it asks for."""

    def __init__(self, rig: Rig, who: str = "admin") -> None:
        self._said: asyncio.Queue[wire.WriteCalls | None] = asyncio.Queue()
        self.answers = rig.master.api.write_stream(Identity.parse(who), self._messages())

    async def _messages(self) -> AsyncGenerator[wire.WriteCalls, None]:
        while (message := await self._said.get()) is not None:
            yield message

    def say(self, *requests: wire.WriteRequest, first: int = 1) -> None:
        calls = [wire.WriteCall(id=first + number, request=request) for number, request in enumerate(requests)]
        self._said.put_nowait(wire.WriteCalls(calls=calls))

    def hang_up(self) -> None:
        self._said.put_nowait(None)

    async def hear(self) -> list[wire.WriteAnswer]:
        async with asyncio.timeout(PATIENCE_S):
            return list(wire.WriteAnswers.FromString(await anext(self.answers)).answers)

    async def rest(self) -> list[wire.WriteAnswer]:
        answers: list[wire.WriteAnswer] = []
        async with asyncio.timeout(PATIENCE_S):
            async for message in self.answers:
                answers += wire.WriteAnswers.FromString(message).answers
        return answers


async def test_calls_of_a_message_share_a_commit_and_an_answer() -> None:
    disk = Disk()
    async with running(disk) as rig:
        caller = Caller(rig)
        caller.say(*(request(f"p{number}") for number in range(20)))
        answers = await caller.hear()
        assert [answer.id for answer in answers] == list(range(1, 21))
        assert [answer.response.revision for answer in answers] == list(range(2, 22))
        assert disk.commits[-1] == 20
        caller.hang_up()
        assert await caller.rest() == []


async def test_what_one_caller_said_first_happens_first() -> None:
    async with running(Disk()) as rig:
        caller = Caller(rig)
        caller.say(request("p"), _label("a"))
        caller.say(_label("b"), first=3)
        caller.hang_up()
        answers = sorted(await caller.rest(), key=lambda answer: answer.id)
        assert [answer.response.revision for answer in answers] == [2, 3, 4]
        found = rig.find("Pod", "p")
        assert found is not None
        assert found.metadata.labels["l"] == "b"


def _label(value: str) -> wire.WriteRequest:
    patch = f'{{"metadata": {{"labels": {{"l": "{value}"}}}}}}'.encode()
    return wire.WriteRequest(
        operations=[
            wire.Operation(patch=wire.PatchOperation(kind="Pod", namespace="default", name="p", merge_patch=patch))
        ]
    )


async def test_a_call_that_makes_no_sense_is_answered_like_any_other() -> None:
    async with running(Disk()) as rig:
        caller = Caller(rig)
        caller.say(wire.WriteRequest(operations=[wire.Operation()] * 3000), request("good"))
        caller.hang_up()
        answers = {answer.id: answer for answer in await caller.rest()}
        assert answers[1].error.reason == "BadRequest"
        assert answers[2].response.results[0].status.status == "Success"


async def test_each_call_beyond_the_queue_is_refused_and_the_stream_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "WAITING_REQUESTS", 5)
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        blocker = asyncio.create_task(rig.request(request("blocker")))
        await settle()
        caller = Caller(rig)
        caller.say(*(request(f"p{number}") for number in range(8)))
        refused = await caller.hear()
        assert [(answer.id, answer.error.reason) for answer in refused] == [(n, "Overloaded") for n in (6, 7, 8)]
        assert refused[0].error.details.retryAfterSeconds == 1
        disk.ready.set()
        await blocker
        assert sorted(answer.id for answer in await caller.hear()) == [1, 2, 3, 4, 5]
        caller.say(request("later"), first=9)
        (answer,) = await caller.hear()
        assert answer.response.results[0].status.status == "Success"
        await caller.answers.aclose()


async def test_a_stream_is_not_read_while_its_calls_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_stream, "OUTSTANDING", 10)
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        greedy, modest = Caller(rig), Caller(rig)
        greedy.say(*(request(f"greedy-{number}") for number in range(100)))
        modest.say(request("modest"))
        hearing = [asyncio.create_task(caller.hear()) for caller in (greedy, modest)]
        await settle()
        disk.ready.set()
        first, only = await asyncio.gather(*hearing)
        assert len(first) <= 10
        assert only[0].response.revision <= 12, "behind ten others, not behind a hundred"
        greedy.hang_up()
        assert len(first) + len(await greedy.rest()) == 100
        await modest.answers.aclose()


async def test_a_slow_disk_delays_answers_and_loses_none() -> None:
    disk = Disk()
    async with running(disk) as rig:
        caller = Caller(rig)
        disk.ready.clear()
        for number in range(30):
            caller.say(request(f"p{number}"), first=number + 1)
        hearing = asyncio.create_task(caller.hear())
        await settle()
        assert not hearing.done()
        assert rig.find("Pod", "p0") is None, "not durable, so not there"
        disk.ready.set()
        heard = await hearing
        caller.hang_up()
        heard += await caller.rest()
        assert sorted(answer.id for answer in heard) == list(range(1, 31))
        assert sorted(answer.response.revision for answer in heard) == list(range(2, 32))


async def test_a_stream_that_breaks_gives_up_what_has_not_had_its_turn() -> None:
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        blocker = asyncio.create_task(rig.request(request("blocker")))
        await settle()
        caller = Caller(rig)
        caller.say(*(request(f"gone-{number}") for number in range(10)))
        hearing = asyncio.create_task(caller.hear())
        await settle()
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await caller.answers.aclose()
        disk.ready.set()
        await blocker
        await rig.pod("next")
        assert not any(rig.find("Pod", f"gone-{number}") for number in range(10))


async def test_a_stream_whose_requests_break_off_says_why() -> None:
    async def broken() -> AsyncIterator[wire.WriteCalls]:
        yield wire.WriteCalls(calls=[wire.WriteCall(id=1, request=request("p"))])
        raise Unavailable("the caller has gone")

    async with running(Disk()) as rig:
        answers = rig.master.api.write_stream(Identity.parse("admin"), broken())
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Unavailable, match="gone"):
                async for _ in answers:
                    pass


async def test_a_stopping_master_answers_what_waits_and_refuses_the_rest() -> None:
    disk = Disk()
    async with running(disk) as rig:
        caller = Caller(rig)
        caller.say(request("before"))
        await caller.hear()
        await rig.master.writer.stop()
        caller.say(request("after"), first=2)
        (answer,) = await caller.hear()
        assert answer.error.reason == "ServiceUnavailable"
        await caller.answers.aclose()
