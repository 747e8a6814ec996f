"""What real processes write and read, in a log, through pipes, on a terminal."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent import process_tree as tree
from node_agent.runtime.interface import StartFailure
from node_agent.runtime.logs import parts_of
from node_agent.runtime.process import ProcessRuntime
from tests.unit.node_agent.kit import LIMIT_S
from tests.unit.node_agent.spawner_scene import Make, pid_in, within


async def test_output_goes_to_the_log_in_order_and_its_end_into_the_report(
    runtime: ProcessRuntime, program: Make
) -> None:
    one = program("sh", "-c", "echo one; echo two >&2; printf three")
    await runtime.run(one)
    ended = await within(runtime.wait(one.run_id))
    assert ended.tail == "one\ntwo\nthree"
    assert Path(one.log_path).read_text() == "one\ntwo\nthree"


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
