"""Ending trees of real processes: nothing gets away, and what does not die is named."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from node_agent import process_tree as tree
from node_agent.runtime import spawner_link
from node_agent.runtime.process import ProcessRuntime
from tests.unit.node_agent.kit import until
from tests.unit.node_agent.spawner_scene import ESCAPE, Make, make_runtime, pid_in, within


@pytest.mark.parametrize(
    "more",
    [
        "pass",
        # Without the marker in the environment, its output still betrays it.
        "os.execve('/bin/sh', ['sh', '-c', 'echo $$ > $0; exec sleep 1000', sys.argv[1]], {'PATH': '/usr/bin:/bin'})",
        # Without the output, the marker does.
        "os.close(1); os.close(2)",
    ],
    ids=["plain", "empty environment", "closed output"],
)
async def test_double_fork_and_setsid_do_not_escape(
    runtime: ProcessRuntime, program: Make, tmp_path: Path, more: str
) -> None:
    one = program(sys.executable, "-c", ESCAPE.format(more=more), str(tmp_path / "pid"))
    await runtime.run(one)
    escaped = await pid_in(tmp_path / "pid")
    ended = await within(runtime.wait(one.run_id))
    assert not tree.is_alive(escaped)
    assert not ended.lost


async def test_no_escape_when_many_try_at_once(runtime: ProcessRuntime, program: Make, tmp_path: Path) -> None:
    """Some are caught while they are ending: then nothing but their parent is left to be known of them."""

    async def one(number: int) -> bool:
        file = tmp_path / f"pid{number}"
        escape = program(sys.executable, "-I", "-S", "-c", ESCAPE.format(more="pass"), str(file))
        await runtime.run(escape)
        await within(runtime.wait(escape.run_id))
        return tree.is_alive(int(file.read_text()))

    for batch in range(6):
        assert not any(await asyncio.gather(*(one(batch * 8 + number) for number in range(8))))


async def test_the_tree_of_a_living_leader_is_killed_whole(
    runtime: ProcessRuntime, program: Make, tmp_path: Path
) -> None:
    one = program("sh", "-c", "(setsid sh -c 'echo $$ > pid; sleep 1000' &) ; sleep 1000")
    await runtime.run(one)
    escaped = await pid_in(tmp_path / "pid")
    runtime.kill(one.run_id)
    await within(runtime.wait(one.run_id))
    assert not tree.is_alive(escaped)


async def test_the_processes_of_a_run_and_what_they_hold(
    runtime: ProcessRuntime, program: Make, tmp_path: Path
) -> None:
    """With what has left its parents. Memory that several have in common is theirs once."""
    hold = "import os, time; held = bytearray(os.urandom(1 << 20) * 48); os.fork(); os.fork(); time.sleep(1000)"
    script = f"(setsid sh -c 'echo $$ > pid; exec sleep 1000' &) ; exec {sys.executable} -I -S -c '{hold}'"
    one, two = program("sh", "-c", script), program("sleep", "1000")
    await runtime.run(one)
    other = await runtime.run(two)
    escaped = await pid_in(tmp_path / "pid")
    await until(lambda: len(runtime.pids_of(one.run_id)) == 5)
    assert escaped in runtime.pids_of(one.run_id)
    assert runtime.pids_of(two.run_id) == [other.pid]
    pids = runtime.pids_of(one.run_id)
    assert tree.resident_bytes(pids) > 4 * (48 << 20)
    assert 48 << 20 < tree.proportional_bytes(pids) < 96 << 20
    runtime.kill(one.run_id)
    await within(runtime.wait(one.run_id))
    assert runtime.pids_of(one.run_id) == []


async def test_killing_one_run_leaves_the_others_alone(runtime: ProcessRuntime, program: Make) -> None:
    one, two = program("sleep", "1000"), program("sleep", "1000")
    await runtime.run(one)
    kept = await runtime.run(two)
    runtime.kill(one.run_id)
    await within(runtime.wait(one.run_id))
    assert tree.is_alive(kept.pid)
    runtime.kill(two.run_id)
    await within(runtime.wait(two.run_id))


async def test_a_fork_bomb_ends(runtime: ProcessRuntime, program: Make) -> None:
    # Each process forks again as long as there are fewer than about 60; children of killed ones are adopted by us.
    script = """
import os, time
for _ in range(5):
    os.fork()
while True:
    pid = os.fork()
    if pid == 0:
        time.sleep(0.01); os._exit(0)
    os.waitpid(pid, 0)
