"""A client whose watches are all recorded, and held against the guarantees when the test is over.

recorder = WatchRecorder(client)
... use recorder.client like any other ...
await recorder.check()      each watch by itself, and against the log: a quiet watch from the store's beginning,
                            itself held against what a list shows in the end
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from cluster.api.errors import Expired
from cluster.api.kinds import AnyObject, Kind, kind_of_type
from cluster.api.meta import key_of, revision_of
from cluster.client.interface import ClusterClient, WatchEvent, WatchStream
from tests.kit.watch_validators import Matcher, Recording, check, check_alone, matcher, selected

PATIENCE_S = 20.0
Selection = tuple[str, str, str]
"""Namespace, label selector, field selector."""


class WatchRecorder:
    """See the head of this file."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._recordings: list[tuple[Kind, Matcher, Recording]] = []

    @property
    def client(self) -> ClusterClient:
        """What `client` is, with an ear on its watches."""
        return cast(ClusterClient, _Recorded(self._client, self))

    @property
    def recordings(self) -> list[Recording]:
        """One for each watch that was opened."""
        return [recording for _, _, recording in self._recordings]

    def begin(self, kind: type[AnyObject], after: int | None, state: bool, selection: Selection) -> Recording:
        """A recording for a watch that is being opened."""
        row = kind_of_type(kind)
        matches = matcher(row.name, *selection)
        recording = Recording(after, matches=matches, wants_state=state)
        self._recordings.append((row, matches, recording))
        return recording

    async def check(self) -> None:
        """Raises AssertionError with the guarantee that was broken."""
        for recording in self.recordings:
            check_alone(recording)
        for kind in {row.name: row for row, _, recording in self._recordings if recording.events}.values():
            log = await quiet_log(self._client, kind.message)
            for row, matches, recording in self._recordings:
                if log is not None and row is kind:
                    check(recording, selected(log, matches))


async def quiet_log(client: ClusterClient, kind: type[AnyObject]) -> Recording | None:
    """All that ever happened to a kind, up to now, and it leads to what is there now. None: it is no longer kept.

    Raises AssertionError if that watch breaks a guarantee itself.
    """
    listed = await client.list(kind)
    recording = Recording(after=0)
    try:
        async with asyncio.timeout(PATIENCE_S), client.watch(kind, after_revision=0) as batches:
            while recording.last_revision < listed.revision:
                recording.add_events(await anext(batches))
    except Expired:
        return None
    check_alone(recording)
    there = {event.key: event.revision for event in recording.changes if event.revision <= listed.revision}
    gone = {
        event.key for event in recording.changes if event.type == "DELETED" and there.get(event.key) == event.revision
    }
    found = {str(key_of(item)): revision_of(item) for item in listed.items}
    folded = {key: revision for key, revision in there.items() if key not in gone}
    assert found == folded, f"the log of {kind.__name__} leads to {folded}, and there is {found}"
    return recording


class _Recorded:
    def __init__(self, client: ClusterClient, recorder: WatchRecorder) -> None:
        self._client = client
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def watch(
        self,
        kind: type[AnyObject],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        after_revision: int | None = None,
        initial_state: bool = False,
        **others: Any,
    ) -> AbstractAsyncContextManager[WatchStream[Any]]:
        stream = self._client.watch(
            kind,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            after_revision=after_revision,
            initial_state=initial_state,
            **others,
        )
        selection = (namespace, label_selector, field_selector)
        return self._watch(stream, lambda: self._recorder.begin(kind, after_revision, initial_state, selection))

    @asynccontextmanager
    async def _watch(
        self, opened: AbstractAsyncContextManager[WatchStream[Any]], begin: Callable[[], Recording]
    ) -> AsyncIterator[WatchStream[Any]]:
        async with opened as stream:
            yield _RecordedStream(stream, begin)


class _RecordedStream:
    """Begins its recording with the first batch: a watch that is refused has nothing to record."""

    def __init__(self, stream: WatchStream[Any], begin: Callable[[], Recording]) -> None:
        self._stream = stream
        self._begin = begin
        self._recording: Recording | None = None

    @property
    def store_id(self) -> str:
        return self._stream.store_id

    def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent[Any]]]:
        return self

    async def __anext__(self) -> Sequence[WatchEvent[Any]]:
        batch = await anext(self._stream)
        if self._recording is None:
            self._recording = self._begin()
        self._recording.add_events(batch)
        return batch
