"""Where logs are, and reading them: the newest lines, from the start, and following while they grow and rotate.

A pod's directory holds `logs/CONTAINER/N.log` for the run after N restarts, and N.log.1, N.log.2 for its older parts
(`node_agent.log_file`). A reader tells parts apart by their inode, so it loses nothing when a log is rotated while it
is being read, unless it is slower than a whole log's worth of output: then it goes on with the oldest part there is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from node_agent.runtime.log_times import TimeIndex

CHUNK_BYTES = 65536
_SEARCH_BYTES = 65536


def log_path(pod_dir: Path, container: str, restarts: int) -> Path:
    """The newest part of the log of a container's run."""
    return pod_dir / "logs" / container / f"{restarts}.log"


def parts_of(path: Path) -> list[Path]:
    """The parts of a log that exist, oldest first."""
    older = sorted(path.parent.glob(path.name + ".*"), key=lambda part: -int(part.suffix[1:]))
    return [*older, *([path] if path.exists() else [])]


def remove_old_logs(pod_dir: Path, container: str, restarts: int) -> None:
    """Keeps the logs of this run and of the one before it; removes all older ones."""
    directory = pod_dir / "logs" / container
    if not directory.is_dir():
        return
    for file in directory.iterdir():
        number = file.name.partition(".")[0]
        if number.isdigit() and int(number) < restarts - 1:
            file.unlink(missing_ok=True)


def next_log(path: Path) -> Path | None:
    """The log of the run that came after the one that wrote this log, of those that are kept; None if there is none."""
    run = int(path.stem)
    runs = [int(each.stem) for each in path.parent.glob("*.log") if each.stem.isdigit()]
    following = min((number for number in runs if number > run), default=None)
    return None if following is None else path.with_name(f"{following}.log")


class LogReader:
    """Reads one log from a position on; `read` returns b"" when there is nothing new now. Not for several tasks."""

    def __init__(self, path: Path, tail_lines: int | None = None, since_s: float | None = None) -> None:
        """`since_s`: leaves out what was written before that time, in seconds since 1970, to the hundredth."""
        self._path, self._since_s = path, since_s
        self.offset = 0
        """Where, in its part of the log, what was read last begins."""
        self.index: TimeIndex | None = None
        """The times of that part."""
        self._file: int | None = None
        self._inode = 0
        self._pending: list[Path] = []
        if tail_lines is None:
            self._pending = parts_of(path)
        else:
            self._start_at_tail(tail_lines)

    def read(self) -> bytes:
        """The next piece, at most CHUNK_BYTES; b"" if there is none (yet)."""
        while True:
            if self._file is None and not self._open_next():
                return b""
            assert self._file is not None
            data = self._read()
            if data:
                return data
            if not self._rotated():
                return b""
            # What was written between our read and the rotation is still there: read once more, then move on.
            data = self._read()
            if data:
                return data
            self._pending = self._pending or self._parts_after(self._inode)
            self.close()

    def _read(self) -> bytes:
        assert self._file is not None
        if self._since_s is not None and not self._seek_since():
            return b""
        self.offset = os.lseek(self._file, 0, os.SEEK_CUR)
        return os.read(self._file, CHUNK_BYTES)

    def _seek_since(self) -> bool:
        """To where what is new enough begins, once; False if nothing in this part is."""
        assert self._file is not None
        assert self._since_s is not None
        assert self.index is not None
        self.index.refresh()
        begin = self.index.offset_since(self._since_s)
        if begin is None:
            return False
        os.lseek(self._file, max(begin, os.lseek(self._file, 0, os.SEEK_CUR)), os.SEEK_SET)
        self._since_s = None
        return True

    def close(self) -> None:
        """Lets go of the file. Twice is fine."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open_next(self) -> bool:
        candidates = self._pending or ([self._path] if self._inode == 0 else [])
        while candidates:
            part = candidates.pop(0)
            try:
                self._file = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            inode = os.fstat(self._file).st_ino
            if inode == self._inode:
                self.close()
                continue
            self._inode = inode
            self._pending = candidates
            self.index = TimeIndex(part)
            return True
        return False

    def _rotated(self) -> bool:
        """This file will not grow any more: another one has its name, or a newer part waits."""
        if self._pending:
            return True
        try:
            return os.stat(self._path).st_ino != self._inode
        except FileNotFoundError:
            return False

    def _parts_after(self, inode: int) -> list[Path]:
        parts = parts_of(self._path)
        for index, part in enumerate(parts):
            try:
                if part.stat().st_ino == inode:
                    return parts[index + 1 :]
            except FileNotFoundError:
                continue
        return parts

    def _start_at_tail(self, lines: int) -> None:
        """Positions at the last `lines` lines, over parts."""
        parts = parts_of(self._path)
        missing = lines
        for index in range(len(parts) - 1, -1, -1):
            try:
                fd = os.open(parts[index], os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            offset, found = _offset_of_last_lines(fd, missing)
            missing -= found
            if missing > 0 and index > 0:
                os.close(fd)
                continue
            os.lseek(fd, offset, os.SEEK_SET)
            self._file, self._inode, self._pending = fd, os.fstat(fd).st_ino, parts[index + 1 :]
            self.index = TimeIndex(parts[index])
            return


def _offset_of_last_lines(fd: int, lines: int) -> tuple[int, int]:
    """Where the last `lines` lines begin, and how many there are from there on."""
    size = os.fstat(fd).st_size
    if lines <= 0:
        return size, 0
    # A newline at the very end ends the last line; it does not begin another one.
    skip = 1 if size and os.pread(fd, 1, size - 1) == b"\n" else 0
    found = 0
    for start, block in _blocks_backwards(fd, size):
        position = len(block)
        while (position := block.rfind(b"\n", 0, position)) >= 0:
            if skip:
                skip = 0
                continue
            found += 1
            if found == lines:
                return start + position + 1, lines
    return 0, found + (1 if size else 0)


def _blocks_backwards(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    end = size
    while end > 0:
        start = max(0, end - _SEARCH_BYTES)
        yield start, os.pread(fd, end - start, start)
        end = start
