"""Mounts of a process' own namespace: covering directories, and making files and directories appear where they are not.

All of it holds for this process and what it starts only; nothing is written to the machine's own directories. Mounting
on top and binding entries do what an overlay would, without root and on every kernel that has user namespaces.

Only stable interfaces of the kernel, by ctypes. The spawner loads this file: standard library only.
"""

from __future__ import annotations

import ctypes
import os
import stat

from node_agent.restrict import above, open_place

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = (
    *(1, 2, 4, 32, 4096, 16384),
    *(1 << 18, 1 << 19),
)
MNT_DETACH = 2
KEPT_FLAGS = {"nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": 8, "noatime": 1024, "relatime": 1 << 21}
"""Flags of a mount that a remount within a user namespace must repeat."""

FOREIGN = "foreign"
"""What a directory of the machine is called among what belongs to a pod (`stage_all`)."""

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> None:
    """A function of the C library. Raises OSError."""
    encoded = [argument.encode() if isinstance(argument, str) else argument for argument in arguments]
    if getattr(_libc, name)(*encoded) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2). Raises OSError."""
    call("mount", source, target, kind, ctypes.c_ulong(flags), options)


def cover(hidden: str, shown: Iterable[str], options: str, *, read_only: bool = False) -> None:
    """A directory in memory over `hidden`, in which only those of `shown` are to be found that lie there. Raises
    OSError."""
    inside = [path for path in shown if path.startswith(hidden + "/")]
    open_ = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for path in inside]
    mount("tmpfs", hidden, "tmpfs", MS_NOSUID | MS_NODEV, options)
    for path, fd in open_:
        os.makedirs(path, mode=0o755, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", path, None, MS_BIND | MS_REC)
        os.close(fd)
    if read_only:
        mount("none", hidden, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def make_ways(paths: Iterable[str], places: Iterable[str], uid: int, gid: int) -> None:
    """Lets this user come to these paths, for this process only, whatever lies above them; and to the places of mounts
    that are still to be made. Raises OSError.

    A directory that the user may not pass, such as root's own, is covered by one in memory, which holds the way, and
    nothing else: there is nothing in it that the user could have come to.
    """
    opened = [(path, open_place(path)) for path in paths]  # before anything is covered
    for path, fd in [*opened, *((path, -1) for path in places)]:
        barrier = next((each for each in above(path) if not _may_pass(each, uid, gid)), "")
        if barrier:
            mount("tmpfs", barrier, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
        if fd < 0:
            continue
        if not os.path.lexists(path):
            _make_place(path, is_directory=os.path.isdir(f"/proc/self/fd/{fd}"))
            mount(f"/proc/self/fd/{fd}", path, None, MS_BIND | MS_REC)
        os.close(fd)


def _may_pass(directory: str, uid: int, gid: int) -> bool:
    """The user may go through the directory; or it is not there, and so in nobody's way."""
    try:
        found = os.stat(directory)
    except FileNotFoundError:
        return True
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    return bool(found.st_mode & (stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH))


def place_all(mounts: list[dict[str, Any]]) -> None:
    """Binds files and directories to paths, which need not exist; in order, a later one may lie in an earlier one. No
    source may have a link in its path. Raises OSError."""
    for each in mounts:
        make_mount_point(each["target"], is_directory=os.path.isdir(each["source"]))
    # From here on the old root may be gone; and what is mounted now may cover what is still to be mounted.
    sources = [open_place(each["source"]) for each in mounts]
    for each, fd in zip(mounts, sources, strict=True):
        target = each["target"]
        make_mount_point(target, is_directory=os.path.isdir(f"/proc/self/fd/{fd}"))
        mount(f"/proc/self/fd/{fd}", target, None, MS_BIND | MS_REC)
        if each["read_only"]:
            mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags_of(target))
        os.close(fd)


