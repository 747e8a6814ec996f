"""A policy that does something wrong: it costs the connection that met it, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.ambassadors.bounds import FAULT_BYTES
from proxy.ambassadors.policy import Abort, Close, ConnectionInfo, Decision, Endpoint, Policy, Serve, Session
from tests.unit.proxy.ambassadors.policies import MUCH, ServeScript
from tests.unit.proxy.ambassadors.rig import ambassador_rig, served_by

NONSENSE = {
    b"[1]": "'1' is no action",
    b"[Open('a'), ToBackend('a', 'text')]": "no bytes",
    b"[ToClient(None)]": "no bytes",
    b"[ToClient(b'x'), ToClient(None)]": "no bytes",
    b"[Open('a'), Open('a')]": "there already",
    b"[Open(str(n)) for n in range(17)]": "more than 16 backends",
    b"[SetTimer(-1)]": "makes no sense",
    b"[SetTimer('x')]": "makes no sense",
    b"[ToClient(MUCH)]": "bytes wait to be sent",
    b"1 / 0": "ZeroDivisionError",
    b"[][5]": "IndexError",
    b"exit()": "SystemExit",
    b"(_ for _ in ()).throw(asyncio.CancelledError())": "CancelledError",
    b"(lambda f: f(f))(lambda f: f(f))": "RecursionError",
}
"""What a session answers, and what is said of it."""


@pytest.mark.parametrize("line", NONSENSE)
async def test_a_fault_costs_the_connection_and_nothing_else(line: bytes) -> None:
    assert len(MUCH) > FAULT_BYTES
    async with served_by(ServeScript) as (it, endpoint):
        other = await it.connect()
        await other.say(b"[Open('a')]\n")
        backend = await endpoint.accept()
        client = await it.connect()
        await client.say(line + b"\n")
        with pytest.raises(ConnectionResetError):
            await client.hear_all()
        assert it.reasons == ["PolicyFault"], it.events
        assert NONSENSE[line] in it.events[0][1]
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
