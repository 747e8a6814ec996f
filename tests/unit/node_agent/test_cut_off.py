"""Pods that must not run without the master, and an agent that dies while it is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.pb.v1 import core_pb2 as core
from node_agent.cut_off import FILE, LastHeard, is_cut_off
from tests.unit.node_agent.kit import make_pod
from tests.unit.node_agent.virtual import World, world

__all__ = ["world"]


def shy(name: str = "web", limit_s: int = 60) -> core.Pod:
    pod = make_pod(name, grace_s=1)
    pod.spec.stopAfterDisconnectSeconds = limit_s
    return pod


def test_who_is_cut_off() -> None:
    assert is_cut_off(shy().spec, 60.1)
    assert not is_cut_off(shy().spec, 60.0)
    assert not is_cut_off(make_pod().spec, 1e9)


async def test_another_agent_does_not_begin_to_count_anew(world: World) -> None:
    pod = await world.run(shy())
    run_id = f"{pod.metadata.uid}.c1.0"
    await world.clock.run_for(10.0)
    world.cut_off()
    for _ in range(2):
        await world.clock.run_for(20.0)
        await world.leave()
        await world.come_back()
    assert world.runtime.running == [run_id]
    await world.clock.run_for(35.0)
    assert world.runtime.running == [], "70 s, and not more than 35 of them under one agent"
    world.reconnect()
    await world.until("Failed")
    assert world.status().reason == "StoppedAfterDisconnect"


async def test_an_agent_that_comes_late_asks_the_master_first(world: World) -> None:
    pod = await world.run(shy())
    await world.clock.run_for(5.0)
    await world.leave()
    await world.clock.run_for(600.0)
    await world.come_back()
    await world.clock.run_for(120.0)
    assert world.runtime.running == [f"{pod.metadata.uid}.c1.0"]


async def test_nothing_that_must_not_run_is_started_by_an_agent_alone(world: World) -> None:
    late, other = await world.run(shy("late")), await world.run(make_pod("other"))
    await world.clock.run_for(5.0)
    world.cut_off()
    await world.leave()
    for pod in (late, other):
        world.runtime.end(f"{pod.metadata.uid}.c1.0", 1)
    await world.clock.run_for(600.0)
    await world.come_back()
    await world.clock.run_for(60.0)
    assert [run_id.split(".")[0] for run_id in world.runtime.running] == [other.metadata.uid]
    world.reconnect()
    await world.clock.run_for(60.0)
    assert len(world.runtime.running) == 2, "the master is back, and still wants it"


def test_a_moment_of_another_boot_is_none(tmp_path: Path) -> None:
    LastHeard(tmp_path, "this boot").note(50.0)
    assert LastHeard(tmp_path, "this boot").load(80.0) == 50.0
    assert LastHeard(tmp_path, "another boot").load(80.0) == 80.0
    assert LastHeard(tmp_path / "nowhere", "this boot").load(80.0) == 80.0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"boot_id": "b", "heard_at_s": "x"}'])
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert LastHeard(tmp_path, "b").load(80.0) == 80.0


def test_the_disk_is_left_alone_unless_there_is_news(tmp_path: Path) -> None:
    heard = LastHeard(tmp_path, "b")
    heard.note(50.0)
    (tmp_path / FILE).unlink()
    heard.note(50.9)
    assert not (tmp_path / FILE).exists()
    heard.note(51.0)
    assert LastHeard(tmp_path, "b").load(80.0) == 51.0


def test_what_a_full_disk_did_not_take_is_tried_again(tmp_path: Path) -> None:
    room = tmp_path / "room"
    heard = LastHeard(room, "b")
    heard.note(50.0)
    room.mkdir()
    heard.note(50.0)
    assert LastHeard(room, "b").load(80.0) == 50.0
