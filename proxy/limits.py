"""How many connections the proxy may have: as many as its file limit allows, with something left for itself.

A proxy that meets the file limit unprepared can neither accept nor refuse: the kernel's queue fills, and clients hang
without a word. So the limit is raised as far as it may be, connections are counted against it, and those that are too
many are closed at once.
"""

from __future__ import annotations

import resource

RESERVED_FILES = 128
"""For gRPC, logs, metrics, accepting what is refused, and the interpreter."""
PIPES = 32
"""For bulk transfers; two descriptors each."""
FILES_PER_CONNECTION = 2


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


def connections_allowed(file_limit: int, listeners: int) -> int:
    """How many connections fit below the file limit, beside the listeners; at least one."""
    return max(1, (file_limit - RESERVED_FILES - 2 * PIPES - listeners) // FILES_PER_CONNECTION)
