"""The connections to endpoints that one client of HTTP has: one for the request under way, others kept, and mirrors.

A connection that has answered in full is kept for the next request of the same client that goes to the same endpoint;
more than a few are not, and the one that was opened first goes first. A mirror's is for one request: what it answers,
and when, is nobody's business. Pure: what is to be opened and closed is said in actions.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import h11

from proxy.ambassadors.http_heads import MAX_HEAD, Headers
from proxy.ambassadors.policy import Action, CloseBackend, Endpoint, Open, ToBackend

MAX_KEPT: Final = 4
"""Connections to endpoints that one client keeps."""
MAX_MIRRORS: Final = 4


class HttpBackend:
    """A connection to an endpoint, with the request that it carries."""

    def __init__(self, reused_at: Endpoint | None = None) -> None:
        self.endpoint = reused_at
        """Once it is connected."""
        self.is_reused = reused_at is not None
        self.h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self.has_answered = False
        """Something of the answer to this request has come."""


class HttpBackends:
    """Of one client."""

    def __init__(self) -> None:
        self.current = ""
        """The backend of the request; empty: there is none."""
        self._backends: dict[str, HttpBackend] = {}
        self._mirrors: list[str] = []
        self.mirror: h11.Connection | None = None
        """What the request is copied to, while there is more of it to be sent."""
        self.opened = 0
        """So far; each has a name of its own."""

    def __getitem__(self, name: str) -> HttpBackend:
        return self._backends[name]

    def choose(self, best: Endpoint | None, actions: list[Action]) -> None:
        """A connection that is kept, if there is one to the best endpoint; else a new one."""
        for name, backend in self._backends.items():
            if backend.endpoint is not None and best is not None and backend.endpoint.address == best.address:
                self._backends[name] = HttpBackend(backend.endpoint)
                self.current = name
                return
        while len(self._backends) >= MAX_KEPT:
            actions.append(self.close(next(iter(self._backends))))
        self.open(actions)

    def open(self, actions: list[Action]) -> None:
        """A new connection for the request."""
        self.opened += 1
        self.current = f"b{self.opened}"
        self._backends[self.current] = HttpBackend()
        actions.append(Open(self.current))

    def forget(self, name: str) -> None:
        """It is gone. Twice is fine."""
        self._backends.pop(name, None)
        if name == self.current:
            self.current = ""

    def close(self, name: str) -> Action:
        """It is to go."""
        self.forget(name)
        return CloseBackend(name)

    def close_all_but(self, known: Collection[tuple[str, int]]) -> list[Action]:
        """Endpoints are known by these addresses: kept connections to any other go."""
        gone = [
            name
            for name, backend in self._backends.items()
            if name != self.current and backend.endpoint is not None and backend.endpoint.address not in known
        ]
        return [self.close(name) for name in gone]

    def is_mirror(self, name: str) -> bool:
        """It is one of those that get copies."""
        return name in self._mirrors

    def open_mirror(self, request: h11.Request, headers: Headers, actions: list[Action]) -> None:
        """A connection for a copy of this one request, with these headers; its body follows with `copy`."""
        if len(self._mirrors) == MAX_MIRRORS:
            actions.append(CloseBackend(self._mirrors.pop(0)))
        self.opened += 1
        self._mirrors.append(f"m{self.opened}")
        actions.append(Open(self._mirrors[-1], mirror=True))
        self.mirror = h11.Connection(h11.CLIENT)
        self.copy(h11.Request(method=request.method, target=request.target, headers=headers), actions)

    def copy(self, event: h11.Request | h11.Data | h11.EndOfMessage, actions: list[Action]) -> None:
        """The mirror of the request gets this, too, if it has one."""
        if self.mirror is not None and (sent := self.mirror.send(event)):
            actions.append(ToBackend(self._mirrors[-1], sent))
