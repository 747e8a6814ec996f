"""etcd's watch guarantees, as checks over what a watcher received (the nine of etcd's own robustness tests, and one).

Ordered     events come in the order of revisions
Unique      no event comes twice
Reliable    nothing is left out between the first and the last
Atomic      a revision is never split over two batches
Resumable   a watch begun after a revision begins with the first change after it
Bookmarkable  after a bookmark, nothing up to its revision comes any more; bookmarks do not go back
Filtered    only what the watch asked for: kind, namespace, selectors; a deletion shows the last content that matched
Previous    a deletion shows what this watch was told last
Created     ADDED is what the watch did not have, MODIFIED and DELETED what it had
Stamped     an object's resourceVersion is the revision of its event

Record batches with `Recording` (from any ClusterClient or from encoded WatchBatches). `check_alone` is what a recording
says by itself; `check` also holds it against the log: what the changes were, as a writer knows them, or as
`selected` derives it for a selector from what a watch without one was told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cluster.api.fields import parse_field_selector
from cluster.api.kinds import AnyObject, unwrap
from cluster.api.labels import parse_selector
from cluster.api.meta import key_of, revision_of
from cluster.client.interface import EventType, WatchEvent
from cluster.pb.v1 import cluster_pb2 as wire

_MARKERS = (EventType.BOOKMARK.name, EventType.INITIAL_STATE_END.name)
Matcher = Callable[[AnyObject], bool]


@dataclass(frozen=True, slots=True)
class Seen:
    """One event. Two are the same if they say the same of the same object and revision."""

    type: str
    revision: int
    key: str = ""
    object: AnyObject | None = field(default=None, compare=False, repr=False)
    """As it came, if it is known."""


@dataclass(slots=True)
class Recording:
    """What one watch received, batch by batch, over all connections that it took (each resumed after the last)."""

    after: int | None = None
    """The revision that the watch was begun after; None: with initial state, or from now on."""
    batches: list[list[Seen]] = field(default_factory=list)
    matches: Matcher | None = None
    """What the watch asked for, beyond the kind; None: everything, or that is not known."""
    wants_state: bool = False
    """It asked for the initial state: until that is complete, all that comes belongs to it."""

    def add(self, batch: bytes | wire.WatchBatch) -> None:
        """Records a batch as the server encoded it."""
        message = wire.WatchBatch.FromString(batch) if isinstance(batch, bytes) else batch
        self.batches.append([_seen(event) for event in message.events])

    def add_events(self, batch: Sequence[WatchEvent]) -> None:  # type: ignore[type-arg]
        """Records a batch as a ClusterClient gave it."""
        self.batches.append(
            [Seen(e.type.name, e.revision, "" if e.object is None else str(key_of(e.object)), e.object) for e in batch]
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
        if not ends:
            return events if self.wants_state else []
        return events[: ends[0]]

    @property
    def changes(self) -> list[Seen]:
        """Without initial state, markers and bookmarks."""
        return [event for event in self.events[len(self.initial) :] if event.type not in _MARKERS]

    @property
    def last_revision(self) -> int:
        """The revision to resume from."""
        return max((event.revision for event in self.events), default=self.after or 0)

    @property
    def begin(self) -> int | None:
        """Every change after this revision belongs into the recording; None: nothing has come that says so."""
        if self.after is not None:
            return self.after
        events = self.events
        marker = next((event for event in events[len(self.initial) :] if event.type in _MARKERS), None)
        if marker is None or not (self.initial or marker is events[0]):
            # From now on: when that was, only the first change tells.
            return events[0].revision - 1 if events and not self.wants_state else None
        return marker.revision


def _seen(event: wire.WatchEvent) -> Seen:
    obj = unwrap(event.object) if event.HasField("object") else None
    return Seen(wire.WatchEvent.Type.Name(event.type), event.revision, "" if obj is None else str(key_of(obj)), obj)


def matcher(kind_name: str, namespace: str = "", label_selector: str = "", field_selector: str = "") -> Matcher:
    """What a watch with these wishes may be told of."""
    labels, fields = parse_selector(label_selector), parse_field_selector(kind_name, field_selector)

    def matches(obj: AnyObject) -> bool:
        kind, in_namespace, _ = key_of(obj)
        if kind != kind_name or namespace not in ("", in_namespace):
            return False
        return labels.matches(obj.metadata.labels) and fields.matches(obj)

    return matches


def check_alone(recording: Recording) -> None:
    """Raises AssertionError, naming the guarantee that was broken: all of them that need no log."""
    ordered_and_unique(recording)
    atomic(recording)
    bookmarkable(recording)
    filtered(recording)
    created(recording)
    previous(recording)
    stamped(recording)


def check(recording: Recording, log: Iterable[Seen]) -> None:
    """Raises AssertionError, naming the guarantee that was broken. `log`: what a perfect watcher would have been told,
    from the store's beginning on, or from where the recording begins."""
    log = list(log)
    check_alone(recording)
    resumable(recording, log)
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
    last, initial = 0, len(recording.initial)
    for batch in recording.batches:
        changes = [event for event in batch[min(initial, len(batch)) :] if event.key]
        initial = max(0, initial - len(batch))
        if changes:
            assert changes[0].revision != last, f"atomic: revision {last} is split over two batches"
            last = changes[-1].revision


