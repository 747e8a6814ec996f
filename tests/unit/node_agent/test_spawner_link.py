"""Agents and spawners that come and go: who ends what, who finds what, and who is refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from node_agent import process_tree as tree
from node_agent.runtime import spawner_link
from node_agent.runtime.interface import Program, StartFailure
from node_agent.runtime.process import ProcessRuntime
from node_agent.runtime.trusting import TrustingRuntime
from node_agent.spawner import boot_id
from tests.unit.node_agent.kit import LIMIT_S, until
from tests.unit.node_agent.spawner_scene import ESCAPE, Make, make_runtime, pid_in, within


async def test_when_the_agent_goes_everything_goes(program: Make, tmp_path: Path) -> None:
    runtime = make_runtime(tmp_path)
    await runtime.start()
    escape = program(sys.executable, "-c", ESCAPE.format(more="pass") + "time.sleep(1000)", str(tmp_path / "pid"))
    stubborn = program("sh", "-c", "trap '' TERM; while :; do sleep 1000; done")
    pids = [(await runtime.run(escape)).pid, (await runtime.run(stubborn)).pid, await pid_in(tmp_path / "pid")]
    await runtime.stop()
    assert not any(tree.is_alive(pid) for pid in pids)
    assert (await within(runtime.wait(stubborn.run_id))).lost


async def test_when_the_spawner_dies_its_runs_are_ended_and_a_new_one_takes_over(
    runtime: ProcessRuntime, program: Make, tmp_path: Path
) -> None:
    one = program(sys.executable, "-c", ESCAPE.format(more="pass") + "time.sleep(1000)", str(tmp_path / "pid"))
    leader = (await runtime.run(one)).pid
    escaped, before = await pid_in(tmp_path / "pid"), runtime.spawner_pid
    os.kill(before, signal.SIGKILL)
    ended = await within(runtime.wait(one.run_id))
    assert (ended.exit_code, ended.lost) == (137, True)
    assert not tree.is_alive(leader)
    assert not tree.is_alive(escaped)
    two = program("sh", "-c", "exit 4")
    await runtime.run(two)
    assert (await within(runtime.wait(two.run_id))).exit_code == 4
    assert runtime.spawner_pid != before


async def test_runs_outlive_their_agent_and_are_adopted_by_the_next(program: Make, tmp_path: Path) -> None:
    first = make_runtime(tmp_path, "service")
    await first.start()
    talker = program("sh", "-c", "while :; do echo line; sleep 0.01; done")
    short = program("sh", "-c", "sleep 0.2; echo last words; exit 7")
    started = await first.run(talker)
    await first.run(short)
    spawner = first.spawner_pid
    await first.leave()
    await until(lambda: "last words" in Path(short.log_path).read_text())
    await asyncio.sleep(0.05)
    size = Path(talker.log_path).stat().st_size
    second = make_runtime(tmp_path, "service")
    await second.start()
    try:
        assert second.spawner_pid == spawner
        assert second.adopted[talker.run_id].started == started
        assert second.adopted[talker.run_id].ended is None
        await until(lambda: Path(talker.log_path).stat().st_size > size)
        ended = await within(second.wait(short.run_id))
        assert (ended.exit_code, ended.tail, ended.lost) == (7, "last words\n", False)
        assert ended.used is not None
        assert ended.used.max_rss_bytes > 0
        second.forget(short.run_id)
        second.kill(talker.run_id)
        assert (await within(second.wait(talker.run_id))).signal == 9
        second.forget(talker.run_id)
    finally:
        await second.stop()
    third = make_runtime(tmp_path)
    await third.start()
    assert not third.adopted, "what was noted is not said again"
    await third.stop()


async def test_commands_beside_a_container_end_with_their_agent(program: Make, tmp_path: Path) -> None:
    first = make_runtime(tmp_path, "service")
    await first.start()
    one = program("sleep", "1000")
    pid = (await first.run(one)).pid
    beside = await first.exec(program("sh", "-c", "echo $$ > pid; exec sleep 1000"), beside=one.run_id)
    command = await pid_in(tmp_path / "pid")
    await first.leave()
    beside.close()
    await until(lambda: not tree.is_alive(command))
    assert tree.is_alive(pid)
    second = make_runtime(tmp_path)
    await second.start()
    await second.stop()
    assert not tree.is_alive(pid)


async def test_a_command_on_its_own_that_the_spawner_leaves_behind_is_ended_by_the_next(
    program: Make, tmp_path: Path
) -> None:
    """With what escaped from it, as of any run."""
    runtime = make_runtime(tmp_path, "service")
    await runtime.start()
    escape = ESCAPE.format(more="os.close(1); os.close(2)") + "time.sleep(1000)"
    alone = program(sys.executable, "-c", escape, str(tmp_path / "pid"))
    command = await runtime.exec(alone)
    leader, escaped = runtime.pid_of(alone.run_id), await pid_in(tmp_path / "pid")
    assert {leader, escaped} <= set(runtime.pids_of(alone.run_id))
    os.kill(runtime.spawner_pid, signal.SIGKILL)
    ended = await within(runtime.wait(alone.run_id))
    assert (ended.exit_code, ended.lost) == (137, True)
    assert not tree.is_alive(leader)
    assert not tree.is_alive(escaped)
    command.close()
    await runtime.leave()
    following = make_runtime(tmp_path)
    await following.start()
    assert not following.adopted, "its end was noted"
    await following.stop()


async def test_a_second_agent_is_told_that_the_node_is_taken(
    runtime: ProcessRuntime, program: Make, tmp_path: Path
) -> None:
    one = program("sleep", "1000")
    await runtime.run(one)
    with pytest.raises(OSError, match=f"another node agent .pid {os.getpid()}. works in"):
        await make_runtime(tmp_path / "node").start()
    runtime.kill(one.run_id)
    assert (await within(runtime.wait(one.run_id))).signal == 9, "the first one is not disturbed"


async def test_an_agent_that_does_not_understand_the_spawner_leaves_its_pods_alone(
    program: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = "from node_agent import spawner_line; spawner_line.PROTOCOL = 2; "
    with monkeypatch.context() as patched:
        patched.setattr(spawner_link, "PROTOCOL", 2)
        patched.setattr(spawner_link, "_BOOT", spawner_link._BOOT.replace("; from", f"; {later}from"))
        first = make_runtime(tmp_path, "service")
        await first.start()
    one = program("sleep", "1000")
    pid = (await first.run(one)).pid
    await first.leave()
    with pytest.raises(OSError, match=rf"pid {first.spawner_pid}. has version 2 .* has 1. Its pods run on") as caught:
        await make_runtime(tmp_path, "service").start()
    assert f"kill {first.spawner_pid}" in str(caught.value)
    assert tree.is_alive(pid)
    monkeypatch.setattr(spawner_link, "PROTOCOL", 2)
    second = make_runtime(tmp_path)
    await second.start()
    assert second.adopted[one.run_id].ended is None
    await second.stop()


async def test_of_two_spawners_the_first_is_left_if_the_second_cannot_be_had(program: Make, tmp_path: Path) -> None:
    for name in ("node", "trusted"):
        (tmp_path / name).mkdir()
    confined, trusted = make_runtime(tmp_path / "node", "service"), make_runtime(tmp_path / "trusted", "service")
    await confined.start()
    await trusted.start()
    one = program("sleep", "1000")
    await confined.run(one)
    await confined.leave()
    second = TrustingRuntime(make_runtime(tmp_path / "node", "service"), make_runtime(tmp_path / "trusted", "service"))
    with pytest.raises(OSError, match="another node agent"):
        await second.start()
    third = make_runtime(tmp_path / "node")
    await third.start()
    assert third.adopted[one.run_id].ended is None
    await third.stop()
    await trusted.stop()


async def test_another_spawners_dead_runs_are_reported_and_those_of_another_boot_are_not_touched(
    program: Make, tmp_path: Path
) -> None:
    """As after a reboot: the pid is somebody else's now."""
    stranger = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        ticks = tree.start_ticks_of(stranger.pid)
        lines = [
            {"run": "old", "pid": stranger.pid, "ticks": ticks, "at": 1.0, "log": "", "boot": "another boot"},
            {"run": "reused", "pid": stranger.pid, "ticks": ticks - 1, "at": 1.0, "log": "", "boot": boot_id()},
            {"run": "known", "pid": 1, "ticks": 1, "at": 1.0, "log": "", "boot": "another boot"},
            {"end": "known", "code": 3, "signal": 0, "at": 2.0, "tail": "", "usage": {}},
            {"run": "noted", "pid": 1, "ticks": 1, "at": 1.0, "log": "", "boot": "another boot"},
            {"forget": "noted"},
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines) + '{"run": "torn", "pi'
        (tmp_path / "runs.jsonl").write_text(text)
        runtime = make_runtime(tmp_path)
        await runtime.start()
        ends = {id: (run.ended.exit_code, run.ended.lost) for id, run in runtime.adopted.items() if run.ended}
        await runtime.stop()
        assert ends == {"old": (137, True), "reused": (137, True), "known": (3, False)}
        assert stranger.returncode is None
        assert tree.is_alive(stranger.pid)
    finally:
        stranger.kill()
        await stranger.wait()


async def test_an_agent_that_follows_another_at_once_is_not_told_that_the_line_is_busy(
    tmp_path: Path, program: Callable[..., Program]
) -> None:
    """Also if the spawner hears of the new one before it has heard the old one out."""
    (tmp_path / "node").mkdir()
    first, second = make_runtime(tmp_path / "node", "service"), make_runtime(tmp_path / "node", "service")
    await first.start()
    spawner = first.spawner_pid
    try:
        os.kill(spawner, signal.SIGSTOP)
        late = asyncio.ensure_future(first.run(program("sleep", "1000", env={"WEIGHT": "x" * 100_000})))
        starting = asyncio.ensure_future(second.start())
        await until(lambda: second._link.is_open)
        await asyncio.wait_for(first.leave(), LIMIT_S)
        os.kill(spawner, signal.SIGCONT)
        await asyncio.wait_for(starting, LIMIT_S)
        assert second.spawner_pid == spawner
        with pytest.raises(StartFailure):
            await late
    finally:
        os.kill(spawner, signal.SIGCONT)
        await second.stop()
