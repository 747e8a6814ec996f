"""How far the log had come when something was last acknowledged, in a file of its own beside it.

A log that lost its end is a shorter log, and looks well: SQLite drops everything from the first frame of a WAL that
does not verify, and nothing at all says that a WAL was deleted or that the file is last week's. So after each commit,
before it is acknowledged, the revision and the chain at it are noted here; a log that does not reach the mark, or has
another chain there, is not the one that was acknowledged.

Two slots are written in turns, each in a page of its own with a checksum: a torn write costs the newer of two marks.
An fsync each time would double what a commit costs, so there is none: when a process is killed the mark is exact,
for the page is the kernel's; when the power fails it may be up to a second old, and then says less, but nothing wrong.
The file has its full size from the beginning, so noting needs no space on a full disk.
"""

from __future__ import annotations

import os
import struct
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

FILE_NAME = "high-water"
SLOT_BYTES = 4096

_MAGIC = b"PodHW\x00\x00\x02"
_HEAD = struct.Struct("<8sQQQQ32s32sH")
_CHECK_BYTES = 16


class Mark(NamedTuple):
    """Everything up to here was acknowledged."""

    store_id: str
    revision: int
    chain: bytes
    """Of records, at `revision`."""
    requests: int
    """The number of the newest request ..."""
    requests_chain: bytes
    """... and the chain of requests at it."""
    compacted: int = 0
    """Up to here changes have been forgotten."""


def encode(turn: int, mark: Mark) -> bytes:
    """One slot. The slot with the greater turn counts."""
    name = mark.store_id.encode()
    body = (
        _HEAD.pack(
            _MAGIC, turn, mark.revision, mark.compacted, mark.requests, mark.chain, mark.requests_chain, len(name)
        )
        + name
    )
    return body + blake2b(body, digest_size=_CHECK_BYTES).digest()


def decode(slot: bytes) -> tuple[int, Mark] | None:
    """Turn and mark of a slot; None if it was never written, or not completely."""
    if len(slot) < _HEAD.size + _CHECK_BYTES:
        return None
    magic, turn, revision, compacted, requests, chain, requests_chain, length = _HEAD.unpack_from(slot)
    end = _HEAD.size + length
    if magic != _MAGIC or blake2b(slot[:end], digest_size=_CHECK_BYTES).digest() != slot[end : end + _CHECK_BYTES]:
        return None
    return turn, Mark(slot[_HEAD.size : end].decode(), revision, chain, requests, requests_chain, compacted)


def read(path: Path) -> Mark | None:
    """The newest mark of a file; None if there is none that can be read. Raises OSError, but not for a missing file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        slots = [os.pread(fd, SLOT_BYTES, n * SLOT_BYTES) for n in (0, 1)]
    finally:
        os.close(fd)
    found = [decoded for slot in slots if (decoded := decode(slot)) is not None]
    return max(found)[1] if found else None


class HighWater:
    """The file, open for writing. One thread at a time."""

    def __init__(self, path: Path) -> None:
        """Makes the file if there is none. Raises OSError."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(self._fd).st_size
            if size < 2 * SLOT_BYTES:
                os.pwrite(self._fd, bytes(2 * SLOT_BYTES - size), size)
            turns = [found[0] for n in (0, 1) if (found := decode(os.pread(self._fd, SLOT_BYTES, n * SLOT_BYTES)))]
        except BaseException:
            os.close(self._fd)
            raise
        self._turn = max(turns, default=0)
        self._moved = True
        """Since the last `sync`."""

    def note(self, mark: Mark) -> None:
        """Writes the mark into the older slot. Raises OSError."""
        self._turn += 1
        slot = encode(self._turn, mark)
        if os.pwrite(self._fd, slot, self._turn % 2 * SLOT_BYTES) != len(slot):
            raise OSError("the high-water mark was not written completely")
        self._moved = True

    @property
    def moved(self) -> bool:
        """There is something to `sync`."""
        return self._moved

    def sync(self) -> None:
        """Makes the newest mark last through a power cut. Raises OSError; then nobody knows what is on the disk."""
        if self._moved:
            os.fdatasync(self._fd)
            self._moved = False

    def close(self) -> None:
        """Without a sync. Once."""
        os.close(self._fd)
