"""Every end-to-end test is watched: two watchers of each kind record what they are told.

They are clients like any other: when the master goes away they resume after the last revision that they saw. In the end
each recording must keep the watch guarantees by itself (ordered, unique, atomic, bookmarkable), and over the revisions
that both cover, the two must have been told the same, with nothing left out (reliable, resumable).
"""

from __future__ import annotations

import asyncio

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Expired
from cluster.api.kinds import KINDS, Kind
from cluster.client.interface import ClusterClient
from cluster.testing import Cluster
from tests.kit.watch_validators import Recording, atomic, bookmarkable, ordered_and_unique

_PAUSE_S = 0.05


class WatchedCluster:
    """Records a cluster's watches between `start` and `check`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._recordings = {kind.name: (Recording(), Recording()) for kind in KINDS}
        self._over: set[int] = set()
        self._tasks = Tasks("recording watchers")

    def start(self) -> None:
        """Begins to watch."""
        self._cluster.run(self._start)

    async def _start(self, client: ClusterClient) -> None:
        for kind in KINDS:
            for recording in self._recordings[kind.name]:
                self._tasks.spawn(self._follow(client, kind, recording), name=f"watch {kind.plural}")

    async def _follow(self, client: ClusterClient, kind: Kind, recording: Recording) -> None:
        """Watches and resumes until the history that it would need is gone."""
        begun = False
        while True:
            try:
                async with client.watch(
                    kind.message,
                    after_revision=recording.last_revision if begun else None,
                    initial_state=not begun,
                ) as batches:
                    async for batch in batches:
                        recording.add_events(batch)
                        begun = begun or any(event.type.name == "INITIAL_STATE_END" for event in batch)
            except Expired:
                return
            except ApiError:
                if not begun:
                    recording.batches.clear()
                await asyncio.sleep(_PAUSE_S)

    def stop(self) -> None:
        """Ends the watches."""

        async def stop(_: ClusterClient) -> None:
            await self._tasks.cancel_all()

        self._cluster.run(stop)

    def check(self) -> None:
        """Raises AssertionError with the guarantee that was broken."""
        for kind, (one, other) in self._recordings.items():
            for recording in (one, other):
                ordered_and_unique(recording)
                atomic(recording)
                bookmarkable(recording)
            first = max(_begin(one), _begin(other))
            last = min(one.last_revision, other.last_revision)
            told = [[e for e in r.changes if first < e.revision <= last] for r in (one, other)]
            assert told[0] == told[1], f"reliable: two watches of {kind} differ: {told[0]} and {told[1]}"


def _begin(recording: Recording) -> int:
    """The revision of the initial state."""
    ends = [event.revision for event in recording.events if event.type == "INITIAL_STATE_END"]
    return ends[0] if ends else recording.last_revision
