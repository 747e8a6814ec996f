"""The spawner with real processes: nothing gets away, and nothing is missed."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from node_agent import process_tree as tree
from node_agent.runtime import spawner_link
from node_agent.runtime.interface import Confinement, Ended, Mount, Program, StartFailure
from node_agent.runtime.logs import parts_of
from node_agent.runtime.process import ProcessRuntime
from node_agent.runtime.trusting import TrustingRuntime
from node_agent.spawner import boot_id
from tests.kit.silent_files import silent_files

LIMIT_S = 20.0
PATH = os.environ["PATH"]
_numbers = itertools.count()

ESCAPE = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {more}
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(1000)
    os._exit(0)
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.005)
"""


def make_runtime(directory: Path, lifetime: str = "dev") -> ProcessRuntime:
    return ProcessRuntime(directory, clock=SystemClock(), log_max_bytes=100_000, log_files=3, lifetime=lifetime)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    (tmp_path / "node").mkdir()
    runtime = make_runtime(tmp_path / "node")
    await runtime.start()
    yield runtime
    await runtime.stop()


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    def make(*argv: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Program:
        run_id = f"test{os.getpid()}.{next(_numbers)}"
        log = tmp_path / f"{run_id}.log"
        return Program(run_id, argv, {"PATH": PATH} | (env or {}), str(cwd or tmp_path), str(log))

    return make


Make = Callable[..., Program]


async def within(awaitable: Awaitable[Ended]) -> Ended:
    async with asyncio.timeout(LIMIT_S):
        return await awaitable


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def pid_in(file: Path) -> int:
    await until(lambda: file.exists() and bool(file.read_text()))
    return int(file.read_text())


@pytest.mark.parametrize(("script", "code", "number"), [("exit 0", 0, 0), ("exit 3", 3, 0), ("kill -9 $$", 137, 9)])
async def test_exit_codes_and_signals(
    runtime: ProcessRuntime, program: Make, script: str, code: int, number: int
) -> None:
    one = program("sh", "-c", script)
    started = await runtime.run(one)
    assert started.pid > 0
    ended = await within(runtime.wait(one.run_id))
    assert (ended.exit_code, ended.signal, ended.lost) == (code, number, False)
    assert ended.at_s >= started.at_s


async def test_output_goes_to_the_log_in_order_and_its_end_into_the_report(
    runtime: ProcessRuntime, program: Make
) -> None:
    one = program("sh", "-c", "echo one; echo two >&2; printf three")
    await runtime.run(one)
    ended = await within(runtime.wait(one.run_id))
    assert ended.tail == "one\ntwo\nthree"
    assert Path(one.log_path).read_text() == "one\ntwo\nthree"


async def test_the_environment_is_what_was_given(runtime: ProcessRuntime, program: Make) -> None:
    one = program("env", env={"A": "b c", "EMPTY": ""})
    await runtime.run(one)
    await within(runtime.wait(one.run_id))
    lines = set(Path(one.log_path).read_text().splitlines())
    assert lines == {f"PATH={PATH}", "A=b c", "EMPTY=", f"PODIUM_RUN={one.run_id}"}


async def test_a_session_of_its_own_no_stray_descriptors_and_default_signals(
    runtime: ProcessRuntime, program: Make, tmp_path: Path
) -> None:
    script = (
        "import os; print(os.getsid(0) == os.getpid() == os.getpgrp(), os.getcwd(), len(os.listdir('/proc/self/fd')))"
    )
    one = program(sys.executable, "-I", "-S", "-c", script)
    await runtime.run(one)
    assert (await within(runtime.wait(one.run_id))).tail.strip() == f"True {tmp_path} 4"
    two = program("sed", "-n", "s/Sig[BI].*://p", "/proc/self/status")
    await runtime.run(two)
    masks = (await within(runtime.wait(two.run_id))).tail.split()
    # 32 and 33 are the C library's own.
    assert [int(mask, 16) & 0x7FFFFFFF for mask in masks] == [0, 0]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("no-such-program",), 127, 'exec: "no-such-program": executable file not found in PATH='),
        (("/no/such/program",), 127, "no such file"),
        (("./data",), 126, "permission denied"),
        (("data",), 126, "permission denied"),
        (("/",), 126, "permission denied"),
        (("./bad-interpreter",), 127, "interpreter"),
        (("./nonsense",), 126, "Exec format error"),
        ((), 127, "no command"),
    ],
)
async def test_what_cannot_be_started(
    runtime: ProcessRuntime, program: Make, tmp_path: Path, argv: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "data").write_text("just text")
    for name, text in (("bad-interpreter", "#!/no/such/interpreter\n"), ("nonsense", "\x00\x01\x02")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    with pytest.raises(StartFailure) as caught:
        await runtime.run(program(*argv, env={"PATH": f"{tmp_path}:/usr/bin"}))
    assert caught.value.exit_code == code
    assert words in caught.value.message


async def test_a_working_directory_that_is_not_there(runtime: ProcessRuntime, program: Make, tmp_path: Path) -> None:
    with pytest.raises(StartFailure, match="chdir to working directory"):
        await runtime.run(program("true", cwd=tmp_path / "nowhere"))
    one = program("true")
    await runtime.run(one)
    assert (await within(runtime.wait(one.run_id))).exit_code == 0


async def test_a_signal_goes_to_the_leader_only(runtime: ProcessRuntime, program: Make, tmp_path: Path) -> None:
    script = """
        sh -c 'trap "echo child got it" TERM; echo x > ready; while :; do sleep 0.01; done' &
        trap 'echo leader got it; exit 7' TERM
        while :; do sleep 0.01; done"""
    one = program("sh", "-c", script)
    await runtime.run(one)
    await until((tmp_path / "ready").exists)
    runtime.signal(one.run_id, signal.SIGTERM)
    ended = await within(runtime.wait(one.run_id))
    assert (ended.exit_code, ended.tail) == (7, "leader got it\n")


async def test_what_ignores_term_dies_by_kill(runtime: ProcessRuntime, program: Make, tmp_path: Path) -> None:
    one = program("sh", "-c", "trap '' TERM; echo x > ready; while :; do sleep 0.01; done")
    started = await runtime.run(one)
    await until((tmp_path / "ready").exists)
    runtime.signal(one.run_id, signal.SIGTERM)
    runtime.kill(one.run_id)
    ended = await within(runtime.wait(one.run_id))
    assert (ended.exit_code, ended.signal, tree.is_alive(started.pid)) == (137, 9, False)


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


async def test_a_flood_of_output_is_rotated(runtime: ProcessRuntime, program: Make) -> None:
    one = program("sh", "-c", "yes 0123456789012345678901234567890 | head -c 5000000; echo last")
    await runtime.run(one)
    ended = await within(runtime.wait(one.run_id))
    parts = parts_of(Path(one.log_path))
    assert len(parts) == 3
    assert all(part.stat().st_size <= 100_000 + 65536 for part in parts)
    assert parts[-1].read_text().endswith("last\n")
    assert ended.tail.endswith("last\n")
    assert len(ended.tail) <= 4096


async def test_exec_has_streams_an_exit_code_and_ends_with_its_container(
    runtime: ProcessRuntime, program: Make, tmp_path: Path
) -> None:
    one = program("sleep", "1000")
    await runtime.run(one)
    process = await runtime.exec(program("sh", "-c", "cat; echo err >&2; exit 5"), beside=one.run_id)
    process.stdin.write(b"hello")
    process.stdin.close()
    assert (await process.stdout.read(), await process.stderr.read()) == (b"hello", b"err\n")
    assert (await within(process.wait())).exit_code == 5
    process.close()
    beside = await runtime.exec(program("sh", "-c", "echo $$ > pid; exec sleep 1000"), beside=one.run_id)
    pid = await pid_in(tmp_path / "pid")
    runtime.kill(one.run_id)
    await within(runtime.wait(one.run_id))
    await within(beside.wait())
    assert not tree.is_alive(pid)
    beside.close()


async def test_exec_of_nothing(runtime: ProcessRuntime, program: Make) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StartFailure):
        await runtime.exec(program("no-such-program"), beside="")
    assert len(os.listdir("/proc/self/fd")) == before


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


