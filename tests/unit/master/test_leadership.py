"""Two and three masters on one log: who leads, what the others show, what becomes of writes when that changes."""

from __future__ import annotations

import asyncio

import pytest

from cluster.api.errors import AlreadyExists, Invalid, Unavailable
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.master.operations import Writer
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity
from cluster.store.interface import JournalFailed
from tests.unit.master.rig import Rig, pod, running, service
from tests.unit.master.several import Several, several
from tests.unit.store.rig import Watching

ADMIN = Identity("admin")


def names(rig: Rig) -> list[str]:
    return [version.key.name for version in rig.master.store.state.list("Pod")]


async def write(rig: Rig, name: str, request_id: str = "") -> wire.WriteResponse:
    request = wire.WriteRequest(operations=[ops.create(pod(name))])
    if request_id:
        request.request_id = request_id
    return await rig.request(request)


async def depose(cluster: Several, *, silently: bool = False) -> None:
    """Another leads."""
    before = cluster.leaders
    cluster.log.depose(silently=silently)
    await cluster.settle()
    if not silently:
        assert cluster.leaders != before


async def test_one_leads_and_all_show_the_same() -> None:
    async with several(3) as cluster:
        assert cluster.leaders == [0]
        for name in ("a", "b"):
            await write(cluster.rigs[0], name)
        await cluster.settle()
        assert [names(rig) for rig in cluster.rigs] == [["a", "b"]] * 3
        assert [rig.revision for rig in cluster.rigs] == [3] * 3
        assert all(rig.find("Namespace", "kube-system") for rig in cluster.rigs)


async def test_the_namespaces_of_every_cluster_are_made_once() -> None:
    async with several(2) as cluster:
        assert cluster.log.revision == 1, "default and kube-system, in one revision"
        await depose(cluster)
        assert cluster.leaders == [1]
        assert cluster.log.revision == 1, "the next leader finds them"


async def test_who_leads_no_more_follows_on_without_reading_everything_again() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        await write(first, "a")
        watching = Watching(first.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod", initial_state=True)))
        await watching.until(2)
        await depose(cluster)
        await write(second, "b")
        recording = await watching.until(3)
        assert [event.key for event in recording.changes] == ["Pod/default/b"], "its watchers hear of it"
        assert cluster.journals[0].opened == 1
        await depose(cluster)
        await write(first, "c")
        await cluster.settle()
        assert names(second) == ["a", "b", "c"]
        await watching.close()


async def test_what_is_given_out_is_reckoned_anew() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        one = await first.create(service("one"))
        await depose(cluster)
        other = await second.create(service("other"))
        assert one.spec.clusterIP != other.spec.clusterIP  # type: ignore[union-attr]
        await second.write(ops.delete(Key("Service", "default", "one")))
        await depose(cluster)
        again = await first.create(service("again", one.spec.clusterIP))  # type: ignore[union-attr]
        assert again.spec.clusterIP == one.spec.clusterIP  # type: ignore[union-attr]
        ported = service("ported")
        ported.spec.type, ported.spec.ports[0].nodePort = "NodePort", 30080
        await first.create(ported)
        await depose(cluster)
        ported.metadata.name = "another"
        with pytest.raises(Invalid, match="already allocated, to service default/ported"):
            await second.create(ported)


async def test_a_leader_that_lost_its_term_unknowingly_writes_nothing() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        await depose(cluster, silently=True)
        assert cluster.leaders == [0, 1], "the first does not know yet, as after a long pause"
        with pytest.raises(Unavailable, match=r"leads no more .* nothing was written"):
            await first.master.writer.write(wire.WriteRequest(operations=[ops.create(pod("a"))]), Writer(ADMIN))
        await cluster.settle()
        assert cluster.leaders == [1]
        await write(second, "a")
        await cluster.settle()
        assert names(first) == names(second) == ["a"]


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(ops.create(pod("old")), id="AlreadyExists"),
        pytest.param(ops.delete(Key("Pod", "default", "new")), id="NotFound"),
        pytest.param(ops.patch(Key("Pod", "default", "old"), {"metadata": {"labels": {"app": "web"}}}), id="unchanged"),
    ],
)
@pytest.mark.parametrize("atomic", [False, True])
async def test_a_leader_that_slept_refuses_nothing_by_what_was_true_before(
    operation: wire.Operation, atomic: bool
) -> None:
    """It appends nothing, so no append tells it; but its answer would be about a state that is gone."""
    async with several(2) as cluster:
        first, second = cluster.rigs
        await first.request(wire.WriteRequest(operations=[ops.create(pod("old"))]))
        await cluster.settle()
        cluster.journals[0].following.clear()
        await depose(cluster, silently=True)
        await second.write(ops.delete(Key("Pod", "default", "old"), grace_period_s=0))
        await write(second, "new")
        assert (names(first), names(second)) == (["old"], ["new"])
        with pytest.raises(Unavailable, match=r"leads no more .*another has written up to revision"):
            await first.request(wire.WriteRequest(operations=[operation], atomic=atomic))
        await cluster.settle()
        assert cluster.leaders == [1]


