"""A policy that chooses by the first bytes: rewriting, refusing, mirrors, and waiting for who suits."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.unit.proxy.ambassadors.policies import ByLine
from tests.unit.proxy.ambassadors.rig import ambassador_rig


async def test_the_first_bytes_choose_the_endpoint_and_the_rest_passes_by() -> None:
    async with ambassador_rig({"line": ByLine}) as it:
        fast, slow = it.endpoint(), it.endpoint()
        it.serve("line")
        it.label((fast, {"role": "fast"}), (slow, {"role": "slow"}))
        client = await it.connect()
        for byte in (b"s", b"lo", b"w"):
            await client.say(byte)
        await client.say(b"\nand more")
        backend = await slow.accept()
        assert await backend.hear(13) == b"slow\nand more"
        await backend.say(b"answer")
        assert await client.hear(6) == b"answer"
        client.end()
        assert await backend.hear_all() == b""
        await backend.say(b"still talking")
        backend.close()
        assert await client.hear_all() == b"still talking"
        await it.until(lambda: it.stats.active == 0)
        assert (it.stats.bytes_to_endpoints, it.stats.bytes_to_clients) == (13, 19)
        assert not it.ambassadors._served[it.frontend.route.key].watchers


async def test_the_first_bytes_are_rewritten() -> None:
    async with ambassador_rig({"line": ByLine}) as it:
        fast = it.endpoint()
        it.serve("line", upper="yes")
        it.label((fast, {"role": "fast"}))
        client = await it.connect()
        await client.say(b"fast\nx")
        backend = await fast.accept()
        assert await backend.hear(6) == b"FAST\nX"
        await client.say(b"y")
        assert await backend.hear(1) == b"y"
        backend.close()


async def test_a_refusal_has_words_or_is_a_reset() -> None:
    async with ambassador_rig({"line": ByLine}) as it:
        it.serve("line")
        polite = await it.connect()
        await polite.say(b"no\n")
        assert await polite.hear_all() == b"go away"
        rude = await it.connect()
        await rude.say(b"gone\n")
        with pytest.raises(ConnectionResetError):
            await rude.hear_all()
        assert it.events == [], "a refusal is no fault"


async def test_a_client_that_ends_before_anything_can_be_chosen_is_reset() -> None:
    async with ambassador_rig({"line": ByLine}) as it:
        it.serve("line")
        client = await it.connect()
        await client.say(b"fa")
        client.end()
        with pytest.raises(ConnectionResetError):
            await client.hear_all()


async def test_too_much_without_a_decision_is_reset() -> None:
    async with ambassador_rig({"line": ByLine}) as it:
        it.serve("line")
        client = await it.connect()
        with contextlib.suppress(OSError):
            for _ in range(100):
                await client.say(b"x" * 65536)
        await it.until(lambda: it.stats.active == 0)


async def test_mirrors_hear_the_same_and_have_no_say() -> None:
    async with ambassador_rig({"line": ByLine}) as it:
        real, one, dead = it.endpoint(), it.endpoint(), it.endpoint()
        it.serve("line")
        it.label((real, {"role": "fast"}), (one, {"role": "mirror"}), (dead, {"role": "mirror"}))
        dead.close()
        client = await it.connect()
        await client.say(b"fast\nhello")
        backend, mirror = await real.accept(), await one.accept()
        for peer in (backend, mirror):
            assert await peer.hear(10) == b"fast\nhello"
        await mirror.say(b"nobody hears this")
        await backend.say(b"but this")
        assert await client.hear(8) == b"but this"
        await client.say(b"!")
        assert await mirror.hear(1) == b"!"
        mirror.break_off()
        await client.say(b"?")
        client.end()
        assert await backend.hear_all() == b"!?"
        backend.close()
        assert await client.hear_all() == b""


async def test_a_mirror_that_takes_nothing_slows_nobody_down() -> None:
    async with ambassador_rig({"line": ByLine}) as it:
        real, lazy = it.endpoint(), it.endpoint(receive_buffer_bytes=4096)
        it.serve("line")
        it.label((real, {"role": "fast"}), (lazy, {"role": "mirror"}))
        client = await it.connect()
        await client.say(b"fast\n")
        backend, mirror = await real.accept(), await lazy.accept()
        assert await backend.hear(5) == b"fast\n"
        for _ in range(200):
            await client.say(bytes(65536))
            assert len(await backend.hear(65536)) == 65536
        client.end()
        assert await backend.hear_all() == b""
        backend.close()
        mirror.close()
        assert it.events == []


async def test_nobody_suits_until_the_labels_change() -> None:
    async with ambassador_rig({"line": ByLine}) as it:
        one = it.endpoint()
        it.serve("line")
        it.label((one, {"role": "slow"}))
        client = await it.connect()
        await client.say(b"fast\n")
        await it.until(lambda: it.stats.held == 1)
        it.label((one, {"role": "fast"}))
        backend = await one.accept()
        assert await backend.hear(5) == b"fast\n"
        backend.close()


async def test_nobody_suits_for_too_long() -> None:
    async with ambassador_rig({"line": ByLine}, hold_s=0.01) as it:
        it.serve("line")
        client = await it.connect()
        await client.say(b"fast\n")
        with pytest.raises(ConnectionResetError):
            await client.hear_all()
        assert it.stats.gave_up_no_endpoint == 1


async def test_waiting_has_one_end_however_often_the_endpoints_change() -> None:
    async with ambassador_rig({"line": ByLine}, hold_s=0.1) as it:
        one = it.endpoint()
        it.serve("line")
        client = await it.connect()
        await client.say(b"fast\n")
        await it.until(lambda: it.stats.held == 1)
        for number in range(20):
            it.label((one, {"role": f"other-{number}"}))
            await asyncio.sleep(0.01)
        with pytest.raises(ConnectionResetError):
            await client.hear_all()
        assert it.stats.held == 1


async def test_whom_it_chose_refuses_and_then_another_is_chosen() -> None:
    async with ambassador_rig({"line": ByLine}) as it:
        dead, alive = it.endpoint(), it.endpoint()
        it.serve("line")
        it.label((dead, {"role": "fast"}))
        dead.close()
        client = await it.connect()
        await client.say(b"fast\n")
        await it.until(lambda: it.stats.dial_failures == 1)
        it.label((alive, {"role": "fast"}))
        backend = await alive.accept()
        assert await backend.hear(5) == b"fast\n"
        backend.close()
