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
    /etc/resolv.conf         the node's, which names the cluster's DNS server (`node_agent.resolver`)
    RLIMIT_NPROC             in that user namespace: a fork bomb does not take the whole machine
    Landlock                 signals reach nothing outside: neither the agent nor the user's other processes. Where
                             nothing can be mounted, it also closes the clusters' directory (`node_agent.launch`)

What one program needs beyond that is done between fork and exec (`confine_child`): limits, mounts, user and group,
files, system calls, in this order, since rights go last. (Control groups it is born in: `node_agent.launch`. Mounts are
made in `node_agent.mounts`, files and system calls taken away in `node_agent.restrict`.)

Only stable interfaces of the kernel. The spawner loads this file: standard library only. What a machine does
not let us do is said, and never fatal for the spawner; for a program that asked for it, it is (Refused).
"""

from __future__ import annotations

import base64
import os
import resource
import stat

from node_agent.mounts import (
    MS_PRIVATE,
    MS_REC,
    MS_SLAVE,
    call,
    cover,
    make_read_only,
    make_ways,
    mount,
    place_all,
    stage_all,
)
from node_agent.restrict import install_filter, restrict, scope_signals

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from node_agent.shared_names import SharedNames

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
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


class NotConfined(Exception):
    """Something that the program must not run without could not be done."""


# --- the spawner itself


def confine_self(hidden: str, shown: Iterable[str], names: SharedNames | None = None) -> dict[str, Any]:
    """Confines this process and all that it will start. Covers the directory `hidden`, and what others have in shared
    memory, but for those of `shown`, which are directories in either. `names` is a resolv.conf for all of them.

    Returns {"mounts": whether programs can have mounts of their own, "hidden": by what the directory is kept from them:
    "cover" or nothing, "names": whether they have that resolv.conf, "missing": [what could not be done, and why]}.
    Single-threaded processes only.
    """
    missing: list[str] = []
    os.umask(0o077)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, MAX_FILES)
    _limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    mounts = covered = named = False
    try:
        own_namespaces()
        mounts = True
        if os.geteuid():
            # Counted in the new user namespace only (Linux 5.14): what else the user runs does not matter.
            _limit(resource.RLIMIT_NPROC, MAX_PROCESSES)
        if names is not None:
            named = _mount_names(names, missing)
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
            call("prctl", *arguments)
        except OSError as error:
            missing.append(f"{what}: {error.strerror}")
    try:
        scope_signals()
    except OSError as error:
        missing.append(f"signals can reach processes outside: {error.strerror}")
    for capability in range(LAST_CAPABILITY + 1):
        try:
            call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:
            break  # beyond the last one that this kernel knows, or not ours to drop: then no program gets any
    return {"mounts": mounts, "hidden": COVER if covered else "", "names": named, "missing": missing}


def _mount_names(names: SharedNames, missing: list[str]) -> bool:
    """This file is /etc/resolv.conf from now on, wherever that leads."""
    try:
        names.mount()
    except OSError as error:
        missing.append(f"pods have the machine's resolv.conf, without the cluster's names: {error}")
        return False
    return True


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
        call("unshare", CLONE_NEWNS)
    else:
        call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
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
        foreign = os.path.realpath(confinement["foreign"]) if confinement["foreign"] else ""
        if confinement["mounts"] or confinement["ways"] or confinement["read_only_root"]:
            call("unshare", CLONE_NEWNS)
            mount("none", "/", None, MS_REC | MS_PRIVATE)
            before = os.umask(0o022)  # of places for mounts only
            if confinement["stage"]:
                stage_all(confinement["mounts"], confinement["stage"], foreign)
            else:
                if confinement["ways"]:
                    also = [foreign] if os.path.isdir(foreign) else []
                    places = [each["target"] for each in confinement["mounts"]]
                    make_ways([*confinement["ways"], *also], places, uid, gid)
                place_all(confinement["mounts"])
            os.umask(before)
            if confinement["read_only_root"]:
                make_read_only([each["target"] for each in confinement["mounts"]] + [cwd, "/tmp", "/dev", "/proc"])
        if uid >= 0:
            _give_streams(uid)
        if gid >= 0:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
        if uid >= 0:
            os.setresuid(uid, uid, uid)
        if confinement["write"]:
            read = [*confinement["read"], *([foreign] if foreign else [])]
            restrict(read, confinement["write"], confinement["ports"])
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
