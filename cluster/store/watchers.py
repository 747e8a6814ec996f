"""Who hears of which change: lanes, each with the events of one kind of wish, and watchers, each a cursor into a lane.

Watchers that ask for the same (kind, namespace, node, name, selectors) share a lane: whether a change concerns them is
decided once, its event is encoded once, and even the joined batch is made once if they read in step. A published change
looks up its lanes by kind, namespace, and node or name, so that five hundred agents, each watching the pods of its own
node, or a thousand clients that each follow one service, cost what their own events cost.

    changes   11      12      13      14                       (the ring, store/ring.py)
    lane      pods of node-1:  e11  e13          lane   all services:  e12  e14
    watcher A cursor ---------------^            watcher C ------------^
    watcher B cursor ----------^

A lane holds references; what bounds memory is the ring. Slow readers are told, never skipped and never allowed to grow
memory: a watcher is closed with Expired, its last revision in it, when

    what it has not read fell out of the ring
    its reader has taken nothing for 5 s
    1,000 events wait for it, and its reader has taken nothing for 1 s

The idea (watch cache, close and never drop) is that of Kubernetes' cacher and etcd's watchable store; the numbers are
between theirs: etcd lets 128 responses wait, Kubernetes a tenth of a second for all watchers together, and both then
close or demote. A second of patience is there because a burst (a thousand pods scheduled at once) is no slowness.

What is done at intervals costs what is going on, not what there is: watchers whose reader is busy are kept apart, and
so are lanes with something in them; bookmarks go round, a part of the watchers at a time.

This file never waits and knows neither tasks nor clocks; store.py calls it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cluster.api.errors import ApiError, Expired
from cluster.api.kinds import AnyObject
from cluster.store import encoding
from cluster.store.version import Change, Version

BATCH_BYTES = 512 * 1024
"""About how much goes into one batch; it ends with the revision that passes this mark."""
SWEEP_EVERY_S = 0.5
"""So often is looked for slow readers, while any reader is busy."""
STALL_S = 5.0 - SWEEP_EVERY_S
"""A reader who takes longer for one batch is closed, within 5 s."""
UNREAD_LIMIT = 1_000
"""With so many events waiting ..."""
IMPATIENT_S = 1.0
"""... a reader may not take longer than this for one batch."""
TOGETHER = 100
"""So few watchers get their bookmarks at the same moment: it is one moment's work, and then there is quiet."""
UNHURRIED = 1_000
"""With more watchers than this, bookmarks come less often: so many a "bookmark interval", up to ..."""
LONGEST_BOOKMARK_INTERVAL_S = 10.0
"""... this; clients give a watch up that says nothing for 15 s."""


def bookmark_interval_s(interval_s: float, watchers: int) -> float:
    """How long a round of bookmarks takes: the interval that was asked for, or longer for many watchers."""
    return max(interval_s, min(LONGEST_BOOKMARK_INTERVAL_S, interval_s * watchers / UNHURRIED))


