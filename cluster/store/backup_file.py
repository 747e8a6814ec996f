"""Backups that lie in files: reading one in pieces, and saying what it holds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.api.kinds import BY_NAME
from cluster.store.backup_format import MAGIC, BadBackup, End, Header, Part, Reading, Records

_READ_BYTES = 1024 * 1024


def is_backup(path: Path) -> bool:
    """Whether a file begins as backups do. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def header_of(path: Path) -> Header:
    """What a backup says of itself; the rest is not looked at. Raises BadBackup, OSError."""
    for part in parts_of(path):
        if isinstance(part, Header):
            return part
    raise AssertionError("`parts_of` raises if there is none")


def parts_of(path: Path) -> Iterator[Part]:
    """What is in a backup, in order, the last one an End. Raises BadBackup, wherever it is damaged; OSError."""
    reading = Reading()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            for part in reading.feed(data):
                if isinstance(part, Records):
                    _check_kinds(part, reading.header)
                yield part
    reading.finish()


def _check_kinds(part: Records, header: Header | None) -> None:
    for record in part.records:
        if record.kind not in BY_NAME:
            by = f" by podium {header.podium}" if header is not None and header.podium else ""
            raise BadBackup(
                f"this backup has objects of a kind that this Podium does not know ({record.kind}): made{by}"
            )


@dataclass(slots=True)
class Contents:
    """What a backup holds, as far as it could be read."""

    path: Path
    header: Header | None = None
    end: End | None = None
    records: int = 0
    requests: int = 0
    objects: Mapping[str, int] = field(default_factory=dict)
    """How many exist as of its revision, by kind."""
    size_bytes: int = 0
    wrong: str = ""
    """Why it cannot be restored; empty: it can."""


class Census:
    """Counts the objects that exist, from parts in order."""

    def __init__(self) -> None:
        self._alive: set[tuple[str, str, str]] = set()

    def add(self, part: Records) -> None:
        alive = self._alive
        for record in part.records:
            key = (record.kind, record.namespace, record.name)
            if record.deleted:
                alive.discard(key)
            else:
                alive.add(key)

    @property
    def objects(self) -> Mapping[str, int]:
        """By kind, sorted."""
        return dict(sorted(Counter(kind for kind, _, _ in self._alive).items()))


def check(path: Path) -> Contents:
    """Reads all of a backup. Raises OSError."""
    contents = Contents(path, size_bytes=os.stat(path).st_size)
    census = Census()
    try:
        for part in parts_of(path):
            if isinstance(part, Header):
                contents.header = part
            elif isinstance(part, Records):
                contents.records += len(part.records)
                census.add(part)
            elif isinstance(part, End):
                contents.end = part
            else:
                contents.requests += len(part)
    except BadBackup as error:
        contents.wrong = str(error)
    contents.objects = census.objects
    return contents
