"""Control groups as files: who is in them, and ending all of them at once.

A run may be in several groups, one per hierarchy (in v1 each controller has its own). Membership is inherited by every
child, whatever it does to its session, its environment and its parents, so groups are what no process escapes from. The
spawner loads this file: standard library only.
"""

from __future__ import annotations

import os

DAEMONS = "podium-daemons"
"""Where, in a v2 tree, daemons go: a group with controllers for those below it may hold no processes itself."""

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from collections.abc import Iterable


def enter(groups: Iterable[str]) -> None:
    """Puts this process into the groups. Raises OSError."""
    for group in groups:
        fd = os.open(os.path.join(group, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)


def enter_parents(groups: Iterable[str]) -> None:
    """Brings this process back to where it was: a container's group lies in its node's, and that beside, or in, the
    group of the node's daemons. All are tried; raises the last OSError."""
    failure: OSError | None = None
    for group in groups:
        home = os.path.dirname(os.path.dirname(group))
        apart = os.path.join(home, DAEMONS)
        try:
            enter([apart if os.path.isdir(apart) else home])
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure


def pids_in(groups: Iterable[str]) -> list[int]:
    """The processes of these groups, each once; those that another user namespace hides are left out."""
    found: dict[int, None] = {}
    for group in groups:
        try:
            with open(os.path.join(group, "cgroup.procs"), "rb") as procs:
                found |= dict.fromkeys(pid for pid in map(int, procs.read().split()) if pid)
        except OSError:
            continue  # it has been taken away
    return list(found)


def kill_all_in(groups: Iterable[str]) -> bool:
    """Has the kernel kill all processes of a group, those that are being forked too (cgroup v2, Linux 5.14).

    False if none of the groups can do that.
    """
    for group in groups:
        try:
            fd = os.open(os.path.join(group, "cgroup.kill"), os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)
        return True
    return False
