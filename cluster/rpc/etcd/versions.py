"""Which versions of etcd lose what. Pure.

From etcd's change logs. A version that corrupts data after a crash is refused. Versions with bugs that this program
guards against by its own means (the log is a chain, and gaps are read again) are warned about.
"""

from __future__ import annotations

import re

RECOMMENDED = "3.5.29 or 3.6"

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")

Version = tuple[int, int, int]

_BUGS: list[tuple[str, dict[tuple[int, int], int]]] = [
    # what it does to its users, and the release of each line in which it is mended
    ("watches may hear of changes twice", {(3, 4): 24, (3, 5): 8}),
    ("watches may go back in time after a snapshot", {(3, 4): 25, (3, 5): 8}),
    ("leases may be revoked by a former leader", {(3, 4): 31, (3, 5): 13}),
    ("watches may lose events after a compaction", {(3, 4): 31, (3, 5): 13}),
    ("revisions may go back after a crash during a compaction", {(3, 4): 32, (3, 5): 14}),
    ("watches may miss a deletion at a compacted revision", {(3, 4): 36, (3, 5): 18}),
    ("a lease that is gone may be reported as renewed", {(3, 4): 38, (3, 5): 23}),
    ("a member that was suspended may answer a linearizable read with old state", {(3, 4): 42, (3, 5): 28}),
]


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
    """What is known to be wrong with this version, a sentence each; empty: nothing."""
    parsed = parse_version(version)
    if parsed is None:
        return [f"etcd says that its version is {version!r}, which says nothing about its known bugs"]
    line, patch = parsed[:2], parsed[2]
    found = [bug for bug, mended in _BUGS if line in mended and patch < mended[line]]
    warnings = [f"etcd {version}: {bug} (mended in {line[0]}.{line[1]}.{dict(_BUGS)[bug][line]})" for bug in found]
    if line == (3, 4):
        warnings.append(f"etcd {version} is of a line that is no longer maintained; use {RECOMMENDED} in production")
    elif line == (3, 5) and patch < 29:
        warnings.append(f"etcd {version} is older than what is recommended for production: {RECOMMENDED}")
    return warnings
