"""Every call of the client against a real etcd: what it sends is understood, and what it returns is so."""

from __future__ import annotations

import asyncio

import pytest

from cluster.rpc.etcd import (
    FAILPOINTS,
    MAX_REQUEST_BYTES,
    MAX_TXN_OPERATIONS,
    Compacted,
    Compare,
    Delete,
    DeleteResult,
    EtcdClient,
    Get,
    GetResult,
    LeaseNotFound,
    Operation,
    Put,
    PutResult,
    Refused,
    Relation,
    Target,
    TooLarge,
    Unreachable,
    created_at,
    modified_at,
    prefix_end,
    refuse,
    warn_about,
)
from tests.kit.etcd import EtcdCluster

pytestmark = pytest.mark.usefixtures("shared_etcd", "no_leaks")


async def test_a_key_is_put_read_and_deleted(client: EtcdClient, key: bytes) -> None:
    first = (await client.put(key, b"one")).header.revision
    second = (await client.put(key, b"two")).header.revision
    assert second > first
    found = await client.range(key)
    (kv,) = found.kvs
    assert kv == (key, b"two", first, second, 2, 0)
    assert (found.count, found.more) == (1, False)
    assert found.header.revision >= second
    assert found.header.cluster_id
    assert found.header.member_id
    assert found.header.raft_term
    (old,) = (await client.range(key, revision=first)).kvs
    assert (old.value, old.version) == (b"one", 1)
    assert (await client.delete(key)).deleted == 1
    assert (await client.delete(key)).deleted == 0
    assert (await client.range(key)).kvs == ()


async def test_a_range_is_read_in_parts(client: EtcdClient, key: bytes) -> None:
    names = [key + b"%d" % number for number in range(5)]
    await client.txn([], [Put(name, b"value") for name in names])
    end = prefix_end(key)
    assert [kv.key for kv in (await client.range(key, end)).kvs] == names
    part = await client.range(key, end, limit=2)
    assert [kv.key for kv in part.kvs] == names[:2]
    assert (part.more, part.count) == (True, 5)
    assert [kv.key for kv in (await client.range(key, end, limit=2, descending=True)).kvs] == [names[4], names[3]]
    assert {kv.value for kv in (await client.range(key, end, keys_only=True)).kvs} == {b""}
    counted = await client.range(key, end, count_only=True)
    assert (counted.kvs, counted.count) == ((), 5)
    assert [kv.key for kv in (await client.range(key, end, serializable=True)).kvs] == names
    assert (await client.delete(key, end)).deleted == 5


async def test_a_transaction_does_one_of_two_things_whole(client: EtcdClient, key: bytes) -> None:
    a, b = key + b"a", key + b"b"
    made = await client.txn([created_at(a, 0)], [Put(a, b"1"), Put(b, b"1"), Get(key, prefix_end(key))])
    assert made.succeeded
    put, _, got = made.results
    assert put == PutResult(made.header)
    assert isinstance(got, GetResult)
    assert [(kv.key, kv.mod_revision) for kv in got.kvs] == [(a, made.header.revision), (b, made.header.revision)]
    refused = await client.txn([created_at(a, 0), modified_at(b, made.header.revision)], [Delete(b)], [Get(b)])
    assert not refused.succeeded
    (got,) = refused.results
    assert isinstance(got, GetResult)
    assert got.kvs[0].value == b"1"
    assert refused.header.revision == made.header.revision
    gone = await client.txn([modified_at(b, made.header.revision)], [Delete(key, prefix_end(key))])
    assert gone.results == (DeleteResult(gone.header, 2),)


@pytest.mark.parametrize(
    ("target", "expected", "relation", "holds"),
    [
        (Target.VERSION, 2, Relation.EQUAL, True),
        (Target.VERSION, 2, Relation.LESS, False),
        (Target.VERSION, 1, Relation.GREATER, True),
        (Target.VALUE, b"two", Relation.EQUAL, True),
        (Target.VALUE, b"one", Relation.EQUAL, False),
        (Target.VALUE, b"one", Relation.NOT_EQUAL, True),
        (Target.VALUE, b"one", Relation.GREATER, True),
        (Target.LEASE, 0, Relation.EQUAL, True),
        (Target.CREATE, 0, Relation.NOT_EQUAL, True),
        (Target.MOD, 1 << 62, Relation.LESS, True),
    ],
)
async def test_comparisons(
    client: EtcdClient, key: bytes, target: Target, expected: int | bytes, relation: Relation, holds: bool
) -> None:
    await client.put(key, b"one")
    await client.put(key, b"two")
    assert (await client.txn([Compare(key, target, expected, relation)], [])).succeeded is holds
    with pytest.raises(TypeError):
        await client.txn([Compare(key, target, 1 if isinstance(expected, bytes) else b"1")], [])


