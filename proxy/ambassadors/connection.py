"""A client's connection that an ambassador answers for: asks the policy, carries out its actions, keeps it in bounds.

It is the only one that touches sockets here. Actions are carried out in their order, and what comes of them (a backend
that was connected at once) is told to the session afterwards, never in the middle: a session is not called while it is
being called.

Bounds. While a client has more than 256 KiB to take, no backend is read, and while a backend has, the client is not; so
a slow reader slows down its writer, through the policy, and nobody's memory grows. A policy that goes on producing all
the same is at fault at 4 MiB. A mirror slows nobody down: it is dropped at 1 MiB. A client that was answered in full
gets 2 s to take its leave, so that the answer is not lost in a reset.

    first bytes --(NeedMore / Wait)--> session --(Splice)--> Relay, which is as fast as without an ambassador
                                          |
                                          +--(Close)--> the rest is sent, the end is said --> over
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from proxy.ambassadors import policy as say
from proxy.ambassadors.account import Account
from proxy.ambassadors.ambassador import Ambassador
from proxy.ambassadors.answers import check_actions, check_decision, check_endpoints
from proxy.ambassadors.channel import Channel
from proxy.ambassadors.chosen import Chosen
from proxy.ambassadors.dialer import Dialer
from proxy.ambassadors.guard import Fault
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.policies import Target
from proxy.poller import BROKEN, DUPLEX, ENDED, READ, WRITE
from proxy.relay import Relay, reset
from proxy.routing import ServiceName
from proxy.stats import EndpointStats

FIRST_BYTES: Final = 1 << 16
"""More is not looked at to choose an endpoint."""
FIRST_BYTES_S: Final = 10.0
"""For what a policy needs to choose, since the connection began."""
HIGH_BYTES: Final = 1 << 18
"""With so much to send, nothing more is read from the other side."""
FAULT_BYTES: Final = 1 << 22
"""A policy that has so much waiting to be sent does not heed who is slow."""
MIRROR_BYTES: Final = 1 << 20
MAX_BACKENDS: Final = 16
FAREWELL_S: Final = 2.0
CLOSING_S: Final = 30.0
"""For a client to take the rest of its answer."""
_ROUNDS: Final = 16
"""Reads of one side per turn; then the others have theirs."""
_STEPS: Final = 10_000
"""Actions in a row without anything from outside: a policy that answers itself for ever."""


class _Opening:
    """A backend that is being connected."""

    __slots__ = ("deadline", "dialer", "timer", "was_dialled")

    def __init__(self) -> None:
        self.dialer: Dialer | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.deadline: float | None = None
        self.was_dialled = False

    def cancel(self) -> None:
        if self.dialer is not None:
            self.dialer.cancel()
            self.dialer = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class AmbassadorConnection(Account):
    """One client. It belongs to its `DataPath` from `start` until its end."""

    def __init__(
        self,
        path: DataPath,
        frontend: Frontend,
        ambassador: Ambassador,
        client: socket.SocketType,
        address: tuple[str, int],
        now: float,
    ) -> None:
        super().__init__(frontend, address, now)
        self._path = path
        self._stats = frontend.stats
        self._ambassador = ambassador
        self._engagement = ambassador.engagement
        key = ambassador.key
        self._info = say.ConnectionInfo(address[0], address[1], key.service.namespace, key.service.name, key.port)
        self._client = Channel("client", client)
        self._first = b""
        self._session: say.Session | None = None
        self._waiting = False
        """`Wait`: to be asked again when the endpoints change."""
        self._wait_until: float | None = None
        """However often they change."""
        self._backends: dict[str, Channel] = {}
        self._opening: dict[str, _Opening] = {}
        self._todo: deque[say.Action] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        """To be told to the session when the actions before are done. Bounded: one per thing that happened."""
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        """For the first bytes, the session's timer, or the farewell: never two of them."""
        self._closing = False
        self._splice: str | None = None
        self._over = False
        self._queued = False
        self._frozen = False
        """By a fault."""

    # --- From outside

    def start(self) -> None:
        """Asks the policy; all from here on happens in callbacks."""
        self._path.joined(self)
        self._stats.accepted += 1
        self._stats.active += 1
        if self.frontend.timed is not None:
            self.frontend.timed.add(self)
        if self._engagement.is_out():
            self.abort()
            return
        assert self._client.sock is not None
        self._path.poller.watch(self._client.sock, DUPLEX, self._client_event)
        self._ambassador.watchers.add(self)
        self._decide()
        self._run()

    def abort(self) -> None:
        """Ends it now; everybody sees a reset."""
        if self._relay is not None:
            self._relay.abort()
            return
        if self._over:
            return
        for channel in (self._client, *self._backends.values()):
            if channel.sock is not None:
                reset(channel.sock)
        self._finish()

    @property
    def link(self) -> tuple[ServiceName, Target | None]:
        """Its service, and where it leads, if it leads to one endpoint only."""
        return self.frontend.route.key.service, self.target if self._relay is not None else None

    def freeze(self, frozen: bool) -> None:
        """Nothing passes; or it does again."""
        if self._relay is not None:
            self._relay.freeze(frozen)
        else:
            self._frozen = frozen
            self._run()

    def endpoints_changed(self) -> None:
        """Asks again where that was waited for, and tells the session."""
        if self._over or self._relay is not None:
            return
        if self._waiting:
            self._waiting = False
            self._decide()
        elif self._session is not None:
            session = self._session
            self._calls.append(self._dial_again)
            self._calls.append(lambda: self._tell(session.endpoints_changed, self._ambassador.endpoints))
        self._run()

    # --- The policy

    def _decide(self) -> None:
        engagement, endpoints = self._engagement, self._ambassador.endpoints
        assert engagement.policy is not None
        try:
            name = f"{engagement.name}.open"
            decision = engagement.guard.call(name, engagement.policy.open, self._info, endpoints, self._first)
            check_decision(engagement.name, decision, endpoints)
        except Fault as fault:
            self._fault(fault)
            return
        if isinstance(decision, say.NeedMore):
            left_s = self.began_at + FIRST_BYTES_S - self._path.clock.monotonic()
            if len(self._first) >= FIRST_BYTES or self._client.ended or left_s <= 0:
                self.abort()
            else:
                self._set_timer(left_s, self.abort)
        elif isinstance(decision, say.Wait):
            now = self._path.clock.monotonic()
            if self._wait_until is None:
                self._wait_until = now + self._path.settings.hold_s
                self._stats.held += 1
            self._waiting = True
            self._set_timer(max(0.0, self._wait_until - now), self._waited_enough)
        elif isinstance(decision, say.Refuse):
            self._set_timer(None)
            self._todo.extend([say.ToClient(decision.answer), say.Close()] if decision.answer else [say.Abort()])
        else:
            self._set_timer(None)
            if isinstance(decision, say.Choose):
                self._session = Chosen(engagement.policy, self._info, self._first, endpoints, decision)
            else:
                self._session = decision.session
            if self._first or isinstance(decision, say.Choose):
                first, self._first = self._first, b""
                self._tell(self._session.from_client, first)
            if self._client.ended:
                self._calls.append(self._tell_client_ended)

    def _tell(self, method: Callable[..., Sequence[say.Action]], *args: object) -> None:
        """Calls the session; its answer joins what is to be done."""
        if self._over or self._closing:
            return
        try:
            actions = self._engagement.guard.call(f"{self._engagement.name}.{method.__name__}", method, *args)
            check_actions(method.__name__, actions)
        except Fault as fault:
            self._fault(fault)
            return
        self._todo.extend(actions)

    def _tell_client_ended(self) -> None:
        if self._session is not None:
            self._tell(self._session.client_ended)

    def _fault(self, fault: Fault) -> None:
        self._engagement.fault(fault)
        self.abort()

    # --- Actions

    def _run(self) -> None:
        """Does what there is to do, then reads what may be read, until neither is left."""
        if self._running or self._over or self._relay is not None:
            return
        self._running = True
        try:
            self._work_off()
            if not self._over:
                self._settle()
        except Fault as fault:
            self._fault(fault)
        finally:
            self._running = False

    def _work_off(self) -> None:
        """Carries out actions, and tells what comes of them, until there is nothing left to do."""
        for _ in range(_STEPS):
            if self._over:
                return
            if self._todo:
                self._perform(self._todo.popleft())
            elif self._calls:
                self._calls.popleft()()
            else:
                return
        raise Fault(f"more than {_STEPS} actions in a row")

    def _perform(self, action: say.Action) -> None:
        if self._closing and not isinstance(action, say.Abort):
            return
        if isinstance(action, say.ToClient):
            said = [action.data]
            while self._todo and isinstance(self._todo[0], say.ToClient):
                said.append(self._todo.popleft().data)  # type: ignore[union-attr]
            self._send(self._client, said[0] if len(said) == 1 else _joined(said))
        elif isinstance(action, say.ToBackend):
            channel = self._backends.get(action.backend)
            if channel is not None:  # else it has failed meanwhile, and the session is about to hear of it
                self._send(channel, action.data)
        elif isinstance(action, say.Open):
            self._open(action)
        elif isinstance(action, say.EndBackend):
            if (channel := self._backends.get(action.backend)) is not None:
                channel.ending = True
                channel.flush()
        elif isinstance(action, say.CloseBackend):
            self._drop(action.backend)
        elif isinstance(action, say.EndClient):
            self._client.ending = True
            self._client.flush()
        elif isinstance(action, say.ReadClient):
            self._client.enabled = action.enabled
        elif isinstance(action, say.ReadBackend):
            if (channel := self._backends.get(action.backend)) is not None:
                channel.enabled = action.enabled
        elif isinstance(action, say.SetTimer):
            session = self._session
            assert session is not None
            self._set_timer(action.seconds, lambda: self._tell_and_run(session.timer))
        elif isinstance(action, say.Splice):
            self._splice = action.backend
        elif isinstance(action, say.Tell):
            self._ambassador.tell(
                "Normal" if action.kind == "Normal" else "Warning", str(action.reason), str(action.message)
            )
        elif isinstance(action, say.Close):
            self._close()
        elif isinstance(action, say.Abort):
            self.abort()
        else:
            raise Fault(f"{str(action)[:60]!r} is no action")

    def _send(self, channel: Channel, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise Fault(f"was asked to send {type(data).__name__}, which are no bytes")
        self._sent(channel, channel.send(data))
        if channel.mirror:
            if channel.out_bytes > MIRROR_BYTES or channel.broken:
                self._drop(channel.name)
        elif channel.out_bytes > FAULT_BYTES:
            raise Fault(f"{channel.out_bytes} bytes wait to be sent: a session is to send on no more than it was told")

    def _sent(self, channel: Channel, count: int) -> None:
        if channel is self._client:
            self._stats.down.bytes += count
            self._moved_down += count
        else:
            if channel.seat is not None:
                channel.seat.up.bytes += count
            self._moved_up += count

    def _close(self) -> None:
        """The rest to the client, and the end; all others are gone at once."""
        self._closing = True
        self._todo.clear()
        self._calls.clear()
        for name in list(self._backends):
            self._drop(name)
        self._client.ending = True
        self._client.flush()
        self._set_timer(FAREWELL_S if self._client.sent_end else CLOSING_S, self._finish)

    # --- Backends

    def _open(self, action: say.Open) -> None:
        if action.backend in self._backends:
            raise Fault(f"was asked to open {action.backend!r}, which is there already")
        if len(self._backends) >= MAX_BACKENDS:
            raise Fault(f"more than {MAX_BACKENDS} backends of one connection")
        self._backends[action.backend] = Channel(action.backend, mirror=action.mirror)
        self._opening[action.backend] = _Opening()
        self._dial(action.backend)

    def _dial(self, name: str) -> None:
        session = self._session
        assert session is not None
        try:
            what = f"{self._engagement.name}.candidates"
            found = self._engagement.guard.call(what, session.candidates, name, self._ambassador.endpoints)
            check_endpoints("candidates", found, self._ambassador.endpoints)
        except Fault as fault:
            self._fault(fault)
            return
        opening = self._opening[name]
        if found:
            opening.was_dialled = True
            opening.dialer = Dialer(
                self._path,
                self._stats,
                self._within_reach(found),
                self.frontend.dial_timeouts_s,
                lambda sock, endpoint, watched: self._connected(name, sock, endpoint, watched),
                lambda: self._not_connected(name),
            )
            opening.dialer.start()
        else:
            self._not_connected(name)

    def _within_reach(self, candidates: Sequence[say.Endpoint]) -> Sequence[say.Endpoint]:
        """Those that no fault has cut off."""
        faults, service = self._path.faults, self.frontend.route.key.service
        if not faults.active:
            return candidates
        return [each for each in candidates if not faults.cuts(service, Target(*each.address))]

    def _dial_again(self) -> None:
        """Other endpoints: perhaps there is somebody now for who waits."""
        for name in [name for name, opening in self._opening.items() if opening.dialer is None]:
            if name in self._opening and not self._over:
                self._opening[name].cancel()
                self._dial(name)

    def _connected(self, name: str, sock: socket.SocketType, endpoint: say.Endpoint, watched: bool) -> None:
        channel = self._backends[name]
        del self._opening[name]
        faults = self._path.faults
        if faults.active:
            if watched:
                self._path.poller.unwatch(sock)
                watched = False
            sock = faults.detour(self.frontend.route.key.service, Target(*endpoint.address), sock)
        channel.sock = sock
        seat = channel.seat = self._stats.endpoint(Target(*endpoint.address))
        seat.connections += 1
        seat.active += 1
        if self.target is None:
            self.target = Target(*endpoint.address)
            self.connected_at = self._path.clock.monotonic()
        if watched:
            self._path.poller.handle(sock, lambda events: self._backend_event(channel, events))
        else:
            self._path.poller.watch(sock, DUPLEX, lambda events: self._backend_event(channel, events))
        self._sent(channel, channel.flush())
        session = self._session
        if session is not None and not channel.mirror:
            self._calls.append(lambda: self._tell(session.connected, name, endpoint))
        self._run()

    def _not_connected(self, name: str) -> None:
        """Nobody there, or nobody answers: waits for other endpoints, as long as connections are held."""
        opening = self._opening[name]
        opening.cancel()
        now = self._path.clock.monotonic()
        if opening.deadline is None:
            opening.deadline = now + self._path.settings.hold_s
            self._stats.held += 1
        if self._backends[name].mirror or opening.deadline <= now:
            self._not_at_all(name)
        else:
            opening.timer = self._path.poller.call_later(opening.deadline - now, lambda: self._not_at_all(name))
        self._run()

    def _not_at_all(self, name: str) -> None:
        opening, channel = self._opening[name], self._backends[name]
        reason = "dial" if opening.was_dialled else "no-endpoint"
        if reason == "dial":
            self._stats.gave_up_dial += 1
        else:
            self._stats.gave_up_no_endpoint += 1
        self._drop(name)
        if not channel.mirror:
            self._tell_failed(name, reason)
        self._run()

    def _tell_failed(self, name: str, reason: str) -> None:
        if self._splice == name:
            self._splice = None
        session = self._session
        if session is not None:
            self._calls.append(lambda: self._tell(session.failed, name, reason))

    def _drop(self, name: str) -> None:
        channel = self._backends.pop(name, None)
        if (opening := self._opening.pop(name, None)) is not None:
            opening.cancel()
        if channel is not None and channel.sock is not None:
            self._path.poller.retire(channel.sock)
            channel.sock = None
            if channel.seat is not None:
                channel.seat.active -= 1

    # --- Reading

    def _may_read(self, channel: Channel) -> bool:
        if channel.sock is None or channel.ended or not channel.hungry:
            return False
        if channel is self._client and self._closing:
            return True  # to throw it away
        if not channel.enabled or self._splice is not None or self._waiting or self._frozen:
            return False
        if channel is self._client:
            return all(backend.mirror or backend.out_bytes <= HIGH_BYTES for backend in self._backends.values())
        return channel.mirror or self._client.out_bytes <= HIGH_BYTES

    def _settle(self) -> None:
        """Reads from all who may be read, in turn, until nobody may or it is others' turn."""
        for _ in range(_ROUNDS):
            idle = True
            for channel in (self._client, *self._backends.values()):
                if self._may_read(channel):
                    idle = False
                    self._read(channel)
                    self._work_off()
                if self._over:
                    return
            if idle:
                break
        else:
            self._go_on_soon()
        if self._client.broken:
            self._broke_off(self._client)
        self._try_to_splice()
        self._try_to_finish()

    def _read(self, channel: Channel) -> None:
        try:
            data = channel.receive()
        except OSError:
            self._broke_off(channel)
            return
        if data is None or (channel is self._client and self._closing):
            return
        if channel is self._client:
            self._heard_client(data)
        elif data:
            if not channel.mirror:
                assert self._session is not None
                self._first_byte()
                self._tell(self._session.from_backend, channel.name, data)
        else:
            name, session = channel.name, self._session
            self._drop(name)
            if not channel.mirror and session is not None:
                self._tell(session.backend_ended, name)

    def _heard_client(self, data: bytes) -> None:
        if self._session is not None:
            if data:
                self._tell(self._session.from_client, data)
            else:
                self._tell(self._session.client_ended)
            return
        self._first += data
        self._decide()

    def _broke_off(self, channel: Channel) -> None:
        if channel is self._client:
            self._stats.resets += 1
            self.cut("reset")
        else:
            self._drop(channel.name)
            if not channel.mirror:
                self._stats.resets += 1
                self._tell_failed(channel.name, "reset")

    def _go_on_soon(self) -> None:
        if not self._queued:
            self._queued = True
            self._path.poller.again(self._go_on)

    def _go_on(self) -> None:
        self._queued = False
        self._run()

    # --- Events

    def _client_event(self, events: int) -> None:
        if self._over:
            return
        if events & BROKEN:
            self._stats.resets += 1
            self.cut("reset")
            return
        if events & WRITE:
            self._sent(self._client, self._client.flush())
        if events & (READ | ENDED):
            self._client.hungry = True
        self._run()

    def _backend_event(self, channel: Channel, events: int) -> None:
        if self._over or channel.sock is None:
            return
        if events & WRITE:
            self._sent(channel, channel.flush())
        if events & (READ | ENDED):
            channel.hungry = True
        self._run()

    def _set_timer(self, seconds: float | None, callback: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and callback is not None:
            if not isinstance(seconds, int | float) or not 0 <= seconds <= 86400:
                raise Fault(f"a timer of {str(seconds)[:60]} seconds makes no sense")
            self._timer = self._path.poller.call_later(seconds, callback)

    def _tell_and_run(self, method: Callable[[], Sequence[say.Action]]) -> None:
        self._timer = None
        self._calls.append(lambda: self._tell(method))
        self._run()

    def _waited_enough(self) -> None:
        self._stats.gave_up_no_endpoint += 1
        self.abort()

    # --- The end

    def _try_to_splice(self) -> None:
        """Hands both sockets to a relay, once nothing of what was asked for before is left to be done."""
        if self._splice is None or self._over or self._client.out or self._frozen:
            return
        channel = self._backends.get(self._splice)
        if channel is None or channel.sock is None or channel.out or channel.broken:
            if channel is not None and channel.broken:
                self.abort()
            return
        client, backend, seat = self._client.sock, channel.sock, channel.seat
        assert client is not None
        assert seat is not None
        del self._backends[self._splice]
        for name in list(self._backends):
            self._drop(name)
        self._leave()
        poller = self._path.poller
        relay = self._relay = Relay(
            poller,
            self._path.pipes,
            seat,
            client,
            backend,
            lambda: self._relay_ended(seat),
            self._first_byte,
        )
        poller.handle(client, relay.client_event)
        poller.handle(backend, relay.backend_event)
        relay.client_event(READ | ENDED)
        relay.backend_event(READ | ENDED)

    def _try_to_finish(self) -> None:
        if self._closing and not self._over and self._client.sent_end:
            if self._client.ended:
                self._finish()
            elif self._timer is None or self._timer.when() > asyncio.get_running_loop().time() + FAREWELL_S:
                self._set_timer(FAREWELL_S, self._finish)

    def _leave(self) -> None:
        """The policy has nothing more to do with it."""
        self._ambassador.watchers.discard(self)
        self._set_timer(None)
        session, self._session = self._session, None
        self._todo.clear()
        self._calls.clear()
        if session is not None:
            try:
                self._engagement.guard.call(f"{self._engagement.name}.closed", session.closed)
            except Fault as fault:
                self._engagement.fault(fault)

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        for name in list(self._backends):
            self._drop(name)
        if self._client.sock is not None:
            self._path.poller.retire(self._client.sock)
            self._client.sock = None
        self._leave()
        self._gone()

    def _relay_ended(self, seat: EndpointStats) -> None:
        seat.active -= 1
        self._over = True
        relay, self._relay = self._relay, None  # no circle of references: garbage collection has nothing to look for
        self._settle_account(relay)
        self._gone()

    def _gone(self) -> None:
        self._stats.active -= 1
        if self.frontend.timed is not None:
            self.frontend.timed.discard(self)
        if self.frontend.route.access_log:
            self._path.log_access(self)
        self._path.left(self)

    def _first_byte(self) -> None:
        if self.first_byte_at is None:
            self.first_byte_at = self._path.clock.monotonic()


def _joined(said: list[bytes]) -> bytes:
    """One system call instead of several."""
    try:
        return b"".join(said)
    except TypeError:
        raise Fault("was asked to send what are no bytes") from None