async def test_standard_input_of_a_run(runtime: ProcessRuntime, program: Make) -> None:
    one = replace(program("sh", "-c", "wc -c; echo end"), stdin=True)
    await runtime.run(one)
    async with asyncio.timeout(LIMIT_S):
        for _ in range(4):
            await runtime.write_stdin(one.run_id, b"x" * 100_000)
    runtime.close_stdin(one.run_id)
    assert (await within(runtime.wait(one.run_id))).tail.split() == ["400000", "end"]
    two = replace(program("true"), stdin=True)
    await runtime.run(two)
    async with asyncio.timeout(LIMIT_S):
        await runtime.write_stdin(two.run_id, b"x" * 1_000_000)  # nobody reads it: it does not wait for ever
    assert (await within(runtime.wait(two.run_id))).exit_code == 0


async def test_a_run_on_a_terminal(runtime: ProcessRuntime, program: Make) -> None:
    one = replace(program("sh", "-c", "read -r line; stty size; echo got $line; tty; stty size </dev/tty"), tty=True)
    await runtime.run(one)
    runtime.resize(one.run_id, 40, 123)
    async with asyncio.timeout(LIMIT_S):
        await runtime.write_stdin(one.run_id, b"hello\n")
    ended = await within(runtime.wait(one.run_id))
    echo, size, got, terminal, size_again = ended.tail.splitlines()
    assert (echo, size, got, size_again) == ("hello", "40 123", "got hello", "40 123")
    assert terminal.startswith("/dev/pts/")


