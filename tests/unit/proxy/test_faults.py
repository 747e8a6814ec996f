"""Faults on purpose: what they add up to, and what becomes of connections while they last."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from cluster.api.meta import Key, key_of, to_time
from cluster.pb.v1 import core_pb2 as core
from proxy.faults import NO_EFFECT, Effect, Faults
from proxy.routing import ServiceName
from tests.unit.proxy.ambassadors.policies import Pump
from tests.unit.proxy.ambassadors.rig import ambassador_rig
from tests.unit.proxy.rig import KEY, Rig, rig

WEB = KEY.service


def made(
    name: str = "f", *, pod: str = "", node: str = "", service: str = "web", uid: str = "u", ends_at: float = 1000.0,
    **spec: Any,
) -> core.Fault:  # fmt: skip
    target = core.FaultTarget(node=node) if node else core.FaultTarget(service=service, pod=pod)
    return core.Fault(
        metadata=core.ObjectMeta(namespace="default", name=name, uid=uid),
        spec=core.FaultSpec(target=target, seed=spec.pop("seed", 1), **spec),
        status=core.FaultStatus(phase="Active", endsAt=to_time(ends_at)),
    )


def begun(*faults: tuple[core.Fault, str]) -> Faults:
    book = Faults()
    for fault, ip in faults:
        ips = frozenset({ip} if ip else ())
        assert book.begin(fault, ips, random.Random(fault.spec.seed), 10.0) is not None
    return book


def test_faults_add_up() -> None:
    book = begun(
        (made("a", delayMilliseconds=100, bandwidthBytesPerSecond=5000), ""),
        (made("b", delayMilliseconds=50, jitterMilliseconds=20, bandwidthBytesPerSecond=9000), ""),
        (made("c", pod="p", reset=True), "127.0.0.2"),
        (made("d", service="other", halfOpen=True), ""),
    )
    assert book.effect(WEB, "127.0.0.1") == Effect(0.15, 0.02, 5000)
    assert book.effect(WEB, "127.0.0.2") == Effect(0.15, 0.02, 5000, breaks=True)
    assert book.effect(ServiceName("default", "other"), "127.0.0.1") == Effect(is_half_open=True)
    assert book.effect(ServiceName("elsewhere", "web"), "127.0.0.1") == NO_EFFECT
    assert book.end(Key("Fault", "default", "a")) is not None
    assert book.end(Key("Fault", "default", "a")) is None
    assert book.effect(WEB, "127.0.0.1") == Effect(0.05, 0.02, 9000)


def test_a_node_that_is_cut_off_is_so_for_all_services() -> None:
    book = begun((made(node="n", partition=True), "127.0.0.2"))
    assert not book.refuses(WEB)
    assert book.refuses(WEB, "127.0.0.2")
    assert not book.refuses(WEB, "127.0.0.1")
    assert book.effect(ServiceName("a", "b"), "127.0.0.2").is_half_open


def test_refusals_of_a_service_and_of_a_link() -> None:
    book = begun((made(refuse=True), ""))
    assert book.refuses(WEB)
    assert not book.refuses(WEB, "127.0.0.1"), "it was refused before"
    book = begun((made(pod="p", refuse=True), "127.0.0.2"))
    assert not book.refuses(WEB)
    assert [book.refuses(WEB, ip) for ip in ("127.0.0.1", "127.0.0.2")] == [False, True]


def test_the_same_seed_is_the_same_luck() -> None:
    def luck(seed: int) -> list[bool]:
        book = begun((made(lossPercent=30, seed=seed), ""))
        return [book.refuses(WEB) for _ in range(1000)]

    assert luck(1) == luck(1)
    assert luck(1) != luck(2)
    assert 250 < sum(luck(3)) < 350


def test_a_fault_that_is_over_or_known_does_not_begin() -> None:
    book, dice = Faults(), random.Random(1)
    assert book.begin(made(ends_at=9.0), frozenset(), dice, 10.0) is None
    assert book.begin(made(pod="p", refuse=True), frozenset({"127.0.0.1"}), dice, 10.0) is not None
    assert book.begin(made(pod="p", refuse=True), frozenset({"127.0.0.2"}), dice, 10.0) is None
    assert book.refuses(WEB, "127.0.0.2"), "its pod has another address now"
    assert book.begin(made(uid="another", reset=True), frozenset(), dice, 10.0) is not None
    assert book.effect(WEB, "").breaks


# --- On the data path


def begin(it: Rig, name: str = "f", *, ips: frozenset[str] = frozenset(), seconds: float = 60.0, **spec: Any) -> Key:
    fault = made(name, ends_at=time.time() + seconds, **spec)
    it.path.faults.set_fault(key_of(fault), fault, ips)
    return key_of(fault)


def end(it: Rig, key: Key) -> None:
    it.path.faults.set_fault(key, None, frozenset())


async def test_what_is_said_arrives_later_in_its_order() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        begin(it, delayMilliseconds=60, jitterMilliseconds=30)
        client, backend = await it.pair(endpoint)
        began = time.monotonic()
        for byte in b"abc":
            await client.say(bytes([byte]))
        assert await backend.hear(3) == b"abc"
        assert time.monotonic() - began >= 0.06
        await backend.say(b"answer")
        backend.end()
        assert await client.hear_all() == b"answer"
        assert time.monotonic() - began >= 0.12
        client.end()
        assert await backend.hear_all() == b""
        await it.until(lambda: it.stats.active == 0)
        assert not it.path.faults._stretches


async def test_bulk_data_is_whole_at_its_bandwidth_and_at_full_speed_afterwards() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        key = begin(it, bandwidthBytesPerSecond=200_000)
        client, backend = await it.pair(endpoint)
        began = time.monotonic()
        await client.say(b"x" * 40_000)
        assert await backend.hear(40_000) == b"x" * 40_000
        assert time.monotonic() - began >= 0.19
        end(it, key)
        data = random.Random(1).randbytes(5_000_000)
        sending = asyncio.ensure_future(client.say(data))
        assert await backend.hear(len(data)) == data
        await sending


async def test_when_it_ends_what_is_under_way_arrives() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        key = begin(it, delayMilliseconds=60_000)
        client, backend = await it.pair(endpoint)
        await client.say(b"hello")
        client.end()
        stretch = next(iter(it.path.faults._stretches))
        await it.until(lambda: stretch._up.held_bytes == 5)
        end(it, key)
        assert await backend.hear_all() == b"hello"
        assert not it.path.faults.active


async def test_a_reset_is_one_on_both_sides_of_a_stretch() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        begin(it, delayMilliseconds=1)
        client, backend = await it.pair(endpoint)
        await client.say(b"x")
        assert await backend.hear(1) == b"x"
        backend.break_off()
        with pytest.raises(ConnectionResetError):
            await client.hear_all()
        client, backend = await it.pair(endpoint)
        await client.say(b"x")
        assert await backend.hear(1) == b"x"
        client.break_off()
        with pytest.raises(ConnectionResetError):
            await backend.hear_all()
        await it.until(lambda: it.stats.active == 0 and not it.path.faults._stretches)


async def test_refused_and_lost() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        key = begin(it, refuse=True)
        with pytest.raises(ConnectionResetError):
            await (await it.connect()).hear_all()
        end(it, key)
        key = begin(it, lossPercent=100)
        with pytest.raises(ConnectionResetError):
            await (await it.connect()).hear_all()
        end(it, key)
        client, backend = await it.pair(endpoint)
        await client.say(b"x")
        assert await backend.hear(1) == b"x"


async def test_a_reset_breaks_what_is_there_and_what_comes() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        before, _ = await it.pair(endpoint)
        begin(it, reset=True)
        with pytest.raises(ConnectionResetError):
            await before.hear_all()
        client, backend = await it.pair(endpoint)
        await client.say(b"ask")
        assert await backend.hear(3) == b"ask", "whether it was carried out the client cannot know"
        await backend.say(b"answer")
        with pytest.raises(ConnectionResetError):
            await client.hear_all()


async def test_half_open_holds_everything_and_tells_nobody() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        before, its_backend = await it.pair(endpoint)
        await before.say(b"1")
        assert await its_backend.hear(1) == b"1"
        key = begin(it, halfOpen=True)
        client, backend = await it.pair(endpoint)
        await before.say(b"2")
        await client.say(b"3")
        its_backend.end()
        other = begin(it, "other", service="other", refuse=True)
        for _ in range(50):
            await asyncio.sleep(0)
        assert it.stats.active == 2
        with pytest.raises(BlockingIOError):
            its_backend.sock.recv(1)
        with pytest.raises(BlockingIOError):
            backend.sock.recv(1)
        end(it, other)
        end(it, key)
        assert await its_backend.hear(1) == b"2"
        assert await backend.hear(1) == b"3"
        assert await before.hear_all() == b""


async def test_it_ends_by_itself() -> None:
    async with rig() as it:
        endpoint = it.endpoint()
        it.lead_to(endpoint)
        begin(it, refuse=True, seconds=0.05)
        await it.until(lambda: not it.path.faults.active)
        client, backend = await it.pair(endpoint)
        await client.say(b"x")
        assert await backend.hear(1) == b"x"


async def test_one_link_only_and_the_next_endpoint_serves() -> None:
    async with rig() as it:
        cut, alive = it.endpoint(), it.endpoint()
        it.lead_to(cut, alive)
        # Both listen at 127.0.0.1, so the link is that of an address of its own.
        other = type(cut)("127.0.0.2")
        it._closing.append(other)
        it.lead_to(other, alive)
        begin(it, pod="p", ips=frozenset({"127.0.0.2"}), refuse=True)
        for _ in range(4):
            client, backend = await it.pair(alive)
            await client.say(b"x")
            assert await backend.hear(1) == b"x"


async def test_with_an_ambassador_too() -> None:
    async with ambassador_rig({"pump": Pump}) as it:
        endpoint = it.endpoint()
        it.serve("pump")
        it.label((endpoint, {}))
        key = begin(it, delayMilliseconds=60)
        client = await it.connect()
        began = time.monotonic()
        await client.say(b"hello")
        backend = await endpoint.accept()
        assert await backend.hear(5) == b"hello"
        assert time.monotonic() - began >= 0.06
        end(it, key)
        key = begin(it, halfOpen=True)
        await client.say(b"frozen")
        for _ in range(50):
            await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            backend.sock.recv(1)
        end(it, key)
        assert await backend.hear(6) == b"frozen"
        begin(it, reset=True)
        with pytest.raises(ConnectionResetError):
            await client.hear_all()
        backend.close()
