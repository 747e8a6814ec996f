"""For minutes, everything that storms.py knows is done to three masters and three members of etcd, and judged.

    make chaos
    PODIUM_CHAOS_SEED=4711 PODIUM_CHAOS_S=300 make chaos        the same dice again, for longer

The same as tests/e2e/test_linearizable_masters.py, longer, over and over, in rounds of a minute with new objects: the
search over a history takes longer than the history did if it is too long.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.chaos import storms
from tests.chaos.faults import Dice
from tests.kit.arena import Arena
from tests.kit.etcd import running_etcd
from tests.kit.leaks import leak_check
from tests.kit.master_process import Pki, poller_open

ROUND_S = 60.0
DURATION_S = float(os.environ.get("PODIUM_CHAOS_S", "75"))


async def test_three_masters_are_linearizable_for_a_long_time(tmp_path: Path) -> None:
    dice, pki = Dice.from_environment(), Pki(tmp_path)
    end_s, rounds = time.monotonic() + DURATION_S, 0
    async with (
        poller_open(pki.admin),
        leak_check(),
        running_etcd(3) as etcd,
        storms.staged(etcd, pki, tmp_path.name) as stage,
    ):
        while time.monotonic() < end_s:
            rounds += 1
            of_round = Dice(dice.rng.randrange(10**6), min(ROUND_S, max(1.0, end_s - time.monotonic())))
            addresses = [master.address for master in stage.masters]
            arena = Arena(addresses, pki.admin, of_round.seed, tmp_path / f"evidence-{rounds}", story=stage.story)
            await arena.start()
            await arena.progress(50)
            done = await storms.storm(stage, of_round, arena)
            print(f"round {rounds}, {len(done)} faults: {await arena.verdict()}", flush=True)
        for master in stage.masters:
            assert await master.terminate() == 0
