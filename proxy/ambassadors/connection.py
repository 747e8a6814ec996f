"""A client's connection that an ambassador answers for: asks the policy, and carries out what it wants.

What the policy is told and what it wants is a `Consultation`; the sockets are `Traffic`'s, and those of the servers are
made by `Backends`. Here actions become what they say, and the connection goes from its beginning to its end. A client
that was answered in full gets 2 s to take its leave, so that the answer is not lost in a reset.

    first bytes --(NeedMore / Wait)--> session --(Splice)--> Relay, which is as fast as without an ambassador
                                          |
                                          +--(Close)--> the rest is sent, the end is said --> over
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

from proxy.ambassadors import policy as say
from proxy.ambassadors.account import Account
from proxy.ambassadors.ambassador import Ambassador
from proxy.ambassadors.backends import Backends
from proxy.ambassadors.channel import Channel
from proxy.ambassadors.consultation import Consultation
from proxy.ambassadors.guard import Fault
from proxy.ambassadors.traffic import Traffic
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.policies import Target
from proxy.poller import BROKEN, DUPLEX, ENDED, READ
from proxy.relay import Relay, reset
from proxy.routing import ServiceName
from proxy.stats import EndpointStats

FIRST_BYTES: Final = 1 << 16
"""More is not looked at to choose an endpoint."""
FIRST_BYTES_S: Final = 10.0
"""For what a policy needs to choose, since the connection began."""
FAREWELL_S: Final = 2.0
CLOSING_S: Final = 30.0
"""For a client to take the rest of its answer."""
_WAITS, _SPLICES, _FROZEN = "waits", "splices", "frozen"
"""Reasons to read nobody: there is no endpoint yet; a relay is about to take over; a fault on purpose."""


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
        super().__init__(path, frontend, address, now)
        self._ambassador = ambassador
        self._engagement = ambassador.engagement
        key = ambassador.key
        info = say.ConnectionInfo(address[0], address[1], key.service.namespace, key.service.name, key.port)
        self._talk = Consultation(self._engagement, info)
        self._backends = Backends(path, frontend, self)
        self._traffic = Traffic(client, self._backends, self, self)
        self._client = self._traffic.client
        self._first = b""
        self._wait_until: float | None = None
        """However often they change."""
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        """For the first bytes, the session's timer, or the farewell: never two of them."""
        self._splice: str | None = None
        self._over = False
        self._queued = False

    # --- From outside

    def start(self) -> None:
        """Asks the policy; all from here on happens in callbacks."""
        self._enter()
        if self._engagement.is_out():
            self.abort()
            return
        assert self._client.sock is not None
        self._path.poller.watch(self._client.sock, DUPLEX, self._client_event)
        self._ambassador.watchers.add(self)
        self._talk.later(self._decide)
        self._run()

    def abort(self) -> None:
        """Ends it now; everybody sees a reset."""
        if self._relay is not None:
            self._relay.abort()
            return
        if self._over:
            return
        for channel in (self._client, *self._backends):
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
            (self._traffic.holds.add if frozen else self._traffic.holds.discard)(_FROZEN)
            self._run()

    def endpoints_changed(self) -> None:
        """Asks again where that was waited for, and tells the session."""
        if self._over or self._relay is not None:
            return
        if _WAITS in self._traffic.holds:
            self._traffic.holds.remove(_WAITS)
            self._talk.later(self._decide)
        elif (session := self._talk.session) is not None:
            self._talk.later(self._backends.dial_again)
            self._talk.tell_later(session.endpoints_changed, self._ambassador.endpoints)
        self._run()

    # --- The beginning

    def _decide(self) -> None:
        endpoints = self._ambassador.endpoints
        decision = self._talk.open(endpoints, self._first)
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
            self._traffic.holds.add(_WAITS)
            self._set_timer(max(0.0, self._wait_until - now), self._waited_enough)
        elif isinstance(decision, say.Refuse):
            self._set_timer(None)
            self._talk.ask_for(*([say.ToClient(decision.answer), say.Close()] if decision.answer else [say.Abort()]))
        else:
            self._set_timer(None)
            first, self._first = self._first, b""
            self._talk.begin(decision, endpoints, first)
            if self._client.ended and (session := self._talk.session) is not None:
                self._talk.tell_later(session.client_ended)

    def _waited_enough(self) -> None:
        self._stats.gave_up_no_endpoint += 1
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
            self._engagement.fault(fault)
            self.abort()
        finally:
            self._running = False

    def _work_off(self) -> None:
        """Carries out actions, and tells what comes of them, until there is nothing left to do."""
        for action in self._talk.actions():
            self._perform(action)

    def _perform(self, action: say.Action) -> None:
        if isinstance(action, say.ToClient):
            self._traffic.send(self._client, self._talk.rest_to_client(action.data))
        elif isinstance(action, say.ToBackend):
            if (channel := self._backends.get(action.backend)) is not None:
                self._traffic.send(channel, action.data)
        elif isinstance(action, say.Open):
            self._backends.open(action.backend, mirror=action.mirror)
        elif isinstance(action, say.EndBackend):
            if (channel := self._backends.get(action.backend)) is not None:
                self._traffic.end(channel)
        elif isinstance(action, say.CloseBackend):
            self._backends.drop(action.backend)
        elif isinstance(action, say.EndClient):
            self._traffic.end(self._client)
        elif isinstance(action, say.ReadClient):
            self._client.enabled = action.enabled
        elif isinstance(action, say.ReadBackend):
            if (channel := self._backends.get(action.backend)) is not None:
                channel.enabled = action.enabled
        elif isinstance(action, say.SetTimer):
            self._set_timer(action.seconds, self._rang)
        elif isinstance(action, say.Splice):
            self._splice = action.backend
            self._traffic.holds.add(_SPLICES)
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

    def _close(self) -> None:
        """The rest to the client, and the end; all others are gone at once."""
        self._traffic.is_farewell = True
        self._talk.stop()
        self._backends.drop_all()
        self._traffic.end(self._client)
        self._set_timer(FAREWELL_S if self._client.sent_end else CLOSING_S, self._finish)

    # --- Backends

    def candidates(self, name: str) -> Sequence[say.Endpoint]:
        """Whom the session wants under this name. Raises Fault."""
        return self._talk.candidates(name, self._ambassador.endpoints)

    def backend_connected(self, channel: Channel, endpoint: say.Endpoint) -> None:
        """Sends what has waited for it, and tells the session."""
        self._connected(Target(*endpoint.address))
        self._traffic.flush(channel)
        if (session := self._talk.session) is not None and not channel.mirror:
            self._talk.tell_later(session.connected, channel.name, endpoint)
        self._run()

    def backend_given_up(self, channel: Channel, reason: str) -> None:
        """Tells the session."""
        if not channel.mirror:
            self._tell_failed(channel.name, reason)
        self._run()

    def _tell_failed(self, name: str, reason: str) -> None:
        if self._splice == name:
            self._splice = None
            self._traffic.holds.discard(_SPLICES)
        if (session := self._talk.session) is not None:
            self._talk.tell_later(session.failed, name, reason)

    # --- What is said

    def _settle(self) -> None:
        """Hears what may be heard, then looks what is at its end."""
        if self._traffic.read():
            self._go_on_soon()
        if self._over:
            return
        if self._client.broken:
            self.broke_off(self._client)
        self._try_to_splice()
        self._try_to_finish()

    def heard(self, channel: Channel, data: bytes) -> None:
        """Tells the session, and does what it wants."""
        session = self._talk.session
        if channel is self._client:
            if session is None:
                self._first += data
                self._decide()
            elif data:
                self._talk.tell(session.from_client, data)
            else:
                self._talk.tell(session.client_ended)
        elif not data:
            self._backends.drop(channel.name)
            if not channel.mirror and session is not None:
                self._talk.tell(session.backend_ended, channel.name)
        elif not channel.mirror and session is not None:
            self._first_byte()
            self._talk.tell(session.from_backend, channel.name, data)
        self._work_off()

    def broke_off(self, channel: Channel) -> None:
        """A client takes everything with it; of a backend, the session is told."""
        if channel is self._client:
            self._stats.resets += 1
            self.cut("reset")
            return
        self._backends.drop(channel.name)
        if not channel.mirror:
            self._stats.resets += 1
            self._tell_failed(channel.name, "reset")
        self._work_off()

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
            self.broke_off(self._client)
            return
        self._traffic.event(self._client, events)
        self._run()

    def backend_event(self, channel: Channel, events: int) -> None:
        """The poller's call for the socket of a backend."""
        if self._over or channel.sock is None:
            return
        self._traffic.event(channel, events)
        self._run()

    def _set_timer(self, seconds: float | None, callback: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and callback is not None:
            if not isinstance(seconds, int | float) or not 0 <= seconds <= 86400:
                raise Fault(f"a timer of {str(seconds)[:60]} seconds makes no sense")
            self._timer = self._path.poller.call_later(seconds, callback)

    def _rang(self) -> None:
        self._timer = None
        if (session := self._talk.session) is not None:
            self._talk.tell_later(session.timer)
        self._run()

    # --- The end

    def _try_to_splice(self) -> None:
        """Hands both sockets to a relay, once nothing of what was asked for before is left to be done."""
        if self._splice is None or self._over or self._client.out or _FROZEN in self._traffic.holds:
            return
        channel = self._backends.get(self._splice)
        if channel is None or channel.sock is None or channel.out or channel.broken:
            if channel is not None and channel.broken:
                self.abort()
            return
        client, backend, seat = self._client.sock, channel.sock, channel.seat
        assert client is not None
        assert seat is not None
        self._backends.release(self._splice)
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
        if self._traffic.is_farewell and not self._over and self._client.sent_end:
            if self._client.ended:
                self._finish()
            elif self._timer is None or self._timer.when() > asyncio.get_running_loop().time() + FAREWELL_S:
                self._set_timer(FAREWELL_S, self._finish)

    def _leave(self) -> None:
        """The policy has nothing more to do with it, and no server but one that a relay has."""
        self._ambassador.watchers.discard(self)
        self._set_timer(None)
        self._backends.close()
        self._traffic.close()
        self._talk.end()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        if self._client.sock is not None:
            self._path.poller.retire(self._client.sock)
            self._client.sock = None
        self._leave()
        self._gone()

    def _relay_ended(self, seat: EndpointStats) -> None:
        seat.active -= 1
        self._over = True
        self._relay_is_over()
        self._gone()
