"""Who is behind a service, as the master tells it: Resolve, and WatchService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from cluster.api.errors import BadRequest, Expired, Forbidden, NotFound
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.rpc.servicer import END_STREAM
from tests.unit.master.rig import Rig, running, service
from tests.unit.master.several import several

PATIENCE_S = 20.0
ADMIN = Identity("admin")
SVC = wire.ResolveRequest(name="svc")


def behind(*ips: str) -> core.Endpoints:
    subset = core.EndpointSubset(
        addresses=[core.EndpointAddress(ip=ip) for ip in ips], ports=[core.EndpointPort(port=80, protocol="TCP")]
    )
    return core.Endpoints(metadata=core.ObjectMeta(name="svc", namespace="default"), subsets=[subset] if ips else [])


def watch(rig: Rig, request: wire.ResolveRequest = SVC, who: str = "admin") -> AsyncGenerator[wire.ServiceUpdate, None]:
    return rig.master.api.watch_service(Identity.parse(who), request)


async def heard(updates: AsyncGenerator[wire.ServiceUpdate, None]) -> wire.ServiceUpdate:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(updates)


async def news(updates: AsyncGenerator[wire.ServiceUpdate, None]) -> wire.ServiceUpdate:
    """The next update that says something."""
    while True:
        update = await heard(updates)
        if update.WhichOneof("update"):
            return update


def ips(update: wire.ServiceUpdate) -> list[str]:
    return [each.address for each in update.service.endpoints]


async def test_resolve_is_of_now(rig: Rig) -> None:
    with pytest.raises(NotFound, match='services "svc" not found'):
        await rig.master.api.resolve(ADMIN, SVC)
    await rig.create(service())
    await rig.create(behind("127.1.16.1"))
    answer = await rig.master.api.resolve(ADMIN, SVC)
    assert (answer.revision, answer.store_id) == (rig.revision, rig.master.store.store_id)
    assert [each.address for each in answer.service.endpoints] == ["127.1.16.1"]
    with pytest.raises(NotFound):
        await rig.master.api.resolve(ADMIN, wire.ResolveRequest(name="svc", namespace="other"))


@pytest.mark.parametrize("who", ["scheduler", "hollow:h", "master"])
async def test_who_may_not_read_endpoints_may_not_resolve(rig: Rig, who: str) -> None:
    with pytest.raises(Forbidden):
        await rig.master.api.resolve(Identity.parse(who), SVC)
    with pytest.raises(Forbidden):
        await heard(watch(rig, who=who))
    assert rig.master.store.watchers == 0


@pytest.mark.parametrize("who", ["admin", "controllers", "proxy", "node:n1"])
async def test_who_may(rig: Rig, who: str) -> None:
    await rig.create(service())
    assert (await rig.master.api.resolve(Identity.parse(who), SVC)).service.name == "svc"
    updates = watch(rig, who=who)
    assert (await heard(updates)).service.name == "svc"
    await updates.aclose()


@pytest.mark.parametrize(
    "request_", [wire.ResolveRequest(), wire.ResolveRequest(name="a,b"), wire.ResolveRequest(name="a", namespace="B!")]
)
async def test_what_cannot_be_a_name(rig: Rig, request_: wire.ResolveRequest) -> None:
    with pytest.raises(BadRequest, match="cannot be the name of a service"):
        await rig.master.api.resolve(ADMIN, request_)
    with pytest.raises(BadRequest):
        await heard(watch(rig, request_))


async def test_each_change_is_told_once_and_what_makes_no_difference_is_a_sign_of_life(rig: Rig) -> None:
    updates = watch(rig)
    assert (await heard(updates)).absent
    made = await rig.create(service())
    assert isinstance(made, core.Service)
    assert ips(await news(updates)) == []
    endpoints = await rig.create(behind("127.1.16.1"))
    update = await news(updates)
    assert (ips(update), update.revision) == (["127.1.16.1"], rig.revision)
    endpoints.metadata.labels["a"] = "b"
    await rig.write(ops.update(endpoints))
    update = await heard(updates)
    assert (update.WhichOneof("update"), update.revision) == (None, rig.revision)
    await rig.write(ops.delete(Key("Service", "default", "svc")))
    assert (await news(updates)).absent
    await updates.aclose()
    assert rig.master.store.watchers == 0


async def test_what_changes_while_the_reader_is_busy_is_one_update(rig: Rig) -> None:
    await rig.create(service())
    await rig.create(behind("127.1.16.1"))
    updates = watch(rig)
    await heard(updates)
    for number in range(2, 30):
        await rig.write(ops.update(behind(f"127.1.16.{number}")))
    update = await news(updates)
    assert (ips(update), update.revision) == (["127.1.16.29"], rig.revision)
    await updates.aclose()


async def test_a_master_that_does_not_lead_answers_with_nothing_older_than_what_was_acknowledged() -> None:
    async with several(2) as cluster:
        first, second = cluster.rigs
        await first.create(service())
        await cluster.settle()
        cluster.journals[1].following.clear()
        await first.create(behind("127.1.16.1"))
        resolving = asyncio.create_task(second.master.api.resolve(ADMIN, SVC))
        updates = watch(second)
        watching = asyncio.create_task(heard(updates))
        await cluster.settle()
        assert not resolving.done()
        assert not watching.done()
        stale = await second.master.api.resolve(ADMIN, wire.ResolveRequest(name="svc", allow_stale=True))
        assert list(stale.service.endpoints) == []
        cluster.journals[1].following.set()
        assert [each.address for each in (await resolving).service.endpoints] == ["127.1.16.1"]
        assert ips(await watching) == ["127.1.16.1"]
        await first.write(ops.update(behind("127.1.16.2")))
        assert ips(await news(updates)) == ["127.1.16.2"]
        await updates.aclose()


async def test_a_quiet_service_gives_signs_of_life() -> None:
    async with running() as rig:
        await rig.create(service())
        updates = watch(rig)
        assert (await heard(updates)).service.name == "svc"
        asking = asyncio.ensure_future(heard(updates))
        await rig.clock.run_for(10.0)
        update = await asking
        assert (update.WhichOneof("update"), update.revision) == (None, rig.revision)
        await updates.aclose()


async def test_a_reader_that_takes_nothing_is_closed() -> None:
    async with running() as rig:
        await rig.create(service())
        ended: list[BaseException] = []
        token = END_STREAM.set(ended.append)
        try:
            updates = watch(rig)
            await heard(updates)
            await rig.create(behind("127.1.16.1"))
            await news(updates)  # and is not heard of again
            await rig.clock.run_for(10.0)
            assert isinstance(ended[0], Expired)
            await updates.aclose()
        finally:
            END_STREAM.reset(token)
        assert rig.master.store.watchers == 0
