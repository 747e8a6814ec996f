"""Concurrent clients and watchers against masters that are being broken, and the verdict on what they were told.

    arena = Arena(lambda: [master.address], pki.admin, seed=7)
    await arena.start()
    ... break things ...
    print(await arena.verdict())        AssertionError, and the evidence in a file, if anything was not as promised

Clients (history_recorder.py) do and record operations on a few objects. Watchers follow the same objects: some see
everything, some select by a label that comes and goes, some break off all the time and resume, all of them resume after
the last revision when the connection breaks. The first that saw everything from the beginning has the log.

The verdict: everybody gets on again; both checkers over the operations; the watch guarantees over each watcher, against
the log; the log leads to what is there now, so no acknowledged write is lost; new watches from old revisions are told
the rest.
"""

from __future__ import annotations

import asyncio
import pickle
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cluster.actor.tasks import Tasks
from cluster.api.errors import DeadlineExceeded, Expired, Unavailable
from cluster.client import operations as ops
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials
from tests.kit.history_recorder import (
    COLOUR,
    ROUND,
    OneAttempt,
    RecordingClient,
    WithRetries,
    entries,
    held,
    page,
    tally,
)
from tests.kit.linearizability import check_rules
from tests.kit.recorded import Entry, Operation, Replay
from tests.kit.search_checker import GaveUp, check_by_search, settle
from tests.kit.watch_validators import Recording, Seen, check_alone, matcher, selected

R = TypeVar("R")
HEAL_S = 30.0
"""How long everything may take to be whole after the last fault."""
_PAUSE_S = 0.02


