"""Whose files are a pod's, where the agent is root and the pod is not.

Restricted and sandboxed pods of a root agent run as an ordinary user, to whom what is theirs must belong. The agent,
who may do everything, works in directories that such a pod can write, so it must follow nothing that the pod could have
put there:

    DIR/pods/<uid>      root's, of the user's group, with the sticky bit: the user can add to it, and can neither take
                        away nor rename what is root's
        logs/ volumes/  root's; the user may pass
        tmp/            root's, and like any /tmp

All paths within are walked without following links.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

LOGS, VOLUMES, TEMPORARY = "logs", "volumes", "tmp"
Owner = tuple[int, int]
"""User and group."""
_IS_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def furnish(directory: Path, owner: Owner) -> None:
    """Makes a pod's directory one that this user can work in. Before anything of the pod has run; again is fine. Raises
    OSError."""
    fd = os.open(directory, _IS_DIRECTORY)
    try:
        os.fchown(fd, -1, owner[1])
        os.fchmod(fd, 0o1770)
        for name, mode in ((LOGS, 0o711), (VOLUMES, 0o711), (TEMPORARY, 0o1777)):
            try:
                os.mkdir(name, 0o700, dir_fd=fd)
            except FileExistsError:
                continue
            os.chmod(name, mode, dir_fd=fd)
    finally:
        os.close(fd)


def open_beneath(root: Path, path: str, owner: Owner | None = None) -> int:
    """Opens a directory below `root`, going through no link. What is missing is made if there is an `owner`, and is
    theirs. Raises OSError."""
    fd = os.open(root, _IS_DIRECTORY)
    for name in Path(path).parts:
        try:
            if owner is not None:
                _make(fd, name, owner)
            inner = os.open(name, _IS_DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def _make(directory_fd: int, name: str, owner: Owner) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=directory_fd)
    except FileExistsError:
        return
    if os.geteuid() == 0:
        os.chown(name, *owner, dir_fd=directory_fd, follow_symlinks=False)


def make_file(root: Path, path: Path, owner: Owner) -> None:
    """An empty file of this user's, below `root`; one that is there stays. Raises OSError."""
    relative = path.relative_to(root)
    fd = open_beneath(root, str(relative.parent), owner)
    try:
        file = os.open(relative.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
        os.fchown(file, *owner)
        os.close(file)
    except FileExistsError:
        pass
    finally:
        os.close(fd)


def take_text(root: Path, path: Path, uid: int, most_bytes: int) -> bytes:
    """What the user has written into a file of its own below `root`; the file is taken away. Empty if there is none, or
    something else in its place."""
    relative = path.relative_to(root)
    try:
        fd = open_beneath(root, str(relative.parent))
    except OSError:
        return b""
    try:
        file = os.open(relative.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        with open(file, "rb") as text:
            found = os.fstat(file)
            is_theirs = stat.S_ISREG(found.st_mode) and found.st_uid == uid
            data = text.read(most_bytes) if is_theirs else b""
        os.unlink(relative.name, dir_fd=fd)
        return data
    except OSError:
        return b""
    finally:
        os.close(fd)


def give(directory: Path, owner: Owner) -> None:
    """A directory becomes this user's, with all in it that was whose the directory was. Again is fine. Raises
    OSError."""
    before = os.lstat(directory)
    if (before.st_uid, before.st_gid) == owner:
        return
    for _, directories, files, fd in os.fwalk(directory, follow_symlinks=False):
        for name in (*directories, *files):
            if os.stat(name, dir_fd=fd, follow_symlinks=False).st_uid == before.st_uid:
                os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
    os.chown(directory, *owner, follow_symlinks=False)  # last: what is broken off is begun anew
