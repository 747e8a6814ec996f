"""The server's end of a stream of watches: each judged and answered for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from cluster.api.errors import BadRequest, Expired, Unavailable
from cluster.master.watch_stream import reader_is_slow
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity
from tests.unit.master.rig import Rig

PATIENCE_S = 20.0


class Caller:
    """The other end: begins and ends watches, and hears what it asks for."""

    def __init__(self, rig: Rig, who: str = "admin") -> None:
        self._said: asyncio.Queue[wire.WatchCalls | None] = asyncio.Queue()
        self.answers = rig.master.api.watch_stream(Identity.parse(who), self._messages())

    async def _messages(self) -> AsyncGenerator[wire.WatchCalls, None]:
        while (message := await self._said.get()) is not None:
            yield message

    def say(self, *calls: wire.WatchCall) -> None:
        self._said.put_nowait(wire.WatchCalls(calls=calls))

    def hang_up(self) -> None:
        self._said.put_nowait(None)

    async def hear(self, count: int) -> list[wire.WatchAnswer]:
        """So many answers."""
        heard: list[wire.WatchAnswer] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(heard) < count:
                heard += wire.WatchAnswers.FromString(await anext(self.answers)).answers
        return heard


def begin(number: int, node: str = "", **wishes: object) -> wire.WatchCall:
    selector = f"spec.nodeName={node}" if node else ""
    request = wire.WatchRequest(kind="Pod", field_selector=selector, **wishes)  # type: ignore[arg-type]
    return wire.WatchCall(id=number, begin=request)


async def test_each_watch_is_judged_for_itself(rig: Rig) -> None:
    await rig.node("n1")
    await rig.pod("web", node="n1")
    caller = Caller(rig, "node:n1")
    caller.say(
        begin(1, "n1", initial_state=True),
        begin(2, "n2"),
        begin(3, "n1", initial_state=True, after_revision=1),
        wire.WatchCall(id=4, begin=wire.WatchRequest(kind="Nonsense")),
    )
    answers = {answer.id: answer for answer in await caller.hear(4)}
    assert [event.object.pod.metadata.name for event in answers[1].batch.events] == ["web", ""]
    assert answers[1].batch.store_id
    assert [answers[number].error.reason for number in (2, 3, 4)] == ["Forbidden", "BadRequest", "Invalid"]
    assert answers[2].error.store_id, "an error says which store says so"
    await caller.answers.aclose()
    assert rig.master.store.watchers == 0


async def test_a_watch_that_was_ended_is_not_heard_of_any_more(rig: Rig) -> None:
    await rig.node("n1")
    caller = Caller(rig)
    caller.say(begin(1, "n1"), begin(2))
    await caller.hear(2)
    caller.say(wire.WatchCall(id=1, end=True), wire.WatchCall(id=7, end=True))
    await rig.pod("web")
    await caller.hear(1)
    await rig.pod("other", node="n1")
    assert {answer.id for answer in await caller.hear(1)} == {2}
    caller.say(begin(1, "n1", initial_state=True))  # the number is free again
    while 1 not in {answer.id for answer in await caller.hear(1)}:
        pass
    await caller.answers.aclose()


async def test_watches_go_on_when_the_caller_has_said_its_last(rig: Rig) -> None:
    caller = Caller(rig)
    caller.say(begin(1))
    caller.hang_up()
    await caller.hear(1)
    await rig.pod("web")
    assert [answer.id for answer in await caller.hear(1)] == [1]
    await caller.answers.aclose()
    silent = Caller(rig)
    silent.hang_up()
    assert [answer async for answer in silent.answers] == []


@pytest.mark.parametrize("calls", [[begin(1), begin(1)], [wire.WatchCall(id=1)]])
async def test_calls_without_a_meaning_end_the_stream(rig: Rig, calls: list[wire.WatchCall]) -> None:
    caller = Caller(rig)
    caller.say(*calls)
    with pytest.raises(BadRequest):
        await caller.hear(5)
    assert rig.master.store.watchers == 0


def test_a_slow_reader_may_resume_all_its_watches() -> None:
    assert isinstance(reader_is_slow(Expired("too slow")), Unavailable)
    stopping = Unavailable("the master is stopping")
    assert reader_is_slow(stopping) is stopping
