"""Get and list as of a revision or a moment; watches that carry their store; errors that say where the store is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cluster.api.errors import BadRequest, Expired, NotFound, StoreRewound
from cluster.api.meta import Key, to_time
from cluster.client import operations as ops
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from tests.unit.master.rig import Rig, running
from tests.unit.master.test_reading import listed, names

ADMIN = Identity("admin")


async def got(rig: Rig, name: str = "web", **request: object) -> tuple[str, int]:
    """The label `app` and the revision of the answer."""
    fields = {"kind": "Pod", "namespace": "default", "name": name, **request}
    answer = wire.GetResponse.FromString(await rig.master.api.get(ADMIN, wire.GetRequest(**fields)))  # type: ignore[arg-type]
    return answer.object.pod.metadata.labels["app"], answer.revision


async def relabel(rig: Rig, app: str) -> None:
    await rig.write(ops.patch(Key("Pod", "default", "web"), {"metadata": {"labels": {"app": app}}}))


async def history(rig: Rig) -> dict[int, core.Time]:
    """A pod that was made at 2, changed at 3, deleted at 4 and made again at 5, one minute apart; when that was."""
    times: dict[int, core.Time] = {}

    async def step(doing: object) -> None:
        await doing  # type: ignore[misc]
        times[rig.revision] = to_time(rig.clock.wall())
        await rig.clock.run_for(60.0)

    await rig.clock.run_for(60.0)
    await step(rig.pod(grace_s=0))
    await step(relabel(rig, "blue"))
    await step(rig.write(ops.delete(Key("Pod", "default", "web"), grace_period_s=0)))
    await step(rig.pod())
    assert list(times) == [2, 3, 4, 5]
    return times


@pytest.mark.parametrize("ring_changes", [100, 1], ids=["from memory", "from disk"])
async def test_an_object_as_it_was(ring_changes: int) -> None:
    async with running(ring_changes=ring_changes) as rig:
        times = await history(rig)
        for revision, app in ((2, "web"), (3, "blue"), (5, "web")):
            assert await got(rig, revision=revision) == (app, revision)
            assert await got(rig, time=times[revision]) == (app, revision)
            later = to_time(times[revision].seconds + 59.0)
            assert await got(rig, time=later) == (app, revision)
        for revision in (1, 4):
            with pytest.raises(NotFound):
                await got(rig, revision=revision)
        with pytest.raises(NotFound):
            await got(rig, time=times[4])
        assert await got(rig, time=to_time(rig.clock.wall() + 1e6)) == ("web", 5), "the future is not known: now"
        with pytest.raises(NotFound):
            await got(rig, time=to_time(times[2].seconds - 30.0))


@pytest.mark.parametrize("ring_changes", [100, 1], ids=["from memory", "from disk"])
async def test_a_list_as_it_was(ring_changes: int) -> None:
    async with running(ring_changes=ring_changes) as rig:
        times = await history(rig)
        for revision in (2, 3, 4, 5):
            answer = await listed(rig, time=times[revision])
            assert (names(answer), answer.revision) == (["web"] if revision != 4 else [], revision)
        assert names(await listed(rig, label_selector="app=blue", time=times[3])) == ["web"]
        assert names(await listed(rig, time=to_time(1.0))) == []


async def test_questions_that_make_no_sense(rig: Rig) -> None:
    now = to_time(rig.clock.wall())
    with pytest.raises(BadRequest, match="together"):
        await got(rig, revision=1, time=now)
    with pytest.raises(BadRequest, match="together"):
        await listed(rig, revision=1, time=now)
    with pytest.raises(BadRequest, match="negative"):
        await got(rig, revision=-1)
    with pytest.raises(BadRequest, match="together"):
        await listed(rig, time=now, **{"continue": "x"})
    with pytest.raises(BadRequest, match="negative"):
        await anext(rig.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod", after_revision=-1)))


async def test_what_is_compacted_is_expired_and_what_is_to_come_has_not_happened() -> None:
    async with running(ring_changes=1) as rig:
        times = await history(rig)
        await rig.master.store.journal.compact(4, 100)
        rig.master.store.history.compacted = 4
        for question in ({"revision": 3}, {"time": times[3]}):
            with pytest.raises(Expired) as caught:
                await got(rig, **question)
            assert caught.value.oldest_revision == 4
            with pytest.raises(Expired):
                await listed(rig, **question)
        with pytest.raises(StoreRewound, match="revision 6 has not happened: this store is at 5"):
            await got(rig, revision=6)
        watch = wire.WatchRequest(kind="Pod", after_revision=3)
        with pytest.raises(Expired) as expired:
            await anext(rig.master.api.watch(ADMIN, watch))
        assert expired.value.oldest_revision == 4


async def test_a_watch_of_another_store_or_of_the_future_is_refused(rig: Rig) -> None:
    await rig.pod()
    for watch in (
        wire.WatchRequest(kind="Pod", after_revision=1, store_id="store+9f"),
        wire.WatchRequest(kind="Pod", after_revision=7, store_id="store"),
        wire.WatchRequest(kind="Pod", after_revision=7),
    ):
        with pytest.raises(StoreRewound, match="list again"):
            await anext(rig.master.api.watch(ADMIN, watch))
    right = rig.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod", after_revision=1, store_id="store"))
    assert wire.WatchBatch.FromString(await anext(right)).events[0].revision == 2
    await right.aclose()


async def test_an_error_says_which_store_says_so_and_where_it_is(rig: Rig) -> None:
    await rig.pod()
    error = NotFound("x")
    rig.master.api.complete(error)
    assert (error.store_id, error.revision) == ("store", 2)
    of_the_leader = NotFound("x")
    of_the_leader.store_id, of_the_leader.revision = "store", 41
    rig.master.api.complete(of_the_leader)
    assert of_the_leader.revision == 41, "what was handed on says so already"


async def test_errors_on_a_stream_of_writes_say_so_too(rig: Rig) -> None:
    operation = wire.Operation(create=wire.CreateOperation(object=wire.Object(pod=core.Pod())))
    too_many = wire.WriteRequest(operations=[operation] * 2001)
    no_id = wire.WriteRequest(operations=[operation], request_id="x" * 65)

    async def requests() -> AsyncIterator[wire.WriteCalls]:
        for number, request in enumerate((too_many, no_id)):
            yield wire.WriteCalls(calls=[wire.WriteCall(id=number, request=request)])

    answers = [
        answer
        async for message in rig.master.api.write_stream(ADMIN, requests())
        for answer in wire.WriteAnswers.FromString(message).answers
    ]
    assert [answer.error.reason for answer in answers] == ["BadRequest"] * 2
    assert [(answer.error.store_id, answer.error.revision) for answer in answers] == [("store", 1)] * 2
