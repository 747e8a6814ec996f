"""Private directories: where they are, and which ones are refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cluster.config.dirs import make_own_dir, make_private_dir, state_root
from cluster.config.errors import ConfigError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("PODIUM_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_places_in_their_order(no_home: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state_root() == Path(f"/tmp/podium-{os.getuid()}")
    no_home.setenv("HOME", str(tmp_path / "missing"))
    assert state_root() == Path(f"/tmp/podium-{os.getuid()}")
    no_home.setenv("HOME", str(tmp_path))
    assert state_root() == tmp_path / ".local" / "state" / "podium"
    no_home.setenv("XDG_STATE_HOME", "relative")
    assert state_root() == tmp_path / ".local" / "state" / "podium"
    no_home.setenv("XDG_STATE_HOME", "/var/x")
    assert state_root() == Path("/var/x/podium")
    no_home.setenv("PODIUM_HOME", "here")
    assert state_root() == Path("here").absolute()


def test_made_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_dir(tmp_path / "private")
        make_own_dir(tmp_path / "own")
    finally:
        os.umask(before)
    make_private_dir(tmp_path / "private")  # again
    assert (mode(tmp_path / "private"), mode(tmp_path / "own")) == (0o700, 0o700)


def test_parents_are_made(tmp_path: Path) -> None:
    make_private_dir(tmp_path / "a" / "b" / "c")
    assert mode(tmp_path / "a" / "b" / "c") == 0o700


@pytest.mark.parametrize("bits", [0o750, 0o704, 0o770])
def test_open_to_others(tmp_path: Path, bits: int) -> None:
    room = tmp_path / "room"
    room.mkdir()
    room.chmod(bits)
    with pytest.raises(ConfigError, match=f"chmod 700 {room}"):
        make_private_dir(room)


@pytest.mark.parametrize(("bits", "fine"), [(0o755, True), (0o775, False), (0o702, False)])
def test_others_may_look_into_an_own_directory_but_not_change_it(tmp_path: Path, bits: int, fine: bool) -> None:
    room = tmp_path / "room"
    room.mkdir()
    room.chmod(bits)
    if fine:
        make_own_dir(room)
    else:
        with pytest.raises(ConfigError, match=f"chmod go-w {room}"):
            make_own_dir(room)


def test_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    for name in ("link", "dangling", "file"):
        with pytest.raises(ConfigError, match=r"remove it or set PODIUM_HOME"):
            make_private_dir(tmp_path / name)


def test_somebody_elses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "room"
    room.mkdir(mode=0o700)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match=f"belongs to uid {owner}, not to you"):
        make_private_dir(room)
