"""A client's connection from accept to relay: carries out the tries that `DialPlan` decides on.

The client's socket is watched from the start, so that a client which breaks off while nobody answers is forgotten at
once; what it says meanwhile stays in the kernel. A dial on one machine is usually answered within the very call, and
then the connection is a relay before the accept loop takes the next one: no plan, no timer, nothing to be forgotten.
"""

from __future__ import annotations

import asyncio
import errno
import socket

from cluster.api.hollow import is_address
from proxy.balancer import Target
from proxy.datapath import DataPath, keep_alive
from proxy.dialing import Dial, DialPlan, GiveUp, Hold
from proxy.frontend import Frontend
from proxy.poller import BROKEN, DUPLEX, ENDED, INPUT, READ, WRITE
from proxy.relay import Relay, reset
from proxy.routing import ServiceName
from proxy.stats import EndpointStats

_NEW_SOCKET = socket.SOCK_STREAM | socket.SOCK_NONBLOCK


class Connection:
    """One client. It belongs to its `DataPath` from `start` until its end."""

    __slots__ = (
        "_backend",
        "_client",
        "_endpoint",
        "_frontend",
        "_idle_since",
        "_over",
        "_path",
        "_plan",
        "_relay",
        "_seen_bytes",
        "_target",
        "_timer",
        "_watched",
        "address",
        "began_at",
        "connected_at",
        "first_byte_at",
        "is_lasting",
        "outcome",
    )

    def __init__(
        self, path: DataPath, frontend: Frontend, client: socket.SocketType, address: tuple[str, int], now: float
    ) -> None:
        self._path = path
        self._frontend = frontend
        self._client = client
        self.address = address
        """The client's."""
        self.began_at = now
        self.connected_at: float | None = None
        self.first_byte_at: float | None = None
        """Of the endpoint."""
        self.outcome = "closed"
        """How it ended, for the access log."""
        self.is_lasting = False
        """It has lived for a while, and its sockets were tuned for that."""
        self._plan: DialPlan | None = None
        """While there is no relay."""
        self._backend: socket.SocketType | None = None
        self._target: Target | None = None
        """Being dialled, or connected."""
        self._endpoint: EndpointStats | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watched = False
        self._relay: Relay | None = None
        self._over = False
        self._seen_bytes = 0
        self._idle_since = now

    @property
    def target(self) -> Target | None:
        """The endpoint it was connected to."""
        return self._target if self.connected_at is not None else None

    @property
    def frontend(self) -> Frontend:
        """The port that it came to."""
        return self._frontend

    @property
    def relay(self) -> Relay | None:
        """While it is connected."""
        return self._relay

    @property
    def link(self) -> tuple[ServiceName, Target | None]:
        """Its service, and where it leads, if that is known."""
        return self._frontend.route.key.service, self.target

    def freeze(self, frozen: bool) -> None:
        """Nothing passes; or it does again."""
        if self._relay is not None:
            self._relay.freeze(frozen)

    @property
    def bytes_up(self) -> int:
        """From the client to the endpoint."""
        return 0 if self._relay is None else self._relay.bytes_up

    @property
    def bytes_down(self) -> int:
        """From the endpoint to the client."""
        return 0 if self._relay is None else self._relay.bytes_down

    def start(self) -> None:
        """Finds an endpoint and relays; all from here on happens in callbacks."""
        path, frontend = self._path, self._frontend
        path.joined(self)
        stats = frontend.stats
        stats.accepted += 1
        stats.active += 1
        if frontend.timed is not None:
            frontend.timed.add(self)
        target = frontend.balancer.choose(self.address[0], self.began_at)
        if target is None:
            self._make_plan()
        elif not self._dial(target):
            self._make_plan().refused(target, self.began_at)
        elif self._relay is None and self._backend is not None:
            plan = self._make_plan()
            self._wait_for_answer(plan.timeouts_s[0])
            return
        else:
            return
        self._advance()

    def abort(self) -> None:
        """Ends it now; the client sees a reset."""
        if self._relay is not None:
            self._relay.abort()
        elif not self._over:
            self._abandon()

    def cut(self, reason: str) -> None:
        """Ends it, since it took too long for something."""
        self.outcome = reason
        self.abort()

    def overdue(self, now: float) -> str:
        """Asked now and then, if its service has time-outs: why it is to be cut; empty if it is not."""
        moved = self.bytes_up + self.bytes_down
        if moved != self._seen_bytes:
            self._seen_bytes = moved
            self._idle_since = now
        if self._relay is None:
            return ""  # tries have time-outs of their own
        return self._frontend.route.timeouts.overdue(
            now, began_at=self.began_at, quiet_since=self._idle_since, has_moved=moved > 0
        )

    def has_been_silent_for(self, now: float) -> float:
        """Seconds since it was connected, if nobody has said anything since; 0 otherwise."""
        if self.connected_at is None or self.bytes_up or self.bytes_down:
            return 0.0
        return now - self.connected_at

    def tune_to_last(self) -> None:
        """It has lived for a while: from now on, peers that vanish are noticed."""
        if self._relay is not None and self._backend is not None:
            self.is_lasting = True
            keep_alive(self._backend)

    def _make_plan(self) -> DialPlan:
        frontend, settings = self._frontend, self._path.settings
        plan = self._plan = DialPlan(
            frontend.balancer, self.address[0], hold_s=settings.hold_s, timeouts_s=frontend.dial_timeouts_s
        )
        return plan

    def _advance(self) -> None:
        """Takes the next step of the plan until one needs time."""
        assert self._plan is not None
        while True:
            now = self._path.clock.monotonic()
            step = self._plan.next(now)
            if isinstance(step, Dial):
                if not self._dial(step.target):
                    self._plan.refused(step.target, now)
                    continue
                if self._plan is not None:
                    self._wait_for_answer(step.timeout_s)
            elif isinstance(step, Hold):
                self._hold(step)
            else:
                self._give_up(step)
            return

    def _dial(self, target: Target) -> bool:
        """False: refused, take the next step. Otherwise it is a relay, is being connected, or was given up."""
        faults = self._path.faults
        if faults.active and faults.cuts(self._frontend.route.key.service, target):
            self._frontend.failed(target)
            return False
        if is_address(target[0]):  # of a pod that is only played: nobody is there, and nothing shall be sent
            self._frontend.failed(target)
            return False
        try:
            backend = socket.SocketType(socket.AF_INET, _NEW_SOCKET)
        except OSError:
            self._frontend.stats.refused_limit += 1  # out of descriptors
            self.outcome = "limit"
            self._abandon()
            return True
        backend.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = backend.connect_ex(target)
        if error == errno.EINPROGRESS:
            error = backend.connect_ex(target)  # on one machine the answer is there already
        if error == 0:
            self._target = target
            self._backend = backend
            self._establish(was_watched=False)
            return True
        if error != errno.EALREADY:
            backend.close()
            self._frontend.failed(target)
            return False
        self._backend = backend
        self._target = target
        return True

    def _wait_for_answer(self, timeout_s: float) -> None:
        assert self._backend is not None
        self._watch_client()
        self._path.poller.watch(self._backend, DUPLEX, self._backend_event)
        self._timer = self._path.poller.call_later(timeout_s, self._timed_out)

    def _hold(self, step: Hold) -> None:
        self._frontend.stats.held += 1
        self._watch_client()
        self._frontend.wait(id(self), self._endpoints_changed)
        self._timer = self._path.poller.call_later(step.seconds, self._held_enough)

    def _give_up(self, step: GiveUp) -> None:
        self.outcome = step.reason
        if step.reason == "dial":
            self._frontend.stats.gave_up_dial += 1
        else:
            self._frontend.stats.gave_up_no_endpoint += 1
        self._abandon()

    def _establish(self, *, was_watched: bool) -> None:
        assert self._backend is not None
        assert self._target is not None
        path, frontend = self._path, self._frontend
        now = self.connected_at = self.began_at if self._plan is None else path.clock.monotonic()
        self._plan = None
        self._idle_since = now
        frontend.balancer.connected(self._target)
        stats = self._endpoint = frontend.stats.endpoint(self._target)
        stats.connections += 1
        stats.active += 1
        frontend.stats.dial.observe(now - self.began_at)
        poller = path.poller
        if path.faults.active:
            if was_watched:
                poller.unwatch(self._backend)
                was_watched = False
            self._backend = path.faults.detour(frontend.route.key.service, self._target, self._backend)
        relay = self._relay = Relay(
            poller, path.pipes, stats, self._client, self._backend, self._ended, self._first_byte
        )
        if was_watched:
            poller.handle(self._backend, relay.backend_event)
        else:
            poller.watch(self._backend, INPUT, relay.backend_event)
        if self._watched:
            poller.handle(self._client, relay.client_event)
        else:
            poller.watch(self._client, INPUT, relay.client_event)
        # What was told to the handlers before is not told again. The first of these may end the relay.
        if was_watched:
            relay.backend_event(READ | ENDED)
        if self._watched:
            relay.client_event(READ | ENDED)

    def _watch_client(self) -> None:
        if not self._watched:
            self._watched = True
            self._path.poller.watch(self._client, INPUT, self._client_event)

    # --- What happens meanwhile

    def _client_event(self, events: int) -> None:
        if events & BROKEN and self._plan is not None:
            self._frontend.stats.resets += 1
            self.outcome = "reset"
            self._abandon()

    def _backend_event(self, events: int) -> None:
        assert self._backend is not None
        assert self._plan is not None
        assert self._target is not None
        if not events & (WRITE | ENDED):
            return
        self._cancel_timer()
        if self._backend.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._establish(was_watched=True)
        else:
            self._plan.refused(self._target, self._path.clock.monotonic())
            self._next_try()

    def _timed_out(self) -> None:
        self._timer = None
        assert self._plan is not None
        assert self._target is not None
        self._plan.timed_out(self._target, self._path.clock.monotonic())
        self._next_try()

    def _next_try(self) -> None:
        assert self._backend is not None
        assert self._target is not None
        self._path.poller.retire(self._backend)
        self._frontend.failed(self._target)
        self._backend = self._target = None
        self._advance()

    def _endpoints_changed(self) -> None:
        self._cancel_timer()
        assert self._plan is not None
        self._plan.changed()
        self._advance()

    def _held_enough(self) -> None:
        self._timer = None
        self._frontend.stop_waiting(id(self))
        self._advance()

    def _first_byte(self) -> None:
        assert self._endpoint is not None
        assert self.connected_at is not None
        now = self.first_byte_at = self._path.clock.monotonic()
        self._endpoint.first_byte.observe(now - self.connected_at)

    # --- The end

    def _abandon(self) -> None:
        """Ends it before there was a relay."""
        self._plan = None
        self._cancel_timer()
        self._frontend.stop_waiting(id(self))
        if self._backend is not None:
            self._path.poller.retire(self._backend)
            self._backend = None
        reset(self._client)
        self._path.poller.retire(self._client)
        self._ended()

    def _ended(self) -> None:
        frontend = self._frontend
        self._over = True
        if self._endpoint is not None:
            self._endpoint.active -= 1
            now = self._path.clock.monotonic()
            frontend.stats.duration.observe(now - self.began_at)
        frontend.stats.active -= 1
        if frontend.timed is not None:
            frontend.timed.discard(self)
        if self._relay is not None and self._relay.is_broken and self.outcome == "closed":
            self.outcome = "reset"
        if frontend.route.access_log:
            self._path.log_access(self)
        self._relay = None  # no circle of references: garbage collection has nothing to look for
        self._path.left(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
