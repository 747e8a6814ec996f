"""Asks other DNS servers for names that are not the cluster's; only if there is somebody to be asked.

Each question goes out by a socket of its own, from a port of the kernel's choice and under an id from the dice, and
only what comes back from the server that was asked, under that id, for that question, is an answer. Servers are tried
in order, each for a limited time; so many questions are under way at most, and further ones are told so at once. A
question that came by TCP is asked by TCP, since its answer is long. Nothing is remembered: whoever is asked does that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset

from proxy.dns.labels import labels_of
from proxy.dns.records import Cname
from proxy.dns.responder import EDNS_BYTES, Ask, Responder
from proxy.dns.settings import Server

MAX_UNDER_WAY = 256
TRIES = 2
_QR, _TC = 0x80, 0x02


class Upstream:
    """Those who know the rest of the world."""

    def __init__(
        self, servers: Sequence[Server], responder: Responder, *, rng: random.Random, timeout_s: float
    ) -> None:
        self._servers, self._responder, self._rng, self._timeout_s = tuple(servers), responder, rng, timeout_s
        self._stats = responder.stats
        self._under_way = 0

    async def answer(self, ask: Ask) -> bytes:
        """What is to be answered to this question, whatever comes of it."""
        if self._under_way >= MAX_UNDER_WAY:
            self._stats.forward_failures += 1
            return self._responder.failure(ask)
        self._under_way += 1
        self._stats.forwarded += 1
        try:
            answer = await self._follow(ask) if ask.found else await self._forward(ask)
        except (OSError, TimeoutError, EOFError, ValueError, dns.exception.DNSException):
            answer = None
        finally:
            self._under_way -= 1
        if answer is None:
            self._stats.forward_failures += 1
            return self._responder.failure(ask)
        return answer

    async def _forward(self, ask: Ask) -> bytes | None:
        """The whole question, as it is."""
        heard = await self._ask(ask.message, ask.question_end, over_tcp=ask.limit > EDNS_BYTES)
        if heard is None:
            return None
        if len(heard) > ask.limit:  # they did not heed what the asker takes
            heard = heard[:2] + bytes((heard[2] | _TC, heard[3], 0, 1, 0, 0, 0, 0, 0, 0)) + heard[12 : ask.question_end]
        return ask.message[:2] + heard[2:]

    async def _follow(self, ask: Ask) -> bytes | None:
        """The name that the asked one stands for."""
        _, last = ask.found[-1]
        assert isinstance(last, Cname)
        name = dns.name.Name([*labels_of(last.target), b""])
        type_ = ask.message[ask.question_end - 4] << 8 | ask.message[ask.question_end - 3]
        query = dns.message.make_query(name, dns.rdatatype.RdataType.make(type_), use_edns=0, payload=EDNS_BYTES, id=0)
        wire = query.to_wire()
        end = 12 + len(last.target) + 4
        heard = await self._ask(wire, end, over_tcp=False)
        if heard is not None and heard[2] & _TC:
            heard = await self._ask(wire, end, over_tcp=True)
        if heard is None:
            return None
        message = dns.message.from_wire(heard)
        code = int(message.rcode())
        return self._responder.compose(ask, code, _about(name, message.answer)) if code < 16 else None

    async def _ask(self, message: bytes, end: int, *, over_tcp: bool) -> bytes | None:
        """The first answer that there is, under whatever id."""
        question = message[12:end].lower()
        for turn in range(max(TRIES, len(self._servers))):
            server = self._servers[turn % len(self._servers)]
            wire = self._rng.getrandbits(16).to_bytes(2, "big") + message[2:]
            try:
                async with asyncio.timeout(self._timeout_s):
                    if over_tcp:
                        heard = await _ask_by_tcp(server, wire, question)
                    else:
                        heard = await _ask_by_udp(server, wire, question)
            except (OSError, TimeoutError, EOFError):
                continue
            if heard is not None:
                return heard
        return None


def _about(name: dns.name.Name, records: Sequence[dns.rrset.RRset]) -> tuple[dns.rrset.RRset, ...]:
    """Those of this name, and of the names that it stands for: nobody was asked about others."""
    names, found = {name}, []
    for rrset in records:
        if rrset.name in names:
            found.append(rrset)
            if rrset.rdtype == dns.rdatatype.CNAME:
                names |= {record.target for record in rrset}
    return tuple(found)


def _answers(heard: bytes, wire: bytes, question: bytes) -> bool:
    """It is the answer to what was asked, and not to something else."""
    return (
        len(heard) >= 12 + len(question)
        and heard[:2] == wire[:2]
        and bool(heard[2] & _QR)
        and heard[4:6] == b"\0\1"
        and heard[12 : 12 + len(question)].lower() == question
    )


async def _ask_by_udp(server: Server, wire: bytes, question: bytes) -> bytes:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Listening(heard, wire, question), remote_addr=server
    )
    try:
        transport.sendto(wire)
        return await heard
    finally:
        transport.close()


class _Listening(asyncio.DatagramProtocol):
    """Hears what comes, until it is the answer."""

    def __init__(self, heard: asyncio.Future[bytes], wire: bytes, question: bytes) -> None:
        self._heard, self._wire, self._question = heard, wire, question

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        if not self._heard.done() and _answers(data, self._wire, self._question):
            self._heard.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._heard.done():
            self._heard.set_exception(exc)


async def _ask_by_tcp(server: Server, wire: bytes, question: bytes) -> bytes | None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(len(wire).to_bytes(2, "big") + wire)
        await writer.drain()
        size = int.from_bytes(await reader.readexactly(2), "big")
        heard = await reader.readexactly(size)
    finally:
        writer.close()
    return heard if _answers(heard, wire, question) else None
