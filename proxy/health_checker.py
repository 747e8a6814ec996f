"""Asks the endpoints of a port how they are, at intervals, and tells the balancer who is ill.

One task for each port that wants it. All endpoints are asked in each round, a few at a time, and a round is over within
its interval: an answer that takes longer than the time-out is a failure. Endpoints that come are taken for well, since
their readiness says so.
"""

from __future__ import annotations

import asyncio
import random

from cluster.actor.tasks import Tasks
from proxy.datapath import DataPath
from proxy.frontend import Frontend
from proxy.health import Health, is_well, request
from proxy.policies import Target
from proxy.routing import HealthTerms

AT_A_TIME = 32
"""Endpoints asked at the same moment."""


class HealthChecker:
    """Between `start` and `stop` it works by itself."""

    def __init__(self, path: DataPath, frontend: Frontend, terms: HealthTerms, rng: random.Random) -> None:
        self._clock = path.clock
        self._frontend = frontend
        self._terms = terms
        self._rng = rng
        self._health: dict[Target, Health] = {}
        self._tasks = Tasks(f"health of {frontend.route.key}")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Asks from now on; the first time soon, but not everybody's at the same moment."""
        self._task = self._tasks.spawn(self._run(), name="rounds")

    def stop(self) -> None:
        """Asks no more. Twice is fine."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def changed(self) -> None:
        """The endpoints are others than before: who is gone is forgotten."""
        targets = self._frontend.balancer.targets
        self._health = {target: self._health.get(target) or Health() for target in targets}
        self._publish()

    async def _run(self) -> None:
        await self._clock.sleep(self._rng.random() * min(1.0, self._terms.interval_s))
        while True:
            began = self._clock.monotonic()
            await self.round()
            await self._clock.sleep(max(0.0, began + self._terms.interval_s - self._clock.monotonic()))

    async def round(self) -> None:
        """Asks everybody once."""
        few = asyncio.Semaphore(AT_A_TIME)

        async def one(target: Target) -> None:
            async with few:
                well = await self._ask(target)
            health = self._health.get(target)
            if health is not None and health.answered(well=well, terms=self._terms):
                self._publish()

        await asyncio.gather(*(one(target) for target in tuple(self._health)))

    async def _ask(self, target: Target) -> bool:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._terms.timeout_s):
                reader, writer = await asyncio.open_connection(target.ip, target.port, limit=1 << 14)
                if not self._terms.http_path:
                    return True
                writer.write(request(self._terms.http_path, str(target)))
                return is_well(await reader.readexactly(13))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        finally:
            if writer is not None:
                writer.transport.abort()

    def _publish(self) -> None:
        self._frontend.balancer.unhealthy = frozenset(
            target for target, health in self._health.items() if not health.is_well
        )
