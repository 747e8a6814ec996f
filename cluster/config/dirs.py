"""Directories that belong to this user alone.

State lies in $PODIUM_HOME, or $XDG_STATE_HOME/podium, or ~/.local/state/podium; a user without a usable home directory
gets /tmp/podium-<uid>. Each directory is 0700 and is refused if it is a link, belongs to somebody else, or can be read
by others: keys lie in it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cluster.config.errors import ConfigError


def state_root() -> Path:
    """The directory for everything that Podium keeps; it may not exist yet."""
    chosen = os.environ.get("PODIUM_HOME")
    if chosen:
        return Path(chosen).absolute()
    xdg = os.environ.get("XDG_STATE_HOME")
    if xdg and os.path.isabs(xdg):
        return Path(xdg) / "podium"
    home = os.environ.get("HOME", "")
    if home and os.path.isdir(home) and os.access(home, os.W_OK | os.X_OK) and home != "/":
        return Path(home) / ".local" / "state" / "podium"
    return Path("/tmp") / f"podium-{os.getuid()}"


def make_private_dir(path: Path) -> None:
    """Makes a directory, 0700, with its parents, that only this user can read. Raises ConfigError if one exists and is
    not private."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = _make_own(path)
    if mode & 0o077:
        raise ConfigError(f"{path} can be read by others; run: chmod 700 {path}")


def make_own_dir(path: Path) -> None:
    """Makes a directory, 0700, with its parents. One that exists may be readable by others, but nobody else may be able
    to put something in the place of what lies in it. Raises ConfigError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = _make_own(path)
    if mode & 0o022:
        raise ConfigError(f"{path} can be written by others; run: chmod go-w {path}")


def _make_own(path: Path) -> int:
    """The permission bits of the directory, made if it is missing."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode) or not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{path} is not a directory of its own but a link or a file; remove it or set PODIUM_HOME")
    if status.st_uid != os.getuid():
        raise ConfigError(
            f"{path} belongs to uid {status.st_uid}, not to you ({os.getuid()}); set PODIUM_HOME to another one"
        )
    return stat.S_IMODE(status.st_mode)
