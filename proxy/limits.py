"""How many connections the proxy may have: as many as its file limit allows, with something left for itself.

A proxy must not meet the file limit unprepared. So the limit is raised as far as it may be
(`cluster.actor.open_files`), connections are counted against it, and those that are too many are closed at once.
"""

from __future__ import annotations

RESERVED_FILES = 128
"""For gRPC, logs, metrics, accepting what is refused, and the interpreter."""
PIPES = 32
"""For bulk transfers; two descriptors each."""
FILES_PER_CONNECTION = 2


def connections_allowed(file_limit: int, listeners: int) -> int:
    """How many connections fit below the file limit, beside the listeners; at least one."""
    return max(1, (file_limit - RESERVED_FILES - 2 * PIPES - listeners) // FILES_PER_CONNECTION)
