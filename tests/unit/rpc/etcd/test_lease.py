"""Holding a lease, on a virtual clock: when it is renewed, and when it is given up."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from cluster.rpc.etcd import Lease, LeaseKeeper, LeaseNotFound, Unreachable
from cluster.rpc.etcd.client import EtcdClient
from tests.kit.clock import VirtualClock


class ScriptedClient(EtcdClient):
    """An etcd that answers renewals as the test says."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(["nowhere:1"], clock=clock, rng=random.Random(1))
        self.renewed_at: list[float] = []
        self.answer: Exception | int = 12
        self.takes_s = 0.0
        self.revoked: list[int] = []

    async def lease_keep_alive(
        self, lease_id: int, *, timeout_s: float | None = None, try_s: float | None = None
    ) -> int:
        assert timeout_s is not None
        assert timeout_s <= 3.0
        self.renewed_at.append(self.clock.monotonic())
        await self.clock.sleep(self.takes_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def lease_revoke(self, lease_id: int, *, timeout_s: float | None = None) -> None:
        self.revoked.append(lease_id)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(monotonic_s=0.0)


@pytest.fixture
def client(clock: VirtualClock) -> ScriptedClient:
    return ScriptedClient(clock)


@pytest.fixture
async def keeper(client: ScriptedClient, clock: VirtualClock) -> AsyncIterator[LeaseKeeper]:
    keeper = LeaseKeeper(client, Lease(7, 12), 0.0, clock)
    yield keeper
    await keeper.close()


async def test_it_is_renewed_every_third_of_its_time(
    client: ScriptedClient, clock: VirtualClock, keeper: LeaseKeeper
) -> None:
    assert keeper.trusted_until_s == 8.0
    await clock.run_for(100.0)
    assert client.renewed_at == [4.0 * turn for turn in range(1, 26)]
    assert keeper.is_held()
    assert keeper.trusted_until_s == 108.0


async def test_it_is_lost_when_nothing_is_confirmed(
    client: ScriptedClient, clock: VirtualClock, keeper: LeaseKeeper
) -> None:
    await clock.run_for(5.0)
    client.answer = Unreachable("cut off")
    await clock.run_for(6.9)
    assert keeper.is_held()
    assert len(client.renewed_at) > 20, "it is tried again and again"
    await clock.run_for(0.2)
    assert not keeper.is_held()
    assert await keeper.lost() == "no renewal was confirmed for 8.0 s"


async def test_one_answer_in_time_is_enough(client: ScriptedClient, clock: VirtualClock, keeper: LeaseKeeper) -> None:
    client.answer = Unreachable("cut off")
    await clock.run_for(7.9)
    client.answer = 12
    await clock.run_for(0.1)
    assert keeper.is_held()
    await clock.run_for(30.0)
    assert keeper.is_held()


async def test_it_counts_from_when_a_renewal_was_sent(
    client: ScriptedClient, clock: VirtualClock, keeper: LeaseKeeper
) -> None:
    client.takes_s = 2.0
    await clock.run_for(6.5)
    assert keeper.trusted_until_s == 4.0 + 8.0


async def test_whoever_was_suspended_has_lost_it(
    client: ScriptedClient, clock: VirtualClock, keeper: LeaseKeeper
) -> None:
    """At the first look, before anything else has had its turn; and a renewal that succeeds late does not help."""
    client.takes_s = 1.0
    await clock.run_for(4.5)  # a renewal is on its way
    clock.advance(60.0)
    assert not keeper.is_held()
    await clock.settle()
    assert "took until after" in await keeper.lost()
    assert not keeper.is_held()


async def test_what_is_gone_is_gone(client: ScriptedClient, clock: VirtualClock, keeper: LeaseKeeper) -> None:
    client.answer = LeaseNotFound("the lease 7 is gone")
    await clock.run_for(4.0)
    assert not keeper.is_held()
    assert await keeper.lost() == "the lease 7 is gone"


async def test_a_shorter_time_than_was_asked_for(
    client: ScriptedClient, clock: VirtualClock, keeper: LeaseKeeper
) -> None:
    client.answer = 3
    await clock.run_for(4.0)
    assert keeper.trusted_until_s == 4.0 + 2.0


async def test_given_back(client: ScriptedClient, clock: VirtualClock, keeper: LeaseKeeper) -> None:
    closed: list[LeaseKeeper] = []
    keeper.on_close(closed.append)
    await keeper.close(revoke=True)
    await keeper.close(revoke=True)
    assert (client.revoked, closed) == ([7], [keeper])
    assert not keeper.is_held()
    assert await keeper.lost() == "it was given back"
    await clock.run_for(60.0)
    assert client.renewed_at == []