async def test_a_command_on_a_terminal(runtime: ProcessRuntime, program: Make) -> None:
    one = program("sleep", "1000")
    await runtime.run(one)
    command = replace(program("sh", "-c", "stty size; read -r line; stty size; echo $line; exit 4"), tty=True)
    process = await runtime.exec(command, beside=one.run_id)
    process.resize(30, 90)
    process.stdin.write(b"hi\n")
    async with asyncio.timeout(LIMIT_S):
        output = (await process.stdout.read()).decode()
        assert await process.stderr.read() == b""
    assert (await within(process.wait())).exit_code == 4
    process.close()
    assert "30 90" in output
    assert output.rstrip().endswith("hi")


async def test_many_at_once(runtime: ProcessRuntime, program: Make) -> None:
    programs = [program("sh", "-c", f"exit {number % 7}") for number in range(60)]
    await asyncio.gather(*(runtime.run(one) for one in programs))
    ends = await asyncio.gather(*(within(runtime.wait(one.run_id)) for one in programs))
    assert [end.exit_code for end in ends] == [number % 7 for number in range(60)]


async def test_what_waits_for_files_that_do_not_answer_keeps_nobody_and_is_given_up(
    tmp_path: Path, program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume or a working directory on a dead server: others start meanwhile, and it does not take for ever."""
    limit = "import node_agent.spawner_starter as s; s.LIMIT_S = 1.0; "
    monkeypatch.setattr(
        spawner_link, "_BOOT", spawner_link._BOOT.replace("from node_agent", f"{limit} from node_agent")
    )
    (tmp_path / "node").mkdir()
    with silent_files(tmp_path / "silent") as silent:
        runtime = make_runtime(tmp_path / "node", "service")
        await runtime.start()
        try:
            mounts = Confinement(mounts=(Mount(str(silent), "/mnt"),))
            stuck = [
                replace(program("true"), confinement=mounts),
                replace(program("true", cwd=silent), confinement=Confinement(apart=True)),
                replace(program(f"{silent}/program"), confinement=Confinement(apart=True)),
            ]
            waiting = [asyncio.ensure_future(runtime.run(each)) for each in stuck]
            for confinement in (Confinement(), Confinement(rlimits={"NOFILE": 77})):
                other = replace(program("echo", "fine"), confinement=confinement)
                await runtime.run(other)
                assert (await within(runtime.wait(other.run_id))).tail == "fine\n"
            assert not any(each.done() for each in waiting)
            for each in waiting:
                with pytest.raises(StartFailure, match=r"could not be prepared within 1 s: .* nothing answers"):
                    await asyncio.wait_for(each, LIMIT_S)
            await until(lambda: tree.children_of(runtime.spawner_pid) == [])
            # Its agent goes meanwhile: it is ended, and the next agent may start it anew.
            again = asyncio.ensure_future(runtime.run(stuck[0]))
            await until(lambda: bool(tree.children_of(runtime.spawner_pid)))
            await runtime.leave()
            with pytest.raises(StartFailure):
                await again
            runtime = make_runtime(tmp_path / "node", "service")
            await runtime.start()
            assert stuck[0].run_id not in runtime.adopted
            await runtime.run(replace(stuck[0], confinement=Confinement()))
            assert (await within(runtime.wait(stuck[0].run_id))).exit_code == 0
            # One whose caller does not want it any more.
            once = asyncio.ensure_future(runtime.run(stuck[1]))
            await until(lambda: bool(tree.children_of(runtime.spawner_pid)))
            once.cancel()
            await until(lambda: tree.children_of(runtime.spawner_pid) == [])
        finally:
            await runtime.stop()


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
