"""The call History: what became of one object, change by change, newest first.

It is read from the log, so it goes back as far as the log is kept, and it knows objects that are gone. Every entry says
what changed against the version before it, and what made the writer write. Secret values have words in their place.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from cluster.api.errors import BadRequest, NotFound
from cluster.api.kinds import wrap
from cluster.api.meta import Key, called, to_time
from cluster.api.secrets import hide_object
from cluster.master.lineage import MODIFIED, Step, field_changes
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.store.requests import Requests
from cluster.store.version import Record, Version

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_BYTES = 2 * 1024 * 1024
"""An answer that has become this large ends; `until_revision` asks for what is before."""
PIECE = 100
"""Changes that are read from the log in one go."""


class Past(Protocol):
    """What is asked of the store; see `cluster.store.store.Store`."""

    @property
    def store_id(self) -> str: ...

    @property
    def revision(self) -> int: ...

    @property
    def oldest(self) -> int: ...

    @property
    def requests(self) -> Requests: ...

    async def barrier(self) -> None: ...

    async def reach(self, revision: int) -> None: ...

    def get(self, key: Key) -> Version | None: ...

    async def read_key(self, key: Key, until: int, limit: int) -> Sequence[Record]: ...


async def steps(past: Past, key: Key, until: int) -> AsyncGenerator[Step, None]:
    """Every kept change of an object up to a revision, newest first. What is compacted may show as one."""
    newer: Record | None = None
    while True:
        records = await past.read_key(key, until, PIECE)
        for record in records:
            if newer is not None:
                yield Step(newer, record)
            newer = record
        if len(records) < PIECE:
            break
        until = records[-1].revision - 1
    if newer is not None:
        yield Step(newer, None)


async def history(past: Past, key: Key, request: wire.HistoryRequest, secret: bytes) -> wire.HistoryResponse:
    """Carries out the call; `secret` is the key of the words for hidden values. Raises NotFound, BadRequest.

    NotFound: nothing at all is kept of an object of that name. If it exists, but has not changed in the range that was
    asked for, the answer has no entries.
    """
    if request.limit < 0:
        raise BadRequest(f"limit must not be negative, but is {request.limit}")
    limit = min(request.limit or DEFAULT_LIMIT, MAX_LIMIT)
    head = past.revision
    until = min(request.until_revision, head) if request.HasField("until_revision") else head
    response = wire.HistoryResponse(oldest_revision=past.oldest, revision=head, store_id=past.store_id)
    size, any_kept = 0, False
    async with aclosing(steps(past, key, until)) as found:
        async for step in found:
            any_kept = True
            if step.revision <= request.after_revision or len(response.entries) == limit or size > MAX_BYTES:
                break
            if request.without_status and step.only_status:
                continue
            entry = entry_of(step, secret)
            size += entry.ByteSize()
            response.entries.append(entry)
    if not any_kept and not await past.read_key(key, head, 1):
        raise NotFound(f"{called(key)} not found, and nothing of it is kept in the history")
    return response


def entry_of(step: Step, secret: bytes) -> wire.HistoryEntry:
    """A step as it is told. What an object was made with, and what went with it, is in `object`, not in `changes`."""
    entry = wire.HistoryEntry(
        type=step.type,
        revision=step.revision,
        time=to_time(step.record.time_s),
        actor=step.actor,
        object=wrap(hide_object(step.object, secret)),
    )
    if step.object.metadata.HasField("cause"):
        entry.cause.CopyFrom(step.cause)
    if step.type == MODIFIED and step.is_known:
        entry.changes.extend(field_changes(step.before, step.object, secret))
    return entry
