"""Disks as a power cut may leave them, made from what a process really did to its files.

    events = parse(strace's output)           STRACE says how to run it
    disk = Disk(); for event in events[:n]: disk.apply(event)
    disk.cut(rng, directory)                  the files as they may be after a cut at this moment

What was synced is there. Of what was written since, each piece of 512 bytes may be there or not, whatever the order in
which it was written; a file may be shorter. Names of files (created, removed, renamed) are there once their directory
was synced; before, they are there up to some point. That is less than ext4 promises, and as much as SQLite asks for.
"""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 512
CALLS = "openat,pwrite64,write,ftruncate,fallocate,fdatasync,fsync,unlink,unlinkat,rename,renameat,renameat2"
STRACE = shlex.split(f"strace -f -y -xx -s 100000000 --seccomp-bpf -e signal=none -e trace={CALLS} -o")
"""A file's name and a command follow."""

_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)$", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PATH = re.compile(r"^(?:\d+|AT_FDCWD)<([^>]*)>")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to a disk, or said (`ack`)."""

    call: str
    """create, write, truncate, extend, sync, unlink, rename, ack."""
    path: str
    data: bytes = b""
    """ack: what was said."""
    offset: int = 0
    """truncate, extend: the size."""
    target: str = ""
    """rename."""


def parse(text: str) -> list[Event]:
    """The events of a trace, in order. A call that was interrupted by another thread's counts from its beginning if it
    writes, and from its end if it syncs."""
    events: list[Event] = []
    positions: dict[str, int] = {}
    begun: dict[str, str] = {}
    for line in text.splitlines():
        matched = _LINE.match(line)
        if matched is None:
            continue
        pid, resumed, rest = matched.groups()
        if resumed is not None:
            rest = begun.pop(pid, "") + rest
            if not rest.startswith(("fsync", "fdatasync", "openat")):
                continue  # counted when it began
        elif rest.endswith("<unfinished ...>"):
            rest = begun[pid] = rest.removesuffix("<unfinished ...>")
            if rest.startswith(("fsync", "fdatasync", "openat")):
                continue
            rest = f"{rest.rstrip()}) = 0"
        events += _events(rest, positions)
    return events


def _events(line: str, positions: dict[str, int]) -> Iterator[Event]:
    call, _, rest = line.partition("(")
    arguments, _, result = rest.rpartition(" = ")
    if result.startswith("-1") or not result:
        return
    strings = [bytes.fromhex(one.replace("\\x", "")) for one in _STRING.findall(arguments)]
    opened = _PATH.match(arguments)
    path = _plain(opened.group(1)) if opened is not None else ""
    numbers = [int(one) for one in re.findall(r", (\d+)(?=[,)])", _STRING.sub("", arguments))]
    match call:
        case "openat" if "O_CREAT" in arguments:
            yield Event("create", strings[0].decode())
        case "pwrite64":
            yield Event("write", path, strings[0], numbers[-1])
        case "write" if arguments.startswith("1<"):
            yield Event("ack", "", strings[0])
        case "write" if path.startswith("/"):
            offset = positions.get(path, 0)
            positions[path] = offset + len(strings[0])
            yield Event("write", path, strings[0], offset)
        case "ftruncate":
            yield Event("truncate", path, offset=numbers[-1])
        case "fallocate":
            yield Event("extend", path, offset=sum(numbers[-2:]))
        case "fdatasync" | "fsync":
            yield Event("sync", path)
        case "unlink" | "unlinkat":
            yield Event("unlink", strings[0].decode())
        case "rename" | "renameat" | "renameat2":
            yield Event("rename", strings[0].decode(), target=strings[1].decode())


def _plain(path: str) -> str:
    """strace writes what is behind a descriptor in hexadecimal, too, when it is told to."""
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path


@dataclass(slots=True)
class File:
    """One file, whatever its name."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[Event] = field(default_factory=list)

    def sync(self) -> None:
        for event in self.since:
            _write(self.synced, event)
        self.since.clear()

    def cut(self, rng: random.Random) -> bytes:
        """As it may be afterwards."""
        content = bytearray(self.synced)
        luck = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        events = list(self.since)
        if rng.random() < 0.5:
            rng.shuffle(events)
        for event in events:
            if event.call != "write":
                if rng.random() < luck:
                    _write(content, event)
                continue
            for begin, end in _sectors(event):
                if rng.random() < luck:
                    piece = event.data[begin - event.offset : end - event.offset]
                    _write(content, Event("write", event.path, piece, begin))
        return bytes(content)


def _sectors(event: Event) -> Iterator[tuple[int, int]]:
    begin, stop = event.offset, event.offset + len(event.data)
    while begin < stop:
        end = min(stop, (begin // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield begin, end
        begin = end


def _write(content: bytearray, event: Event) -> None:
    end = event.offset + len(event.data)
    if event.call == "truncate":
        del content[event.offset :]
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if event.call == "write":
        content[event.offset : end] = event.data


class Disk:
    """Files below one directory, and what of them would survive."""

    def __init__(self) -> None:
        self._synced: dict[str, File] = {}
        """Names that would survive."""
        self._names: dict[str, File] = {}
        self._since: list[Event] = []
        self._files: dict[int, File] = {}
        """What each creation made, by id() of its event."""

    def apply(self, event: Event) -> None:
        """What happens next."""
        match event.call:
            case "create":
                if event.path not in self._names:
                    self._name(self._names, event, File())
                    self._since.append(event)
            case "unlink" | "rename":
                if event.path in self._names:
                    self._name(self._names, event, None)
                    self._since.append(event)
            case "write" | "truncate" | "extend":
                if (file := self._names.get(event.path)) is not None:
                    file.since.append(event)
            case "sync":
                if (file := self._names.get(event.path)) is not None:
                    file.sync()
                else:
                    self._synced = dict(self._names)
                    self._since.clear()

    def _name(self, names: dict[str, File], event: Event, new: File | None) -> None:
        if event.call == "create":
            assert new is not None
            names[event.path] = new
            self._files[id(event)] = new
        elif event.call == "unlink":
            names.pop(event.path, None)
        elif event.path in names:
            names[event.target] = names.pop(event.path)

    def cut(self, rng: random.Random, root: Path, directory: Path) -> None:
        """Writes into `directory` what may be left of what was below `root`, but for shared memory (-shm)."""
        names = dict(self._synced)
        for event in self._since[: rng.randint(0, len(self._since))]:
            self._name(names, event, self._files.get(id(event)))
        for path, file in names.items():
            if path.startswith(f"{root}/") and not path.endswith("-shm"):
                target = directory / Path(path).relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.cut(rng))
                target.chmod(0o600)