@dataclass
class Follower:
    """One watcher, over all the connections that it takes."""

    clients: Sequence[ClusterClient]
    selector: str
    rng: random.Random
    breaks_off: bool = False
    """Leaves its watch after a moment, and resumes, again and again."""
    recording: Recording = field(default_factory=Recording)
    finished: list[Recording] = field(default_factory=list)
    """What it had before it was told that what it missed is no longer kept (Expired), and read the state again."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    def __post_init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self.recording = Recording(matches=matcher("Pod", label_selector=self.selector), wants_state=True)
        self.begun.clear()

    async def run(self) -> None:
        at = self.rng.randrange(len(self.clients))
        while True:
            try:
                async with asyncio.timeout(self.rng.uniform(0.05, 1.0) if self.breaks_off else None):
                    await self._watch(self.clients[at % len(self.clients)])
            except TimeoutError:
                pass
            except Expired:
                self.finished.append(self.recording)
                self._renew()
            except (Unavailable, DeadlineExceeded):
                at += 1
                await asyncio.sleep(_PAUSE_S)
            if not self.begun.is_set():
                self.recording.batches.clear()

    async def _watch(self, client: ClusterClient) -> None:
        begun = self.begun.is_set()
        async with client.watch(
            core.Pod,
            label_selector=self.selector,
            after_revision=self.recording.last_revision if begun else None,
            initial_state=not begun,
        ) as batches:
            self.connections += 1
            async for batch in batches:
                self.recording.add_events(batch)
                if any(event.type.name == "INITIAL_STATE_END" for event in batch):
                    self.begun.set()

    async def until(self, revision: int, story: Callable[[], str]) -> None:
        """Returns when it has heard of a revision."""
        deadline = time.monotonic() + HEAL_S
        while not self.begun.is_set() or self.recording.last_revision < revision:
            if time.monotonic() > deadline:
                at = self.recording.last_revision
                raise AssertionError(f"a watch of {self.selector!r} stays at {at}, before {revision}\n{story()}")
            await asyncio.sleep(_PAUSE_S)


class Arena:
    """See the head of this file."""

    def __init__(
        self,
        addresses: Sequence[str],
        credentials: Credentials,
        seed: int,
        evidence: Path,
        *,
        clients: int = 8,
        keys: int = 6,
        pause_s: float = 0.0,
        story: Callable[[], str] = str,
    ) -> None:
        """`evidence`: a file for what was recorded, if the verdict is bad. `story`: what the masters say."""
        self._rng = random.Random(seed)
        self.seed = seed
        self._evidence = evidence
        self._story = story
        self._round = f"r{self._rng.randrange(10**9)}"
        self._everything = f"{ROUND}={self._round}"
        self._channels = [Channels(address, credentials) for address in addresses]
        self._clients: list[ClusterClient] = [GrpcClusterClient(address, credentials) for address in addresses]
        self._whole = GrpcClusterClient(",".join(addresses), credentials)
        """Of all masters; it repeats what one does not answer."""
        names = [f"{self._round}-{number}" for number in range(keys)]
        self.recorders: list[RecordingClient] = []
        for number in range(clients):
            once = OneAttempt(self._channels, number)
            door = WithRetries(self._whole, once) if number % 4 == 3 else once
            rng = random.Random(self._rng.random())
            self.recorders.append(RecordingClient(number, door, names, rng, round_=self._round, pause_s=pause_s))
        red = f"{self._everything},{COLOUR}=red"
        wishes = [
            (self._everything, False),
            (self._everything, False),
            (self._everything, True),
            (red, False),
            (red, True),
        ]
        self.followers = [Follower(self._clients, *self._with_dice(wish)) for wish in wishes]
        self._tasks = Tasks("arena")
        self._running: list[asyncio.Task[None]] = []
        self._stopping = False

    def _with_dice(self, wish: tuple[str, bool]) -> tuple[str, random.Random, bool]:
        return wish[0], random.Random(self._rng.random()), wish[1]

    @property
    def operations(self) -> list[Operation]:
        """What was recorded so far."""
        return [operation for recorder in self.recorders for operation in recorder.operations]

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged so far."""
        return sum(operation.writes and operation.revision > 0 for operation in self.operations)

    async def start(self) -> None:
        """Everybody begins; returns when all watches have."""
        for follower in self.followers:
            self._tasks.spawn(follower.run(), name="follower")
        async with asyncio.timeout(HEAL_S):
            for follower in self.followers:
                await follower.begun.wait()
        self._running = [self._tasks.spawn(one.run(lambda: self._stopping), name="client") for one in self.recorders]

    async def progress(self, writes: int, timeout_s: float = HEAL_S) -> None:
        """Returns when that many more writes were acknowledged."""
        goal, deadline = self.acknowledged + writes, time.monotonic() + timeout_s
        while self.acknowledged < goal:
            assert time.monotonic() < deadline, f"writes stand still at {self.acknowledged}\n{self._story()}"
            self._raise()
            await asyncio.sleep(_PAUSE_S)

    def _raise(self) -> None:
        for task in self._running:
            if task.done():
                task.result()

    async def verdict(self) -> str:
        """Ends everything and judges it; nothing may be broken any more. In a few words: what was judged."""
        try:
            await self.progress(20)
            self._stopping = True
            async with asyncio.timeout(HEAL_S):
                await asyncio.gather(*self._running)
            last = page(f"{self._round}-last", "", "red", "over")
            # What was not answered may be on its way; this comes after what has arrived.
            await self._patiently(lambda client: client.write([ops.create(last)], timeout_s=2.0))
            selector = self._everything
            listed = await self._patiently(lambda client: client.list(core.Pod, label_selector=selector, timeout_s=2.0))
            for follower in self.followers:
                await follower.until(listed.revision, self._story)
            resumed = [await self._resume(listed.revision) for _ in range(4)]
        finally:
            await self.close()
        log = self._log()
        try:
            return self._judge(
                entries(log), log, {pod.metadata.name: held(pod) for pod in listed.items}, listed.revision, resumed
            )
        except AssertionError as error:
            self._evidence.write_bytes(pickle.dumps((self.operations, entries(log))))
            self._evidence.with_suffix(".watches").write_text(self._watched())
            told = f"seed {self.seed}; judge again: python -m tests.kit.judge {self._evidence}"
            raise AssertionError(f"{error}\n{told}\n{self._story()}") from error

    def _watched(self) -> str:
        """What each watcher was told, batch by batch."""
        recordings = [one for follower in self.followers for one in (*follower.finished, follower.recording)]
        return "\n\n".join(
            "\n".join(
                " ".join(f"{e.type}@{e.revision}:{e.key.rpartition('-')[2]}" for e in batch) for batch in one.batches
            )
            for one in recordings
        )

    def _log(self) -> Recording:
        whole = [f.recording for f in self.followers if f.selector == self._everything and not f.finished]
        assert whole, "no watcher has seen everything: more was forgotten than this test allows for"
        return whole[0]

    def _judge(
        self, log: list[Entry], everything: Recording, there: dict[str, object], revision: int, resumed: list[Recording]
    ) -> str:
        begun = everything.begin or 0
        check_rules(self.operations, log, begun)
        try:
            tried = f"{check_by_search(settle(self.operations, log))} states searched"
        except GaveUp as error:
            tried = f"the search gave up: {error}"
        assert Replay.of(log).all_at(revision) == there, f"the log leads to another state than {there}"
        recordings = [one for follower in self.followers for one in (*follower.finished, follower.recording)]
        for recording in [*recordings, *resumed]:
            check_alone(recording)
            if recording.matches is not None:
                _compare(recording, selected(everything, recording.matches), everything)
        connections = sum(follower.connections for follower in self.followers)
        events = sum(len(recording.changes) for recording in recordings)
        relisted = sum(len(follower.finished) for follower in self.followers)
        return (
            f"{tally(self.operations)}; {len(log)} changes; {tried}; {len(recordings)} watches over {connections} "
            f"connections heard {events} events, {relisted} had to list again"
        )

    async def _resume(self, until: int) -> Recording:
        """A new watch, after a revision that somebody has seen; from the beginning if that is no longer kept."""
        seen = [event.revision for event in self.followers[0].recording.events]
        selector = self._rng.choice([follower.selector for follower in self.followers])
        matches = matcher("Pod", label_selector=selector)

        async def watch(client: ClusterClient) -> Recording:
            recording = Recording(self._rng.choice(seen), matches=matches)
            try:
                async with client.watch(core.Pod, label_selector=selector, after_revision=recording.after) as batches:
                    while recording.last_revision < until:
                        recording.add_events(await anext(batches))
            except Expired:
                pass
            return recording

        return await self._patiently(watch)

    async def _patiently(self, call: Callable[[ClusterClient], Awaitable[R]]) -> R:
        """The answer of a call that may be repeated, by whichever master answers."""
        deadline, at = time.monotonic() + HEAL_S, 0
        while True:
            try:
                return await call(self._clients[at % len(self._clients)])
            except (Unavailable, DeadlineExceeded) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"not whole after {HEAL_S:g} s: {error}\n{self._story()}") from error
                at += 1
                await asyncio.sleep(_PAUSE_S)

    async def close(self) -> None:
        """Ends clients and watches. Twice is fine."""
        self._stopping = True
        await self._tasks.cancel_all()
        for client in (*self._clients, self._whole):
            await client.close()
        for channels in self._channels:
            await channels.close()


def _compare(recording: Recording, log: Sequence[Seen], everything: Recording) -> None:
    """Over the revisions that both cover, they say the same."""
    first = max(recording.begin or 0, everything.begin or 0)
    last = min(recording.last_revision, everything.last_revision)
    told, wanted = ([e for e in events if first < e.revision <= last] for events in (recording.changes, log))
    if told != wanted:
        missing = [event for event in wanted if event not in set(told)]
        extra = [event for event in told if event not in set(wanted)]
        raise AssertionError(f"reliable: a watch from {first} to {last} misses {missing}, and has {extra} besides")
