"""A session between a client and its backends: opening, hearing, splicing, telling."""

from __future__ import annotations

import pytest

from tests.unit.proxy.ambassadors.policies import Scripted, ServeScript
from tests.unit.proxy.ambassadors.rig import ambassador_rig, served_by


async def test_a_session_speaks_with_several_backends() -> None:
    async with served_by(ServeScript) as (it, endpoint):
        client = await it.connect()
        await client.say(b"[Open('a'), ToBackend('a', b'for a')]\n[Open('b'), ToBackend('b', b'for b')]\n")
        a, b = await endpoint.accept(), await endpoint.accept()
        assert (await a.hear(5), await b.hear(5)) == (b"for a", b"for b")
        await b.say(b"1")
        assert await client.hear(3) == b"b:1"
        await a.say(b"2")
        assert await client.hear(3) == b"a:2"
        b.close()
        await it.until(lambda: ("ended", "b") in Scripted.last.heard)
        await client.say(b"[CloseBackend('a')]\n")
        assert await a.hear_all() == b""
        await client.say(b"[Open('a'), EndBackend('a')]\n")
        again = await endpoint.accept()
        assert await again.hear_all() == b""
        again.break_off()
        assert await client.hear(5) == b"reset"
        await client.say(b"[SetTimer(0.001)]\n")
        assert await client.hear(4) == b"time"
        await client.say(b"[ToClient(b'bye'), Close(), ToClient(b'never')]\n")
        assert await client.hear_all() == b"bye"
        client.close()
        await it.until(lambda: it.stats.active == 0)
        assert Scripted.last.heard[-1] == "closed"
        assert it.events == []


async def test_a_session_hears_of_endpoints_and_of_backends_that_cannot_be_had() -> None:
    async with ambassador_rig({"script": ServeScript}, hold_s=0.01) as it:
        endpoint = it.endpoint()
        it.serve("script")
        client = await it.connect()
        await client.say(b"[Open('a'), ToBackend('a', b'x')]\n")
        assert await client.hear(11) == b"no-endpoint"
        it.label((endpoint, {}))
        endpoint.close()
        await it.until(lambda: ("endpoints", 1) in Scripted.last.heard)
        await client.say(b"[Open('a')]\n")
        assert await client.hear(4) == b"dial"
        assert (it.stats.gave_up_no_endpoint, it.stats.gave_up_dial) == (1, 1)


async def test_a_backend_that_cannot_be_had_yet_is_had_when_the_endpoints_change() -> None:
    async with ambassador_rig({"script": ServeScript}) as it:
        endpoint = it.endpoint()
        it.serve("script")
        client = await it.connect()
        await client.say(b"[Open('a'), ToBackend('a', b'x')]\n")
        await it.until(lambda: it.stats.held == 1)
        it.label((endpoint, {}))
        backend = await endpoint.accept()
        assert await backend.hear(1) == b"x"
        backend.close()


async def test_splicing_loses_nothing_of_what_was_said_before() -> None:
    async with served_by(ServeScript) as (it, endpoint):
        client = await it.connect()
        await client.say(b"[ToClient(b'x' * 100_000), Open('a'), ToBackend('a', b'y' * 100_000), Splice('a')]\n")
        backend = await endpoint.accept()
        await it.until(lambda: bool(Scripted.last.heard))
        await client.say(b"past the session")
        assert await backend.hear(100_000) == b"y" * 100_000
        assert await client.hear(100_000) == b"x" * 100_000
        assert await backend.hear(16) == b"past the session"
        await backend.say(b"back")
        assert await client.hear(4) == b"back"
        assert Scripted.last.heard[-1] == "closed"
        backend.break_off()
        with pytest.raises(ConnectionResetError):
            await client.hear_all()


async def test_a_session_decides_when_it_wants_to_hear() -> None:
    async with served_by(ServeScript) as (it, endpoint):
        client = await it.connect()
        await client.say(b"[Open('a'), ReadBackend('a', False)]\n")
        backend = await endpoint.accept()
        await backend.say(b"early")
        await client.say(b"[ToClient(b'1')]\n")
        assert await client.hear(1) == b"1"
        assert ("a", b"early") not in Scripted.last.heard
        await client.say(b"[ReadBackend('a', True)]\n")
        assert await client.hear(7) == b"a:early"


async def test_tells_in_events() -> None:
    async with ambassador_rig({"script": ServeScript}) as it:
        it.serve("script")
        client = await it.connect()
        await client.say(b"[Tell('Look', 'at this'), Tell('Look', 'again'), ToClient(b'.')]\n")
        assert await client.hear(1) == b"."
        assert it.events == [("Look", "at this")], "at most one a minute of each reason"
