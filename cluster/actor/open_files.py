"""How many files and connections a process may have open.

What systems allow at first is often 1024, for the sake of old programs; what they allow those who ask is far more. A
daemon that meets the limit can neither accept nor refuse: the kernel's queue fills, and clients hang without a word.
"""

from __future__ import annotations

import resource


def raise_file_limit() -> int:
    """Raises the soft limit of open files to the hard one; the limit from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard
