"""Three masters and three members of etcd that are killed, suspended, cut off and slowed down, under clients and
watchers of all masters: what they were told is linearizable, and the watch guarantees hold.

Every kind of fault once, in the order of the dice, which are the same each time; PODIUM_CHAOS_SEED=n are others. `make
chaos` throws new ones, and goes on for longer.
"""

from __future__ import annotations

from pathlib import Path

from tests.chaos import storms
from tests.chaos.faults import Dice
from tests.kit.arena import Arena
from tests.kit.etcd import running_etcd
from tests.kit.leaks import leak_check
from tests.kit.master_process import Pki, poller_open


async def test_three_masters_are_linearizable(tmp_path: Path) -> None:
    dice, pki = Dice.from_environment(default_s=1.0, seed=1), Pki(tmp_path)
    async with (
        poller_open(pki.admin),
        leak_check(),
        running_etcd(3) as etcd,
        storms.staged(etcd, pki, tmp_path.name) as stage,
    ):
        addresses = [master.address for master in stage.masters]
        arena = Arena(addresses, pki.admin, dice.seed, tmp_path / "evidence", story=stage.story)
        await arena.start()
        await arena.progress(50)
        done = await storms.storm(stage, dice, arena)
        verdict = await arena.verdict()
        print(f"seed {dice.seed}: {', '.join(done)}; {verdict}")
        for master in stage.masters:
            assert await master.terminate() == 0