def stage_all(mounts: list[dict[str, Any]], directory: str, foreign: str) -> None:
    """Binds files and directories to paths in a directory that is covered for it: whoever makes further namespaces from
    here finds them there, and nothing else in it. No source may have a link in its path, but for that of `foreign`, a
    directory that need not exist. Raises OSError."""
    opened = [(each["target"], open_place(each["source"])) for each in mounts]
    if foreign and os.path.isdir(foreign):
        opened.append((os.path.join(directory, FOREIGN), os.open(foreign, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)))
    mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k")
    for target, fd in opened:
        _make_place(target, is_directory=os.path.isdir(f"/proc/self/fd/{fd}"))
        mount(f"/proc/self/fd/{fd}", target, None, MS_BIND | MS_REC)
        os.close(fd)


def make_mount_point(target: str, *, is_directory: bool) -> None:
    """Makes the path exist, for this process only: nothing is written to the machine's own directories.

    The nearest directory that exists is covered by one in memory, which holds everything that the old one holds, each
    entry bound to its place, and the new path. Raises OSError, ValueError.
    """
    if not os.path.isabs(target):
        raise ValueError(f'"{target}" is not an absolute path: nothing can be mounted there')
    if os.path.lexists(target):
        return
    parent = os.path.dirname(target.rstrip("/"))
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if parent == "/":
        _rebuild_root()
    else:
        old = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mode = os.stat(parent).st_mode & 0o7777
        mount("tmpfs", parent, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode:o},size=1m")
        _bind_entries(f"/proc/self/fd/{old}", parent)
        os.close(old)
    _make_place(target, is_directory=is_directory)


def _make_place(target: str, *, is_directory: bool) -> None:
    os.makedirs(target if is_directory else os.path.dirname(target), mode=0o755, exist_ok=True)
    if not is_directory:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o644))


def _rebuild_root() -> None:
    """A root directory in memory, with all entries of the old one bound to their places."""
    fresh = "/tmp"  # it exists everywhere; for a moment it is covered
    tmp = os.open(fresh, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mount("tmpfs", fresh, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    _bind_entries("/", fresh, but={"tmp"})
    os.mkdir(os.path.join(fresh, "tmp"))
    os.mkdir(os.path.join(fresh, ".old"), 0o700)
    os.chdir(fresh)
    call("syscall", PIVOT_ROOT[os.uname().machine], b".", b".old")
    os.chdir("/")
    mount(f"/proc/self/fd/{tmp}", "/tmp", None, MS_BIND | MS_REC)
    os.close(tmp)
    call("umount2", "/.old", MNT_DETACH)
    os.rmdir("/.old")


PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
"""Number of the system call, which the C library has no function for."""


def _bind_entries(old: str, new: str, but: Iterable[str] = ()) -> None:
    for name in os.listdir(old):
        if name in but:
            continue
        source, target = os.path.join(old, name), os.path.join(new, name)
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
            continue
        if os.path.isdir(source):
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o644))
        mount(source, target, None, MS_BIND | MS_REC)


def make_read_only(but: Iterable[str]) -> None:
    """Every mount becomes read-only, except those at or below the paths named, which get mounts of their own."""
    kept = [os.path.realpath(path) for path in but]
    for path in kept:
        if os.path.isdir(path):
            mount(path, path, None, MS_BIND | MS_REC)
    for target in _mounts():
        if not any(target == path or target.startswith(path + "/") for path in kept):
            try:
                mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags_of(target))
            except OSError:
                if target == "/":
                    raise


def _mounts() -> list[str]:
    with open("/proc/self/mountinfo") as file:
        return [line.split()[4].replace("\\040", " ") for line in file]


def flags_of(target: str) -> int:
    """The flags that the mount at this path has: in a user namespace they may not be taken off."""
    flags = 0
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split()
            if fields[4].replace("\\040", " ") == target:
                flags = sum(KEPT_FLAGS.get(word, 0) for word in fields[5].split(","))
    return flags
