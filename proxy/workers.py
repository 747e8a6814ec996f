"""Several processes that carry connections, started and told what to do by this one, which watches the cluster.

Each has a listening socket of its own at every address (SO_REUSEPORT; sockets.py keeps them), and the kernel spreads
new connections over them. There is one routing table, here; what changes in it goes to all. A worker that ends is
started again, with longer pauses each time, and gets all routes and the same sockets: what waited in them is served.

What is a worker's own: turns and loads, ejected endpoints, health checks, and the share of the connection limit.
Clients that stick to an endpoint do so by a hash that all workers agree on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.meta import Key
from cluster.pb.v1 import core_pb2 as core
from proxy.merging import merged
from proxy.orders import Close, Counted, Fault, Node, Open, Report, StopAccepting, Told, Update
from proxy.routing import Route, RouteKey
from proxy.settings import ProxySettings
from proxy.stats import Stats
from proxy.wire import Wire

_log = logging.getLogger("podium.proxy.workers")

_RESTART_MIN_S = 0.1
_RESTART_MAX_S = 5.0
_STOP_S = 3.0
"""For a worker to end, before it is killed."""
_DRAIN_LOOK_S = 0.1


class _Slot:
    """A place for a worker, and who has it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.wire: Wire | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.counted: Counted | None = None
        self.gone = asyncio.Event()
        self.answered = asyncio.Event()
        self.backoff = Backoff(_RESTART_MIN_S, _RESTART_MAX_S)


