"""What a route asks for besides endpoints: time-outs, draining, ejection, health checks, the access log, counters."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from cluster.actor.open_files import raise_file_limit
from cluster.telemetry.metrics import Metrics
from proxy.access_log import AccessLog
from proxy.engine import Engine
from proxy.exposition import Exposition
from proxy.frontend import Frontend
from proxy.outlier import OutlierTerms
from proxy.policies import Target
from proxy.routing import HealthTerms, Route
from proxy.settings import DataPathSettings
from proxy.sockets import ListenSockets
from proxy.stats import Stats
from proxy.sweeper import cut_overdue
from proxy.timeouts import Timeouts
from tests.unit.proxy.rig import DEADLINE_S, KEY, Endpoint, Parties, Peer


class StillClock(SystemClock):
    """Stands still until it is told the time."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Scene(Parties):
    """An engine that serves one port, with a clock that stands still unless it is told to go on."""

    def __init__(self, log: Path | None) -> None:
        super().__init__()
        self.clock = StillClock()
        self.stats = Stats()
        settings = DataPathSettings(hold_s=DEADLINE_S, dial_timeouts_s=(DEADLINE_S,))
        self.log = None if log is None else AccessLog(log, self.clock)
        self.engine = Engine(
            settings,
            clock=self.clock,
            rng=random.Random(3),
            stats=self.stats,
            file_limit=raise_file_limit(),
            access_log=None if self.log is None else self.log.write,
        )
        self.sockets = ListenSockets(1, 128)
        self.route = Route(KEY, Target("127.0.0.1", 0), ())
        self.engine.open(self.route, self.sockets.obtain(self.route)[0])
        self.address = self.sockets.addresses[KEY]

    @property
    def frontend(self) -> Frontend:
        return next(iter(self.engine.frontends()))

    def update(self, *endpoints: Endpoint, **changes: object) -> None:
        targets = tuple(endpoint.target for endpoint in endpoints)
        self.route = replace(self.route, targets=targets, **changes)  # type: ignore[arg-type]
        self.engine.update(self.route)

    async def close(self) -> None:
        self.close_all()
        await self.engine.stop()
        await self.engine.stop()
        self.sockets.close()
        if self.log is not None:
            self.log.close()


@asynccontextmanager
async def scene(log: Path | None = None) -> AsyncIterator[Scene]:
    it = Scene(log)
    try:
        yield it
    finally:
        await it.close()


async def is_cut(peer: Peer) -> bool:
    try:
        return await peer.hear(1) == b""
    except ConnectionResetError:
        return True


async def test_a_silent_connection_is_cut_and_one_that_says_something_is_not() -> None:
    async with scene() as it:
        endpoint = it.endpoint()
        it.update(endpoint, timeouts=Timeouts(idle_s=10))
        (silent, _), (busy, behind) = await it.pair(endpoint), await it.pair(endpoint)
        await it.until(lambda: it.stats.ports[KEY].active == 2)
        for now in (4.0, 9.0, 14.0):
            it.clock.now = now
            await busy.say(b"!")
            assert await behind.hear(1) == b"!"
            cut_overdue(it.frontend, now)
        assert await is_cut(silent)
        assert (it.stats.ports[KEY].timed_out_idle, it.stats.ports[KEY].active) == (1, 1)


async def test_the_first_byte_is_waited_for_only_so_long() -> None:
    async with scene() as it:
        endpoint = it.endpoint()
        it.update(endpoint, timeouts=Timeouts(first_byte_s=5))
        (slow, _), (client, behind) = await it.pair(endpoint), await it.pair(endpoint)
        await behind.say(b"220 hello")  # a server that speaks first counts as well
        assert await client.hear(9) == b"220 hello"
        it.clock.now = 1000.0
        cut_overdue(it.frontend, 1000.0)
        assert await is_cut(slow)
        assert (it.stats.ports[KEY].timed_out_first_byte, it.stats.ports[KEY].active) == (1, 1)


async def test_connections_from_before_the_time_out_was_set_are_watched_too() -> None:
    async with scene() as it:
        endpoint = it.endpoint()
        it.update(endpoint)
        client, _ = await it.pair(endpoint)
        it.update(endpoint, timeouts=Timeouts(idle_s=1))
        it.clock.now = 100.0
        cut_overdue(it.frontend, 100.0)
        assert await is_cut(client)


