"""What lies where in etcd, below the prefix of one cluster:

    /podium/demo/head                       where the log ends, and what is compacted (values.Head)
    /podium/demo/leader                     the address of who may append; with a lease
    /podium/demo/log/000000000000002a       a chunk of the log, named by its last revision (chunks)
    /podium/demo/requests/000000000000002a  the requests of that append, if there were any (chunks)
    /podium/demo/store                      which store this is, and in which format (values.StoreMark)

A chunk is named by its last revision so that the chunk that holds revision n is the first whose name is not below n:
one read with limit 1, no index. Everything but `store` lies between `head` and `requests/...` with nothing else in
between, so one watch hears of all of it in the order in which it happened.

A log that was restored lies in a folder of its own, /podium/demo/at-0123abcd/head and so on, and `store` says in which:
so two logs change places by one small transaction (restoring.py).

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

_DIGITS = 16
_MAX = (1 << 64) - 1


@dataclass(slots=True)
class Keys:
    """The keys below a prefix like "/podium/demo/"."""

    prefix: str
    folder: str = ""
    """Where the log lies below it, as in "at-0123abcd/": known once `store` was read."""

    def __post_init__(self) -> None:
        if not self.prefix.startswith("/") or not self.prefix.endswith("/"):
            raise ValueError(f"a prefix begins and ends with a slash: {self.prefix!r}")

    @property
    def all(self) -> tuple[bytes, bytes]:
        """Range of everything below the prefix, whichever folder it is in."""
        return self.prefix.encode(), self.prefix[:-1].encode() + b"0"  # "0" follows "/"

    @property
    def watched(self) -> tuple[bytes, bytes]:
        """Range of everything that changes: head, leader, log, requests."""
        return self.head, self._key("requests0")

    @property
    def front(self) -> tuple[bytes, bytes]:
        """Range of `head` and `leader`, and nothing else."""
        return self.head, self.leader + b"\0"

    @property
    def head(self) -> bytes:
        return self._key("head")

    @property
    def leader(self) -> bytes:
        return self._key("leader")

    @property
    def store(self) -> bytes:
        return f"{self.prefix}store".encode()

    @property
    def stage(self) -> bytes:
        """Is there while a log is being put into this folder by a restore."""
        return self._key("stage")

    @property
    def folders(self) -> tuple[bytes, bytes]:
        """Range of all folders of restored logs."""
        return f"{self.prefix}at-".encode(), f"{self.prefix}at.".encode()  # "." follows "-"

    @property
    def everything(self) -> tuple[bytes, bytes]:
        """Range of this folder."""
        assert self.folder, "the log of a store that was never restored has no folder of its own"
        return self._key(""), self._key("")[:-1] + b"0"

    def folder_of(self, key: bytes) -> str:
        """The folder of a key in `folders`."""
        return key.decode().removeprefix(self.prefix).partition("/")[0] + "/"

    def chunk(self, last: int) -> bytes:
        """The chunk whose last revision this is."""
        return self._key(f"log/{last:0{_DIGITS}x}")

    def chunks(self, first: int = 0, last: int = _MAX) -> tuple[bytes, bytes]:
        """Range of the chunks whose last revision is at least `first` and at most `last`."""
        return self.chunk(first), self.chunk(last) + b"\0"

    def requests(self, last: int) -> bytes:
        """The requests of the append that ended with this revision."""
        return self._key(f"requests/{last:0{_DIGITS}x}")

    def all_requests(self, first: int = 0, last: int = _MAX) -> tuple[bytes, bytes]:
        """Range of the requests of appends that ended between these revisions, both included."""
        return self.requests(first), self.requests(last) + b"\0"

    def is_chunk(self, key: bytes) -> bool:
        return key.startswith(self._key("log/"))

    def is_requests(self, key: bytes) -> bool:
        return key.startswith(self._key("requests/"))

    def last_of(self, key: bytes) -> int:
        """The revision that a chunk's or a requests' key is named by. Raises ValueError for another key."""
        name = key.decode().removeprefix(self.prefix + self.folder)
        folder, _, digits = name.partition("/")
        if folder not in ("log", "requests") or len(digits) != _DIGITS:
            raise ValueError(f"{key!r} names no revision")
        return int(digits, 16)

    def _key(self, name: str) -> bytes:
        return f"{self.prefix}{self.folder}{name}".encode()