class Workers:
    """So many engines in processes of their own."""

    def __init__(
        self,
        settings: ProxySettings,
        copies: Callable[[RouteKey], list[list[socket.socket]]],
        *,
        clock: Clock,
    ) -> None:
        """`copies` gives the sockets of a route again, for each worker."""
        self._settings = settings
        self._copies = copies
        self._clock = clock
        self._slots = [_Slot(number) for number in range(settings.workers)]
        self._routes: dict[RouteKey, Route] = {}
        self._nodes: dict[str, bytes] = {}
        self._faults: dict[Key, Fault] = {}
        self.tell: Callable[[RouteKey, Literal["Normal", "Warning"], str, str], None] = lambda *_: None
        """Makes an event of a service; set before the start."""
        self._gone = Stats()
        """Counters of workers that have ended."""
        self._accepts = True
        self._tasks = Tasks("proxy workers")

    def __len__(self) -> int:
        """Connections, as of the last reports."""
        return sum(slot.counted.connections for slot in self._slots if slot.counted is not None)

    @property
    def pids(self) -> list[int]:
        """Of those that run."""
        return [slot.process.pid for slot in self._slots if slot.process is not None]

    async def start(self) -> None:
        """Returns when all have been started. Raises OSError."""
        for slot in self._slots:
            await self._start(slot)
            self._tasks.spawn(self._keep(slot), name=f"worker {slot.number}")

    async def settled(self, timeout_s: float) -> None:
        """Returns when all have done what they were told so far, or after that time."""
        for slot in self._slots:
            slot.answered.clear()
        self._tell(Report())
        try:
            async with asyncio.timeout(timeout_s):
                for slot in self._slots:
                    await slot.answered.wait()
        except TimeoutError:
            _log.warning("not all workers answer yet")

    def open(self, route: Route, sockets: Sequence[Sequence[socket.socket]]) -> None:
        """All serve the route, each with its sockets."""
        self._routes[route.key] = route
        for slot, share in zip(self._slots, sockets, strict=True):
            self._tell_to_open(slot, route, share)

    def update(self, route: Route) -> None:
        """The route is now this."""
        if route.key in self._routes:
            self._routes[route.key] = route
            self._tell(Update(route))

    def close(self, key: RouteKey) -> None:
        """Nobody serves it any more."""
        if self._routes.pop(key, None) is not None:
            self._tell(Close(key))

    def set_node(self, name: str, node: core.Node | None) -> None:
        """Where clients and endpoints are."""
        data = None if node is None else node.SerializeToString()
        if data is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = data
        self._tell(Node(name, data))

    def set_fault(self, key: Key, fault: core.Fault | None, ips: frozenset[str]) -> None:
        """Something goes wrong on purpose; each worker throws its own dice."""
        order = Fault(key, None if fault is None else fault.SerializeToString(), ips)
        if fault is None:
            self._faults.pop(key, None)
        else:
            self._faults[key] = order
        self._tell(order)

    def observe(self) -> Stats:
        """The sum of the last reports."""
        return merged([self._gone, *(slot.counted.stats for slot in self._slots if slot.counted is not None)])

    def stop_accepting(self) -> None:
        """All let their connections finish. Twice is fine."""
        self._accepts = False
        self._tell(StopAccepting())
        for slot in self._slots:
            slot.counted = None if slot.wire is not None else slot.counted

    async def drain(self, grace_s: float) -> None:
        """Returns when no worker has a connection any more, or after the grace period."""
        deadline = self._clock.monotonic() + grace_s
        while any(slot.wire and (slot.counted is None or slot.counted.connections) for slot in self._slots):
            if self._clock.monotonic() >= deadline:
                return
            await self._clock.sleep(min(_DRAIN_LOOK_S, grace_s))

    async def stop(self) -> None:
        """Ends all. Twice is fine."""
        await self._tasks.cancel_all()
        await asyncio.gather(*(self._end(slot) for slot in self._slots))

    # --- one worker

    async def _start(self, slot: _Slot) -> None:
        mine, theirs = socket.socketpair()
        settings = self._settings
        share = -(-settings.max_connections // settings.workers)
        arguments = ["--wire", str(theirs.fileno()), "--name", f"proxy-worker-{slot.number + 1}"]
        arguments += ["--hold-s", str(settings.hold_s), "--max-connections", str(share)]
        arguments += ["--log-level", settings.log_level]
        if settings.access_log is not None:
            arguments += ["--access-log", str(_own_file(settings.access_log, slot.number + 1))]
        if settings.policies is not None:
            arguments += ["--policies", str(settings.policies)]
        try:
            slot.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "proxy.worker", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,  # that of this process says READY, and its end is listened for
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError:
            mine.close()
            raise
        finally:
            theirs.close()
        slot.gone.clear()
        slot.wire = Wire(mine, lambda message, _: self._heard(slot, message), slot.gone.set)
        for name, data in self._nodes.items():
            slot.wire.send(Node(name, data))
        for fault in self._faults.values():
            slot.wire.send(fault)
        for route in list(self._routes.values()):
            shares = self._copies(route.key)
            for number, share_of in enumerate(shares):
                if number == slot.number:
                    self._tell_to_open(slot, route, share_of)
                else:
                    for sock in share_of:
                        sock.close()

    async def _keep(self, slot: _Slot) -> None:
        """Starts a worker again whenever it ends."""
        while True:
            began = self._clock.monotonic()
            await slot.gone.wait()
            await self._end(slot)
            if not self._accepts:
                return
            if self._clock.monotonic() - began > _RESTART_MAX_S:
                slot.backoff.reset()
            pause_s = slot.backoff.next()
            _log.error("worker %d has ended; it is started again in %.1f s", slot.number + 1, pause_s)
            await self._clock.sleep(pause_s)
            while slot.wire is None:
                try:
                    await self._start(slot)
                except OSError as error:
                    _log.error("worker %d cannot be started: %s", slot.number + 1, error)
                    await self._clock.sleep(slot.backoff.next())

    async def _end(self, slot: _Slot) -> None:
        if slot.wire is not None:
            slot.wire.close()
            slot.wire = None
        process, slot.process = slot.process, None
        if process is not None:
            try:
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if slot.counted is not None:
            self._gone = merged([self._gone, slot.counted.stats], live=False)
            slot.counted = None

    def _heard(self, slot: _Slot, message: object) -> None:
        if isinstance(message, Counted):
            slot.counted = message
            if message.was_asked:
                slot.answered.set()
        elif isinstance(message, Told):
            self.tell(message.key, message.kind, message.reason, message.message)

    def _tell(self, order: Update | Close | Node | Fault | StopAccepting | Report) -> None:
        for slot in self._slots:
            if slot.wire is not None:
                slot.wire.send(order)

    def _tell_to_open(self, slot: _Slot, route: Route, sockets: Sequence[socket.socket]) -> None:
        if slot.wire is not None:
            slot.wire.send(Open(route), sockets)
        else:
            for sock in sockets:
                sock.close()


def _own_file(path: Path, number: int) -> Path:
    """Files that are rotated cannot be shared: access.log is access.1.log for the first worker."""
    return path.with_name(f"{path.stem}.{number}{path.suffix}")
