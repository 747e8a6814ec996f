"""What the client does when etcd's members die, are suspended, are out of space, or cannot be reached.

Nothing here measures time: each wait has a generous deadline, and is for something to be true.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest

from cluster.rpc.etcd import (
    Alarm,
    ClusterChanged,
    EtcdClient,
    EtcdSettings,
    LeaseNotFound,
    NoSpace,
    OutcomeUnknown,
    Put,
    Unreachable,
    Watch,
    created_at,
    modified_at,
)
from tests.kit.chaos_proxy import ChaosProxy
from tests.kit.etcd import CLIENT_PORT, EtcdCluster, EtcdMember, running_etcd

pytestmark = pytest.mark.usefixtures("shared_etcd", "no_leaks")

DEADLINE_S = 60.0


@pytest.fixture
async def client3(etcd3: EtcdCluster) -> AsyncIterator[EtcdClient]:
    client = EtcdClient(etcd3.endpoints)
    yield client
    await client.close()


async def works_again(client: EtcdClient, key: bytes, value: bytes) -> int:
    """Writes until it is written, and reads it back. The revision of the write."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await client.put(key, value, timeout_s=1.0)
                (kv,) = (await client.range(key)).kvs
                assert kv.value == value
                return kv.mod_revision
            except (Unreachable, OutcomeUnknown):
                await asyncio.sleep(0.05)


async def hears(watch: Watch, value: bytes) -> None:
    async with asyncio.timeout(DEADLINE_S):
        async for batch in watch:
            if batch.events[-1].kv.value == value:
                return


@pytest.mark.parametrize("how", ["killed", "suspended"])
async def test_a_leader_that_dies(etcd3: EtcdCluster, client3: EtcdClient, key: bytes, how: str) -> None:
    """The client uses that very member, and a watch, too."""
    leader = await etcd3.leader()
    client = EtcdClient([leader.endpoint, *(one for one in etcd3.endpoints if one != leader.endpoint)])
    try:
        first = (await client.put(key, b"before")).header.revision
        async with client.watch(key, start_revision=first) as watch:
            await hears(watch, b"before")
            if how == "killed":
                leader.kill()
            else:
                leader.suspend()
            await works_again(client, key, b"after")
            await hears(watch, b"after")
            assert client.rotation.current != leader.endpoint
            if how == "killed":
                leader.start()
            else:
                leader.resume()
            await etcd3.ready()
            await works_again(client, key, b"together again")
            await hears(watch, b"together again")
    finally:
        await client.close()


async def test_a_follower_that_dies_is_left(etcd3: EtcdCluster, key: bytes) -> None:
    leader = await etcd3.leader()
    follower, other = (member for member in etcd3.members if member is not leader)
    client = EtcdClient([follower.endpoint, other.endpoint])
    try:
        await client.put(key, b"1")
        follower.kill()
        assert (await client.range(key)).kvs[0].value == b"1"
        await client.put(key, b"2")
        assert client.rotation.current == other.endpoint
    finally:
        await client.close()


async def test_without_a_quorum_nothing_is_done_and_everything_ends(etcd3: EtcdCluster, key: bytes) -> None:
    leader = await etcd3.leader()
    left, *gone = [member for member in etcd3.members if member is not leader] + [leader]
    client = EtcdClient([left.endpoint])
    try:
        first = (await client.put(key, b"1")).header.revision
        async with client.watch(key, start_revision=first) as watch:
            await hears(watch, b"1")
            for member in gone:
                member.suspend()
            with pytest.raises((Unreachable, OutcomeUnknown)):
                await client.put(key, b"2", timeout_s=1.0)
            with pytest.raises(Unreachable):
                await client.range(key, timeout_s=1.0)
            assert (await client.range(key, serializable=True)).kvs[0].value == b"1"
            assert (await client.status(left.endpoint)).endpoint == left.endpoint
            await no_leader(client, left)
            # Once it knows, a change is refused before it is sent.
            with pytest.raises(Unreachable, match="leader"):
                await client.put(key, b"3", timeout_s=1.0)
            async with asyncio.timeout(DEADLINE_S):
                while not watch.breaks:  # a watch of a member that hears nothing itself is not left open
                    assert await watch.next(0.05) is None
            for member in gone:
                member.resume()
            await works_again(client, key, b"4")
            await hears(watch, b"4")
    finally:
        await client.close()


