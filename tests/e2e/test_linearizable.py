"""A master that is killed, suspended and dies at its crash points, under clients and watchers: what they were
told is linearizable, and the watch guarantees hold. About 10 s each; `make chaos` has the long runs.

The dice are the same each time; PODIUM_CHAOS_SEED=n are others. `make chaos` throws new ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.chaos import faults
from tests.chaos.faults import Dice
from tests.kit.arena import Arena
from tests.kit.leaks import leak_check
from tests.kit.master_process import MasterProcess, Pki, poller_open

Fault = Callable[[MasterProcess, Dice], Awaitable[None]]


@pytest.mark.parametrize("fault", [faults.kills, faults.suspensions, faults.crash_points], ids=lambda f: f.__name__)
async def test_one_master_is_linearizable(tmp_path: Path, fault: Fault) -> None:
    dice, pki = Dice.from_environment(seed=1), Pki(tmp_path)
    async with poller_open(pki.admin), leak_check(), MasterProcess(pki, environment=faults.SMALL) as master:
        arena = Arena([master.address], pki.admin, dice.seed, tmp_path / "evidence", story=master.story)
        await arena.start()
        await arena.progress(50)
        await fault(master, dice)
        verdict = await arena.verdict()
        print(f"seed {dice.seed}: {master.lives} lives; {verdict}")
        assert await master.terminate() == 0
