"""Who hears of which change: lanes, each with the events of one kind of wish, and watchers, each a cursor into a lane.

Watchers that ask for the same (kind, namespace, node, selectors) share a lane: whether a change concerns them is
decided once, its event is encoded once, and even the joined batch is made once if they read in step. A published change
looks up its lanes by kind, namespace and node, so that five hundred agents, each watching the pods of its own node,
cost what their own events cost.

    changes   11      12      13      14                       (the ring, store/ring.py)
    lane      pods of node-1:  e11  e13          lane   all services:  e12  e14
    watcher A cursor ---------------^            watcher C ------------^
    watcher B cursor ----------^

A lane holds references; what bounds memory is the ring. A watcher with unread events that fell out of the ring, or
whose reader has not taken a batch for 5 s, is closed with Expired and its last revision: slow readers are told, never
skipped and never allowed to grow memory. The idea (watch cache, close and never drop) is that of Kubernetes' cacher and
etcd's watchable store.

This file never waits and knows neither tasks nor clocks; store.py calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cluster.api.errors import ApiError, Expired
from cluster.api.kinds import AnyObject
from cluster.store import encoding
from cluster.store.version import Change, Version

BATCH_BYTES = 512 * 1024
"""About how much goes into one batch; it ends with the revision that passes this mark."""
STALL_S = 5.0
"""How long a reader may take for one batch."""


@dataclass(frozen=True, slots=True)
class Interest:
    """What a watcher wants to hear of. Equal interests share a lane."""

    kind: str
    namespace: str = ""
    """Empty: all namespaces."""
    node: str = ""
    """Only objects of this node; empty: all."""
    selector: str = ""
    """Names `matches`: interests with the same selector text must match alike. Empty: no selector."""
    matches: Callable[[AnyObject], bool] | None = field(default=None, compare=False)

    def wants(self, version: Version | None) -> bool:
        """Whether this version belongs to what is watched. (Kind and namespace are the index's business.)"""
        if version is None or version.deleted:
            return False
        if self.node and version.node != self.node:
            return False
        return self.matches is None or self.matches(version.object)

    def event(self, change: Change) -> bytes | None:
        """What to say of a change: entering is ADDED, staying MODIFIED, leaving DELETED; None: nothing."""
        before, after = self.wants(change.old), self.wants(change.new)
        if after:
            return change.modified() if before else change.added()
        return change.removed() if before else None


class Lane:
    """Events for all watchers of one interest."""

    __slots__ = ("_entries", "_shared", "_start", "interest", "watchers")

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.watchers: set[Watcher] = set()
        self._entries: list[tuple[int, bytes]] = []
        self._start = 0
        """Number of the first entry; entries are numbered from the lane's beginning."""
        self._shared: tuple[int, int, int, bytes] = (-1, 0, 0, b"")
        """The batch made last: from entry, to entry, its last revision, its bytes."""

    @property
    def end(self) -> int:
        """The number that the next entry will get."""
        return self._start + len(self._entries)

    @property
    def start(self) -> int:
        return self._start

    def append(self, revision: int, event: bytes) -> None:
        self._entries.append((revision, event))

    def read(self, cursor: int) -> tuple[int, int, bytes]:
        """The batch at a cursor: the cursor after it, its last revision, its bytes. There must be something to read."""
        if self._shared[0] == cursor:
            return self._shared[1:]
        after, revision, batch = join(self._entries, cursor - self._start)
        after += self._start
        self._shared = (cursor, after, revision, batch)
        return after, revision, batch

    def drop_before(self, number: int) -> None:
        """Forgets entries before this number."""
        if number > self._start:
            del self._entries[: number - self._start]
            self._start = number
            if self._shared[0] < number:
                self._shared = (-1, 0, 0, b"")

    def drop_through(self, revision: int) -> None:
        """Forgets entries up to this revision."""
        entries = self._entries
        if not entries or entries[0][0] > revision:
            return
        count = 0
        while count < len(entries) and entries[count][0] <= revision:
            count += 1
        self.drop_before(self._start + count)


def join(entries: Sequence[tuple[int, bytes]], start: int) -> tuple[int, int, bytes]:
    """One batch from (revision, event) entries: where the next begins, its last revision, its bytes.

    It ends after BATCH_BYTES, but never within a revision.
    """
    size, end = 0, start
    while end < len(entries):
        if size >= BATCH_BYTES and entries[end][0] != entries[end - 1][0]:
            break
        size += len(entries[end][1])
        end += 1
    return end, entries[end - 1][0], b"".join([event for _, event in entries[start:end]])


class Watcher:
    """One reader's place in a lane."""

    __slots__ = ("backlog", "cursor", "ended", "lane", "last_revision", "pending_since_s", "wake", "wants_bookmark")

    def __init__(self, lane: Lane, revision: int, wake: Callable[[], None]) -> None:
        self.lane = lane
        self.cursor = lane.end
        self.last_revision = revision
        """Everything up to here was handed to the reader."""
        self.backlog: list[tuple[int, bytes]] = []
        """Events from before it joined the lane, to be read first; at most what the ring held at that moment."""
        self.wants_bookmark = False
        self.pending_since_s: float | None = None
        """When the reader was handed a batch that it has not taken yet."""
        self.ended: ApiError | None = None
        self.wake = wake
        """Called when there may be something to read, or it has ended."""

    @property
    def behind(self) -> bool:
        return bool(self.backlog) or self.cursor < self.lane.end

    def end(self, error: ApiError) -> None:
        """Ends the watch: the reader gets this error."""
        if self.ended is None:
            self.ended = error
            self.wake()

    def read(self, now_revision: int) -> bytes | None:
        """The next batch, or a bookmark if one is due, or None. Raises what has ended the watch."""
        if self.ended is not None:
            raise self.ended
        if self.backlog:
            end, self.last_revision, batch = join(self.backlog, 0)
            del self.backlog[:end]
        elif self.cursor < self.lane.end:
            self.cursor, self.last_revision, batch = self.lane.read(self.cursor)
        elif self.wants_bookmark:
            self.last_revision = now_revision
            batch = encoding.event(encoding.BOOKMARK, now_revision)
        else:
            return None
        self.wants_bookmark = False
        return batch


class Watchers:
    """All watchers, and the index from a change to the lanes that it concerns."""

    def __init__(self) -> None:
        self._lanes: dict[Interest, Lane] = {}
        self._index: dict[tuple[str, str, str], list[Lane]] = {}

    def __len__(self) -> int:
        return sum(len(lane.watchers) for lane in self._lanes.values())

    @property
    def lanes(self) -> int:
        return len(self._lanes)

    def join(self, interest: Interest, revision: int, wake: Callable[[], None]) -> Watcher:
        """A new watcher that hears of every change published from now on."""
        lane = self._lanes.get(interest)
        if lane is None:
            lane = self._lanes[interest] = Lane(interest)
            self._index.setdefault((interest.kind, interest.namespace, interest.node), []).append(lane)
        watcher = Watcher(lane, revision, wake)
        lane.watchers.add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forgets a watcher, and its lane if it was the last. Twice is fine."""
        lane = watcher.lane
        lane.watchers.discard(watcher)
        interest = lane.interest
        if not lane.watchers and self._lanes.get(interest) is lane:
            del self._lanes[interest]
            place = (interest.kind, interest.namespace, interest.node)
            self._index[place].remove(lane)
            if not self._index[place]:
                del self._index[place]

    def publish(self, changes: Iterable[Change]) -> None:
        """Puts the events of durable changes into their lanes, and wakes who reads there."""
        touched: set[Lane] = set()
        index = self._index
        for change in changes:
            kind, namespace, _ = change.key
            node = change.new.node
            places = [(kind, "", "")]
            if namespace:
                places.append((kind, namespace, ""))
            if node:
                places += ((kind, "", node), (kind, namespace, node))
            if change.old is not None and change.old.node and change.old.node != node:
                places += ((kind, "", change.old.node), (kind, namespace, change.old.node))
            for place in places:
                for lane in index.get(place, ()):
                    event = lane.interest.event(change)
                    if event is not None:
                        lane.append(change.revision, event)
                        touched.add(lane)
        for lane in touched:
            for watcher in lane.watchers:
                watcher.wake()

    def sweep(self, horizon: int, now_s: float) -> None:
        """Closes who is too slow, and lets go of what everybody has read. `horizon` is the ring's."""
        for lane in self._lanes.values():
            lane.drop_through(horizon)
            for watcher in lane.watchers:
                if watcher.ended is not None:
                    continue
                why = _slowness(watcher, horizon, now_s)
                if why:
                    watcher.backlog.clear()
                    watcher.end(
                        Expired(f"too slow: the watcher's last revision is {watcher.last_revision}, {why}; list again")
                    )
            unread = [watcher.cursor for watcher in lane.watchers if watcher.ended is None]
            lane.drop_before(min(unread, default=lane.end))

    def mark_bookmarks(self) -> None:
        """Everyone who has nothing to read is told how far the store is."""
        for lane in self._lanes.values():
            for watcher in lane.watchers:
                if not watcher.behind:
                    watcher.wants_bookmark = True
                    watcher.wake()

    def end_all(self, error: ApiError) -> None:
        """Ends every watch."""
        for lane in self._lanes.values():
            for watcher in lane.watchers:
                watcher.end(error)


def _slowness(watcher: Watcher, horizon: int, now_s: float) -> str:
    """Why this watcher has to go; empty: it keeps up."""
    if watcher.cursor < watcher.lane.start or (watcher.backlog and watcher.backlog[0][0] <= horizon):
        return f"and what came next, up to {horizon}, is no longer in memory"
    if watcher.pending_since_s is not None and now_s - watcher.pending_since_s > STALL_S:
        return f"and it has taken nothing for {STALL_S:g} s"
    return ""
