"""A directory in memory for what must not reach a disk: secrets, and emptyDirs of medium Memory.

It lies in /dev/shm, under a name that is derived from the node's directory, 0700; a link in the node's directory leads
to it, so that whoever removes the cluster finds it. Where there is no such place it is the node's own directory, and
that is said.
"""

from __future__ import annotations

import os
import shutil
from hashlib import blake2b
from pathlib import Path

from cluster.config.dirs import make_private_dir

SHARED_MEMORY = Path("/dev/shm")
LINK = "memory"


def memory_dir(node_dir: Path) -> tuple[Path, bool]:
    """The directory, made if need be, and whether it is in memory. Raises OSError."""
    name = f"podium-{os.geteuid()}-{blake2b(str(node_dir.absolute()).encode(), digest_size=8).hexdigest()}"
    path, link = SHARED_MEMORY / name, node_dir / LINK
    if not os.path.ismount(SHARED_MEMORY) or not os.access(SHARED_MEMORY, os.W_OK):
        make_private_dir(link)
        return link, False
    make_private_dir(path)
    if not link.is_symlink():
        link.symlink_to(path)
    return path, True


def remove_memory_dir(node_dir: Path) -> None:
    """Takes it away, with all that is in it. Again is fine."""
    link = node_dir / LINK
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink(missing_ok=True)
    else:
        shutil.rmtree(link, ignore_errors=True)
