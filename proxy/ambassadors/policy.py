"""The interface of policies, version 1: what an ambassador is told and what it may answer.

A service names a policy (`spec.ambassador`), and the proxy makes one object of its class for each port of the service.
A policy never touches a socket: it is told what came, and answers with what shall be done. That is why its tests are
conversations without a network, and why the proxy can bound its memory, slow down who is too fast, measure each call,
and cut out a policy that fails.

The short way: look at the first bytes and choose.

    class ByGreeting(Policy):
        def open(self, connection, endpoints, first):
            if b"\\n" not in first:
                return NeedMore()
            kind = "fast" if first.startswith(b"FAST") else "slow"
            return Choose([each for each in endpoints if each.labels.get("kind") == kind])

From then on the bytes go through the kernel, as they do without an ambassador, and the policy costs nothing more.

The long way: `Serve(session)`. A session sees everything that the client and the backends say, and answers with
actions, in the order in which they are to happen. A backend is a name that the session gives to a connection of its
own: "master", "replica". What is asked to be sent to a backend that is not connected yet waits for it.

    the session answers          the proxy tells, sooner or later
    Open(name)                   candidates(name, endpoints): who may it be, in which order?
                                 connected(name, endpoint), or failed(name, reason)
    ToBackend(name, data)        from_backend(name, data) as often as something comes
    EndBackend(name)             backend_ended(name) when the backend ends its stream; the name is gone then
    CloseBackend(name)           nothing more of that name
    SetTimer(seconds)            timer()
    Splice(name)                 nothing at all: client and backend talk past the session until they end

Whatever a session does not override has a sensible answer. An exception, an answer that is none, and a call that takes
too long are the policy's fault, and are counted against it (`guard`).

What a version promises: names, arguments and meaning stay. Arguments and actions may be added. A class says with
`interface = 1` for which it was written, and one that was written for another is refused when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from random import Random

INTERFACE = 1
"""The version that this file describes."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One that serves, as the Endpoints object of the service has it."""

    ip: str
    port: int
    name: str = ""
    """Of the pod; empty if it is none."""
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)
    """Of the pod, as they are now: roles, shards, tracks."""
    annotations: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)

    @property
    def address(self) -> tuple[str, int]:
        """What makes it the same endpoint when its labels change."""
        return self.ip, self.port

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """Who has connected, to what."""

    client_ip: str
    client_port: int
    namespace: str
    service: str
    port: str
    """The name of the service's port, or its number."""


# --- What `Policy.open` may answer


@dataclass(frozen=True, slots=True)
class NeedMore:
    """Ask again when the client has said more. After 64 KiB or 10 s without a decision the connection is reset."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody suits. Ask again when the endpoints change; the connection is reset when that takes too long."""


@dataclass(frozen=True, slots=True)
class Choose:
    """Connect the client to the first of these that answers; the policy has nothing more to do with it."""

    candidates: Sequence[Endpoint]
    rewritten: bytes | None = None
    """Sent instead of the first bytes; None: those, as they were."""
    mirrors: Sequence[Endpoint] = ()
    """Are sent the same, each, and what they answer is dropped. One that is too slow is left behind."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Say this to the client and close; nothing to say: reset."""

    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Serve:
    """The session takes the connection; the first bytes are told to it as `from_client`."""

    session: Session


Decision = NeedMore | Wait | Choose | Refuse | Serve


# --- What a session may answer


@dataclass(frozen=True, slots=True)
class Open:
    """Connect a backend of this name. One that is there already under this name must have been closed."""

    backend: str
    mirror: bool = False
    """What it says is dropped, and it is, too, if it does not take what it is sent, or fails. The session hears
    nothing of it."""


@dataclass(frozen=True, slots=True)
class ToBackend:
    """Send this to the backend; if it is a mirror that is gone, nothing happens."""

    backend: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send this to the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndBackend:
    """End the stream to the backend once everything was sent; it may go on talking."""

    backend: str


@dataclass(frozen=True, slots=True)
class CloseBackend:
    """Close the connection to the backend now. No such backend: nothing happens."""

    backend: str


@dataclass(frozen=True, slots=True)
class EndClient:
    """End the stream to the client once everything was sent; it may go on talking."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close everything once the client was sent all."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Close everything at once; the client sees a reset."""


@dataclass(frozen=True, slots=True)
class ReadClient:
    """Whether `from_client` shall be called: False slows the client down for as long as the session is not ready."""

    enabled: bool


@dataclass(frozen=True, slots=True)
class ReadBackend:
    """The same for a backend."""

    backend: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Call `timer` after that many seconds; replaces the one that was set. None: no call."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Splice:
    """Once everything was sent: client and backend talk past the session, which hears no more."""

    backend: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Put into an event of the service what a person should know; at most once a minute for each reason."""

    reason: str
    """A CamelCase word."""
    message: str
    kind: Literal["Normal", "Warning"] = "Warning"


Action = (
    Open
    | ToBackend
    | ToClient
    | EndBackend
    | CloseBackend
    | EndClient
    | Close
    | Abort
    | ReadClient
    | ReadBackend
    | SetTimer
    | Splice
    | Tell
)


class Session:
    """One connection of a client, as a policy sees it. Calls come one at a time; none may wait for anything."""

    def from_client(self, data: bytes) -> Sequence[Action]:
        """The client said this; at most 64 KiB at once."""
        return []

    def client_ended(self) -> Sequence[Action]:
        """The client ended its stream, and listens still."""
        return [Close()]

    def candidates(self, backend: str, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Who may be this backend, best first. Asked when it is opened, and when the endpoints change meanwhile.

        The proxy goes on to the next one when one does not answer. Nobody, or nobody who answers: it waits for a while
        (`hold_s` of the proxy) for the endpoints to change.
        """
        return endpoints

    def connected(self, backend: str, endpoint: Endpoint) -> Sequence[Action]:
        """The backend is there."""
        return []

    def from_backend(self, backend: str, data: bytes) -> Sequence[Action]:
        """The backend said this; at most 64 KiB at once."""
        return []

    def backend_ended(self, backend: str) -> Sequence[Action]:
        """The backend ended its stream in good order. Its connection is closed, its name is free."""
        return [Close()]

    def failed(self, backend: str, reason: str) -> Sequence[Action]:
        """The backend could not be connected ("no-endpoint", "dial"), or broke off ("reset"). Its name is free."""
        return [Abort()]

    def endpoints_changed(self, endpoints: Sequence[Endpoint]) -> Sequence[Action]:
        """The endpoints of the service, or their labels, are others now."""
        return []

    def timer(self) -> Sequence[Action]:
        """The time that was set is over."""
        return [Abort()]

    def closed(self) -> None:
        """The connection is over, whatever ended it. For what the policy keeps of its sessions."""


class Policy:
    """Base of all policies. One object for each port of a service, made anew when the class or its options change."""

    interface: ClassVar[int] = INTERFACE

    def __init__(self, options: Mapping[str, str], rng: Random) -> None:
        """`options` are those of the service. A ValueError says that they are wrong, and why."""
        self.options = options
        self.rng = rng

    def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
        """What shall become of a connection. Asked as soon as it is there, with nothing in `first`; after `NeedMore`
        again, with all that the client has said until then. `endpoints` are those that are ready, in a fixed order."""
        raise NotImplementedError


def in_turn(endpoints: Sequence[Endpoint], turn: int) -> list[Endpoint]:
    """The same endpoints, beginning with another one each turn."""
    if not endpoints:
        return []
    start = turn % len(endpoints)
    return [*endpoints[start:], *endpoints[:start]]
