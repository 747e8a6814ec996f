"""Supervision: children started in order, restarted when they crash, stopped in reverse.

A child that crashes is stopped, made anew and started again. If that happens too often within a while (the restart
budget), the trouble is not the child's alone, and the supervisor fails in turn: `wait_failed` raises, the daemon exits
with 1, and whoever started the process decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cluster.actor.clock import Clock, SystemClock
from cluster.actor.tasks import Tasks

_log = logging.getLogger("podium.supervisor")
STOP_TIMEOUT_S = 10.0
"""A child that does not stop within this is given up, and named in the log, unless the supervisor says otherwise."""


class Service(Protocol):
    """What can be supervised."""

    async def start(self) -> None:
        """Returns when it serves; raises if it cannot."""
        ...

    async def run(self) -> None:
        """Goes on as long as the service does. Raising means: it crashed. Returning means: it is done."""
        ...

    async def stop(self) -> None:
        """Returns when all of it is gone. Twice is fine, also after a crash."""
        ...


class Restart(Enum):
    """When to start a child again."""

    ALWAYS = "always"
    ON_CRASH = "on-crash"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to make a child, and when to make it again."""

    name: str
    make: Callable[[], Service]
    restart: Restart = Restart.ON_CRASH


class BudgetExceeded(Exception):
    """Children crashed too often."""


class Supervisor:
    """Starts, watches, restarts and stops its children. Is a Service itself."""

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec],
        *,
        max_restarts: int = 5,
        within_s: float = 10.0,
        stop_timeout_s: float = STOP_TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._specs = tuple(children)
        self._max_restarts, self._within_s = max_restarts, within_s
        self._stop_timeout_s = stop_timeout_s
        self._clock: Clock = clock or SystemClock()
        self._services: dict[str, Service] = {}
        self._tasks = Tasks(name, on_crash=lambda task, error: None)
        self._crashes: deque[float] = deque()
        self._failed: asyncio.Future[None] | None = None
        self._stopping = False
        self._stopped: asyncio.Future[None] | None = None

    def service(self, name: str) -> Service:
        """The child of that name that lives now."""
        return self._services[name]

    async def start(self) -> None:
        """Starts the children in order. If one cannot start, stops those before it and raises its error."""
        self._failed = asyncio.get_running_loop().create_future()
        try:
            for spec in self._specs:
                service = spec.make()
                self._services[spec.name] = service
                await service.start()
                self._tasks.spawn(self._watch(spec, service), name=f"watch {spec.name}")
        except BaseException:
            await self.stop()
            raise

    async def run(self) -> None:
        """Goes on until `stop`. Raises BudgetExceeded."""
        await self.wait_failed()

    async def wait_failed(self) -> None:
        """Raises BudgetExceeded when children crash too often; returns when the supervisor was stopped."""
        if self._failed is not None:
            await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """Stops the children in reverse order, and returns when all are gone. Twice is fine, also at the same time.

        A child that fails to stop is logged, and so is one that takes longer than `stop_timeout_s`, whose `stop` is
        then cancelled; the next one is stopped all the same.
        """
        self._stopping = True
        while self._stopped is not None:  # somebody else is at it; if that one is cancelled, we go on
            await asyncio.wait([self._stopped])
            if not self._services:
                return
        self._stopped = asyncio.get_running_loop().create_future()
        try:
            await self._tasks.cancel_all()
            for name in reversed([spec.name for spec in self._specs]):
                if name in self._services:
                    await self._stop_service(name, self._services[name])
                    del self._services[name]
            if self._failed is not None and not self._failed.done():
                self._failed.set_result(None)
        finally:
            self._stopped.set_result(None)
            self._stopped = None

    async def _stop_service(self, name: str, service: Service) -> None:
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                await service.stop()
        except TimeoutError:
            _log.error("%s: %s does not stop within %.0f s; it is given up", self.name, name, self._stop_timeout_s)
        except Exception as error:
            _log.error("%s: %s failed while stopping", self.name, name, exc_info=error)

    async def _watch(self, spec: ChildSpec, service: Service) -> None:
        """Follows one child and its successors."""
        while True:
            crash: Exception | None = None
            try:
                await service.run()
            except Exception as error:
                crash = error
            except asyncio.CancelledError as error:
                current = asyncio.current_task()
                if self._stopping or (current is not None and current.cancelling()):
                    raise
                # A task inside the service was cancelled, not this one: it is gone, like after a crash.
                crash = RuntimeError(f"{spec.name} was cancelled")
                crash.__cause__ = error
            if self._stopping:
                return
            if crash is None and spec.restart is not Restart.ALWAYS:
                return
            if crash is not None:
                _log.error("%s: %s crashed", self.name, spec.name, exc_info=crash)
                if spec.restart is Restart.NEVER:
                    return
            restarted = await self._restart(spec, service, crash)
            if restarted is None:
                return
            service = restarted

    async def _restart(self, spec: ChildSpec, old: Service, crash: Exception | None) -> Service | None:
        """A new child in place of the old one; None if the budget is used up."""
        await self._stop_service(spec.name, old)
        while True:
            now = self._clock.monotonic()
            self._crashes.append(now)
            while self._crashes and self._crashes[0] < now - self._within_s:
                self._crashes.popleft()
            if len(self._crashes) > self._max_restarts:
                message = f"{self.name}: children crashed {len(self._crashes)} times within {self._within_s:g} s"
                failure = BudgetExceeded(f"{message}, last {spec.name}: {crash!r}")
                failure.__cause__ = crash
                if self._failed is not None and not self._failed.done():
                    self._failed.set_exception(failure)
                    self._failed.exception()  # looked at: the daemon may be stopping already
                return None
            await self._clock.sleep(min(0.05 * 2 ** (len(self._crashes) - 1), 2.0))
            service = spec.make()
            self._services[spec.name] = service
            try:
                await service.start()
            except Exception as error:
                crash = error
                _log.error("%s: %s does not start again", self.name, spec.name, exc_info=error)
                await self._stop_service(spec.name, service)
                continue
            return service
