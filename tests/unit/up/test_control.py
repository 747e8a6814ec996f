"""The control socket: private, and never waited for without end."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.api.errors import DeadlineExceeded, Unavailable
from cluster.up import control
from node_agent.process_tree import is_confined


def test_a_socket_works_below_a_long_path_and_is_private(tmp_path: Path) -> None:
    room = tmp_path / ("d" * 100)
    room.mkdir()
    path = room / "control.sock"
    listener = control.listen(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with listener, pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        control.ask(path, {"op": "status"}, timeout_s=0.05)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        control.ask(tmp_path / "control.sock", {"op": "status"})


@pytest.mark.parametrize("confined", [False, True])
def test_a_pod_is_not_listened_to(tmp_path: Path, confined: bool) -> None:
    """It may be the same user, and may find the socket; but it can gain no rights, for ever."""
    if is_confined(os.getpid()):
        pytest.skip("nobody can gain rights here")
    path = tmp_path / "control.sock"
    program = (
        "import ctypes, socket, sys; confined, path = sys.argv[1:]\n"
        "if confined == 'True': ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)\n"
        "caller = socket.socket(socket.AF_UNIX); caller.connect(path); sys.stdin.read()"
    )
    with control.listen(path) as listener:
        listener.settimeout(20)
        arguments = [sys.executable, "-I", "-S", "-c", program, str(confined), str(path)]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE) as caller:
            connection, _ = listener.accept()
            with connection:
                assert control.peer_is_me(connection) is not confined
            assert caller.stdin is not None
            caller.stdin.close()