"""
    one = program(sys.executable, "-I", "-S", "-c", script)
    await runtime.run(one)
    await until(lambda: len(tree.descendants_of([runtime.pid_of(one.run_id)])) > 10)
    runtime.kill(one.run_id)
    await within(runtime.wait(one.run_id))
    assert not any(tree.is_alive(pid) for pid in tree.descendants_of(tree.children_of(runtime.spawner_pid)))
    await until(lambda: tree.children_of(runtime.spawner_pid) == [])  # and the dead are reaped


ORPHANS = """
import os, sys, time
for round, number in (("first", 1000), ("second", 200)):
    while not os.path.exists(round):
        time.sleep(0.005)
    for _ in range(number):
        if os.fork() == 0:
            os.fork()
            os._exit(0)
        os.wait()
    open(round + " done", "w")
time.sleep(1000)
"""


async def test_orphans_are_reaped(runtime: ProcessRuntime, program: Make, tmp_path: Path) -> None:
    """A thousand zombies, if nobody did. Their death alone wakes the spawner, and each time it wakes it reaps all that
    are dead: none is there any more once it has answered. So a zombie is as old as the spawner is late, and no timer is
    waited for."""
    one = program(sys.executable, "-I", "-S", "-c", ORPHANS)
    started = await runtime.run(one)

    def zombies() -> set[tuple[int, int]]:
        stats = {pid: tree.stat_of(pid) for pid in tree.children_of(runtime.spawner_pid)}
        return {(pid, stat[4]) for pid, stat in stats.items() if stat is not None and stat[0] == "Z"}

    (tmp_path / "first").touch()
    await until((tmp_path / "first done").exists)
    await until(lambda: tree.children_of(runtime.spawner_pid) == [started.pid])
    os.kill(runtime.spawner_pid, signal.SIGSTOP)
    try:
        (tmp_path / "second").touch()
        await until((tmp_path / "second done").exists)
        await until(lambda: len(zombies()) == 200)
        piled_up = zombies()
    finally:
        os.kill(runtime.spawner_pid, signal.SIGCONT)
    for _ in range(2):  # the first answer may come from the turn that began before
        await runtime.run(program("true"))
    assert not zombies() & piled_up


UNDYING = """
import os, sys
sys.path.append(sys.argv[1])
from node_agent import process_tree as tree, spawner, spawner_sweep

def may_die(pid):
    try:
        return str(pid) not in open({file!r}).read().split()
    except OSError:
        return True

hold, send_group = tree._hold, tree.send_group
tree._hold = lambda pid: hold(pid) if may_die(pid) else None
tree.send_group = lambda group, number: may_die(group) and send_group(group, number)
spawner_sweep.LIMIT_S = 1.0
sys.exit(spawner.main(sys.argv[2:]))
"""
"""A spawner that cannot kill the process whose pid is in a file: as if it were in an uninterruptible wait."""


@pytest.mark.parametrize("dies", ["nobody", "the agent", "the spawner"])
async def test_what_does_not_die_is_named_and_its_run_is_not_over(
    program: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    file = tmp_path / "undying"
    monkeypatch.setattr(spawner_link, "_BOOT", UNDYING.format(file=str(file)))
    runtime = make_runtime(tmp_path, "service")
    await runtime.start()
    one = program("sh", "-c", f"(setsid sh -c 'echo $$ > {file}; exec sleep 1000' &); exec sleep 1000")
    leader = (await runtime.run(one)).pid
    undying = await pid_in(file)
    named: list[int] = []
    waiting = asyncio.create_task(runtime.wait(one.run_id, named.extend))
    if dies == "the spawner":
        os.kill(runtime.spawner_pid, signal.SIGKILL)
    else:
        runtime.kill(one.run_id)
    await until(lambda: named == [undying])
    if dies == "the agent":
        await runtime.leave()
        await waiting
        runtime = make_runtime(tmp_path, "service")
        await runtime.start()
        assert runtime.adopted[one.run_id].ended is None
        again: list[int] = []
        waiting = asyncio.create_task(runtime.wait(one.run_id, again.extend))
        await until(lambda: again == [undying])
    two = program("true")
    await runtime.run(two)
    assert (await within(runtime.wait(two.run_id))).exit_code == 0, "others are not held up"
    assert (tree.is_alive(leader), tree.is_alive(undying), waiting.done()) == (False, True, False)
    file.unlink()
    ended = await within(waiting)
    assert not tree.is_alive(undying)
    assert (ended.exit_code, ended.signal, ended.lost) == (137, 9, dies == "the spawner")
    await runtime.stop()
