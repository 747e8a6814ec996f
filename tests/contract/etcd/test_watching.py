"""Watches against a real etcd: what they deliver, and what they survive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import psutil
import pytest

from cluster.rpc.etcd import (
    Compacted,
    Delete,
    EtcdClient,
    EtcdSettings,
    Event,
    Operation,
    Put,
    Watch,
    WatchBatch,
    prefix_end,
)
from tests.kit.chaos_proxy import ChaosProxy
from tests.kit.etcd import CLIENT_PORT, EtcdCluster

pytestmark = pytest.mark.usefixtures("shared_etcd", "no_leaks")

DEADLINE_S = 60.0


async def until(watch: Watch, revision: int) -> list[WatchBatch]:
    """Batches up to a revision."""
    batches: list[WatchBatch] = []
    async with asyncio.timeout(DEADLINE_S):
        while not batches or batches[-1].revision < revision:
            batches.append(await anext(watch))
    return batches


def values(batches: Sequence[WatchBatch]) -> list[bytes]:
    return [event.kv.value for batch in batches for event in batch.events]


async def test_what_happened_and_what_happens_is_heard_in_order(client: EtcdClient, key: bytes) -> None:
    first = (await client.put(key + b"a", b"1")).header.revision
    await client.put(key + b"a", b"2")
    async with client.watch(key, prefix_end(key), start_revision=first) as watch:
        await client.put(b"/elsewhere", b"")
        both = await client.txn([], [Put(key + b"b", b"3"), Delete(key + b"a")])
        batches = await until(watch, both.header.revision)
        assert await watch.next(0.05) is None
    events = [event for batch in batches for event in batch.events]
    assert [(event.created, event.deleted) for event in events] == [
        (True, False),
        (False, False),
        (True, False),
        (False, True),
    ]
    assert [event.kv.mod_revision for event in events] == [first, first + 1, first + 3, first + 3]
    assert events[3].kv.key == key + b"a"
    assert batches[-1].events[-2:] == tuple(events[2:]), "a revision was torn"
    assert batches[-1].revision == both.header.revision
    assert (watch.breaks, watch.repeated, watch.next_revision) == (0, 0, first + 4)


async def test_one_key_and_a_revision_of_the_future(client: EtcdClient, key: bytes) -> None:
    now = (await client.put(key, b"old")).header.revision
    async with client.watch(key, start_revision=now + 2) as watch:
        await client.put(key, b"not yet")
        await client.put(key + b"x", b"another key")
        revision = (await client.put(key, b"now")).header.revision
        assert values(await until(watch, revision)) == [b"now"]
    with pytest.raises(ValueError, match="revision 1 or later"):
        client.watch(key, start_revision=0)


async def test_answers_that_etcd_cuts_into_fragments_are_joined(client: EtcdClient, key: bytes) -> None:
    """Five revisions of three events of 450 kB each: more than fits into one message."""
    operations = [[Put(key + b"%d" % number, bytes([65 + turn]) * 450_000) for number in range(3)] for turn in range(5)]
    revisions = [(await client.txn([], of_turn, timeout_s=20.0)).header.revision for of_turn in operations]
    async with client.watch(key, prefix_end(key), start_revision=revisions[0]) as watch:
        batches = await until(watch, revisions[-1])
    seen: list[int] = []
    for batch in batches:
        of_batch = [event.kv.mod_revision for event in batch.events]
        assert batch.revision == of_batch[-1]
        assert not set(of_batch) & set(seen), "a revision was torn"
        seen += of_batch
    assert seen == [revision for revision in revisions for _ in range(3)]
    assert len(batches) > 1, "it came in one piece: nothing was tried"


async def test_a_cut_connection_is_mended(shared_etcd: EtcdCluster, client: EtcdClient, key: bytes) -> None:
    first = (await client.put(key, b"0")).header.revision
    async with ChaosProxy((shared_etcd.members[0].host, CLIENT_PORT)) as proxy:
        behind = EtcdClient([proxy.address])
        try:
            async with behind.watch(key, start_revision=first) as watch:
                got = values(await until(watch, first))
                for turn in range(1, 13):
                    revision = (await client.put(key, b"%d" % turn)).header.revision
                    if turn % 3 == 0:
                        proxy.cut()
                    elif turn % 3 == 1:
                        proxy.reset()
                    else:
                        proxy.down.cut_after(20)
                    await client.put(key, b"%d again" % turn)
                    got += values(await until(watch, revision + 1))
                assert watch.breaks >= 8
        finally:
            await behind.close()
    expected = [b"0"] + [text for turn in range(1, 13) for text in (b"%d" % turn, b"%d again" % turn)]
    assert got == expected


async def test_a_silent_connection_is_found_out(shared_etcd: EtcdCluster, client: EtcdClient, key: bytes) -> None:
    """A black hole: nothing is closed, nothing arrives."""
    first = (await client.put(key, b"0")).header.revision
    async with ChaosProxy((shared_etcd.members[0].host, CLIENT_PORT)) as proxy:
        settings = EtcdSettings(try_s=0.3, quiet_s=0.2)
        behind = EtcdClient([proxy.address, shared_etcd.endpoints[0]], settings=settings)
        try:
            async with behind.watch(key, start_revision=first) as watch:
                await until(watch, first)
                assert proxy.connections
                proxy.down.hold()
                revision = (await client.put(key, b"1")).header.revision
                assert values(await until(watch, revision)) == [b"1"]
                assert watch.breaks == 1
                proxy.reset()
        finally:
            await behind.close()


async def test_a_consumer_may_ask_for_a_new_stream(client: EtcdClient, key: bytes) -> None:
    first = (await client.put(key, b"0")).header.revision
    async with client.watch(key, start_revision=first) as watch:
        await until(watch, first)
        watch.restart("something is missing")
        revision = (await client.put(key, b"1")).header.revision
        assert values(await until(watch, revision)) == [b"1"]
        assert watch.breaks == 1


async def test_what_is_compacted_cannot_be_watched(etcd: EtcdCluster, key: bytes) -> None:
    client = EtcdClient(etcd.endpoints)
    try:
        revisions = [(await client.put(key, b"%d" % number)).header.revision for number in range(5)]
        await client.compact(revisions[3])
        async with client.watch(key, start_revision=revisions[0]) as watch:
            for _ in range(2):
                with pytest.raises(Compacted) as caught:
                    await anext(watch)
                assert caught.value.compact_revision == revisions[3]
        async with client.watch(key, start_revision=revisions[3]) as watch:
            assert values(await until(watch, revisions[4])) == [b"3", b"4"]
    finally:
        await client.close()


async def test_compacted_while_it_was_cut_off(etcd: EtcdCluster, key: bytes) -> None:
    direct = EtcdClient(etcd.endpoints)
    async with ChaosProxy((etcd.members[0].host, CLIENT_PORT)) as proxy:
        behind = EtcdClient([proxy.address])
        try:
            first = (await direct.put(key, b"0")).header.revision
            async with behind.watch(key, start_revision=first) as watch:
                await until(watch, first)
                await proxy.refuse()
                proxy.reset()
                revisions = [(await direct.put(key, b"%d" % number)).header.revision for number in range(5)]
                await direct.compact(revisions[4])
                await proxy.accept()
                async with asyncio.timeout(DEADLINE_S):
                    with pytest.raises(Compacted) as caught:
                        await anext(watch)
                assert caught.value.compact_revision == revisions[4]
        finally:
            await behind.close()
            await direct.close()


async def test_a_slow_consumer_costs_no_memory_and_loses_nothing(client: EtcdClient, key: bytes) -> None:
    """60 MB of changes for a consumer that does not take them; then it takes them all."""
    size, count = 500_000, 120
    first = (await client.put(key, b"x" * size)).header.revision
    async with client.watch(key, start_revision=first) as watch:
        await until(watch, first)
        before = psutil.Process(os.getpid()).memory_info().rss
        for _ in range(count):
            revision = (await client.put(key, b"x" * size, timeout_s=20.0)).header.revision
        grown = psutil.Process(os.getpid()).memory_info().rss - before
        assert grown < size * count * 0.6, f"{grown:,} bytes more, for {size * count:,} that nobody has taken"
        assert watch.next_revision < revision
        batches = await until(watch, revision)
    assert [event.kv.mod_revision for batch in batches for event in batch.events] == [*range(first + 1, revision + 1)]


async def test_many_watches_and_many_events(client: EtcdClient, key: bytes) -> None:
    """Each of 20 watches hears each of 500 changes once, in order, whatever is cut on the way."""
    start = (await client.put(key, b"")).header.revision
    heard: dict[int, list[Event]] = {}

    async def listen(number: int, end: int) -> None:
        async with client.watch(key, prefix_end(key), start_revision=start + 1) as watch:
            got = heard[number] = []
            async with asyncio.timeout(DEADLINE_S):
                while not got or got[-1].kv.mod_revision < end:
                    got += (await anext(watch)).events
                    if len(got) % 7 == 0:
                        watch.restart("for the test")

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(listen(number, start + 500))
        for number in range(250):
            operations: list[Operation] = [Put(key + b"%d" % (number % 5), b"%d" % number)]
            await client.txn([], operations)
            await client.put(key, b"%d" % number)
    for got in heard.values():
        assert [event.kv.mod_revision for event in got] == [*range(start + 1, start + 501)]
