"""A master that does not lead: what it answers itself, what it hands on, and what is said when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.api.errors import Forbidden, StoreRewound, Unavailable
from cluster.client import operations as ops
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity
from cluster.rpc.servicer import FORWARDED
from tests.unit.master.rig import Rig, pod
from tests.unit.master.several import Several, several

ADMIN, CONTROLLERS = Identity("admin"), Identity("controllers")


async def listed(rig: Rig, **request: object) -> wire.ListResponse:
    fields = {"kind": "Pod", **request}
    return wire.ListResponse.FromString(await rig.master.api.list(ADMIN, wire.ListRequest(**fields)))  # type: ignore[arg-type]


def names(response: wire.ListResponse) -> list[str]:
    return [item.pod.metadata.name for item in response.items]


# --- reading


async def test_a_follower_reads_what_was_acknowledged_elsewhere_before() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        cluster.journals[1].following.clear()
        await first.pod("a")
        reading = asyncio.create_task(listed(second))
        await cluster.settle()
        assert not reading.done(), "it has not heard of it, and knows that there is something"
        assert names(await listed(second, allow_stale=True)) == []
        cluster.journals[1].following.set()
        assert names(await reading) == ["a"]


async def test_without_a_majority_reads_are_refused_unless_they_may_be_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        await first.pod("a")
        await cluster.settle()
        cluster.journals[1].unreachable = True
        with pytest.raises(Unavailable, match="cannot know now what the newest state is"):
            await listed(second)
        get = wire.GetRequest(kind="Pod", name="a", namespace="default")
        with pytest.raises(Unavailable):
            await second.master.api.get(ADMIN, get)
        with pytest.raises(Unavailable):
            await anext(second.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod")))
        get.allow_stale = True
        answer = wire.GetResponse.FromString(await second.master.api.get(ADMIN, get))
        assert (answer.object.pod.metadata.name, answer.revision) == ("a", 2)
        assert names(await listed(second, allow_stale=True)) == ["a"]
        assert names(await listed(second, revision=2)) == ["a"], "what was at a revision does not change"
        stale = second.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod", initial_state=True, allow_stale=True))
        assert len(wire.WatchBatch.FromString(await anext(stale)).events) == 2
        await stale.aclose()
        resumed = second.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod", after_revision=1))
        assert len(wire.WatchBatch.FromString(await anext(resumed)).events) == 1
        await resumed.aclose()
        cluster.journals[1].unreachable = False


async def test_what_a_follower_has_not_heard_of_in_time_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        cluster.journals[1].following.clear()
        await first.pod("a")
        with pytest.raises(Unavailable, match="it is at revision 1, and the log at 2"):
            await second.master.store.barrier(timeout_s=0.01)
        with pytest.raises(Unavailable):
            await second.master.store.reach(2, timeout_s=0.01)
        with pytest.raises(StoreRewound, match="revision 3 has not happened: this store is at 2"):
            await second.master.store.reach(3)


async def test_reads_of_one_moment_wait_together() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        cluster.journals[1].following.clear()
        await first.pod("a")
        readings = [asyncio.create_task(listed(second)) for _ in range(50)]
        await cluster.settle()
        readings[0].cancel()
        cluster.journals[1].following.set()
        found = await asyncio.gather(*readings[1:])
        assert all(names(answer) == ["a"] for answer in found)


# --- handing on


async def test_a_follower_hands_writes_on_for_their_caller() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        made = await second.create(pod("a"))
        assert made.metadata.actor == "admin"
        assert first.find("Pod", "a") is not None
        with pytest.raises(Forbidden, match="proxy may not create pods"):
            await second.create(pod("b"), who="proxy")
        answer = await second.request(wire.WriteRequest(operations=[ops.create(pod("c"))]))
        assert names(await listed(second)) == ["a", "c"], "who wrote through a follower reads it there"
        assert answer.store_id == "store"


async def test_a_call_is_handed_on_once() -> None:
    async with several(2) as cluster:
        cluster.masters[1].leadership.leads = False
        token = FORWARDED.set(True)
        try:
            with pytest.raises(Unavailable, match="does not lead, or no more; nothing was written"):
                await cluster.rigs[1].pod("a")
        finally:
            FORWARDED.reset(token)


async def test_without_a_leader_writes_wait_for_one_and_then_say_so() -> None:
    async with several(2) as cluster:
        second = cluster.rigs[1]
        for journal in cluster.journals:
            journal.following.clear()
        await cluster.rigs[0].pod("a")
        cluster.log.depose()
        await cluster.settle()  # the second is elected, and cannot catch up
        writing = asyncio.create_task(second.pod("b"))
        await cluster.clock.run_for(1.0)
        assert not writing.done()
        await cluster.clock.run_for(1.5)
        with pytest.raises(Unavailable, match="no master leads at the moment; nothing was written"):
            await writing
        writing = asyncio.create_task(second.pod("b"))
        await cluster.settle()
        for journal in cluster.journals:
            journal.following.set()
        await cluster.clock.run_for(1.0)
        assert (await writing).metadata.name == "b"


async def test_when_nobody_knows_who_leads_writes_are_refused_at_once() -> None:
    async with several(2) as cluster:
        cluster.journals[1].unreachable = True
        with pytest.raises(Unavailable, match="who leads is not known, nothing was written"):
            await cluster.rigs[1].pod("a")


async def test_a_stream_of_writes_through_a_follower_ends_when_another_leads() -> None:
    async with several(3) as cluster:
        calls: asyncio.Queue[wire.WriteCalls] = asyncio.Queue()

        async def requests() -> AsyncIterator[wire.WriteCalls]:
            while True:
                yield await calls.get()

        def call(number: int, name: str) -> None:
            request = wire.WriteRequest(operations=[ops.create(pod(name))])
            calls.put_nowait(wire.WriteCalls(calls=[wire.WriteCall(id=number, request=request)]))

        answers = cluster.masters[2].api.write_stream(ADMIN, requests())
        call(1, "a")
        (answer,) = wire.WriteAnswers.FromString(await anext(answers)).answers
        assert (answer.id, answer.response.revision) == (1, 2)
        cluster.log.depose()
        await cluster.clock.run_for(1.0)
        assert cluster.leaders == [1]
        with pytest.raises(Unavailable):
            await anext(answers)
        assert [peer.closed.is_set() for peer in cluster.peers] == [True]
        answers = cluster.masters[2].api.write_stream(ADMIN, requests())
        call(2, "b")
        (answer,) = wire.WriteAnswers.FromString(await anext(answers)).answers
        assert (answer.id, answer.response.revision) == (2, 3)
        await answers.aclose()


# --- heartbeats


async def beats(cluster: Several, number: int, node: str) -> tuple[asyncio.Queue[int], asyncio.Task[None]]:
    """A line of heartbeats to a master: what is put into the queue is sent as a sequence number."""
    sequences: asyncio.Queue[int] = asyncio.Queue()

    async def requests() -> AsyncIterator[wire.HeartbeatRequest]:
        while True:
            beat = wire.NodeHeartbeat(node=node, sequence=await sequences.get())
            yield wire.HeartbeatRequest(heartbeats=[beat])

    async def run() -> None:
        async for _ in cluster.masters[number].api.heartbeat(Identity("node", node), requests()):
            pass

    return sequences, asyncio.create_task(run())


async def test_heartbeats_and_who_listens_for_them_meet_at_the_leader() -> None:
    async with several(3) as cluster:
        await cluster.rigs[0].node("n1")
        await cluster.settle()
        sequences, line = await beats(cluster, 1, "n1")
        heard = cluster.masters[2].api.watch_heartbeats(CONTROLLERS, wire.WatchHeartbeatsRequest())
        first = await anext(heard)
        assert (list(first.heartbeats), first.store_id) == ([], "store")
        sequences.put_nowait(7)
        following = asyncio.ensure_future(anext(heard))
        await cluster.clock.run_for(0.3)
        assert [beat.sequence for beat in (await following).heartbeats] == [7]
        cluster.log.depose()
        sequences.put_nowait(8)
        await cluster.clock.run_for(1.0)
        with pytest.raises(Unavailable):
            await anext(heard)
        with pytest.raises(Unavailable):
            await line
        fresh = cluster.masters[2].api.watch_heartbeats(CONTROLLERS, wire.WatchHeartbeatsRequest())
        assert list((await anext(fresh)).heartbeats) == [], "the new leader has heard of nobody"
        await fresh.aclose()


async def test_those_who_listen_to_the_leader_itself_are_ended_with_its_term() -> None:
    async with several(2) as cluster:
        heard = cluster.masters[0].api.watch_heartbeats(CONTROLLERS, wire.WatchHeartbeatsRequest())
        await anext(heard)
        cluster.log.depose()
        await cluster.settle()
        with pytest.raises(Unavailable, match="leads no more"):
            await anext(heard)


async def test_a_node_may_beat_for_itself_only_through_a_follower_too() -> None:
    async with several(2) as cluster:

        async def requests() -> AsyncIterator[wire.HeartbeatRequest]:
            yield wire.HeartbeatRequest(heartbeats=[wire.NodeHeartbeat(node="n2", sequence=1)])

        with pytest.raises(Forbidden, match="may not send heartbeats of node"):
            await anext(cluster.masters[1].api.heartbeat(Identity("node", "n1"), requests()))


# --- status


async def test_the_status_says_who_leads_and_what_is_wrong() -> None:
    async with several(2) as cluster:
        request = wire.StoreStatusRequest()
        first, second = [await master.api.store_status(ADMIN, request) for master in cluster.masters]
        assert (first.leader, second.leader) == (True, False)
        assert first.leader_address == second.leader_address == "m0:1"
        assert (first.store_id, first.revision, first.engine, list(first.problems)) == ("store", 1, "etcd", [])
        cluster.journals[1].unreachable = True
        cluster.journals[1].problems = ["DiskFull: no space"]
        second = await cluster.masters[1].api.store_status(ADMIN, request)
        assert (second.leader_address, second.revision) == ("", 1)
        assert [problem.partition(":")[0] for problem in second.problems] == ["DiskFull", "Unreachable"]