@dataclass(frozen=True, slots=True)
class Interest:
    """What a watcher wants to hear of. Equal interests share a lane."""

    kind: str
    namespace: str = ""
    """Empty: all namespaces."""
    node: str = ""
    """Only objects of this node, or of this definition; empty: all."""
    name: str = ""
    """Only the object of this name, in that namespace or in any; empty: all. Not together with a node."""
    selector: str = ""
    """Names `matches`: interests with the same selector text must match alike. Empty: no selector."""
    matches: Callable[[AnyObject], bool] | None = field(default=None, compare=False)

    def wants(self, version: Version | None) -> bool:
        """Whether this version belongs to what is watched. (Kind and namespace are the index's business.)"""
        if version is None or version.deleted:
            return False
        if (self.node and version.node != self.node) or (self.name and version.key.name != self.name):
            return False
        return self.matches is None or self.matches(version.object)

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Where the index has it."""
        return self.kind, self.namespace, self.node, self.name

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
        self.watchers: dict[Watcher, None] = {}
        """In the order in which they came, and so they are woken: what follows from one change is then always the same
        in a simulation, where nothing else decides who is first."""
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

    __slots__ = (
        "backlog",
        "cursor",
        "ended",
        "interrupt",
        "lane",
        "last_revision",
        "pending_since_s",
        "taken_revision",
        "wake",
        "wants_bookmark",
    )

    def __init__(self, revision: int, wake: Callable[[], None], interrupt: Callable[[ApiError], None] | None) -> None:
        self.lane: Lane | None = None
        """None: it has not caught up with what is in memory, or has left."""
        self.cursor = 0
        self.last_revision = revision
        """Everything up to here was handed to the reader ..."""
        self.taken_revision = 0
        """... and up to here it was taken: from here the reader may resume. 0: it has no complete state yet."""
        self.backlog: list[tuple[int, bytes]] = []
        """Events from before it joined the lane, to be read first; at most what the ring held at that moment."""
        self.wants_bookmark = False
        self.pending_since_s: float | None = None
        """When the reader was handed a batch that it has not taken yet."""
        self.ended: ApiError | None = None
        self.wake = wake
        """Called when there may be something to read, or it has ended."""
        self.interrupt = interrupt
        """Called, instead of waiting for the reader, when it has ended while the reader takes a batch."""

    @property
    def behind(self) -> bool:
        return self.unread > 0

    @property
    def unread(self) -> int:
        """How many events wait for it."""
        return len(self.backlog) + (self.lane.end - self.cursor if self.lane is not None else 0)

    def end(self, error: ApiError) -> None:
        """Ends the watch: the reader gets this error."""
        if self.ended is None:
            self.ended = error
            self.backlog.clear()
            self.wake()
            if self.pending_since_s is not None and self.interrupt is not None:
                self.interrupt(error)

    def read(self, now_revision: int) -> bytes | None:
        """The next batch, or a bookmark if one is due, or None. Raises what has ended the watch."""
        if self.ended is not None:
            raise self.ended
        if self.backlog:
            end, self.last_revision, batch = join(self.backlog, 0)
            del self.backlog[:end]
        elif self.lane is not None and self.cursor < self.lane.end:
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
        self._index: dict[tuple[str, str, str, str], list[Lane]] = {}
        self._round: OrderedDict[Watcher, None] = OrderedDict()
        """All watchers; who was told last is last."""
        self._pending: set[Watcher] = set()
        """Those whose reader was handed a batch and has not taken it."""
        self._filled: set[Lane] = set()
        """Those that hold entries."""

    def __len__(self) -> int:
        return len(self._round)

    @property
    def lanes(self) -> int:
        return len(self._lanes)

    @property
    def pending(self) -> int:
        """How many readers have not taken what they were handed."""
        return len(self._pending)

    # --- coming and going

    def enter(
        self, revision: int, wake: Callable[[], None], interrupt: Callable[[ApiError], None] | None = None
    ) -> Watcher:
        """A new watcher, who has heard of everything up to a revision. It hears nothing before it joins a lane."""
        watcher = Watcher(revision, wake, interrupt)
        self._round[watcher] = None
        return watcher

    def join(self, watcher: Watcher, interest: Interest) -> None:
        """From now on it hears of every change that is published and that concerns this interest."""
        lane = self._lanes.get(interest)
        if lane is None:
            lane = self._lanes[interest] = Lane(interest)
            self._index.setdefault(interest.place, []).append(lane)
        watcher.lane, watcher.cursor = lane, lane.end
        lane.watchers[watcher] = None

    def leave(self, watcher: Watcher) -> None:
        """Forgets a watcher, and its lane if it was the last. Twice is fine."""
        self._round.pop(watcher, None)
        self._pending.discard(watcher)
        lane, watcher.lane = watcher.lane, None
        if lane is None:
            return
        lane.watchers.pop(watcher, None)
        interest = lane.interest
        if not lane.watchers and self._lanes.get(interest) is lane:
            del self._lanes[interest]
            self._filled.discard(lane)
            self._index[interest.place].remove(lane)
            if not self._index[interest.place]:
                del self._index[interest.place]

    def handing(self, watcher: Watcher, now_s: float) -> None:
        """Its reader is handed a batch."""
        watcher.pending_since_s = now_s
        self._pending.add(watcher)

    def taken(self, watcher: Watcher) -> None:
        """Its reader has taken it."""
        watcher.pending_since_s = None
        watcher.taken_revision = watcher.last_revision
        self._pending.discard(watcher)

    # --- what happens

    def publish(self, changes: Iterable[Change]) -> None:
        """Puts the events of durable changes into their lanes, and wakes who reads there."""
        touched: dict[Lane, None] = {}
        index = self._index
        for change in changes:
            kind, namespace, name = change.key
            node = change.new.node
            places = [(kind, "", "", ""), (kind, "", "", name)]
            if namespace:
                places += ((kind, namespace, "", ""), (kind, namespace, "", name))
            nodes = [node] if node else []
            if change.old is not None and change.old.node and change.old.node != node:
                nodes.append(change.old.node)
            for each in nodes:
                places.append((kind, "", each, ""))
                if namespace:
                    places.append((kind, namespace, each, ""))
            for place in places:
                for lane in index.get(place, ()):
                    event = lane.interest.event(change)
                    if event is not None:
                        lane.append(change.revision, event)
                        touched[lane] = None
        self._filled.update(touched)
        for lane in touched:
            for watcher in lane.watchers:
                watcher.wake()

    def sweep(self, horizon: int, now_s: float) -> None:
        """Closes who is too slow, and lets go of what everybody has read. `horizon` is the ring's."""
        for watcher in list(self._pending):
            if watcher.ended is None and (why := _slowness(watcher, horizon, now_s)):
                watcher.end(too_slow(watcher, why))
        for lane in list(self._filled):
            lane.drop_through(horizon)
            for watcher in list(lane.watchers):
                if watcher.ended is None and watcher.cursor < lane.start:
                    watcher.end(too_slow(watcher, _forgotten(horizon)))
            unread = [watcher.cursor for watcher in lane.watchers if watcher.ended is None]
            lane.drop_before(min(unread, default=lane.end))
            if lane.start == lane.end:
                self._filled.discard(lane)

    def mark_bookmarks(self, count: int) -> None:
        """So many watchers, whose turn it is, are told how far the store is, unless they have something to read."""
        for _ in range(min(count, len(self._round))):
            watcher = next(iter(self._round))
            self._round.move_to_end(watcher)
            if not watcher.behind:
                watcher.wants_bookmark = True
                watcher.wake()

    def end_all(self, error: ApiError) -> None:
        """Ends every watch."""
        for watcher in list(self._round):
            watcher.end(error)


def too_slow(watcher: Watcher, why: str) -> Expired:
    """What a watcher is told who cannot keep up."""
    revision = watcher.taken_revision
    where = f"the watcher's last revision is {revision}" if revision else "the watcher has not taken its initial state"
    error = Expired(f"too slow: {where}, {why}; list again")
    error.last_revision = revision
    return error


def _slowness(watcher: Watcher, horizon: int, now_s: float) -> str:
    """Why this watcher has to go, whose reader has not taken its batch; empty: it keeps up."""
    if watcher.backlog and watcher.backlog[0][0] <= horizon:
        return _forgotten(horizon)
    since_s = watcher.pending_since_s
    if since_s is None:
        return ""
    if now_s - since_s > STALL_S:
        return f"and it has taken nothing for {now_s - since_s:.1f} s"
    if watcher.unread >= UNREAD_LIMIT and now_s - since_s > IMPATIENT_S:
        return f"and it has taken nothing for {now_s - since_s:.1f} s while {watcher.unread} events wait for it"
    return ""


def _forgotten(horizon: int) -> str:
    return f"and what came next, up to {horizon}, is no longer in memory"
