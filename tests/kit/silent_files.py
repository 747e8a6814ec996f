"""A file system on which nothing ever answers, as a network's whose server has gone: for tests, by FUSE. Root only."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MNT_DETACH = 2


@contextmanager
def silent_files(directory: Path) -> Iterator[Path]:
    """Mounts it there; at the end whoever waits gets an error, and it is gone. Skips the test where that cannot be."""
    if os.geteuid() or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("only root can mount a file system that does not answer, by /dev/fuse")
    libc = ctypes.CDLL(None, use_errno=True)
    directory.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    try:
        if libc.mount(b"silent", str(directory).encode(), b"fuse", 0, options.encode()):
            pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
        yield directory
    finally:
        os.close(device)  # ends all requests
        libc.umount2(str(directory).encode(), MNT_DETACH)
