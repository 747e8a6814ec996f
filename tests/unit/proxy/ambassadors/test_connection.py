"""A connection with an ambassador, from the first bytes to its end: choosing, serving, bounds, and who breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.ambassadors.bounds import FAULT_BYTES, HIGH_BYTES
from proxy.ambassadors.policy import (
    Abort,
    Action,
    Choose,
    Close,
    CloseBackend,
    ConnectionInfo,
    Decision,
    EndBackend,
    EndClient,
    Endpoint,
    NeedMore,
    Open,
    Policy,
    ReadBackend,
    ReadClient,
    Refuse,
    Serve,
    Session,
    SetTimer,
    Splice,
    Tell,
    ToBackend,
    ToClient,
    Wait,
)
from tests.unit.proxy import rig as rig_module
from tests.unit.proxy.ambassadors.rig import ambassador_rig


class ByLine(Policy):
    """The first line is the role that is wanted: "fast\\n". "no": refused; "gone": reset."""

    def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
        line, end, _ = first.partition(b"\n")
        if not end:
            return NeedMore()
        if line == b"no":
            return Refuse(b"go away")
        if line == b"gone":
            return Refuse()
        found = [each for each in endpoints if each.labels.get("role") == line.decode()]
        mirrors = [each for each in endpoints if each.labels.get("role") == "mirror"]
        rewritten = first.upper() if self.options.get("upper") else None
        return Choose(found, rewritten, mirrors) if found else Wait()


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


class Scripted(Session):
    """Does what the client says: each line is an expression that gives actions."""

    last: Scripted

    def __init__(self) -> None:
        Scripted.last = self
        self.heard: list[Any] = []
        self.rest = b""

    def from_client(self, data: bytes) -> Sequence[Action]:
        *lines, self.rest = (self.rest + data).split(b"\n")
        actions: list[Any] = []
        for line in lines:
            actions += eval(line, globals())
        return actions

    def connected(self, backend: str, endpoint: Endpoint) -> Sequence[Action]:
        self.heard.append(("connected", backend))
        return []

    def from_backend(self, backend: str, data: bytes) -> Sequence[Action]:
        self.heard.append((backend, data))
        return [ToClient(backend.encode() + b":" + data)]

    def backend_ended(self, backend: str) -> Sequence[Action]:
        self.heard.append(("ended", backend))
        return []

    def failed(self, backend: str, reason: str) -> Sequence[Action]:
        self.heard.append(("failed", backend, reason))
        return [ToClient(reason.encode())]

    def client_ended(self) -> Sequence[Action]:
        self.heard.append(("ended", "client"))
        return []

    def timer(self) -> Sequence[Action]:
        return [ToClient(b"time")]

    def endpoints_changed(self, endpoints: Sequence[Endpoint]) -> Sequence[Action]:
        self.heard.append(("endpoints", len(endpoints)))
        return []

    def closed(self) -> None:
        self.heard.append("closed")


class ServeScript(Policy):
    def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
        return Serve(Scripted())


async def test_a_session_speaks_with_several_backends() -> None:
    async with ambassador_rig({"script": ServeScript}) as it:
        endpoint = it.endpoint()
        it.serve("script")
        it.label((endpoint, {}))
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
    async with ambassador_rig({"script": ServeScript}) as it:
        endpoint = it.endpoint()
        it.serve("script")
        it.label((endpoint, {}))
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


class Pump(Policy):
    """Sends on, through a session, whatever comes."""

    class Pumping(Session):
        def __init__(self) -> None:
            self.begun = False

        def from_client(self, data: bytes) -> Sequence[Action]:
            begun, self.begun = self.begun, True
            return [ToBackend("a", data)] if begun else [Open("a"), ToBackend("a", data)]

        def from_backend(self, backend: str, data: bytes) -> Sequence[Action]:
            return [ToClient(data)]

        def client_ended(self) -> Sequence[Action]:
            return [EndBackend("a")]

    def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
        return Serve(self.Pumping())


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
    async with ambassador_rig({"script": ServeScript}) as it:
        endpoint = it.endpoint()
        it.serve("script")
        it.label((endpoint, {}))
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


async def test_a_session_decides_when_it_wants_to_hear() -> None:
    async with ambassador_rig({"script": ServeScript}) as it:
        endpoint = it.endpoint()
        it.serve("script")
        it.label((endpoint, {}))
        client = await it.connect()
        await client.say(b"[Open('a'), ReadBackend('a', False)]\n")
        backend = await endpoint.accept()
        await backend.say(b"early")
        await client.say(b"[ToClient(b'1')]\n")
        assert await client.hear(1) == b"1"
        assert ("a", b"early") not in Scripted.last.heard
        await client.say(b"[ReadBackend('a', True)]\n")
        assert await client.hear(7) == b"a:early"


MUCH = bytes(64_000_000)
"""Made here, so that the call which says it takes no time."""
NONSENSE = [
    b"[1]",
    b"[Open('a'), ToBackend('a', 'text')]",
    b"[ToClient(None)]",
    b"[Open('a'), Open('a')]",
    b"[Open(str(n)) for n in range(17)]",
    b"[SetTimer(-1)]",
    b"[SetTimer('x')]",
    b"[ToClient(MUCH)]",
    b"1 / 0",
    b"[][5]",
    b"exit()",
    b"(_ for _ in ()).throw(asyncio.CancelledError())",
    b"(lambda f: f(f))(lambda f: f(f))",
]


@pytest.mark.parametrize("line", NONSENSE)
async def test_a_fault_costs_the_connection_and_nothing_else(line: bytes) -> None:
    assert len(MUCH) > FAULT_BYTES
    async with ambassador_rig({"script": ServeScript}) as it:
        endpoint = it.endpoint()
        it.serve("script")
        it.label((endpoint, {}))
        other = await it.connect()
        await other.say(b"[Open('a')]\n")
        backend = await endpoint.accept()
        client = await it.connect()
        await client.say(line + b"\n")
        with pytest.raises(ConnectionResetError):
            await client.hear_all()
        assert it.reasons == ["PolicyFault"], it.events
        await backend.say(b"alive")
        assert await other.hear(7) == b"a:alive"
        await it.until(lambda: it.stats.active == 1)


@pytest.mark.parametrize("answer", [7, None, "text", (action for action in [Abort()]), {Close(): 1}, Close])
async def test_what_is_no_answer_is_a_fault(answer: Any) -> None:
    class Wrong(Policy):
        def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
            session = Session()
            session.from_client = lambda data: answer  # type: ignore[method-assign]
            return Serve(session) if self.options["in"] == "session" else answer

    for place in ("open", "session"):
        async with ambassador_rig({"wrong": Wrong}) as it:
            it.serve("wrong", **{"in": place})
            with contextlib.suppress(OSError):  # it may be reset at once
                await (await it.connect()).say(b"x")
            await it.until(lambda: it.stats.accepted == 1 and it.stats.active == 0)
            assert it.reasons == ["PolicyFault"], it.events


async def test_tells_in_events() -> None:
    async with ambassador_rig({"script": ServeScript}) as it:
        it.serve("script")
        client = await it.connect()
        await client.say(b"[Tell('Look', 'at this'), Tell('Look', 'again'), ToClient(b'.')]\n")
        assert await client.hear(1) == b"."
        assert it.events == [("Look", "at this")], "at most one a minute of each reason"


_WORDS = (Abort, Close, CloseBackend, EndClient, ReadBackend, ReadClient, SetTimer, Splice, Tell)
"""What the clients' lines may say beside what is used above."""


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