async def no_leader(client: EtcdClient, member: EtcdMember) -> None:
    """Returns when the member knows that it has none."""
    async with asyncio.timeout(DEADLINE_S):
        while (await client.status(member.endpoint)).leader:
            await asyncio.sleep(0.05)


async def test_nobody_is_there(key: bytes) -> None:
    client = EtcdClient(["127.0.0.1:1", "127.0.0.2:1"])
    try:
        for call in (
            client.put(key, b"", timeout_s=0.5),
            client.range(key, timeout_s=0.5),
            client.status(timeout_s=0.5),
        ):
            with pytest.raises(Unreachable, match=r"(127\.0\.0\.[12]:1: connection refused(; )?){2}"):
                await call
    finally:
        await client.close()


async def test_the_answer_to_a_transaction_is_lost(shared_etcd: EtcdCluster, client: EtcdClient, key: bytes) -> None:
    """It was carried out, and the client says that it does not know; a repetition that is guarded does no harm."""
    async with ChaosProxy((shared_etcd.members[0].host, CLIENT_PORT)) as proxy:
        behind = EtcdClient([proxy.address])
        try:
            await behind.range(key)
            proxy.down.hold()
            # The connection is there and well, as far as anyone can know: nothing is asked before.
            sending = asyncio.ensure_future(behind.txn([created_at(key, 0)], [Put(key, b"once")], timeout_s=30.0))
            async with asyncio.timeout(DEADLINE_S):
                while not (await client.range(key)).kvs:
                    await asyncio.sleep(0.01)
            proxy.reset()
            with pytest.raises(OutcomeUnknown):
                await sending
            del sending  # its error has a traceback, and that has this frame: a circle that holds the connection
            proxy.down.release()
            again = await behind.txn([created_at(key, 0)], [Put(key, b"twice")])
            assert not again.succeeded
            assert (await behind.range(key)).kvs[0].version == 1
        finally:
            await behind.close()


async def test_a_transaction_that_is_never_answered_ends_in_time(
    shared_etcd: EtcdCluster, client: EtcdClient, key: bytes
) -> None:
    async with ChaosProxy((shared_etcd.members[0].host, CLIENT_PORT)) as proxy:
        behind = EtcdClient([proxy.address], settings=EtcdSettings(try_s=0.2))
        try:
            await behind.range(key)
            proxy.up.hold()
            with pytest.raises(OutcomeUnknown, match="in time"):
                await behind.put(key, b"1", timeout_s=0.3)
            assert (await client.range(key)).kvs == ()
            # From now on it is asked first whether it is there: this one is certainly not sent.
            with pytest.raises(Unreachable, match="in time"):
                await behind.put(key, b"2", timeout_s=0.3)
            proxy.up.release()
            await works_again(behind, key, b"3")
        finally:
            await behind.close()


async def test_a_request_that_is_cut_in_the_middle_is_not_done(
    shared_etcd: EtcdCluster, client: EtcdClient, key: bytes
) -> None:
    async with ChaosProxy((shared_etcd.members[0].host, CLIENT_PORT)) as proxy:
        behind = EtcdClient([proxy.address])
        try:
            await behind.range(key)
            proxy.up.cut_after(50_000)
            with pytest.raises(OutcomeUnknown):
                await behind.put(key, b"x" * 200_000)
            assert (await client.range(key)).kvs == ()
            await works_again(behind, key, b"1")
        finally:
            await behind.close()


async def test_an_etcd_that_is_slow_is_not_taken_for_one_that_is_gone(shared_etcd: EtcdCluster, key: bytes) -> None:
    """Each answer takes longer than a first try may."""
    async with ChaosProxy((shared_etcd.members[0].host, CLIENT_PORT)) as proxy:
        behind = EtcdClient([proxy.address], settings=EtcdSettings(try_s=0.1))
        try:
            await behind.put(key, b"1")
            proxy.down.delay_s = 0.3
            assert (await behind.range(key, timeout_s=30.0)).kvs[0].value == b"1"
            await behind.put(key, b"2", timeout_s=30.0)
        finally:
            await behind.close()