async def test_what_is_too_large_is_refused_before_anything_is_done(client: EtcdClient, key: bytes) -> None:
    for size in (MAX_REQUEST_BYTES + 1, 8 * MAX_REQUEST_BYTES):  # refused by etcd, and by our own side
        with pytest.raises(TooLarge):
            await client.put(key, b"x" * size, timeout_s=20.0)
    operations: list[Operation] = [Put(key + b"%d" % number, b"") for number in range(MAX_TXN_OPERATIONS + 1)]
    with pytest.raises(TooLarge):
        await client.txn([], operations)
    assert (await client.range(key, prefix_end(key), count_only=True)).count == 0
    await client.txn([], operations[:-1])
    await client.put(key, b"x" * (MAX_REQUEST_BYTES - 1000), timeout_s=20.0)


async def test_what_makes_no_sense_is_refused(client: EtcdClient, key: bytes) -> None:
    with pytest.raises(Refused):
        await client.put(b"", b"")
    with pytest.raises(Refused):
        await client.txn([], [Put(key, b"1"), Put(key, b"2")])
    with pytest.raises(Refused, match="future"):
        await client.range(key, revision=1 << 60)
    with pytest.raises(Refused, match="future"):
        await client.compact(1 << 60)
    with pytest.raises(LeaseNotFound):
        await client.put(key, b"", lease=0x1234)
    assert (await client.range(key)).kvs == ()


async def test_compacted_revisions_are_gone(etcd: EtcdCluster, key: bytes) -> None:
    client = EtcdClient(etcd.endpoints)
    try:
        revisions = [(await client.put(key, b"%d" % number)).header.revision for number in range(3)]
        await client.compact(revisions[1], physical=True)
        with pytest.raises(Compacted):
            await client.range(key, revision=revisions[0])
        with pytest.raises(Compacted):
            await client.compact(revisions[1])
        assert (await client.range(key, revision=revisions[1])).kvs[0].value == b"1"
    finally:
        await client.close()


async def test_leases(client: EtcdClient, key: bytes) -> None:
    lease = await client.lease_grant(60)
    assert lease.ttl_s == 60
    await client.put(key, b"", lease=lease.id)
    assert (await client.range(key)).kvs[0].lease == lease.id
    assert await client.lease_keep_alive(lease.id) == 60
    status = await client.lease_time_to_live(lease.id, keys=True)
    assert (status.id, status.ttl_s, status.keys) == (lease.id, 60, (key,))
    assert 0 < status.left_s <= 60
    await client.lease_revoke(lease.id)
    assert (await client.range(key)).kvs == ()
    for gone in (client.lease_revoke, client.lease_keep_alive, client.lease_time_to_live):
        with pytest.raises(LeaseNotFound):
            await gone(lease.id)


async def test_what_etcd_says_of_itself(client: EtcdClient, shared_etcd: EtcdCluster) -> None:
    status = await client.status()
    assert status == await client.status(shared_etcd.endpoints[0])
    assert status.endpoint == shared_etcd.endpoints[0]
    assert status.leader == status.header.member_id
    assert status.size_bytes >= status.in_use_bytes > 0
    assert status.errors == ()
    assert refuse(status.version) == ""
    assert isinstance(warn_about(status.version), list)
    assert await client.alarms() == ()


async def test_a_closed_client_says_so(shared_etcd: EtcdCluster, key: bytes) -> None:
    client = EtcdClient(shared_etcd.endpoints)
    await client.put(key, b"1")
    async with client.watch(key, start_revision=1) as watch:
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        await client.close()
        await client.close()
        for _ in range(2):
            with pytest.raises(Unreachable, match="closed"):
                await (waiting if not waiting.done() else anext(watch))
    for call in (client.range(key), client.put(key, b"2"), client.status(), client.lease_grant(5)):
        with pytest.raises(Unreachable, match="closed"):
            await call
    with pytest.raises(Unreachable, match="closed"):
        async with client.watch(key, start_revision=1):
            pass


async def test_failpoints_stand_around_every_call_that_matters(shared_etcd: EtcdCluster, key: bytes) -> None:
    passed: list[str] = []
    client = EtcdClient(shared_etcd.endpoints, failpoint=passed.append)
    try:
        async with client.watch(key, start_revision=1) as watch:
            revision = (await client.put(key, b"")).header.revision
            await anext(watch)
        await client.txn([], [Put(key, b"")])
        await client.range(key)
        await client.delete(key)
        lease = await client.lease_grant(5)
        await client.lease_keep_alive(lease.id)
        await client.lease_revoke(lease.id)
        with pytest.raises(Refused):
            await client.compact(revision + (1 << 40))
    finally:
        await client.close()
    assert set(passed) == set(FAILPOINTS)