def bookmarkable(recording: Recording) -> None:
    marked = 0
    for event in recording.events[len(recording.initial) :]:
        if event.type in _MARKERS:
            assert event.revision >= marked, f"bookmarkable: a bookmark went back from {marked} to {event.revision}"
            marked = event.revision
        else:
            assert event.revision > marked, f"bookmarkable: {event} came after the bookmark {marked}"


def filtered(recording: Recording) -> None:
    if recording.matches is None:
        return
    for event in recording.events:
        if event.object is not None:
            assert recording.matches(event.object), f"filtered: {event} was not asked for: {event.object}"


def created(recording: Recording) -> None:
    have = {event.key for event in recording.initial}
    # A watch that was begun after a revision has what there was then, and nobody says here what that is.
    knows_all = bool(recording.initial) or recording.after == 0
    gone: set[str] = set()
    for event in recording.changes:
        if event.type == EventType.ADDED.name:
            assert event.key not in have, f"created: {event}, which the watch had"
            have.add(event.key)
            gone.discard(event.key)
            continue
        there = event.key in have or not (knows_all or event.key in gone)
        assert there, f"created: {event}, which the watch had not"
        if event.type == EventType.DELETED.name:
            have.discard(event.key)
            gone.add(event.key)
        else:
            have.add(event.key)


def previous(recording: Recording) -> None:
    told: dict[str, AnyObject] = {}
    for event in recording.events:
        if event.object is None:
            continue
        if event.type != EventType.DELETED.name:
            told[event.key] = event.object
        elif (last := told.pop(event.key, None)) is not None:
            assert _lasting(event.object) == _lasting(last), f"previous: {event} shows {event.object}, told was {last}"


def _lasting(obj: AnyObject) -> AnyObject:
    """Without what the deletion itself may change: the version, the signs of ending, who wrote it and why."""
    copy = type(obj).FromString(obj.SerializeToString())
    for name in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "finalizers"):
        copy.metadata.ClearField(name)
    for descriptor, _ in copy.metadata.ListFields():
        if descriptor.number >= 10000:
            copy.metadata.ClearField(descriptor.name)
    return copy


def stamped(recording: Recording) -> None:
    initial = len(recording.initial)
    for number, event in enumerate(recording.events):
        if event.object is not None:
            version = revision_of(event.object)
            fits = version <= event.revision if number < initial else version == event.revision
            assert fits, f"stamped: {event} carries version {version}"


def resumable(recording: Recording, log: Sequence[Seen]) -> None:
    start, changes = recording.begin, recording.changes
    if start is None or not changes:
        return
    first = next((event for event in log if event.revision > start), None)
    assert changes[0] == first, f"resumable: after {start} comes {first}, told was {changes[0]}"


def reliable(recording: Recording, log: Iterable[Seen]) -> None:
    start = recording.begin
    if start is None:
        return
    end = recording.last_revision
    expected = [event for event in log if start < event.revision <= end]
    found = recording.changes
    if found != expected:
        missing = [event for event in expected if event not in set(found)]
        extra = [event for event in found if event not in set(expected)]
        raise AssertionError(f"reliable: between {start} and {end}, missing {missing}, not in the log {extra}")


def selected(everything: Recording, matches: Matcher) -> list[Seen]:
    """What a watch with a selector must be told, by what one without it was told: enter, change, leave.

    Complete from the beginning of `everything`, if that has the initial state or begins after revision 0.
    """
    inside: set[str] = set()
    log: list[Seen] = []
    initial = len(everything.initial)
    for number, event in enumerate(everything.events):
        if event.object is None:
            continue
        was, now = event.key in inside, event.type != EventType.DELETED.name and matches(event.object)
        (inside.add if now else inside.discard)(event.key)
        if number < initial or not (was or now):
            continue
        word = "DELETED" if not now else "MODIFIED" if was else "ADDED"
        log.append(Seen(word, event.revision, event.key, event.object))
    return log