async def test_a_lease_is_renewed_through_a_change_of_leaders(etcd3: EtcdCluster, client3: EtcdClient) -> None:
    lease = await client3.lease_grant(60)
    leader = await etcd3.leader()
    leader.kill()
    assert await client3.lease_keep_alive(lease.id, timeout_s=DEADLINE_S) == 60
    # The new leader starts counting anew: nothing expires early because of the change.
    assert (await client3.lease_time_to_live(lease.id, timeout_s=DEADLINE_S)).left_s > 30


async def test_a_lease_that_nobody_renews_expires_with_its_keys(client: EtcdClient, key: bytes) -> None:
    lease = await client.lease_grant(1)
    revision = (await client.put(key, b"1", lease=lease.id)).header.revision
    async with client.watch(key, start_revision=revision + 1) as watch, asyncio.timeout(DEADLINE_S):
        batch = await anext(watch)
    assert [event.deleted for event in batch.events] == [True]
    with pytest.raises(LeaseNotFound):
        await client.lease_keep_alive(lease.id)


async def test_a_cancelled_call_leaves_the_client_usable(client: EtcdClient, key: bytes) -> None:
    for _ in range(20):
        task = asyncio.ensure_future(client.put(key, b"1"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await client.put(key, b"2")
    assert (await client.range(key)).kvs[0].value == b"2"


async def test_a_full_etcd_says_so_and_recovers(key: bytes) -> None:
    async with running_etcd(quota_bytes=4 * 1024 * 1024) as etcd:
        client = EtcdClient(etcd.endpoints)
        try:
            lease = await client.lease_grant(600)
            first = (await client.put(key, b"small")).header.revision
            with pytest.raises(NoSpace):
                await fill(client, key)
            with pytest.raises(NoSpace):
                await client.put(key, b"more")
            with pytest.raises(NoSpace):
                await client.txn([modified_at(key, first)], [Put(key, b"more")])
            with pytest.raises(NoSpace):
                await client.lease_grant(5)
            status = await client.status()
            ((member, alarm),) = await client.alarms()
            assert (member, alarm) == (status.leader, Alarm.NOSPACE)
            assert any("NOSPACE" in error for error in status.errors)
            # What needs no space goes on.
            assert (await client.range(key)).kvs[0].value == b"small"
            assert await client.lease_keep_alive(lease.id) == 600
            async with client.watch(key, start_revision=first) as watch:
                await hears(watch, b"small")
            deleted = await client.delete(key, key + b"\xff")
            assert deleted.deleted > 1
            await client.compact(deleted.header.revision, physical=True)
            await client.disarm(member, alarm)
            assert await client.alarms() == ()
        finally:
            await client.close()


async def fill(client: EtcdClient, key: bytes) -> None:
    for number in range(200):
        await client.put(key + b"%d" % number, b"x" * 100_000)


async def test_endpoints_of_two_clusters(shared_etcd: EtcdCluster, etcd: EtcdCluster, key: bytes) -> None:
    client = EtcdClient([shared_etcd.endpoints[0], etcd.endpoints[0]])
    try:
        await client.put(key, b"1")
        client.rotation.failed(shared_etcd.endpoints[0])
        with pytest.raises(ClusterChanged):
            await client.range(key)
        async with client.watch(key, start_revision=1) as watch:
            with pytest.raises(ClusterChanged):
                await anext(watch)
    finally:
        await client.close()


async def test_an_etcd_that_was_put_back_to_an_earlier_state(key: bytes) -> None:
    """Its member and cluster ids are the same; its revisions have gone back. A quiet watch finds out."""
    async with running_etcd() as etcd:
        (member,) = etcd.members
        client = EtcdClient(etcd.endpoints, settings=EtcdSettings(quiet_s=0.1))
        try:
            await client.put(key, b"1")
            member.kill()
            data, copy = member.directory / "data", member.directory / "copy"
            shutil.copytree(data, copy)
            member.start()
            await etcd.ready()
            last = await works_again(client, key, b"2")
            async with client.watch(key, start_revision=last) as watch:
                await hears(watch, b"2")
                member.kill()
                shutil.rmtree(data)
                copy.rename(data)
                member.start()
                async with asyncio.timeout(DEADLINE_S):
                    with pytest.raises(ClusterChanged, match="newest revision"):
                        await anext(watch)
        finally:
            await client.close()
