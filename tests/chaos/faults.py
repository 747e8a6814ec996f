"""What the chaos runs over a master alone do to it, from dice with a seed.

    PODIUM_CHAOS_SEED=n     the same dice again (the seed is printed by each run)
    PODIUM_CHAOS_S=n        how long each run breaks things, in seconds

The dice decide what happens and in which order; processes decide how fast. So a seed does not replay a run exactly, but
it comes close.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from cluster.store import failpoints
from tests.kit.master_process import MasterProcess

DEFAULT_S = 6.0
"""How long a run breaks things when nobody says; `make test` has several of them."""

SMALL: Mapping[str, str] = {
    "PODIUM_MASTER_RING_CHANGES": "50",
    "PODIUM_MASTER_HISTORY_REVISIONS": "300",
    "PODIUM_MASTER_HISTORY_SLACK": "50",
    "PODIUM_MASTER_COMPACT_INTERVAL_S": "0.2",
}
"""Settings of a master that make rare things happen all the time: watches read from disk, history is forgotten."""


@dataclass
class Dice:
    """Where a run's decisions come from, and for how long it goes on."""

    seed: int
    duration_s: float = DEFAULT_S
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        print(f"PODIUM_CHAOS_SEED={self.seed}")

    @classmethod
    def from_environment(cls, default_s: float = DEFAULT_S, seed: int | None = None) -> Dice:
        """With the seed and the duration that were asked for; without, with this seed, or with a new one."""
        new = secrets.randbelow(10**6) if seed is None else seed
        return cls(
            int(os.environ.get("PODIUM_CHAOS_SEED") or new), float(os.environ.get("PODIUM_CHAOS_S") or default_s)
        )

    async def pauses(self, shortest_s: float, longest_s: float) -> AsyncIterator[None]:
        """Yields after pauses of random length, until the time is up."""
        end = time.monotonic() + self.duration_s
        while time.monotonic() < end:
            await asyncio.sleep(self.rng.uniform(shortest_s, longest_s))
            yield


async def kills(master: MasterProcess, dice: Dice) -> None:
    """SIGKILL at any moment, also while it starts."""
    master.keep()
    async for _ in dice.pauses(0.05, 1.5):
        master.signal(signal.SIGKILL)
    await settled(master)


async def suspensions(master: MasterProcess, dice: Dice) -> None:
    """SIGSTOP for a moment or for longer than clients wait, and SIGCONT."""
    async for _ in dice.pauses(0.05, 0.7):
        master.signal(signal.SIGSTOP)
        await asyncio.sleep(dice.rng.choice([0.02, 0.3, 1.3]))
        master.signal(signal.SIGCONT)


async def crash_points(master: MasterProcess, dice: Dice) -> None:
    """Dies again and again wherever its store touches the disk."""
    await master.terminate()
    names = [name for name in failpoints.KNOWN if name.startswith("store.")]
    master.keep(";".join(f"{name}=exit:1in{dice.rng.choice([20, 50, 100])}" for name in names))
    async for _ in dice.pauses(0.1, 0.5):
        pass
    await master.let_go()
    await master.terminate()
    await master.start()


async def settled(master: MasterProcess) -> None:
    """One last kill; then nobody keeps it any more, and it serves."""
    await master.let_go()
    await master.kill()
    await master.start()
