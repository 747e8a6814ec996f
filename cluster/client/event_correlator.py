"""What becomes of an event before it is written: counted, summarised or dropped. Pure.

After client-go's record package:

    the same again (object, type, reason, message)     the same Event with count + 1 and a new lastTimestamp
    more than 10 alike (all but the message) in 600 s  one Event "(combined from similar events): <last message>"
    an object that keeps making news                   25 at once, then one per 300 s; the rest is dropped

The memory is bounded: of each table the entries that were used longest ago are forgotten, and the worst that follows is
a second Event where one with a count would have done.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from cluster.api.meta import to_time
from cluster.pb.v1 import core_pb2 as core

MAX_ENTRIES = 4096
SIMILAR_LIMIT = 10
SIMILAR_WINDOW_S = 600.0
SPAM_BURST = 25
SPAM_REFILL_S = 300.0
COMBINED = "(combined from similar events): "
MAX_MESSAGE_LENGTH = 1024
"""As in Kubernetes; longer messages are cut."""

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Correlated:
    """An event as it should be stored now: made, or written over its earlier self (`is_new` False)."""

    event: core.Event
    is_new: bool


class _Recent(Generic[V]):
    """A dict that forgets what was used longest ago."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[tuple[str, ...], V] = OrderedDict()

    def get(self, key: tuple[str, ...]) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: tuple[str, ...], value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def remove(self, key: tuple[str, ...]) -> None:
        self._entries.pop(key, None)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float


@dataclass(slots=True)
class _Similar:
    messages: set[str]
    last_s: float


class EventCorrelator:
    """See above. One per recorder."""

    def __init__(self, component: str, host: str = "", *, max_entries: int = MAX_ENTRIES) -> None:
        self._source = core.EventSource(component=component, host=host or None)
        self._buckets: _Recent[_Bucket] = _Recent(max_entries)
        self._similar: _Recent[_Similar] = _Recent(max_entries)
        self._known: _Recent[core.Event] = _Recent(max_entries)
        self.dropped = 0
        """Events that the spam filter kept out."""

    def observe(
        self, about: core.ObjectReference, type_: str, reason: str, message: str, *, now_s: float, suffix: str
    ) -> Correlated | None:
        """What to store for an event that happened at `now_s` (since 1970); None: nothing.

        `suffix` makes the name of a new Event unique: `<object>.<suffix>`.
        """
        if not self._take_token((about.kind, about.namespace, about.name, about.uid), now_s):
            self.dropped += 1
            return None
        message = message[:MAX_MESSAGE_LENGTH]
        alike = (about.kind, about.namespace, about.name, about.uid, type_, reason)
        if self._count_similar(alike, message, now_s) > SIMILAR_LIMIT:
            # All of a kind share one Event, whatever their messages say.
            key: tuple[str, ...] = alike
            message = (COMBINED + message)[:MAX_MESSAGE_LENGTH]
        else:
            key = (*alike, message)
        known = self._known.get(key)
        event = core.Event()
        if known is not None:
            event.CopyFrom(known)
            event.count += 1
        else:
            # Events about objects without a namespace live in "default", as in Kubernetes.
            event.metadata.namespace = about.namespace or "default"
            event.metadata.name = f"{about.name[: 252 - len(suffix)]}.{suffix}"
            event.reason = reason
            event.source.CopyFrom(self._source)
            event.firstTimestamp.CopyFrom(to_time(now_s))
            event.count = 1
            event.type = type_
            event.reportingComponent = self._source.component
        event.message = message
        event.involvedObject.CopyFrom(about)
        event.lastTimestamp.CopyFrom(to_time(now_s))
        self._known.put(key, event)
        return Correlated(event, known is None)

    def forget(self, event: core.Event) -> None:
        """The stored Event is gone (expired): the next of its kind is a new one."""
        about = event.involvedObject
        alike = (about.kind, about.namespace, about.name, about.uid, event.type, event.reason)
        self._known.remove(alike if event.message.startswith(COMBINED) else (*alike, event.message))

    def _take_token(self, key: tuple[str, ...], now_s: float) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = _Bucket(SPAM_BURST, now_s)
            self._buckets.put(key, bucket)
        bucket.tokens = min(SPAM_BURST, bucket.tokens + max(0.0, now_s - bucket.filled_s) / SPAM_REFILL_S)
        bucket.filled_s = now_s
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _count_similar(self, key: tuple[str, ...], message: str, now_s: float) -> int:
        similar = self._similar.get(key)
        if similar is None or now_s - similar.last_s > SIMILAR_WINDOW_S:
            similar = _Similar(set(), now_s)
            self._similar.put(key, similar)
        if len(similar.messages) <= SIMILAR_LIMIT:
            similar.messages.add(message)
        similar.last_s = now_s
        return len(similar.messages)