async def test_the_sweeper_does_it_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.sweeper.TURN_S", 0.001)
    async with scene() as it:
        endpoint = it.endpoint()
        it.update(endpoint, timeouts=Timeouts(idle_s=1))
        client, _ = await it.pair(endpoint)
        it.clock.now = 100.0
        assert await is_cut(client)


async def test_who_says_nothing_makes_room_when_there_is_none() -> None:
    async with scene() as it:
        endpoint = it.endpoint()
        it.update(endpoint)
        (silent, _), (client, behind) = await it.pair(endpoint), await it.pair(endpoint)
        await client.say(b"!")
        assert await behind.hear(1) == b"!"
        it.stats.connections_limit = 2
        it.clock.now = 9.0
        with pytest.raises(ConnectionResetError):  # nobody has been silent for long enough
            await (await it.connect()).hear(1)
        assert it.stats.ports[KEY].refused_limit == 1
        it.clock.now = 10.0
        newcomer, its_end = await it.pair(endpoint)
        assert await is_cut(silent)
        for one, other in ((client, behind), (newcomer, its_end)):
            await one.say(b"fine")
            assert await other.hear(4) == b"fine"
        assert it.stats.ports[KEY].timed_out_first_byte == 1


async def test_draining_ends_connections_to_endpoints_that_are_gone_and_have_not_come_back() -> None:
    async with scene() as it:
        gone, back, stays = it.endpoint(), it.endpoint(), it.endpoint()
        it.update(gone, back, stays, timeouts=Timeouts(drain_s=0.02))
        pairs = [await it.pair(endpoint) for endpoint in (gone, back, stays)]
        it.update(stays)
        it.update(stays, back)
        assert await is_cut(pairs[0][0])
        for client, behind in pairs[1:]:
            await client.say(b"still here")
            assert await behind.hear(10) == b"still here"
        assert it.stats.ports[KEY].drained == 1


async def test_an_endpoint_that_is_going_serves_while_there_is_nobody_else() -> None:
    async with scene() as it:
        going = it.endpoint()
        it.update(terminating=(going.target,))
        client, behind = await it.pair(going)
        await client.say(b"hello")
        assert await behind.hear(5) == b"hello"


async def test_five_failures_in_a_row_eject() -> None:
    async with scene() as it:
        dead, alive = it.endpoint(), it.endpoint()
        it.update(dead, alive, terms=replace(it.route.terms, outliers=OutlierTerms()))
        dead.close()
        for _ in range(30):
            await it.pair(alive)
        stats = it.engine.observe().ports[KEY]
        assert stats.endpoints[dead.target].dial_failures == 5
        assert (stats.ejected, stats.ejections) == (frozenset({dead.target}), 1)
        it.clock.now = 45.0
        await it.pair(alive)
        await it.pair(alive)
        assert stats.endpoints[dead.target].dial_failures > 5, "it gets another chance"


HEALTH = HealthTerms(interval_s=5, timeout_s=DEADLINE_S, failure_threshold=2, success_threshold=1)


async def rounds(it: Scene, count: int) -> None:
    checker = it.engine.checker(KEY)
    assert checker is not None
    for _ in range(count):
        await checker.round()


async def test_an_endpoint_that_cannot_be_connected_to_is_ill() -> None:
    async with scene() as it:
        dead, alive = it.endpoint(), it.endpoint()
        it.update(dead, alive, health=HEALTH)
        dead.close()
        await rounds(it, 1)
        assert it.engine.observe().ports[KEY].unhealthy == frozenset()
        await rounds(it, 1)
        assert it.engine.observe().ports[KEY].unhealthy == {dead.target}
        it.update(alive, health=HEALTH)
        assert it.engine.observe().ports[KEY].unhealthy == frozenset()
        it.update(dead, alive, health=None)
        assert it.engine.checker(KEY) is None


