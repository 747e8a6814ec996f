"""Which versions of etcd lose what. Pure.

From etcd's change logs. A version that corrupts data after a crash is refused. Versions with bugs that this program
guards against by its own means (the log is a chain, and gaps are read again) are warned about.
"""

from __future__ import annotations

import re

RECOMMENDED = "3.5.29 or 3.6"

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")

Version = tuple[int, int, int]

_BUGS: tuple[tuple[str, int, int, int], ...] = (
    # what it does to its users; in 3.4 from this patch release on; mended in 3.4.x; mended in 3.5.x
    ("watches may hear of changes twice", 0, 24, 8),
    ("watches may go back in time after a snapshot", 0, 25, 8),
    ("leases may be revoked by a former leader", 0, 31, 13),
    ("watches may lose events after a compaction", 0, 31, 13),
    ("revisions may go back after a crash during a compaction", 0, 32, 14),
    ("watches may miss a deletion at a compacted revision", 0, 36, 18),
    ("a lease that is gone may be reported as renewed", 0, 38, 23),
    ("a member that was suspended may answer a linearizable read with old state", 20, 42, 28),
)


def parse_version(text: str) -> Version | None:
    """From "3.4.23" or "3.6.0-rc.1"; None if it is something else."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def refuse(version: str) -> str:
    """Why no data should be entrusted to this version; empty: it may be used."""
    parsed = parse_version(version)
    if parsed is not None and (3, 5, 0) <= parsed <= (3, 5, 2):
        return (
            f"etcd {version} may corrupt its data when it crashes (mended in 3.5.3); "
            f"upgrade it to {RECOMMENDED} before you keep anything in it"
        )
    if parsed is not None and parsed < (3, 4, 0):
        return f"etcd {version} is too old: at least 3.4 is needed, {RECOMMENDED} is recommended"
    return ""


def warn_about(version: str) -> list[str]:
    """What is known to be wrong with this version, in a few sentences; empty: nothing."""
    parsed = parse_version(version)
    if parsed is None:
        return [f"etcd says that its version is {version!r}, which says nothing about its known bugs"]
    *line, patch = parsed
    if line not in ([3, 4], [3, 5]):
        return []
    found = []
    for bug, since, mended_in_4, mended_in_5 in _BUGS:
        mended = mended_in_4 if line == [3, 4] else mended_in_5
        if (since if line == [3, 4] else 0) <= patch < mended:
            found.append(f"{bug} (mended in 3.{line[1]}.{mended})")
    warnings = [f"etcd {version} has known bugs: {'; '.join(found)}"] if found else []
    if line == [3, 4]:
        warnings.append(f"etcd {version} is of a line that is no longer maintained; use {RECOMMENDED} in production")
    elif patch < 29:
        warnings.append(f"etcd {version} is older than what is recommended for production: {RECOMMENDED}")
    return warnings
