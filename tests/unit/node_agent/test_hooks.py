"""Hooks: each kind of them, when it goes well and when it does not, against real programs and servers."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from cluster.actor.tasks import Tasks
from cluster.pb.v1 import core_pb2 as core
from node_agent import hooks
from node_agent.prober import Target
from node_agent.runtime.interface import ExecProcess, Program
from node_agent.runtime.process import ProcessRuntime
from tests.kit.clock import VirtualClock
from tests.kit.processes import mentioning
from tests.unit.node_agent.kit import serve

HOST = "127.0.0.1"
LIMIT_S = 20.0


async def no_command(command: Sequence[str]) -> ExecProcess:
    raise AssertionError(f"no command was to be run: {command}")


def target(exec: Callable[[Sequence[str]], object] = no_command) -> Target:
    container = core.Container(name="main")
    container.ports.add(name="admin", containerPort=1)
    return Target(HOST, container, exec)  # type: ignore[arg-type]


async def carry_out(handler: core.LifecycleHandler, at: Target) -> str:
    async with asyncio.timeout(LIMIT_S):
        return await hooks.run_hook(handler, at, SystemClock())


# --- sleep


@pytest.mark.parametrize(("asked_s", "takes_s"), [(5, 5.0), (100_000, hooks.LIMIT_S)])
async def test_sleep_takes_its_time_within_the_limit(asked_s: int, takes_s: float) -> None:
    clock, tasks, said = VirtualClock(), Tasks("test"), []

    async def run() -> None:
        said.append(
            await hooks.run_hook(core.LifecycleHandler(sleep=core.SleepAction(seconds=asked_s)), target(), clock)
        )

    tasks.spawn(run(), name="hook")
    await clock.run_for(takes_s - 0.01)
    assert said == []
    await clock.run_for(0.02)
    assert said == [""]
    await tasks.cancel_all()


# --- exec


@pytest.fixture
async def beside(tmp_path: Path) -> AsyncIterator[Target]:
    """A container that runs, in tmp_path, and commands beside it."""
    (tmp_path / "node").mkdir()
    runtime = ProcessRuntime(tmp_path / "node", clock=SystemClock(), log_max_bytes=100_000, log_files=2)
    numbers = itertools.count()
    main = Program("main", ("sleep", "1000"), {"PATH": os.environ["PATH"]}, str(tmp_path), str(tmp_path / "log"))

    async def exec(command: Sequence[str]) -> ExecProcess:
        program = replace(main, run_id=f"hook.{next(numbers)}", argv=tuple(command), log_path="")
        return await runtime.exec(program, beside=main.run_id)

    await runtime.start()
    await runtime.run(main)
    yield target(exec)
    await runtime.stop()


def command(*argv: str) -> core.LifecycleHandler:
    handler = core.LifecycleHandler()
    handler.exec.command.extend(argv)
    return handler


async def test_a_command_that_does_its_work(beside: Target, tmp_path: Path) -> None:
    assert await carry_out(command("sh", "-c", "echo done > work; echo not a complaint"), beside) == ""
    assert (tmp_path / "work").read_text() == "done\n"


async def test_a_command_that_fails_says_how(beside: Target) -> None:
    error = await carry_out(command("sh", "-c", "echo out of luck; exit 3"), beside)
    assert error.endswith("exit 3' ended with exit code 3: out of luck")
    assert (
        await carry_out(command("test", "-e", "nothing"), beside) == "command 'test -e nothing' ended with exit code 1"
    )
    assert "executable file not found" in await carry_out(command("no-such-program"), beside)


async def test_a_command_without_an_end_is_ended_with_all_that_it_started(
    beside: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "LIMIT_S", 0.5)
    token = f"1000.{os.getpid()}44"
    error = await carry_out(command("sh", "-c", f"sleep {token} & sleep {token}"), beside)
    assert error.endswith("timed out after 0.5s")
    async with asyncio.timeout(LIMIT_S):
        while mentioning(f"sleep {token}"):
            await asyncio.sleep(0.02)


# --- httpGet and tcpSocket


def get(port: int, path: str = "/", **more: str) -> core.LifecycleHandler:
    handler = core.LifecycleHandler(httpGet=core.HTTPGetAction(path=path, **more))  # type: ignore[arg-type]
    handler.httpGet.port.intVal = port
    return handler


def connect(port: int, host: str = "") -> core.LifecycleHandler:
    handler = core.LifecycleHandler(tcpSocket=core.TCPSocketAction(host=host))
    handler.tcpSocket.port.intVal = port
    return handler


async def test_a_request_arrives_once_and_as_it_was_written() -> None:
    seen: list[bytes] = []
    server, port = await serve(lambda head: seen.append(head) or b"HTTP/1.1 200 OK\r\n\r\n")  # type: ignore[func-returns-value]
    async with server:
        assert await carry_out(get(port, "/drain?now=1"), target()) == ""
    assert len(seen) == 1
    assert seen[0].startswith(b"GET /drain?now=1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.1 399 \r\n\r\n", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\nwhat?", "statuscode: 400: what?"),
        (b"HTTP/1.1 500 No\r\n\r\n", "statuscode: 500"),
        (b"no words of HTTP\r\n", "is not HTTP"),
    ],
)
async def test_a_request_fails_by_its_status(reply: bytes, words: str) -> None:
    server, port = await serve(lambda head: reply)
    async with server:
        error = await carry_out(get(port), target())
    assert error.endswith(words)
    assert bool(error) == bool(words)


async def test_a_request_without_an_answer_ends_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "LIMIT_S", 0.3)
    server, port = await serve(lambda head: None)
    async with server:
        assert await carry_out(get(port), target()) == "no answer within 0.3s"


async def test_a_connection_is_all_that_a_socket_hook_wants() -> None:
    server, port = await serve(lambda head: b"")
    async with server:
        assert await carry_out(connect(port), target()) == ""
    assert f"dial tcp {HOST}:{port}: connection refused" in await carry_out(connect(port), target())
    assert f"dial tcp {HOST}:{port}: connection refused" in await carry_out(get(port), target())


async def test_hooks_go_to_the_pod_and_nowhere_else() -> None:
    for handler in (get(80, host="169.254.169.254"), connect(80, host="169.254.169.254")):
        assert "not the pod's own address" in await carry_out(handler, target())


async def test_a_port_by_its_name() -> None:
    named, unknown = core.LifecycleHandler(), core.LifecycleHandler()
    named.tcpSocket.port.type, named.tcpSocket.port.strVal = 1, "admin"
    unknown.tcpSocket.port.type, unknown.tcpSocket.port.strVal = 1, "nobody"
    assert f"dial tcp {HOST}:1:" in await carry_out(named, target())
    assert "no port named 'nobody'" in await carry_out(unknown, target())