async def test_what_cannot_be_proved_is_not_answered() -> None:
    async with several(2) as cluster:
        first, _ = cluster.rigs
        await write(first, "a")
        cluster.journals[0].unreachable = True
        with pytest.raises(Unavailable, match="nothing was written"):
            await write(first, "a")
        cluster.journals[0].unreachable = False
        with pytest.raises(AlreadyExists):
            await first.write(ops.create(pod("a")))


async def test_a_term_that_ends_in_the_middle_of_an_append() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        cluster.journals[0].holding.clear()
        under_way = asyncio.create_task(write(first, "a"))
        await cluster.settle()
        waiting = [asyncio.create_task(write(first, f"w{number}")) for number in range(3)]
        await cluster.settle()
        cluster.log.depose()
        await cluster.settle()
        assert cluster.leaders == [1]
        await write(second, "b")
        cluster.journals[0].holding.set()
        for task in (under_way, *waiting):
            with pytest.raises(Unavailable, match="nothing was written"):
                await task
        await cluster.settle()
        assert names(first) == names(second) == ["b"]
        await depose(cluster)
        await write(first, "c")
        assert names(first) == ["b", "c"]


async def test_an_append_of_which_nobody_knows_ends_the_term_and_shows_up_when_it_was_written() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        cluster.journals[0].lost_answer = True
        with pytest.raises(Unavailable, match="may have been written, or not"):
            await write(first, "a", "r-1")
        await cluster.settle()
        assert (cluster.leaders, names(first), names(second)) == ([1], ["a"], ["a"])
        again = await write(second, "a", "r-1")
        assert (again.replayed, again.revision) == (True, 2), "it is in the log, with its request"
        assert again.results[0].object.pod.spec.containers[0].name == "c", "and with its content"


async def test_an_append_of_which_nobody_knows_that_was_not_written() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        cluster.journals[0].unreachable = True
        with pytest.raises(Unavailable, match="may have been written, or not"):
            await write(first, "a", "r-1")
        await cluster.settle()
        cluster.journals[0].unreachable = False
        await cluster.clock.run_for(2.0)
        assert (cluster.leaders, names(second)) == ([1], [])
        assert not (await write(second, "a", "r-1")).replayed
        await cluster.settle()
        assert names(first) == ["a"]


async def test_a_new_leader_writes_only_after_all_that_was_acknowledged() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        cluster.journals[1].following.clear()
        await write(first, "a")
        cluster.log.depose()
        await cluster.settle()
        assert cluster.leaders == [], "elected, but it has not heard of everything"
        later = asyncio.create_task(second.create(pod("a")))
        await cluster.settle()
        cluster.journals[1].following.set()
        await cluster.settle()
        await cluster.clock.run_for(1.0)
        assert cluster.leaders == [1]
        with pytest.raises(Exception, match="already exists"):
            await later


async def test_stopping_gives_the_right_to_the_next() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        cluster.journals[0].holding.clear()
        under_way = asyncio.create_task(write(first, "a"))
        await cluster.settle()
        stopping = asyncio.create_task(first.master.stop())
        await cluster.settle()
        assert cluster.leaders == [0], "what waits is finished first"
        cluster.journals[0].holding.set()
        assert (await under_way).revision == 2
        await stopping
        await cluster.settle()
        assert (cluster.leaders, names(second)) == ([1], ["a"])


