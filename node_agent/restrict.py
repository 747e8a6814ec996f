"""What a restricted program may touch: files by Landlock, ports that it may listen on, and system calls by seccomp.

Both take rights away from the process that asks for it and from all that it will start, for ever, and need no
privilege. Landlock (Linux 5.13; include/uapi/linux/landlock.h) denies everything of the kinds that are named in a
ruleset, but for what rules allow: a rule for a directory holds for all below it, wherever it is mounted. What a kernel
does not know yet is left out: moving files between directories (version 2), truncating (3), listening on TCP ports (4),
ioctls of devices (5), abstract Unix sockets (6).

The spawner loads this file: standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

CREATE_RULESET, ADD_RULE, RESTRICT_SELF, OPENAT2 = 444, 445, 446, 437
"""Numbers of system calls, the same on all machines."""
AT_FDCWD, RESOLVE_NO_SYMLINKS = -100, 4
CREATE_RULESET_VERSION = 1
RULE_PATH, RULE_PORT = 1, 2
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEVICE = 1 << 14, 1 << 15
ALL_FILES = (13, 13, 14, 15, 15, 16)
"""How many of the bits for files each version knows; the last one holds for later ones."""
FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
"""What a rule for something that is not a directory may allow."""
READ = EXECUTE | READ_FILE | READ_DIR
UNHANDLED_WHEN_CLOSED = EXECUTE | READ_DIR | IOCTL_DEVICE
"""What `close_off` leaves alone: names may be seen, and what cannot be read cannot be executed."""
BIND_TCP = 1
SCOPE_ABSTRACT_SOCKET, SCOPE_SIGNAL = 1, 2
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2

_libc = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: Any) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result


def landlock_version() -> int:
    """What this kernel's Landlock can do; 0: there is none."""
    try:
        return _syscall(CREATE_RULESET, None, ctypes.c_size_t(0), CREATE_RULESET_VERSION)
    except OSError:
        return 0


def restrict(read: Iterable[str], write: Iterable[str], ports: Iterable[int]) -> None:
    """From now on this process may read and execute what lies below `read`, do everything below `write`, nothing with
    any other file, and listen on these TCP ports and on those that the system chooses. Paths that do not exist, and
    those with links in them, are left out. Raises OSError."""
    version, files = _file_rights()
    network = BIND_TCP if version >= 4 else 0
    ruleset = (ctypes.c_uint64 * 3)(files, network, SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    fd = _syscall(CREATE_RULESET, ruleset, ctypes.c_size_t(size), 0)
    try:
        for paths, allowed in ((read, READ), (write, files)):
            for path in paths:
                _allow_path(fd, path, allowed & files)
        if network:
            for port in (0, *ports):
                rule = struct.pack("=QQ", BIND_TCP, port)
                _syscall(ADD_RULE, fd, RULE_PORT, rule, 0)
        _syscall(RESTRICT_SELF, fd, 0)
    finally:
        os.close(fd)


def open_place(path: str) -> int:
    """A descriptor that stands for the file or directory (O_PATH). No part of the path may be a link: pods can put some
    where we look for what is theirs (Linux 5.6; before that, links are followed). Raises OSError."""
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS)
    fd: int = _libc.syscall(OPENAT2, AT_FDCWD, os.fsencode(path), how, ctypes.c_size_t(ctypes.sizeof(how)))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EPERM):  # an old kernel; the filter of an old container engine
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    raise OSError(number, os.strerror(number), path)


def _file_rights() -> tuple[int, int]:
    """The version of Landlock, and the bits that it knows for files. Raises OSError if there is none."""
    version = landlock_version()
    if not version:
        raise OSError(95, "this kernel has no Landlock")
    return version, (1 << ALL_FILES[min(version, len(ALL_FILES)) - 1]) - 1


def above(path: str) -> list[str]:
    """The directories above an absolute path, from the root on."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:depth]) for depth in range(len(parts))]


def close_off(hidden: str, shown: Iterable[str]) -> None:
    """From now on this thread and all that it starts can neither read nor change what lies below the directory
    `hidden`, but for the directories `shown`. Raises OSError.

    Landlock only knows what is allowed: all that lies beside it and beside the directories above it, as it is now. So
    in those directories nothing new can be made or opened, either. Links are left out: what they lead to has its own
    rule, or none. Names can be seen.
    """
    _, files = _file_rights()
    files &= ~UNHANDLED_WHEN_CLOSED
    fd = _syscall(CREATE_RULESET, (ctypes.c_uint64 * 1)(files), ctypes.c_size_t(8), 0)
    try:
        for directory, child in zip(above(hidden), [*above(hidden)[1:], hidden], strict=True):
            try:
                entries = list(os.scandir(directory))
            except PermissionError:
                continue
            for entry in entries:
                if entry.path != child and not entry.is_symlink():
                    _allow_path(fd, entry.path, files, is_directory=entry.is_dir(follow_symlinks=False))
        for path in shown:
            _allow_path(fd, path, files, is_directory=True)
        _syscall(RESTRICT_SELF, fd, 0)
    finally:
        os.close(fd)


def scope_signals() -> None:
    """From now on this process and all that it starts can signal only each other (Linux 6.12). Raises OSError."""
    fd = _syscall(CREATE_RULESET, (ctypes.c_uint64 * 3)(0, 0, SCOPE_SIGNAL), ctypes.c_size_t(24), 0)
    try:
        _syscall(RESTRICT_SELF, fd, 0)
    finally:
        os.close(fd)


def _allow_path(ruleset: int, path: str, allowed: int, *, is_directory: bool | None = None) -> None:
    """`is_directory`: whether it is, or its entry says so; None: it is looked at."""
    try:
        fd = open_place(path)
    except OSError:
        return
    try:
        if not (os.path.isdir(f"/proc/self/fd/{fd}") if is_directory is None else is_directory):
            allowed &= FOR_FILES
        _syscall(ADD_RULE, ruleset, RULE_PATH, struct.pack("=Qi", allowed, fd), 0)
    finally:
        os.close(fd)


def install_filter(program: bytes) -> None:
    """From now on system calls go through this filter, as `node_agent.seccomp` makes them. Raises OSError."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    wanted = Program(len(program) // 8, program)
    if _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(wanted), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
