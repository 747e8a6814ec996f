"""Watches: a line of JSON for each change, for as long as the caller listens.

    {"type":"ADDED","object":{...}}         also for each object that there is, where resourceVersion is absent or 0
    {"type":"MODIFIED","object":{...}}
    {"type":"DELETED","object":{...}}       its last content, with the version of the deletion
    {"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"12"}}}
    {"type":"ERROR","object":{"kind":"Status","code":410,...}}      the end: list again

or, in protobuf, a frame for each (protobuf.py).

All watches of a caller share one stream from the master (`ClusterClient.listen`), and those that wish for the same are
told from one watch there (`sharing.py`), so a thousand of them cost a master no more than one does. What a reader has
not taken yet waits in a queue of MAX_WAITING events; a reader that lets it overflow is cut off, and goes on from the
last version that it has seen, so it misses nothing. The same happens when the stream from the master breaks. A watch
ends by itself after `timeoutSeconds`, or after half an hour to an hour.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import orjson

from cluster.actor.clock import Clock
from cluster.api.errors import ApiError, Expired
from cluster.client.interface import EventType, ListResult, WatchEvent
from cluster.kubernetes import protobuf, query, reading
from cluster.kubernetes.call import Call, encoded
from cluster.kubernetes.negotiation import Form, check_stream
from cluster.kubernetes.resources import Resource
from cluster.kubernetes.sharing import Hub, News, Wish
from cluster.kubernetes.statuses import expired_event, failure

MAX_WAITING = 20_000
"""Events that wait for one reader, besides those that there are in the beginning."""
WRITE_BYTES = 64 * 1024
"""About how much is written at once."""
BOOKMARK_EVERY_S = 60.0
"""For those who allow them: whoever resumes from one finds the history still kept."""
LEAST_S, MOST_S = 1800.0, 3600.0
"""How long a watch lasts whose caller does not say."""
LAST_NEWS_S = 1.0
"""How long a watch goes on when its kind is served no more."""
FIRST_NEWS_S = 0.1
"""How long the head of the answer waits for what would make it an error."""


class Watching:
    """One watch, between the master's stream and the reader. See the head of this file."""

    def __init__(self, call: Call, hub: Hub, clock: Clock, rng: random.Random) -> None:
        """Raises BadRequest, Invalid for a query that makes no sense, Refused for a form that is none for a watch."""
        check_stream(call.accepted)
        words = call.query
        self._call = call
        self._hub = hub
        self._clock = clock
        query.check_list(words, watch=True)
        self._since = query.number(words, "resourceVersion") or 0
        self._marks_end = query.flag(words, "sendInitialEvents")
        self._initial = self._marks_end or (not self._since and "sendInitialEvents" not in words)
        self._bookmarks = query.flag(words, "allowWatchBookmarks")
        limit_s = query.number(words, "timeoutSeconds")
        self._ends_at_s = clock.monotonic() + (limit_s or rng.uniform(LEAST_S, MOST_S))
        self._waiting: deque[News] = deque()
        self._news = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_s = 0.0
        self._error: ApiError | None = None
        self._overflowed = False
        self._closed = False
        self._begun = not self._initial
        self._headings = True
        row = call.target.resource
        form = row.custom.tag if row.custom is not None else row.api_version
        self._wants = form, call.accepted, words.get("includeObject", "")
        """What the bytes of a line depend on, besides the event."""
        self._bookmark_at_s = clock.monotonic() + BOOKMARK_EVERY_S
        self._revision = 0 if self._initial else self._since
        """All up to here was sent."""

    # --- what the master says

    def heard(self, news: Sequence[News]) -> None:
        """See Reader."""
        if self._overflowed:
            return
        self._waiting.extend(news)
        if self._begun and len(self._waiting) > MAX_WAITING:
            self._overflowed = True
            self._waiting.clear()  # it is all the same now, and the reader may not be heard of for a while

    def wake(self) -> None:
        """See Reader."""
        self._news.set()

    def ended(self, error: ApiError) -> None:
        """See Reader."""
        self._error = error
        self._news.set()

    @property
    def row(self) -> Resource:
        """The kind that is watched."""
        return self._call.target.resource

    def close(self) -> None:
        """Ends it, as if its time were over."""
        self._closed = True
        self._news.set()

    def close_soon(self) -> None:
        """Ends it in a moment: its kind is served no more, and what became of the last objects may be on its way."""
        self._ends_at_s = min(self._ends_at_s, self._clock.monotonic() + LAST_NEWS_S)
        self._news.set()

    # --- what the reader gets

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """The lines, as they come, several at a time. Begins with an empty one when it is clear that there is an answer
        to give; before that it raises what the master says instead (Forbidden ...), and DeadlineExceeded if what there
        is, which the reader wants first, does not become as new as the version that it names. That a version is no
        longer kept is told by an event, from the beginning, too: it is what clients look for, and begin anew."""
        words, target = self._call.query, self._call.target
        wish = Wish(
            target.resource.kind.message,
            target.namespace,
            label_selector=words.get("labelSelector", ""),
            field_selector=self._call.selector(
                words.get("fieldSelector", ""), f"metadata.name={target.name}" if target.name else ""
            ),
            allow_stale=words.get("resourceVersion") == "0",
        )
        if self._marks_end and self._since:
            await reading.reached(self._call, self._since, lambda: self._now(wish), int)
        if not self._initial and not self._since:
            self._since = self._revision = await self._now(wish)
        leave = self._hub.join(self._call.client, wish, self, since=None if self._initial else self._since)
        try:
            await self._wait(self._clock.monotonic() + FIRST_NEWS_S)
            if self._error is not None and not self._waiting and not expired_event(self._error):
                raise self._error
            yield b""
            while True:
                if self._overflowed or self._closed:
                    return
                if self._waiting:
                    text = self._take()
                    if text:
                        yield text
                    continue
                if self._error is not None:
                    if expired_event(self._error) or (self._error.code < 500 and self._error.code != 410):
                        status = failure(self._error, target, "watch")
                        yield self._event("ERROR", encoded(status, self._call.accepted.media))
                    return
                now_s = self._clock.monotonic()
                if now_s >= self._ends_at_s:
                    if self._bookmarks and self._revision:
                        yield self._bookmark()
                    return
                if self._bookmarks and now_s >= self._bookmark_at_s:
                    self._bookmark_at_s = now_s + BOOKMARK_EVERY_S
                    if self._revision:
                        yield self._bookmark()
                await self._wait(min(self._ends_at_s, self._bookmark_at_s) if self._bookmarks else self._ends_at_s)
        finally:
            leave()
            if self._alarm is not None:
                self._alarm.cancel()

    async def _now(self, wish: Wish) -> int:
        """The revision that there is: where a watch begins whose reader wants nothing of what there is already."""
        call = self._call
        listed: ListResult[Any] = await call.client.list(
            wish.kind,
            wish.namespace,
            label_selector=wish.label_selector,  # for the rights: a node may ask for its own pods only
            field_selector=wish.field_selector,
            limit=1,
            allow_stale=wish.allow_stale,
            timeout_s=call.timeout_s,
        )
        return listed.revision

    async def _wait(self, until_s: float) -> None:
        """For news, or until then."""
        if self._waiting or self._error is not None or self._closed:
            return
        self._news.clear()
        if self._alarm is None or self._alarm_at_s != until_s:  # mostly it is the same as before
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at_s = until_s
            delay_s = max(0.0, until_s - self._clock.monotonic())
            self._alarm = asyncio.get_running_loop().call_later(delay_s, self._alarmed)
        await self._news.wait()

    def _alarmed(self) -> None:
        self._alarm = None
        self._news.set()

    def _take(self) -> bytes:
        """Lines of the next events: of so many at once that a reader who takes nothing does not have a copy of all."""
        lines: list[bytes] = []
        size = 0
        while self._waiting and size < WRITE_BYTES:
            news = self._waiting.popleft()
            event = news.event
            self._revision = max(self._revision, event.revision)
            if event.type is EventType.INITIAL_STATE_END:
                self._begun = True
                if event.revision < self._since:
                    text = f"revision {self._since} has not happened: this store is at {event.revision}; list again"
                    self._error = Expired(text)
                    self._waiting.clear()
                    break
                if self._marks_end:
                    lines.append(self._bookmark({"k8s.io/initial-events-end": "true"}))
            elif event.object is not None:
                line = self._line_of(news)
                lines.append(line)
                size += len(line)
        return b"".join(lines)

    def _line_of(self, news: News) -> bytes:
        """The line of an event, which is the same for all who want it in the same form, but for a table's headings."""
        event = news.event
        headings, self._headings = self._headings, False
        if headings and self._call.accepted.form is Form.TABLE:
            return self._event(event.type.value, self._encode(event, headings=True))
        line = news.encoded.get(self._wants)
        if line is None:
            line = news.encoded[self._wants] = self._event(event.type.value, self._encode(event))
        return line

    def _encode(self, event: WatchEvent[Any], *, headings: bool = False) -> bytes:
        obj: Any = event.object
        if event.type is EventType.DELETED and obj.metadata.resourceVersion != str(event.revision):
            last = type(obj)()
            last.CopyFrom(obj)
            last.metadata.resourceVersion = str(event.revision)
            obj = last
        if event.type is not EventType.DELETED:
            return self._one(obj, headings=headings)
        # The object may live on, and be another one by now: what it was bears the version of what it became.
        self._call.forget(obj)
        try:
            return self._one(obj, headings=headings)
        finally:
            self._call.forget(obj)

    def _one(self, obj: Any, *, headings: bool) -> bytes:
        if self._call.accepted.form is not Form.TABLE:
            return self._call.one(obj)
        metadata = {"resourceVersion": obj.metadata.resourceVersion}
        return self._call.at(self._clock.wall()).table([obj], metadata, headings=headings)

    def _bookmark(self, annotations: Mapping[str, str] | None = None) -> bytes:
        row = self._call.target.resource
        if self._call.accepted.is_protobuf:
            marked = row.kind.message()
            marked.metadata.resourceVersion = str(self._revision)
            marked.metadata.annotations.update(annotations or {})
            return self._event("BOOKMARK", self._call.one(marked))
        metadata: dict[str, Any] = {"resourceVersion": str(self._revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = dict(annotations)
        shown: dict[str, Any] = {"kind": row.kind.name, "apiVersion": row.api_version, "metadata": metadata}
        if self._call.accepted.form is Form.METADATA:
            shown |= {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        if self._call.accepted.form is Form.TABLE:
            cells = {"cells": [], "object": {**shown, "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}}
            shown = {
                "kind": "Table",
                "apiVersion": f"meta.k8s.io/{self._call.accepted.version}",
                "metadata": metadata,
                "columnDefinitions": [],
                "rows": [cells],
            }
        return self._event("BOOKMARK", orjson.dumps(shown))

    def _event(self, word: str, obj: bytes) -> bytes:
        if self._call.accepted.is_protobuf:
            return protobuf.event(word, obj)
        return b'{"type":"%s","object":%s}\n' % (word.encode(), obj)
