"""Naming processes so that nobody else is meant: by pid and start time, through a descriptor."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from node_agent import process_tree as tree


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(params=["pidfd", "an older kernel", "a Python without it"])
def means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what processes are signalled."""

    def fails(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    if request.param == "an older kernel":
        monkeypatch.setattr(os, "pidfd_open", fails)
    elif request.param == "a Python without it":
        monkeypatch.delattr(os, "pidfd_open")


@pytest.mark.usefixtures("means")
def test_a_signal_reaches_the_process_that_is_meant(sleeper: subprocess.Popen[bytes]) -> None:
    assert tree.send(sleeper.pid, tree.start_ticks_of(sleeper.pid), signal.SIGTERM)
    assert sleeper.wait(20) == -signal.SIGTERM
    assert not tree.send(sleeper.pid, 1, signal.SIGTERM), "it is gone"


@pytest.mark.usefixtures("means")
def test_somebody_else_with_the_same_pid_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    earlier = tree.start_ticks_of(sleeper.pid) - 1
    assert not tree.send(sleeper.pid, earlier, signal.SIGKILL)
    tree.kill_all({sleeper.pid: earlier}, os.getsid(0))
    assert tree.living([sleeper.pid]) == {sleeper.pid: earlier + 1}
    assert sleeper.poll() is None


@pytest.mark.usefixtures("means")
def test_all_are_killed_with_their_groups(sleeper: subprocess.Popen[bytes]) -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 1000 & wait"], start_new_session=True, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    tree.kill_all(tree.living([sleeper.pid, leader.pid]), os.getsid(0))
    assert (sleeper.wait(20), leader.wait(20)) == (-signal.SIGKILL, -signal.SIGKILL)
    assert leader.stdout.read() == b"", "nobody of its group holds its output any more"
    leader.stdout.close()


@pytest.mark.usefixtures("means")
def test_no_descriptor_is_left(sleeper: subprocess.Popen[bytes]) -> None:
    before = os.listdir("/proc/self/fd")
    ticks = tree.start_ticks_of(sleeper.pid)
    tree.send(sleeper.pid, ticks, 0)
    tree.kill_all({sleeper.pid: ticks - 1}, os.getsid(0))
    assert os.listdir("/proc/self/fd") == before
