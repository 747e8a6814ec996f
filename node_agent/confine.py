"""What is done to programs so that they cannot do more than they need: by the spawner to itself, and before an exec.

What the spawner does to itself at its start, every pod inherits, at no cost per start (`confine_self`):

    no_new_privs             no program gains rights by a set-uid bit or file capabilities
    an empty bounding set    a program that runs as root has no capabilities
    umask 077, no core       files are private; no memory ends up on a disk
    RLIMIT_NOFILE, _FSIZE    one process does not take all open files of the machine, one file not all of its disk
    a mount namespace        the directory of clusters, with their keys, is covered; only the node's pods show. So is
                             /dev/shm, with other nodes' secrets: a node has one of its own. When not root, within a
                             user namespace of its own, whose processes may neither trace nor look into the daemons
                             outside
    RLIMIT_NPROC             in that user namespace: a fork bomb does not take the whole machine
    Landlock                 signals reach nothing outside: neither the agent nor the user's other processes. Where
                             nothing can be mounted, it also closes the clusters' directory (`node_agent.launch`)

What one program needs beyond that is done between fork and exec (`confine_child`): limits, mounts, user and group,
files, system calls, in this order, since rights go last. (Control groups it is born in: `node_agent.launch`.)

Only stable interfaces of the kernel, by ctypes. The spawner loads this file: standard library only. What a machine does
not let us do is said, and never fatal for the spawner; for a program that asked for it, it is (Refused).
"""

from __future__ import annotations

import base64
import ctypes
import os
import resource
import stat

from node_agent.restrict import above, install_filter, restrict, scope_signals

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = (
    *(1, 2, 4, 32, 4096, 16384),
    *(1 << 18, 1 << 19),
)
MNT_DETACH = 2
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 24, 38
LAST_CAPABILITY = 63
NOBODY = 65534
SHARED_MEMORY = "/dev/shm"
MAX_FILES = 65_536
"""Open at once in one process. Nothing that works gets there; the machine has room for some hundred thousand."""
MAX_FILE_BYTES = 1 << 40
"""What has written that much has gone wrong, and is told by SIGXFSZ."""
MAX_PROCESSES = 2048
"""Of all pods of a node together, threads counted, where they are in a user namespace: a fork bomb ends there even if
there are no control groups, which would also keep it from taking all processor time."""
COVER, CLOSED = "cover", "closed"
"""How a directory is kept from programs: something lies over it; Landlock lets nobody in (`node_agent.launch`)."""
KEPT_FLAGS = {"nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": 8, "noatime": 1024, "relatime": 1 << 21}
"""Flags of a mount that a remount within a user namespace must repeat."""

_libc = ctypes.CDLL(None, use_errno=True)


class NotConfined(Exception):
    """Something that the program must not run without could not be done."""


def _call(name: str, *arguments: Any) -> None:
    """A function of the C library. Raises OSError."""
    encoded = [argument.encode() if isinstance(argument, str) else argument for argument in arguments]
    if getattr(_libc, name)(*encoded) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2). Raises OSError."""
    _call("mount", source, target, kind, ctypes.c_ulong(flags), options)


# --- the spawner itself


def confine_self(hidden: str, shown: Iterable[str]) -> dict[str, Any]:
    """Confines this process and all that it will start. Covers the directory `hidden`, and what others have in shared
    memory, but for those of `shown`, which are directories in either.

    Returns {"mounts": whether programs can have mounts of their own, "hidden": by what the directory is kept from them:
    "cover" or nothing, "missing": [what could not be done, and why]}. Single-threaded processes only.
    """
    missing: list[str] = []
    os.umask(0o077)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, MAX_FILES)
    _limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    mounts = covered = False
    try:
        own_namespaces()
        mounts = True
        if os.geteuid():
            # Counted in the new user namespace only (Linux 5.14): what else the user runs does not matter.
            _limit(resource.RLIMIT_NPROC, MAX_PROCESSES)
        cover(hidden, shown, "mode=755,size=64k", read_only=True)
        covered = True
        if os.path.isdir(SHARED_MEMORY):
            cover(SHARED_MEMORY, shown, "mode=1777")
    except OSError as error:
        what = "the cluster's directory cannot be covered" if mounts else "no mount namespace"
        what = "the secrets of other nodes' pods in /dev/shm cannot be covered" if covered else what
        missing.append(f"{what}: {error.strerror or error}")
    for what, arguments in (("no_new_privs", (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)), ("dumpable", (PR_SET_DUMPABLE, 0))):
        try:
            _call("prctl", *arguments)
        except OSError as error:
            missing.append(f"{what}: {error.strerror}")
    try:
        scope_signals()
    except OSError as error:
        missing.append(f"signals can reach processes outside: {error.strerror}")
    for capability in range(LAST_CAPABILITY + 1):
        try:
            _call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:
            break  # beyond the last one that this kernel knows, or not ours to drop: then no program gets any
    return {"mounts": mounts, "hidden": COVER if covered else "", "missing": missing}


def _limit(number: int, value: int) -> None:
    """Nobody raises it again; one that is lower stays."""
    _, hard = resource.getrlimit(number)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(number, (value, value))


def own_namespaces() -> None:
    """A mount namespace for this process; unless it is root, in a user namespace where it stays who it is. Raises
    OSError."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _call("unshare", CLONE_NEWNS)
    else:
        _call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    # What is mounted here shows nowhere else; what is mounted elsewhere still shows here.
    mount("none", "/", None, MS_REC | MS_SLAVE)


