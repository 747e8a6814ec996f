"""Policies that do what a test wants: choose by a line, do what the client's lines say, send on whatever comes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from proxy.ambassadors import policy
from proxy.ambassadors.policy import (
    Action,
    Choose,
    ConnectionInfo,
    Decision,
    EndBackend,
    Endpoint,
    NeedMore,
    Open,
    Policy,
    Refuse,
    Serve,
    Session,
    ToBackend,
    ToClient,
    Wait,
)

MUCH = bytes(64_000_000)
"""Made here, so that the call which says it takes no time."""
WORDS: dict[str, Any] = {**vars(policy), "asyncio": asyncio, "MUCH": MUCH}
"""What the lines of a script may say."""


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
            actions += eval(line, WORDS)
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
