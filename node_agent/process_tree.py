"""Who descends from whom: reading process trees from /proc, and killing them whole.

A tree of processes is harder to end than to start. A child that forks twice and calls setsid leaves its group, its
session and its parents; all that is left is that the nearest child-subreaper adopts it, that its environment still
holds what it was started with, and that it still holds the pipe it was given to write to. These functions read those
facts; who belongs to which run is decided by the spawner.

A pid is given to somebody else once its process was reaped. The spawner's own children are safe from that, for it does
the reaping; all others are named by pid and start time, and signalled through a pidfd: a descriptor that means this one
process, taken before the start time is compared.

Standard library only, and as few imports as possible: the spawner loads this file, and it is to stay small.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PF_EXITING = 0x4
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
DEAD = ("Z", "X", "x")
_ENVIRON_LIMIT_BYTES = 1 << 20
"""How much of a process' environment is searched for the marker."""


def stat_of(pid: int) -> tuple[str, int, int, int, int, bool] | None:
    """(state letter, parent, process group, session, start time in clock ticks since boot, is it ending); None if it
    is gone.

    A process that is ending has given up its memory and its files already, so nothing else can be learned about it.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name is in parentheses and may hold anything, parentheses and blanks too: cut behind the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return (
        fields[0].decode(),
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        int(fields[19]),
        bool(int(fields[6]) & _PF_EXITING),
    )


def is_alive(pid: int) -> bool:
    """It exists and is neither dead and waiting to be reaped (Z) nor just being reaped (X)."""
    stat = stat_of(pid)
    return stat is not None and stat[0] not in DEAD


def is_confined(pid: int) -> bool:
    """It can gain no rights any more (no_new_privs), which is for ever: as all pods, unless they are trusted."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return b"NoNewPrivs:\t1" in file.read()
    except OSError:
        return True


def start_ticks_of(pid: int) -> int:
    """When the process started, in clock ticks since boot; 0 if it is gone. With the pid, it names a process."""
    stat = stat_of(pid)
    return stat[4] if stat else 0


def children_of(pid: int) -> list[int]:
    """The direct children of a process, of all its threads; empty if it is gone."""
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children += map(int, file.read().split())
    except FileNotFoundError:
        if os.path.exists(f"/proc/{pid}/stat") and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            return _children_by_scan(pid)  # a kernel without CONFIG_PROC_CHILDREN
    except OSError:
        pass
    return children


def _children_by_scan(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = stat_of(int(name))
            if stat and stat[1] == pid:
                found.append(int(name))
    return found


def descend(pid: int, generations: int) -> int:
    """The first child's first child, and so on; where there is none yet, the process itself."""
    below = pid
    for _ in range(generations):
        children = children_of(below)
        if not children:
            return pid
        below = children[0]
    return below


def descendants_of(roots: Iterable[int]) -> list[int]:
    """The processes named and all their descendants, parents before children."""
    found = dict.fromkeys(roots)
    queue = list(found)
    for pid in queue:
        for child in children_of(pid):
            if child not in found:
                found[child] = None
                queue.append(child)
    return queue


def living(pids: Iterable[int]) -> dict[int, int]:
    """Those that are alive, each with its start time in clock ticks since boot, in the same order."""
    found = {}
    for pid in pids:
        stat = stat_of(pid)
        if stat is not None and stat[0] not in DEAD:
            found[pid] = stat[4]
    return found


def resident_bytes(pids: Iterable[int]) -> int:
    """The memory that these processes hold, what they share counted for each; of those that are gone, none."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                total += int(file.read().split()[1])
        except OSError:
            continue
    return total * _PAGE_BYTES


def proportional_bytes(pids: Iterable[int]) -> int:
    """The memory that these processes hold, what several hold in common shared out among them (PSS); of those that are
    gone, none; of those whose share cannot be seen, all that they hold."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += sum(int(line.split()[1]) << 10 for line in file if line.startswith((b"Pss:", b"SwapPss:")))
        except OSError:
            total += resident_bytes([pid])
    return total


def environ_value(pid: int, name: str) -> str:
    """The value of a variable in the environment the process was started with; empty if it cannot be seen."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = b"\0" + file.read(_ENVIRON_LIMIT_BYTES)
    except OSError:
        return ""
    _, found, rest = environ.partition(b"\0%s=" % name.encode())
    return rest.partition(b"\0")[0].decode(errors="replace") if found else ""


def output_pipes(pid: int) -> list[str]:
    """Where standard output and error of the process lead, such as "pipe:[4711]"."""
    pipes = []
    for fd in (1, 2):
        try:
            pipes.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    return pipes


def kill_all(processes: Mapping[int, int], spare_session: int) -> None:
    """Sends SIGKILL to the processes, named by pid and start time, and to their process groups, except to groups of the
    session to be spared.

    A group is signalled by the kernel as one: a process that forks faster than we read /proc does not get away.
    """
    groups: set[int] = set()
    for pid, ticks in processes.items():
        fd = _hold(pid)
        if fd is None:
            continue
        try:
            stat = stat_of(pid)
            if stat is None or stat[4] != ticks or stat[0] in DEAD:
                continue
            if stat[3] != spare_session and stat[2] not in groups:
                groups.add(stat[2])
                send_group(stat[2], signal.SIGKILL)
            _signal(fd, pid, signal.SIGKILL)
        finally:
            _let_go(fd)


def send_group(group: int, number: int) -> None:
    """Sends a signal to a whole process group, if there is one. There is no descriptor for a group: to be called while
    one of its processes is known to be in it."""
    try:
        os.killpg(group, number)
    except OSError:
        pass


def send(pid: int, ticks: int, number: int) -> bool:
    """Sends a signal to the process that started at that time; False if it is gone or not ours."""
    fd = _hold(pid)
    if fd is None:
        return False
    try:
        return start_ticks_of(pid) == ticks and _signal(fd, pid, number)
    finally:
        _let_go(fd)


def _hold(pid: int) -> int | None:
    """A pidfd; None if there is no such process; -1 where none can be had: a kernel before 5.3, a Python that was built
    for one, no descriptor left."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except (OSError, AttributeError):
        return -1


def _signal(fd: int, pid: int, number: int) -> bool:
    try:
        if fd >= 0:
            signal.pidfd_send_signal(fd, number)
        else:
            os.kill(pid, number)
    except OSError:
        return False
    return True


def _let_go(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
