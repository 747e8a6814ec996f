"""A heart that beats on whatever happens to the line to the master."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from cluster.api.errors import Unavailable
from cluster.pb.v1 import core_pb2 as core
from node_agent.heartbeat import Heart, Usage, make_heartbeat
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster


async def test_the_heart_beats_on_after_the_line_broke(tmp_path: Path) -> None:
    clock = VirtualClock()
    cluster = MemoryCluster(clock=clock, rng=random.Random(1))
    cluster.put(core.Node(metadata=core.ObjectMeta(name="node-1")))
    unknown: list[float] = []

    async def on_unknown(nodes: Sequence[str]) -> None:
        unknown.append(clock.monotonic())

    usage = Usage(clock, tmp_path)
    heart = Heart(
        cluster.client("node:node-1"),
        clock=clock,
        interval_s=0.5,
        beats=lambda sequence: [make_heartbeat("node-1", sequence, usage.sample(3))],
        on_unknown=on_unknown,
        heard_at_s=clock.monotonic() - 7.0,
    )
    assert clock.monotonic() - heart.heard_at_s == 7.0
    await heart.start()
    await clock.run_for(1.1)
    assert clock.monotonic() - heart.heard_at_s < 0.5
    assert cluster.heartbeats["node-1"].sequence == 3
    assert cluster.heartbeats["node-1"].usage["pods"].string == "3"
    cluster.fail_next(Unavailable("the master is away"), times=3)
    await clock.run_for(1.5)
    assert cluster.heartbeats["node-1"].sequence == 3
    await clock.run_for(0.5)
    assert cluster.heartbeats["node-1"].sequence == 7, "the pace is kept while the line is down"
    assert not unknown
    cluster.remove(core.Node(metadata=core.ObjectMeta(name="node-1")))
    await clock.run_for(0.5)
    assert unknown
    await heart.stop()
    await heart.stop()


async def test_one_heart_beats_for_several_nodes_and_says_which_are_unknown() -> None:
    clock = VirtualClock()
    cluster = MemoryCluster(clock=clock, rng=random.Random(1))
    names = [f"h-{number}" for number in range(3)]
    for name in names[:2]:
        cluster.put(core.Node(metadata=core.ObjectMeta(name=name)))
    unknown: list[str] = []

    async def on_unknown(nodes: Sequence[str]) -> None:
        unknown.extend(nodes)

    heart = Heart(
        cluster.client("hollow:h"),
        clock=clock,
        interval_s=1.0,
        beats=lambda sequence: [make_heartbeat(name, sequence, {"pods": "2"}) for name in names],
        on_unknown=on_unknown,
        heard_at_s=clock.monotonic(),
        delay_s=0.5,
    )
    await heart.start()
    await clock.run_for(0.4)
    assert not cluster.heartbeats
    await clock.run_for(0.2)
    assert {name: beat.sequence for name, beat in cluster.heartbeats.items()} == dict.fromkeys(names, 1)
    assert unknown == ["h-2"]
    await clock.run_for(1.0)
    assert cluster.heartbeats["h-0"].sequence == 2
    await heart.stop()
