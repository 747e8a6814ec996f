"""The spawner with real processes: what is started, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent import process_tree as tree
from node_agent.runtime import spawner_link
from node_agent.runtime.interface import Confinement, Mount, Program, StartFailure
from node_agent.runtime.process import ProcessRuntime
from tests.kit.silent_files import silent_files
from tests.unit.node_agent.kit import LIMIT_S, until
from tests.unit.node_agent.spawner_scene import PATH, Make, make_runtime, within


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


async def test_many_at_once(runtime: ProcessRuntime, program: Make) -> None:
    programs = [program("sh", "-c", f"exit {number % 7}") for number in range(60)]
    await asyncio.gather(*(runtime.run(one) for one in programs))
    ends = await asyncio.gather(*(within(runtime.wait(one.run_id)) for one in programs))
    assert [end.exit_code for end in ends] == [number % 7 for number in range(60)]


async def test_what_waits_for_files_that_do_not_answer_keeps_nobody_and_is_given_up(
    tmp_path: Path, program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume or a working directory on a dead server: others start meanwhile, and it does not take for ever."""
    limit = "import node_agent.spawner_starter as s; s.LIMIT_S = 5.0; "
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
                with pytest.raises(StartFailure, match=r"could not be prepared within 5 s: .* nothing answers"):
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
