"""The control socket: private, and never waited for without end."""

import stat
from pathlib import Path

import pytest

from cluster.api.errors import DeadlineExceeded, Unavailable
from cluster.up import control


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
