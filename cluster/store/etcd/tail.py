"""The end of the log as a follower sees it grow: what etcd's watch says goes in, complete appends come out.

A watch is not believed. What counts is the head: it comes with each append and says where the log ends and with which
chain. If the chunks that were heard of lead there, link by link, they are handed on; else something was missed, and the
log itself has to be read (Missing). So an event that is lost, repeated, late or from the past does no harm.

    at 4   log/6, log/8             staged: kept aside
           log/9 + head 9           5..9 are handed on, once
           head 9 compacted 3       no records, but the news that 3 is compacted
           log/12 + head 12         10 and 11 were not heard of: Missing

What this process appended itself is known already where it was appended, and is left out.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from cluster.rpc.etcd import Event
from cluster.store.etcd.chunks import Chunk, decode_requests
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.values import Damaged, Head
from cluster.store.interface import Appended, Request
from cluster.store.version import Record

_ASIDE_BYTES = 64 * 1024 * 1024
"""Staged chunks that are kept aside; beyond, they are let go and read again when they count."""
_MAX_RANGES = 64


class Missing(Exception):
    """The log goes on to where it was not heard of: read it."""


class Own:
    """Which revisions this process has appended itself."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, first: int, last: int) -> None:
        """Appended, surely. Ranges come in order."""
        if self._ranges and self._ranges[-1][1] == first - 1:
            first, _ = self._ranges.pop()
        self._ranges.append((first, last))
        del self._ranges[:-_MAX_RANGES]  # what is this old was heard of long ago; or else it is merely heard of again

    def covers(self, first: int, last: int) -> bool:
        """All of these revisions are own."""
        return any(a <= first and last <= b for a, b in self._ranges)

    def has(self, revision: int) -> bool:
        return self.covers(revision, revision)


class Tail:
    """The follower's place, and what it has heard of beyond."""

    def __init__(self, keys: Keys, own: Own, revision: int, chain: bytes, compacted: int, floor: int = 0) -> None:
        """`floor`: up to there nothing is handed on."""
        self.revision = revision
        """Everything up to it was handed on."""
        self.chain = chain
        """After that revision."""
        self.compacted = compacted
        """The newest that was handed on."""
        self._keys = keys
        self._own = own
        self._floor = floor
        self._chunks: dict[int, bytes] = {}
        self._requests: dict[int, bytes] = {}
        self._aside_bytes = 0

    def take(self, events: Iterable[Event]) -> Head | None:
        """Events of one revision of etcd, that is, of one transaction. The head, if it is news: `advance` to it."""
        head: Head | None = None
        for deleted, (key, value, *_) in events:
            if self._keys.is_chunk(key):
                self._put(self._chunks, key, b"" if deleted else value)
            elif self._keys.is_requests(key):
                self._put(self._requests, key, b"" if deleted else value)
            elif key == self._keys.head and not deleted:
                head = Head.decode(value)
        if self._aside_bytes > _ASIDE_BYTES:
            self._clear()
        return head if head is not None and head.revision >= self.revision else None

    def advance(self, head: Head) -> Appended | None:
        """Goes to where the head says, by what was heard of. None: nothing that is news. Raises Missing, Damaged."""
        if head.revision == self.revision:
            if head.chain != self.chain:
                raise Damaged(f"the log has another history: revision {head.revision} is not what it was")
            return self._emit(head, [], [])
        first = self.revision + 1
        if self._own.covers(first, head.revision):
            return self._emit(head, [], [])
        records: list[Record] = []
        requests: list[Request] = []
        chain = self.chain
        try:
            for last in sorted(self._chunks):
                if last > head.revision:
                    break
                chunk = Chunk.decode(self._chunks[last])
                if chunk.first != first:
                    raise Missing(f"heard of {chunk.first} to {last}, not of {first}")
                chunk.verify(chain)
                chain, first = chunk.after, chunk.last + 1
                records += chunk.records
                requests += decode_requests(self._requests[last]) if last in self._requests else []
        except Damaged as error:
            raise Missing(str(error)) from error  # as the watch told it; the log itself will say
        if first != head.revision + 1 or chain != head.chain:
            raise Missing(f"heard of revisions before {first}, not of {head.revision}")
        return self._emit(head, records, requests)

    def jump(self, chunks: Sequence[Chunk], requests: Sequence[Request], head: Head) -> Appended | None:
        """Goes on by chunks that were read from the log: the next ones, up to the head at most. Raises Damaged."""
        chain, first = self.chain, self.revision + 1
        for chunk in chunks:
            if chunk.first != first:
                raise Damaged(f"revisions {first} to {chunk.first - 1} are missing from the log")
            chunk.verify(chain)
            chain, first = chunk.after, chunk.last + 1
        here = Head(first - 1, chain, compacted=head.compacted)
        return self._emit(here, [record for chunk in chunks for record in chunk.records], requests)

    def _emit(self, head: Head, records: Sequence[Record], requests: Sequence[Request]) -> Appended | None:
        news = head.compacted > self.compacted
        self.revision, self.chain = head.revision, head.chain
        self.compacted = max(self.compacted, head.compacted)
        self._clear()
        records = [record for record in records if self._is_news(record.revision)]
        requests = [request for request in requests if self._is_news(request.revision)]
        return Appended(records, requests, self.compacted) if records or requests or news else None

    def _is_news(self, revision: int) -> bool:
        return revision > self._floor and not self._own.has(revision)

    def _put(self, aside: dict[int, bytes], key: bytes, value: bytes) -> None:
        last = self._keys.last_of(key)
        self._aside_bytes += len(value) - len(aside.pop(last, b""))
        if value and last > self.revision:
            aside[last] = value
        else:
            self._aside_bytes -= len(value)

    def _clear(self) -> None:
        self._chunks.clear()
        self._requests.clear()
        self._aside_bytes = 0


def by_transaction(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Events of a watch, those of one transaction together."""
    modified: Callable[[Event], int] = lambda event: event.kv.mod_revision  # noqa: E731
    for _, group in groupby(events, key=modified):
        yield list(group)
