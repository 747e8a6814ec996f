"""What a supervisor knows of a daemon, and masters that are kept away."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from cluster.up.child import Child
from cluster.up.hold import Hold
from cluster.up.plan import ChildSpec


def child(role: str = "master") -> Child:
    return Child(ChildSpec("one", role, "module", ()))


def test_it_runs_from_the_line_ready_on() -> None:
    daemon = child()
    assert (daemon.state, daemon.is_due) == ("stopped", True)
    daemon.begin(7, 3, now=1.0)
    assert (daemon.state, daemon.is_due) == ("starting", False)
    assert not daemon.hear(b"loading\nREA")
    assert daemon.hear(b"DY at 127.0.0.1:1\n")
    assert daemon.state == "running"
    assert not daemon.hear(b"READY\n"), "it has been told"
    daemon.end(-signal.SIGKILL)
    assert (daemon.state, daemon.last_exit, daemon.refused) == ("stopped", "killed by SIGKILL", False)
    daemon.begin(8, 4, now=2.0)
    assert daemon.state == "starting", "another life"


@pytest.mark.parametrize(
    ("role", "served", "code", "refused"),
    [("master", False, 1, True), ("master", True, 1, False), ("master", False, 3, False), ("proxy", False, 1, False)],
)
def test_a_master_that_never_served_and_says_why_not_is_hopeless(
    role: str, served: bool, code: int, refused: bool
) -> None:
    daemon = child(role)
    daemon.begin(7, 3, now=1.0)
    if served:
        daemon.hear(b"READY\n")
    daemon.end(code)
    daemon.restart_at = 5.0
    assert (daemon.refused, daemon.document(Path("log"))["hopeless"]) == (refused, refused)


def test_masters_are_kept_away_until_the_connection_is_closed() -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    process = subprocess.Popen(["sleep", "1000"])
    try:
        running, stopped = child(), child()
        running.begin(process.pid, -1, now=0.0)
        stopped.restart_at = 3.0
        hold = Hold(ours, [running, stopped], kill_at=9.0)
        assert process.wait(10) == -signal.SIGTERM
        dues = [hold.due]
        assert [each.restart_at for each in (running, stopped)] == [None, None]
        running.end(-signal.SIGTERM)
        hold.tell()
        dues.append(hold.due)
        assert dues == [9.0, None]
        assert json.loads(theirs.recv(100)) == {"step": "held"}
        assert hold.end() == [running, stopped]
        assert theirs.recv(1) == b"", "it is closed"
    finally:
        process.kill()
        process.wait()
        theirs.close()


def test_masters_that_do_not_end_are_killed_and_start_when_they_have() -> None:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        daemon = child()
        daemon.begin(process.pid, -1, now=0.0)
        hold = Hold(ours, [daemon], kill_at=9.0)
        hold.lose_patience(next_at=12.0)
        assert hold.due == 12.0
        assert process.wait(10) == -signal.SIGKILL
        theirs.close()
        assert hold.end() == [], "nobody has noticed yet that it ended"
    finally:
        process.kill()
        process.communicate()
