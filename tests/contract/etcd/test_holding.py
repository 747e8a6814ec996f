"""Holding a lease of a real etcd: while it is held, when it is lost, and that the holder knows before etcd does."""

from __future__ import annotations

import asyncio

import pytest

from cluster.rpc.etcd import EtcdClient, EtcdSettings, LeaseNotFound, Unreachable
from tests.kit.chaos_proxy import ChaosProxy
from tests.kit.etcd import CLIENT_PORT, EtcdCluster

pytestmark = pytest.mark.usefixtures("shared_etcd", "no_leaks")

DEADLINE_S = 60.0


async def test_a_lease_outlives_its_time_while_it_is_held(client: EtcdClient, key: bytes) -> None:
    keeper = await client.hold_lease(1)
    try:
        await client.put(key, b"", lease=keeper.lease.id)
        first = keeper.trusted_until_s
        async with asyncio.timeout(DEADLINE_S):
            # More renewals than its time would last for.
            while keeper.trusted_until_s < first + 2 * keeper.lease.ttl_s:
                assert keeper.is_held()
                await asyncio.sleep(0.05)
        assert (await client.range(key)).count == 1
    finally:
        await keeper.close(revoke=True)
        await keeper.close()
    assert not keeper.is_held()
    assert "given back" in await keeper.lost()
    assert (await client.range(key)).count == 0


async def test_a_lease_that_is_revoked_is_noticed(client: EtcdClient) -> None:
    keeper = await client.hold_lease(1)
    try:
        await client.lease_revoke(keeper.lease.id)
        async with asyncio.timeout(DEADLINE_S):
            assert "gone" in await keeper.lost()
        assert not keeper.is_held()
    finally:
        await keeper.close()


async def test_the_holder_gives_up_before_etcd_does(shared_etcd: EtcdCluster, client: EtcdClient, key: bytes) -> None:
    """Cut off, it counts its lease as lost while etcd still has it; then etcd lets it expire, with its key."""
    async with ChaosProxy((shared_etcd.members[0].host, CLIENT_PORT)) as proxy:
        behind = EtcdClient([proxy.address], settings=EtcdSettings(try_s=0.3))
        try:
            keeper = await behind.hold_lease(3)
            await behind.put(key, b"", lease=keeper.lease.id)
            proxy.up.hold()
            async with asyncio.timeout(DEADLINE_S):
                assert "no renewal was confirmed" in await keeper.lost()
            assert not keeper.is_held()
            assert (await client.lease_time_to_live(keeper.lease.id)).left_s >= 0
            proxy.reset()
            async with asyncio.timeout(DEADLINE_S):
                while (await client.range(key)).count:
                    await asyncio.sleep(0.05)
            with pytest.raises(LeaseNotFound):
                await client.lease_time_to_live(keeper.lease.id)
        finally:
            await behind.close()


async def test_a_lease_is_held_through_a_change_of_leaders(etcd3: EtcdCluster, key: bytes) -> None:
    client = EtcdClient(etcd3.endpoints)
    try:
        keeper = await client.hold_lease(10)
        leader = await etcd3.leader()
        leader.kill()
        renewed = keeper.trusted_until_s
        async with asyncio.timeout(DEADLINE_S):
            while keeper.trusted_until_s <= renewed:
                assert keeper.is_held(), await keeper.lost()
                await asyncio.sleep(0.05)
    finally:
        await client.close()
    assert not keeper.is_held()
    with pytest.raises(Unreachable):
        await client.hold_lease(3)
