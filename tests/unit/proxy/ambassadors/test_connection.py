"""A connection with an ambassador as its clients and endpoints see it: slow readers, ends, and that nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import weakref

import pytest

from proxy.ambassadors.bounds import HIGH_BYTES
from tests.unit.proxy import rig as rig_module
from tests.unit.proxy.ambassadors.policies import ByLine, Pump, ServeScript
from tests.unit.proxy.ambassadors.rig import ambassador_rig, served_by


async def test_who_reads_slowly_slows_down_who_writes() -> None:
    async with ambassador_rig({"pump": Pump}) as it:
        endpoint = it.endpoint(receive_buffer_bytes=4096)
        it.serve("pump")
        it.label((endpoint, {}))
        client = await it.connect()
        await client.say(b"begin")
        backend = await endpoint.accept()
        assert await backend.hear(5) == b"begin"
        said = 0
        for _ in range(50):  # until the kernel's buffers and the proxy's are full
            said += client.fill()
            await asyncio.sleep(0.001)
        connection = next(iter(it.path._members))
        waiting = connection._backends.get("a").out_bytes  # type: ignore[attr-defined]
        assert HIGH_BYTES < waiting <= HIGH_BYTES + 65536
        client.end()
        assert len(await backend.hear_all()) == said, "and all of it comes in the end"
        back = 0
        for _ in range(50):
            back += backend.fill()
            await asyncio.sleep(0.001)
        assert connection._client.out_bytes <= HIGH_BYTES + 65536  # type: ignore[attr-defined]
        backend.end()
        assert len(await client.hear_all()) == back


async def test_a_client_that_breaks_off_takes_its_backends_with_it() -> None:
    async with served_by(ServeScript) as (it, endpoint):
        client = await it.connect()
        await client.say(b"[Open('a'), ReadClient(False)]\n")
        backend = await endpoint.accept()
        client.break_off()
        with pytest.raises(ConnectionResetError):
            await backend.hear_all()
        await it.until(lambda: it.stats.active == 0)


async def test_nothing_is_left_of_a_connection_for_garbage_collection_to_find() -> None:
    async with ambassador_rig({"pump": Pump, "line": ByLine}) as it:
        endpoint = it.endpoint()
        it.label((endpoint, {"role": "fast"}))
        gc.disable()
        try:
            for policy in ("pump", "line"):
                it.serve(policy)
                client = await it.connect()
                await client.say(b"fast\n")
                backend = await endpoint.accept()
                assert await backend.hear(5) == b"fast\n"
                connection = weakref.ref(next(iter(it.path)))
                backend.close()
                client.close()
                await it.until(lambda: it.stats.active == 0)
                await it.until(lambda: connection() is None)  # noqa: B023 - this one
        finally:
            gc.enable()


@pytest.mark.parametrize("policy", ["pump", "line"])
async def test_clients_and_endpoints_come_go_and_break_off_at_random(policy: str) -> None:
    """Whatever they do, every connection ends, no descriptor is left, and nobody is at fault."""
    rng = random.Random(11)
    before = len(os.listdir("/proc/self/fd"))

    async def serve(endpoint: rig_module.Endpoint) -> None:
        while True:
            backend = await endpoint.accept()
            tasks.append(asyncio.ensure_future(talk(backend)))

    async def talk(peer: rig_module.Peer) -> None:
        with contextlib.suppress(OSError):
            for _ in range(rng.randrange(4)):
                await peer.say(bytes(rng.choice([1, 100, 200_000])))
                await asyncio.sleep(0)
            if rng.random() < 0.3:
                peer.end()
            if rng.random() < 0.5:
                async with asyncio.timeout(0.05 * rng.random()):
                    await peer.hear_all()
        with contextlib.suppress(OSError):
            (peer.break_off if rng.random() < 0.5 else peer.close)()

    async def visit() -> None:
        with contextlib.suppress(OSError):
            client = await it.connect()
            await client.say(b"fast\n")
            await talk(client)

    tasks: list[asyncio.Future[None]] = []
    async with ambassador_rig({"pump": Pump, "line": ByLine}) as it:
        endpoint = it.endpoint()
        it.serve(policy)
        it.label((endpoint, {"role": "fast"}))
        tasks.append(asyncio.ensure_future(serve(endpoint)))
        for _ in range(20):
            await asyncio.gather(*(visit() for _ in range(15)))
        for task in tasks[1:]:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await task
        tasks[0].cancel()
        await it.until(lambda: it.stats.active == 0)
        assert it.stats.accepted == 300
        assert it.events == []
        assert not it.ambassadors._served[it.frontend.route.key].watchers
    assert len(os.listdir("/proc/self/fd")) <= before + 1
