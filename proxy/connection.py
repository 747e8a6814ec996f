"""A client's connection from accept to relay: carries out the tries that `DialPlan` decides on.

The client's socket is watched from the start, so that a client which breaks off while nobody answers is forgotten at
once; what it says meanwhile stays in the kernel. A dial on one machine is usually answered within the very call, and
then the connection is a relay before the accept loop takes the next one.
"""

from __future__ import annotations

import asyncio
import errno
import socket

from cluster.api.hollow import is_address
from proxy.balancer import Target
from proxy.datapath import DataPath, tune
from proxy.dialing import Dial, DialPlan, GiveUp, Hold
from proxy.frontend import Frontend
from proxy.poller import BROKEN, DUPLEX, ENDED, READ, WRITE
from proxy.relay import Relay, reset


class Connection:
    """One client. It belongs to its `DataPath` from `start` until its end."""

    __slots__ = ("_backend", "_client", "_frontend", "_path", "_plan", "_relay", "_target", "_timer", "_watched")

    def __init__(self, path: DataPath, frontend: Frontend, client: socket.socket, client_ip: str) -> None:
        self._path = path
        self._frontend = frontend
        self._client = client
        self._plan: DialPlan | None = DialPlan(
            frontend.balancer, client_ip, hold_s=path.settings.hold_s, timeouts_s=path.settings.dial_timeouts_s
        )
        self._backend: socket.socket | None = None
        self._target: Target | None = None
        """Being dialled."""
        self._timer: asyncio.TimerHandle | None = None
        self._watched = False
        self._relay: Relay | None = None

    def start(self) -> None:
        """Finds an endpoint and relays; all from here on happens in callbacks."""
        self._path.joined(self)
        self._frontend.stats.accepted += 1
        self._frontend.stats.active += 1
        self._advance()

    def abort(self) -> None:
        """Ends it now; the client sees a reset."""
        if self._relay is not None:
            self._relay.abort()
        elif self._plan is not None:
            self._abandon()

    def _advance(self) -> None:
        """Takes the next step of the plan until one needs time."""
        assert self._plan is not None
        while True:
            step = self._plan.next(self._path.clock.monotonic())
            if isinstance(step, Dial):
                if self._dial(step):
                    return
            elif isinstance(step, Hold):
                self._hold(step)
                return
            else:
                self._give_up(step)
                return

    def _dial(self, step: Dial) -> bool:
        """False: refused, take the next step."""
        assert self._plan is not None
        if is_address(step.target[0]):  # of a pod that is only played: nobody is there, and nothing shall be sent
            self._frontend.stats.dial_failures += 1
            self._plan.refused(step.target)
            return False
        try:
            backend = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
        except OSError:
            self._frontend.stats.refused_limit += 1  # out of descriptors
            self._abandon()
            return True
        tune(backend)
        error = backend.connect_ex(step.target)
        if error == errno.EINPROGRESS:
            error = backend.connect_ex(step.target)  # on one machine the answer is there already
        if error == 0:
            self._backend = backend
            self._establish()
            return True
        if error != errno.EALREADY:
            backend.close()
            self._frontend.stats.dial_failures += 1
            self._plan.refused(step.target)
            return False
        self._backend = backend
        self._target = step.target
        self._watch_client()
        self._path.poller.watch(backend, DUPLEX, self._backend_event)
        self._timer = self._path.poller.call_later(step.timeout_s, self._timed_out)
        return True

    def _hold(self, step: Hold) -> None:
        self._frontend.stats.held += 1
        self._watch_client()
        self._frontend.wait(id(self), self._endpoints_changed)
        self._timer = self._path.poller.call_later(step.seconds, self._held_enough)

    def _give_up(self, step: GiveUp) -> None:
        if step.reason == "dial":
            self._frontend.stats.gave_up_dial += 1
        else:
            self._frontend.stats.gave_up_no_endpoint += 1
        self._abandon()

    def _establish(self) -> None:
        assert self._backend is not None
        self._plan = None
        poller = self._path.poller
        relay = self._relay = Relay(
            poller, self._path.pipes, self._frontend.stats, self._client, self._backend, self._ended
        )
        if self._target is None:
            poller.watch(self._backend, DUPLEX, relay.backend_event)
        else:
            poller.handle(self._backend, relay.backend_event)
            relay.backend_event(READ | ENDED)
        if not self._watched:
            poller.watch(self._client, DUPLEX, relay.client_event)
        else:
            poller.handle(self._client, relay.client_event)
            relay.client_event(READ | ENDED)

    def _watch_client(self) -> None:
        if not self._watched:
            self._watched = True
            self._path.poller.watch(self._client, DUPLEX, self._client_event)

    # --- What happens meanwhile

    def _client_event(self, events: int) -> None:
        if events & BROKEN and self._plan is not None:
            self._frontend.stats.resets += 1
            self._abandon()

    def _backend_event(self, events: int) -> None:
        assert self._backend is not None
        assert self._plan is not None
        assert self._target is not None
        if not events & (WRITE | ENDED):
            return
        self._cancel_timer()
        if self._backend.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._establish()
        else:
            self._plan.refused(self._target)
            self._next_try()

    def _timed_out(self) -> None:
        self._timer = None
        assert self._plan is not None
        self._plan.timed_out()
        self._next_try()

    def _next_try(self) -> None:
        assert self._backend is not None
        self._path.poller.retire(self._backend)
        self._backend = self._target = None
        self._frontend.stats.dial_failures += 1
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

    # --- The end

    def _abandon(self) -> None:
        """Ends it before there was a relay."""
        self._plan = None
        self._cancel_timer()
        self._frontend.stop_waiting(id(self))
        if self._backend is not None:
            self._path.poller.retire(self._backend)
        reset(self._client)
        self._path.poller.retire(self._client)
        self._ended()

    def _ended(self) -> None:
        self._relay = None  # no circle of references: garbage collection has nothing to look for
        self._frontend.stats.active -= 1
        self._path.left(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
