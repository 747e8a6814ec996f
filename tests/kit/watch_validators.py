"""etcd's watch guarantees, as checks over what a watcher received.

Ordered     events come in the order of revisions
Unique      no event comes twice
Reliable    nothing is left out between the first and the last
Atomic      a revision is never split over two batches
Resumable   a watch begun after a revision begins with the first change after it
Bookmarkable  after a bookmark, nothing up to its revision comes any more; bookmarks do not go back

Record batches with `Recording` (from any ClusterClient or from encoded WatchBatches), and hold it against the log: what
the changes were, as a writer knows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cluster.api.kinds import unwrap
from cluster.api.meta import key_of
from cluster.client.interface import EventType, WatchEvent
from cluster.pb.v1 import cluster_pb2 as wire


@dataclass(frozen=True, slots=True)
class Seen:
    """One event, as far as the guarantees speak of it."""

    type: str
    revision: int
    key: str = ""


@dataclass(slots=True)
class Recording:
    """What one watch received, batch by batch."""

    after: int | None = None
    """The revision that the watch was begun after; None: with initial state, or from now on."""
    batches: list[list[Seen]] = field(default_factory=list)

    def add(self, batch: bytes | wire.WatchBatch) -> None:
        """Records a batch as the server encoded it."""
        message = wire.WatchBatch.FromString(batch) if isinstance(batch, bytes) else batch
        self.batches.append(
            [
                Seen(
                    wire.WatchEvent.Type.Name(event.type),
                    event.revision,
                    str(key_of(unwrap(event.object))) if event.HasField("object") else "",
                )
                for event in message.events
            ]
        )

    def add_events(self, batch: Sequence[WatchEvent]) -> None:  # type: ignore[type-arg]
        """Records a batch as a ClusterClient gave it."""
        self.batches.append(
            [Seen(e.type.name, e.revision, str(key_of(e.object)) if e.object is not None else "") for e in batch]
        )

    @property
    def events(self) -> list[Seen]:
        """All events in order."""
        return [event for batch in self.batches for event in batch]

    @property
    def initial(self) -> list[Seen]:
        """The initial state, if the watch asked for it."""
        events = self.events
        ends = [i for i, event in enumerate(events) if event.type == EventType.INITIAL_STATE_END.name]
        return events[: ends[0]] if ends else []

    @property
    def changes(self) -> list[Seen]:
        """Without initial state, markers and bookmarks."""
        markers = (EventType.BOOKMARK.name, EventType.INITIAL_STATE_END.name)
        return [event for event in self.events[len(self.initial) :] if event.type not in markers]

    @property
    def last_revision(self) -> int:
        """The revision to resume from."""
        return max((event.revision for event in self.events), default=self.after or 0)


def check(recording: Recording, log: Iterable[Seen]) -> None:
    """Raises AssertionError, naming the guarantee that was broken. `log`: what a perfect watcher would have been told,
    from the store's beginning on."""
    ordered_and_unique(recording)
    atomic(recording)
    bookmarkable(recording)
    reliable(recording, log)


def ordered_and_unique(recording: Recording) -> None:
    last = recording.after or 0
    told: set[tuple[int, str]] = set()
    for event in recording.changes:
        assert event.revision >= last, f"ordered: {event} came after revision {last}"
        assert (event.revision, event.key) not in told, f"unique: {event} came twice"
        told.add((event.revision, event.key))
        last = event.revision


def atomic(recording: Recording) -> None:
    last = 0
    for batch in recording.batches:
        changes = [event for event in batch if event.key and event in recording.changes]
        if changes:
            assert changes[0].revision != last, f"atomic: revision {last} is split over two batches"
            last = changes[-1].revision


def bookmarkable(recording: Recording) -> None:
    marked = 0
    for event in recording.events[len(recording.initial) :]:
        if event.type in (EventType.BOOKMARK.name, EventType.INITIAL_STATE_END.name):
            assert event.revision >= marked, f"bookmarkable: a bookmark went back from {marked} to {event.revision}"
            marked = event.revision
        else:
            assert event.revision > marked, f"bookmarkable: {event} came after the bookmark {marked}"


def reliable(recording: Recording, log: Iterable[Seen]) -> None:
    """Also resumable: what is expected begins right after the revision that the watch was begun after."""
    start = recording.after
    if start is None:
        marks = [e.revision for e in recording.events if e.type in ("INITIAL_STATE_END", "BOOKMARK")]
        start = marks[0] if marks else 0
    end = recording.last_revision
    expected = [event for event in log if start < event.revision <= end]
    assert recording.changes == expected, f"reliable: between {start} and {end}, {recording.changes} != {expected}"
