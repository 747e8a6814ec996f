"""Every end-to-end test is watched: watchers of each kind, with selectors and without, record what they are told.

They are clients like any other: when the master goes away they resume after the last revision that they saw. In the end
each recording must keep the watch guarantees by itself (tests/kit/watch_validators.py). What two watchers of everything
were told must be the same over the revisions that both cover, and what a watcher with a selector was told must be what
follows from that: entered, changed, left. If the master is still there, a new watch that begins after a revision in the
middle must be told the rest.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Expired
from cluster.api.kinds import KINDS, Kind
from cluster.client.interface import ClusterClient
from cluster.testing import Cluster
from tests.kit.watch_validators import Recording, Seen, check_alone, matcher, selected

_PAUSE_S = 0.05
_BEGIN_S = 20.0
_RESUME_S = 5.0
SELECTIONS: dict[str, tuple[dict[str, str], ...]] = {
    "Pod": ({"field_selector": "status.phase=Running"}, {"label_selector": "app"}, {"namespace": "default"}),
    "Event": ({"field_selector": "type=Normal"},),
}
"""Watched besides everything, by kind."""


@dataclass(slots=True)
class _Watched:
    kind: Kind
    selection: dict[str, Any]
    recording: Recording
    begun: asyncio.Event


class WatchedCluster:
    """Records a cluster's watches between `start` and `check`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._watches = [
            _Watched(kind, selection, _recording(kind, selection), asyncio.Event())
            for kind in KINDS
            for selection in ({}, {}, *SELECTIONS.get(kind.name, ()))
        ]
        self._resumed: list[tuple[Kind, Recording]] = []
        self._tasks = Tasks("recording watchers")

    def start(self) -> None:
        """Returns when every watch has begun."""
        self._cluster.run(self._start, timeout_s=_BEGIN_S + 5.0)

    async def _start(self, client: ClusterClient) -> None:
        for watched in self._watches:
            self._tasks.spawn(self._follow(client, watched), name=f"watch {watched.kind.plural}")
        async with asyncio.timeout(_BEGIN_S):
            for watched in self._watches:
                await watched.begun.wait()

    async def _follow(self, client: ClusterClient, watched: _Watched) -> None:
        """Watches and resumes until the history that it would need is gone."""
        recording, begun = watched.recording, watched.begun
        while True:
            try:
                async with client.watch(
                    watched.kind.message,
                    after_revision=recording.last_revision if begun.is_set() else None,
                    initial_state=not begun.is_set(),
                    **watched.selection,
                ) as batches:
                    async for batch in batches:
                        recording.add_events(batch)
                        if any(event.type.name == "INITIAL_STATE_END" for event in batch):
                            begun.set()
            except Expired:
                return
            except ApiError:
                if not begun.is_set():
                    recording.batches.clear()
                await asyncio.sleep(_PAUSE_S)

    def stop(self) -> None:
        """Resumes from the middle once more, if the master is there, and ends the watches."""

        async def stop(client: ClusterClient) -> None:
            try:
                async with asyncio.timeout(_RESUME_S):
                    for watched in self._watches:
                        if watched.recording.changes and not watched.selection:
                            await self._resume(client, watched)
            except (ApiError, TimeoutError):
                pass  # the test has stopped the cluster, or left it without a master
            finally:
                await self._tasks.cancel_all()

        self._cluster.run(stop)

    async def _resume(self, client: ClusterClient, watched: _Watched) -> None:
        changes = watched.recording.changes
        recording = Recording(after=random.choice(changes).revision)
        async with client.watch(watched.kind.message, after_revision=recording.after) as batches:
            async for batch in batches:
                recording.add_events(batch)
                if recording.last_revision >= changes[-1].revision:
                    break
        self._resumed.append((watched.kind, recording))

    def check(self) -> None:
        """Raises AssertionError with the guarantee that was broken."""
        for watched in self._watches:
            assert watched.begun.is_set(), f"nothing was recorded of {watched.kind.plural}"
            check_alone(watched.recording)
        for kind in KINDS:
            of_kind = [watched for watched in self._watches if watched.kind is kind]
            everything = of_kind[0].recording
            others = [(watched.recording, watched.selection) for watched in of_kind[1:]]
            others += [(recording, {}) for resumed, recording in self._resumed if resumed is kind]
            for recording, selection in others:
                check_alone(recording)
                log = selected(everything, matcher(kind.name, **selection)) if selection else everything.changes
                _compare(f"{kind.plural} {selection or ''}", recording, log, everything)


def _compare(what: str, recording: Recording, log: list[Seen], everything: Recording) -> None:
    """Over the revisions that both cover, they say the same."""
    first = max(recording.begin or 0, everything.begin or 0)
    last = min(recording.last_revision, everything.last_revision)
    told, wanted = ([e for e in events if first < e.revision <= last] for events in (recording.changes, log))
    missing = [event for event in wanted if event not in set(told)]
    extra = [event for event in told if event not in set(wanted)]
    assert told == wanted, (
        f"reliable: a watch of {what} from {first} to {last} misses {missing}, and has {extra} besides"
    )


def _recording(kind: Kind, selection: dict[str, str]) -> Recording:
    return Recording(matches=matcher(kind.name, **selection), wants_state=True)
