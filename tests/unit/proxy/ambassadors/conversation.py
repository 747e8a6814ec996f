"""Talks to a session as the proxy does, without a network: bytes in, actions out."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.ambassadors.policy import (
    Abort,
    Action,
    Close,
    CloseBackend,
    EndBackend,
    EndClient,
    Endpoint,
    Open,
    ReadBackend,
    ReadClient,
    Session,
    SetTimer,
    Splice,
    Tell,
    ToBackend,
    ToClient,
)


def endpoint(number: int, **labels: str) -> Endpoint:
    return Endpoint(f"127.0.0.{number}", 1, labels=labels)


class Conversation:
    """Carries out what a session answers, and keeps what became of it."""

    def __init__(self, session: Session, endpoints: Sequence[Endpoint]) -> None:
        self.session = session
        self.endpoints = tuple(endpoints)
        self.to_client = b""
        self.to: dict[Endpoint, bytes] = {}
        """What each endpoint was sent, over all its connections."""
        self.open: dict[str, Endpoint] = {}
        """Backends by name."""
        self.mirrors: set[str] = set()
        self.holding: dict[str, bytes] = {}
        """Backends that nobody can be found for, with what is to be sent to them."""
        self.opened: list[tuple[str, Endpoint]] = []
        self.reading = True
        self.paused: set[str] = set()
        self._over = ""
        self.ended: list[str] = []
        self.told: list[str] = []
        self.timer_s: float | None = None
        self._kept = b""

    def over(self) -> str:
        """How it ended: "close", "abort", "splice NAME"; nothing: it goes on."""
        return self._over

    def is_reading(self) -> bool:
        """The client is read."""
        return self.reading

    def say(self, data: bytes, *, piece: int = 0) -> bytes:
        """The client says it, `piece` bytes at a time (0: all at once); what it was answered."""
        before = len(self.to_client)
        self._kept += data
        while self.reading and self._kept and not self._over:
            size = piece or len(self._kept)
            part, self._kept = self._kept[:size], self._kept[size:]
            self._do(self.session.from_client(part))
        return self.to_client[before:]

    def answer(self, backend: str, data: bytes, *, piece: int = 0) -> bytes:
        """A backend says it; what the client was told because of it."""
        before = len(self.to_client)
        assert backend not in self.paused, f"{backend} is not to be read now"
        size = piece or len(data)
        for start in range(0, len(data), size):
            self._do(self.session.from_backend(backend, data[start : start + size]))
        self.say(b"")
        return self.to_client[before:]

    def heard(self, backend: str) -> bytes:
        """What the backend was sent since the last time."""
        return self.to.pop(self.open[backend], b"")

    def end(self) -> None:
        self._do(self.session.client_ended())

    def backend_ends(self, backend: str) -> None:
        del self.open[backend]
        self._do(self.session.backend_ended(backend))
        self.say(b"")

    def backend_fails(self, backend: str, reason: str = "reset") -> None:
        self.open.pop(backend, None)
        self.holding.pop(backend, None)
        self._do(self.session.failed(backend, reason))
        self.say(b"")

    def change(self, *endpoints: Endpoint) -> None:
        """The endpoints are these now."""
        self.endpoints = endpoints
        for name, data in list(self.holding.items()):
            del self.holding[name]
            self._connect(name, data)
        self._do(self.session.endpoints_changed(endpoints))
        self.say(b"")

    def ring(self) -> None:
        """The timer."""
        assert self.timer_s is not None
        self.timer_s = None
        self._do(self.session.timer())

    def _do(self, actions: Sequence[Action]) -> None:
        assert isinstance(actions, list | tuple)
        for action in actions:
            if self._over:
                return
            if isinstance(action, ToClient):
                self.to_client += action.data
            elif isinstance(action, ToBackend):
                if action.backend in self.holding:
                    self.holding[action.backend] += action.data
                elif action.backend in self.open:
                    where = self.open[action.backend]
                    self.to[where] = self.to.get(where, b"") + action.data
            elif isinstance(action, Open):
                assert action.backend not in self.open
                if action.mirror:
                    self.mirrors.add(action.backend)
                self._connect(action.backend, b"")
            elif isinstance(action, CloseBackend):
                self.open.pop(action.backend, None)
                self.holding.pop(action.backend, None)
                self.paused.discard(action.backend)
            elif isinstance(action, ReadClient):
                self.reading = action.enabled
            elif isinstance(action, ReadBackend):
                (self.paused.discard if action.enabled else self.paused.add)(action.backend)
            elif isinstance(action, EndBackend):
                self.ended.append(action.backend)
            elif isinstance(action, EndClient):
                self.ended.append("client")
            elif isinstance(action, SetTimer):
                self.timer_s = action.seconds
            elif isinstance(action, Tell):
                self.told.append(action.reason)
            elif isinstance(action, Close | Abort):
                self._over = type(action).__name__.lower()
            elif isinstance(action, Splice):
                self._over = f"splice {action.backend}"
            else:
                raise AssertionError(f"{action} is no action")

    def _connect(self, name: str, data: bytes) -> None:
        candidates = self.session.candidates(name, self.endpoints)
        if not candidates:
            self.holding[name] = data
            return
        where = self.open[name] = candidates[0]
        self.opened.append((name, where))
        if data:
            self.to[where] = self.to.get(where, b"") + data
        if name not in self.mirrors:
            self._do(self.session.connected(name, where))