async def test_health_by_http() -> None:
    codes = {"one": 200, "two": 503}
    asked: list[bytes] = []

    async def start(name: str) -> asyncio.Server:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(f"HTTP/1.1 {codes[name]} Whatever\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        return await asyncio.start_server(answer, "127.0.0.1", 0)

    async with scene() as it:
        servers = {name: await start(name) for name in codes}
        one, two = (Target(*server.sockets[0].getsockname()) for server in servers.values())
        it.route = replace(it.route, targets=(one, two), health=replace(HEALTH, http_path="/healthz"))
        it.engine.update(it.route)
        await rounds(it, 2)
        assert it.engine.observe().ports[KEY].unhealthy == {two}
        assert asked[0].startswith(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:")
        codes["two"] = 302
        await rounds(it, 1)
        assert it.engine.observe().ports[KEY].unhealthy == frozenset()
        for server in servers.values():
            server.close()


async def test_a_line_for_each_connection_that_ended(tmp_path: Path) -> None:
    async with scene(tmp_path / "access.log") as it:
        endpoint = it.endpoint()
        it.update(endpoint, access_log=True)
        client, behind = await it.pair(endpoint)
        await client.say(b"12345")
        await behind.hear(5)
        it.clock.now += 0.5
        await behind.say(b"123")
        await client.hear(3)
        client.close()
        behind.close()
        await it.until(lambda: len(it.engine) == 0)
        it.update(endpoint, access_log=False)
        other, _ = await it.pair(endpoint)
        other.break_off()
        await it.until(lambda: len(it.engine) == 0)
        (line,) = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
        assert line["service"] == "default/web"
        assert line["endpoint"] == str(endpoint.target)
        assert (line["bytes_up"], line["bytes_down"], line["outcome"]) == (5, 3, "closed")
        assert (line["dial_ms"], line["first_byte_ms"], line["duration_ms"]) == (0.0, 500.0, 500.0)
        assert line["client"].startswith("127.0.0.1:")


async def test_the_access_log_is_kept_below_a_size(tmp_path: Path) -> None:
    async with scene(tmp_path / "access.log") as it:
        log = AccessLog(tmp_path / "small.log", it.clock, max_bytes=2000)
        it.engine.path.access_log = log.write
        endpoint = it.endpoint()
        it.update(endpoint, access_log=True)
        for _ in range(40):
            client, _ = await it.pair(endpoint)
            client.break_off()
        await it.until(lambda: len(it.engine) == 0)
        log.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["small.log", "small.log.1"]
        assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
        outcomes = {json.loads(line)["outcome"] for line in (tmp_path / "small.log").read_text().splitlines()}
        assert outcomes == {"reset"}


async def test_counters_of_endpoints_and_latencies() -> None:
    async with scene() as it:
        endpoint = it.endpoint()
        it.update(endpoint)
        client, behind = await it.pair(endpoint)
        await client.say(b"12345")
        await behind.hear(5)
        it.clock.now += 0.02
        await behind.say(b"1")
        await client.hear(1)
        metrics = Metrics()
        metrics.register(Exposition(it.engine.observe))
        text = metrics.render().decode()
        labels = f'endpoint="{endpoint.target}",namespace="default",port="80",service="web"'
        for line in (
            f"podium_proxy_endpoint_connections_active{{{labels}}} 1.0",
            f"podium_proxy_endpoint_fit{{{labels}}} 1.0",
            f"podium_proxy_endpoint_connections_total{{{labels}}} 1.0",
            'podium_proxy_first_byte_seconds_bucket{le="0.01",namespace="default",port="80",service="web"} 0.0',
            'podium_proxy_first_byte_seconds_bucket{le="0.025",namespace="default",port="80",service="web"} 1.0',
            'podium_proxy_dial_seconds_count{namespace="default",port="80",service="web"} 1.0',
        ):
            assert line in text
        assert f'podium_proxy_endpoint_bytes_total{{direction="to-endpoints",{labels}}} 5.0' in text
        it.update()
        client.close()
        behind.close()
        await it.until(lambda: len(it.engine) == 0)
        it.update(it.endpoint())
        stats = it.engine.observe().ports[KEY]
        assert endpoint.target not in stats.endpoints
        assert (stats.bytes_to_endpoints, stats.bytes_to_clients) == (5, 1), "sums are kept"