async def test_only_the_leader_compacts_and_the_others_learn_of_it() -> None:
    async with several(2, history_revisions=5, history_slack=1, ring_changes=5) as cluster:
        first, second = cluster.rigs
        for number in range(20):
            await write(first, f"p{number}")
        await cluster.settle()
        await cluster.clock.run_for(60.0)
        assert first.master.store.oldest == second.master.store.oldest == 16


async def test_a_reader_of_the_past_is_not_told_what_this_master_does_not_show_yet() -> None:
    """The log is further on than a follower; what its readers find there they would hear again when it catches up."""
    async with several(2, ring_changes=5) as cluster:
        first, second = cluster.rigs
        for number in range(10):
            await write(first, f"a{number}")
        await cluster.settle()
        shown = second.master.store.revision
        cluster.journals[1].following.clear()
        for number in range(10):
            await write(first, f"b{number}")
        watching = Watching(second.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod", after_revision=2)), after=2)
        await watching.until(shown)
        await cluster.settle()
        assert watching.recording.last_revision == shown
        cluster.journals[1].following.set()
        await watching.until(first.master.store.revision)
        assert [event.revision for event in watching.recording.changes] == list(range(3, first.revision + 1))
        await watching.close()


async def test_who_has_fallen_too_far_behind_reads_everything_anew() -> None:
    async with several(2, history_revisions=5, history_slack=1, ring_changes=5) as cluster:
        first, second = cluster.rigs
        await write(first, "old")
        await cluster.settle()
        watching = Watching(second.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod", initial_state=True)))
        await watching.until(2)
        cluster.journals[1].following.clear()
        await first.write(ops.delete(Key("Pod", "default", "old")))
        for number in range(20):
            await write(first, f"p{number}", f"r-{number}")
        await cluster.settle()
        await cluster.clock.run_for(60.0)
        before = second.master.store.state
        cluster.journals[1].following.set()
        await cluster.settle()
        error = await watching.end()
        assert "list again" in str(error)
        assert getattr(error, "oldest_revision", 0) == first.master.store.oldest
        assert second.master.store.state is not before
        assert names(second) == names(first)
        assert (second.revision, cluster.journals[1].opened) == (first.revision, 2)
        await depose(cluster)
        assert (await write(second, "p3", "r-3")).replayed, "it knows the requests, too"


async def test_a_log_with_a_gap_ends_the_process() -> None:
    async with several(2) as cluster:
        await write(cluster.rigs[0], "a")
        await cluster.settle()
        cluster.journals[1].following.clear()
        await write(cluster.rigs[0], "b")
        await write(cluster.rigs[0], "c")
        last, _ = cluster.log.appends.pop(-2)
        assert last == 3
        cluster.journals[1].following.set()
        await cluster.settle()
        (failure,) = cluster.failures
        assert isinstance(failure, JournalFailed)
        assert "revision 4 comes after 2" in str(failure)
        cluster.failures.clear()


async def test_a_write_that_is_too_large_for_the_log_does_not_fail_the_others() -> None:
    async with several(1) as cluster:
        (rig,), (journal,) = cluster.rigs, cluster.journals
        journal.holding.clear()
        blocker = asyncio.create_task(write(rig, "blocker"))
        await cluster.settle()
        journal.too_large = 3
        large = [ops.create(pod(f"large-{number}")) for number in range(5)]
        group = [asyncio.create_task(write(rig, f"p{number}")) for number in range(2)]
        group.insert(1, asyncio.create_task(rig.request(wire.WriteRequest(operations=large, atomic=True))))
        await cluster.settle()
        journal.holding.set()
        await blocker
        first, refused, last = await asyncio.gather(*group, return_exceptions=True)
        assert isinstance(refused, Invalid)
        assert "nothing was written" in str(refused)
        assert isinstance(first, wire.WriteResponse)
        assert isinstance(last, wire.WriteResponse)
        assert names(rig) == ["blocker", "p0", "p1"]


async def test_one_master_alone_needs_no_election() -> None:
    async with running() as rig:
        assert rig.master.leadership.leads
        assert (rig.master.leadership.address, rig.revision) == ("", 1)
