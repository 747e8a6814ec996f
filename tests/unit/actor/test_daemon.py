"""The life of a daemon, on a real process: what it prints, what ends it, with which exit code, and what is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.actor.daemon import explain
from cluster.actor.ports import address_in, who_listens

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 30.0
"""For a daemon that hangs; nothing here comes near it."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a daemon of tests.unit.actor.daemons; ends those that are left."""
    started: list[subprocess.Popen[str]] = []

    def start(kind: str, *flags: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.unit.actor.daemons", kind, *flags]
        out = subprocess.PIPE
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, text=True, pass_fds=pass_fds)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def await_line(process: subprocess.Popen[str], wanted: str) -> None:
    """Reads what the daemon prints up to that line."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line.rstrip("\n"))
        if seen[-1] == wanted:
            return
    assert process.stderr is not None
    raise AssertionError(f"no {wanted!r} in {seen}: {process.stderr.read()}")


READY = "READY name=test kind={}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(start: Start, number: signal.Signals) -> None:
    process = start("good")
    await_line(process, READY.format("good"))
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (0, "stop\nstopped\ndescriptors left: 0\n", "")


def test_a_daemon_that_is_one_service_lives_alike_and_says_what_that_one_knows(start: Start) -> None:
    process = start("one-service")
    await_line(process, READY.format("one-service"))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (0, "stop\nstopped\ndescriptors left: 0\n", "")


def test_a_second_signal_does_not_wait(start: Start) -> None:
    process = start("slow-stop")
    await_line(process, READY.format("slow-stop"))
    process.send_signal(signal.SIGTERM)
    await_line(process, "stop")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (128 + signal.SIGTERM, "descriptors left: 0\n")
    assert err == "test: SIGTERM again, ending now\n"


def test_a_signal_while_it_starts_stops_what_has_started(start: Start) -> None:
    process = start("slow-start")
    await_line(process, "start")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (0, "stop\nstopped\ndescriptors left: 0\n")


def test_stopping_has_a_deadline(start: Start) -> None:
    process = start("slow-stop", "--grace", "0.01")
    await_line(process, READY.format("slow-stop"))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (0, "stop\ndescriptors left: 0\n")
    assert "not stopped within" in err


def test_tasks_that_were_forgotten_end_too(start: Start) -> None:
    process = start("leftovers")
    await_line(process, READY.format("leftovers"))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (0, "stop\nstopped\ndescriptors left: 0\n")


def test_a_task_that_does_not_end_is_named_and_ends_with_the_process(start: Start) -> None:
    process = start("stubborn")
    await_line(process, READY.format("stubborn"))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "part: mule" in err


def test_the_end_of_its_parent_stops_it(start: Start) -> None:
    read_end, write_end = os.pipe()
    process = start("good", "--lifeline-fd", str(read_end), pass_fds=(read_end,))
    os.close(read_end)
    await_line(process, READY.format("good"))
    os.write(write_end, b"alive")
    assert process.poll() is None
    os.close(write_end)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (0, "stop\nstopped\ndescriptors left: 0\n", "")


def test_a_lifeline_that_is_none(start: Start) -> None:
    process = start("good", "--lifeline-fd", "99")
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (1, "descriptors left: 0\n")
    assert err.startswith("test: descriptor 99 cannot be a lifeline: Bad file descriptor")
    assert err.count("\n") == 1


def test_what_is_wrong_is_said_in_a_line(start: Start) -> None:
    process = start("no-settings")
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (1, "descriptors left: 0\n", "test: no directory: say --dir\n")


def test_a_bug_shows_where_it_is(start: Start) -> None:
    process = start("bug")
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (1, "start\nstop\nstopped\ndescriptors left: 0\n")
    assert err.startswith("test: KeyError: 'missing'\n")
    assert "Traceback" in err


def test_an_address_that_is_taken_is_named_with_its_holder(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start("server", "--port", str(port))
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert f"127.0.0.1', {port}" in err
    assert f"(held by pid {os.getpid()} (" in err
    assert err.count("\n") == 1


def test_children_that_crash_too_often_end_it(start: Start) -> None:
    process = start("crash")
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "test: test: children crashed 2 times within 10 s, last part: ValueError('broken')" in err


def test_it_takes_nothing_over_from_a_parent_that_forks_it() -> None:
    """Blocked signals and a handler of the parent's would make it deaf."""
    program = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGUSR1, lambda *_: print("the parent's handler"))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
if os.fork() == 0:
    from tests.unit.actor import daemons
    sys.argv = ["test", "good"]
    os._exit(daemons.main())
print("code", os.waitstatus_to_exitcode(os.wait()[1]))
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        await_line(process, READY.format("good"))
        os.killpg(process.pid, signal.SIGTERM)
        out, _ = process.communicate(timeout=TIMEOUT_S)
    assert out == "stop\nstopped\ndescriptors left: 0\ncode 0\n"


def test_addresses_in_errors() -> None:
    text = "error while attempting to bind on address ('127.3.0.1', 6443): address already in use"
    assert address_in(text) == ("127.3.0.1", 6443)
    assert address_in("cannot listen on 127.3.0.1:6443: is the address in use?") == ("127.3.0.1", 6443)
    assert address_in("no address") is None


def test_who_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert who_listens("127.0.0.1", port).startswith(f"pid {os.getpid()} (")
        assert who_listens("127.0.0.2", port) == ""
    assert who_listens("127.0.0.1", port) == ""


def test_an_error_is_told_with_its_cause() -> None:
    error = OSError("cannot open the store")
    error.__cause__ = PermissionError("denied\nby x")
    assert explain(error) == r"cannot open the store (because of PermissionError('denied\nby x'))"
    assert explain(ValueError()) == "ValueError"