def can_become(user: int) -> bool:
    """This process is root where there is such a user, too: in a user namespace there may be none but root."""
    try:
        with open("/proc/self/uid_map") as file:
            ranges = [list(map(int, line.split())) for line in file]
    except OSError:
        return False
    return os.geteuid() == 0 and any(first <= user < first + count for first, _, count in ranges)


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


# --- one program, between fork and exec


def needs_fork(confinement: dict[str, Any] | None) -> bool:
    """Whether posix_spawn is not enough for this."""
    if not confinement:
        return False
    return bool(
        confinement["uid"] >= 0
        or confinement["gid"] >= 0
        or confinement["rlimits"]
        or confinement["mounts"]
        or confinement["ways"]
        or confinement["read_only_root"]
        or confinement["filter"]
        or confinement["apart"]
    )


def confine_child(confinement: dict[str, Any], cwd: str) -> None:
    """Confines this process, which is about to execute a program in `cwd`. Raises NotConfined."""
    try:
        for name, value in confinement["rlimits"].items():
            _limit(getattr(resource, f"RLIMIT_{name}"), value)
        uid, gid = confinement["uid"], confinement["gid"]
        if confinement["mounts"] or confinement["ways"] or confinement["read_only_root"]:
            _call("unshare", CLONE_NEWNS)
            mount("none", "/", None, MS_REC | MS_PRIVATE)
            before = os.umask(0o022)  # of places for mounts only
            make_ways(confinement["ways"], uid, gid)
            place_all(confinement["mounts"])
            os.umask(before)
            if confinement["read_only_root"]:
                _make_read_only([each["target"] for each in confinement["mounts"]] + [cwd, "/tmp", "/dev", "/proc"])
        if uid >= 0:
            _give_streams(uid)
        if gid >= 0:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
        if uid >= 0:
            os.setresuid(uid, uid, uid)
        if confinement["write"]:
            restrict(confinement["read"], confinement["write"], confinement["ports"])
        if confinement["filter_fd"] >= 0:
            hand_over(base64.b64decode(confinement["filter"]), confinement["filter_fd"])
        elif confinement["filter"]:
            install_filter(base64.b64decode(confinement["filter"]))
    except (OSError, ValueError) as error:
        raise NotConfined(str(error)) from error


def hand_over(data: bytes, fd: int) -> None:
    """Lets the program that is about to be executed read this from a descriptor. Raises OSError."""
    memory = os.memfd_create("handed over")
    os.write(memory, data)
    os.lseek(memory, 0, os.SEEK_SET)
    if memory != fd:
        os.dup2(memory, fd, inheritable=True)
        os.close(memory)
    os.set_inheritable(fd, True)


def _give_streams(uid: int) -> None:
    """Its pipes, or its terminal, become the user's, who may open /dev/stdout like everybody else."""
    for fd in range(3):
        if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
            os.fchown(fd, uid, -1)


def make_ways(paths: Iterable[str], uid: int, gid: int) -> None:
    """Lets this user come to these paths, for this process only, whatever lies above them. Raises OSError.

    A directory that the user may not pass, such as root's own, is covered by one in memory, which holds the way, and
    nothing else: there is nothing in it that the user could have come to.
    """
    # Before anything is covered; also what links lead to.
    paths = dict.fromkeys(each for path in paths for each in (os.path.realpath(path), path))
    places = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC) if os.path.exists(path) else -1) for path in paths]
    for path, fd in places:
        barrier = next((each for each in above(path) if not _may_pass(each, uid, gid)), "")
        if barrier:
            mount("tmpfs", barrier, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
        if fd < 0:  # a place that a mount will make
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
    """Binds files and directories to paths, which need not exist; in order, a later one may lie in an earlier one.
    Raises OSError."""
    for each in mounts:
        make_mount_point(each["target"], is_directory=os.path.isdir(each["source"]))
    # From here on the old root may be gone; and what is mounted now may cover what is still to be mounted.
    sources = [os.open(each["source"], os.O_PATH | os.O_CLOEXEC) for each in mounts]
    for each, fd in zip(mounts, sources, strict=True):
        target = each["target"]
        make_mount_point(target, is_directory=os.path.isdir(f"/proc/self/fd/{fd}"))
        mount(f"/proc/self/fd/{fd}", target, None, MS_BIND | MS_REC)
        if each["read_only"]:
            mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | _flags_of(target))
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
    _call("syscall", PIVOT_ROOT[os.uname().machine], b".", b".old")
    os.chdir("/")
    mount(f"/proc/self/fd/{tmp}", "/tmp", None, MS_BIND | MS_REC)
    os.close(tmp)
    _call("umount2", "/.old", MNT_DETACH)
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


def _make_read_only(but: Iterable[str]) -> None:
    """Every mount becomes read-only, except those at or below the paths named, which get mounts of their own."""
    kept = [os.path.realpath(path) for path in but]
    for path in kept:
        if os.path.isdir(path):
            mount(path, path, None, MS_BIND | MS_REC)
    for target in _mounts():
        if not any(target == path or target.startswith(path + "/") for path in kept):
            try:
                mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | _flags_of(target))
            except OSError:
                if target == "/":
                    raise


def _mounts() -> list[str]:
    with open("/proc/self/mountinfo") as file:
        return [line.split()[4].replace("\\040", " ") for line in file]


def _flags_of(target: str) -> int:
    """The flags that the mount at this path has: in a user namespace they may not be taken off."""
    flags = 0
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split()
            if fields[4].replace("\\040", " ") == target:
                flags = sum(KEPT_FLAGS.get(word, 0) for word in fields[5].split(","))
    return flags
