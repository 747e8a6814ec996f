"""Releases of etcd, and what is known to be wrong with them, as far as it concerns a log that is kept there.

From etcd's change logs. Podium is built such that none of these loses an acknowledged write or shows a wrong one to a
reader who did not ask for a stale read, except those marked so; it is as well to know all the same.

Pure.
"""

from __future__ import annotations

from typing import NamedTuple

Release = tuple[int, int, int]


class Bug(NamedTuple):
    """Fixed in which patch release of 3.4 and of 3.5, and since which it is there."""

    what: str
    fixed_34: int
    fixed_35: int
    since_34: int = 0


BUGS = (
    Bug("data may be inconsistent after a crash (etcd #13766): do not use it", 0, 3),
    Bug("watches may travel back in time after a snapshot (#15271)", 25, 8),
    Bug("leases may be revoked wrongly by a stalled leader (#15247)", 31, 13),
    Bug("watch events may be lost after a compaction (#17529)", 31, 13),
    Bug("the revision may decrease after a crash in a compaction (#17780)", 32, 14),
    Bug("delete events may be missing at a compacted revision (#18089, #19179)", 36, 18),
    Bug("renewing a revoked lease may be answered with success", 38, 23),
    Bug("linearizable reads may be stale after a member was paused (#20418)", 42, 28, since_34=20),
)
ADVICE = "use etcd 3.5.29, 3.6 or newer in production"


def parse(version: str) -> Release | None:
    """(3, 4, 23) of "3.4.23"; None: it is none."""
    numbers = version.partition("-")[0].split(".")
    if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
        return None
    major, minor, patch = map(int, numbers)
    return major, minor, patch


def warnings(version: str) -> list[str]:
    """What to tell the operator of an etcd of this version; empty: nothing."""
    release = parse(version)
    if release is None:
        return [f"etcd says that it is version {version!r}, which is unknown; {ADVICE}"]
    if release < (3, 4, 0):
        return [f"etcd {version} is older than anything Podium was tried with; {ADVICE}"]
    if release >= (3, 6, 0):
        return []
    minor, patch = release[1], release[2]
    found = [bug.what for bug in BUGS if (bug.since_34 <= patch < bug.fixed_34 if minor == 4 else patch < bug.fixed_35)]
    if not found:
        return []
    return [f"etcd {version} has known faults; {ADVICE}: " + "; ".join(found)]
