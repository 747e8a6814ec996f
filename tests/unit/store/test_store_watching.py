"""Slow readers, many watchers, and what they cost; a watch over a store that reads everything anew."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from cluster.api.errors import ApiError, Expired
from cluster.pb.v1.cluster_pb2 import WatchBatch
from cluster.store.memory import MemoryJournal
from cluster.store.store import Store, StoreSettings
from cluster.store.version import Change, Record
from cluster.store.watchers import Interest
from tests.kit.clock import VirtualClock
from tests.unit.store.rig import Script


class Stalled:
    """A reader who takes the first batch and never asks for the next."""

    def __init__(self, store: Store, interest: Interest, after: int | None = None, initial_state: bool = False) -> None:
        self.error: ApiError | None = None
        self.batches = store.watch(interest, after=after, initial_state=initial_state, interrupt=self.interrupt)

    def interrupt(self, error: ApiError) -> None:
        self.error = error

    def is_closed(self) -> bool:
        return isinstance(self.error, Expired)

    async def take(self, count: int = 1) -> None:
        for _ in range(count):
            await anext(self.batches)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(MemoryJournal("s"), StoreSettings(ring_changes=500), VirtualClock())
    await store.start()
    yield store
    await store.stop()


def clock_of(store: Store) -> VirtualClock:
    clock = store._clock
    assert isinstance(clock, VirtualClock)
    return clock


async def fill(store: Store, count: int, size: int = 10) -> None:
    script = Script(store)
    for number in range(count):
        await script.put(f"p{number % size}", app="x" * 1000)


async def test_a_reader_who_takes_nothing_is_closed_within_five_seconds(store: Store) -> None:
    stalled = Stalled(store, Interest("Pod"))
    await stalled.take()  # the bookmark at 0, taken when it asks for the next
    await fill(store, 3)
    await stalled.take()  # is handed 1..3, and not heard of again
    clock = clock_of(store)
    await clock.run_for(4.0)
    assert not stalled.is_closed()
    await clock.run_for(1.0)
    assert stalled.is_closed()
    assert "has taken nothing for" in str(stalled.error)
    with pytest.raises(Expired):
        await anext(stalled.batches)
    assert store.watchers == 0


async def test_the_error_says_from_where_to_resume(store: Store) -> None:
    stalled = Stalled(store, Interest("Pod"))
    await stalled.take()
    for _ in range(2):
        await fill(store, 2)
        await stalled.take()
    await clock_of(store).run_for(6.0)
    assert stalled.error is not None
    assert stalled.error.last_revision == 2, "3 and 4 were handed over, but perhaps did not arrive"
    await stalled.batches.aclose()
    resumed = Stalled(store, Interest("Pod"), after=2)
    await resumed.take()
    await resumed.batches.aclose()


@pytest.mark.parametrize("phase", ["history", "initial state"])
async def test_a_reader_is_timed_from_the_first_batch_on(store: Store, phase: str) -> None:
    await fill(store, 2000, size=1000)
    if phase == "history":
        stalled = Stalled(store, Interest("Pod"), after=0)
    else:
        stalled = Stalled(store, Interest("Pod"), initial_state=True)
    await stalled.take()
    await clock_of(store).run_for(6.0)
    assert isinstance(stalled.error, Expired)
    assert stalled.error.last_revision == 0, "it has nothing whole to resume from"
    await stalled.batches.aclose()
    assert (store.watchers, store._watchers.pending, store.history._pins) == (0, 0, {})


async def test_memory_stays_flat_under_readers_who_do_not_read(store: Store) -> None:
    """A hundred and fifty stalled readers, ten thousand events: what the ring holds is all that is kept."""
    interests = [Interest("Pod"), Interest("Pod", "default"), *(Interest("Pod", node=f"n{n}") for n in range(10))]
    clock = clock_of(store)
    readers: list[Stalled] = []
    alive: list[int] = []
    for _ in range(10):
        for number in range(15):
            stalled = Stalled(store, interests[number % len(interests)])
            await stalled.take()
            readers.append(stalled)
        await fill(store, 1000)
        await clock.run_for(6.0)
        for stalled in readers[-15:]:
            if stalled.error is None:
                await stalled.take()
        gc.collect()
        alive.append(sum(isinstance(thing, Change) for thing in gc.get_objects()))
    assert max(alive) <= 600, f"changes that are kept, after every 1,000: {alive}"
    lanes = store._watchers._lanes.values()
    assert sum(len(lane._entries) for lane in lanes) <= 3 * 500
    for stalled in readers:
        await stalled.batches.aclose()
    assert (store.watchers, store._watchers.lanes) == (0, 0)


class Counting(MemoryJournal):
    """Notes what was read of the log, and lets time go by meanwhile."""

    clock: VirtualClock

    def __init__(self) -> None:
        super().__init__("s")
        self.kinds: list[str] = []

    async def read(self, after: int, limit: int, kind: str = "") -> Sequence[tuple[Record, Record | None]]:
        self.kinds.append(kind)
        found = await super().read(after, limit, kind)
        await self.clock.run_for(7.0)
        return found


async def test_who_was_away_for_long_reads_its_own_kind_only_and_is_told_how_far_it_is() -> None:
    journal, clock = Counting(), VirtualClock()
    journal.clock = clock
    store = Store(journal, StoreSettings(ring_changes=10), clock)
    await store.start()
    await fill(store, 1200)
    absent = Interest("Pod", node="nowhere")
    for interest, bookmarks in ((Interest("Service"), [1200]), (absent, [501, 1001, 1200, 1200])):
        journal.kinds.clear()
        batches, said = store.watch(interest, after=1), list[WatchBatch]()
        for _ in bookmarks:
            said.append(WatchBatch.FromString(await anext(batches)))
        await batches.aclose()
        assert set(journal.kinds) == {interest.kind}
        assert [[event.revision for event in batch.events] for batch in said] == [[number] for number in bookmarks]
    await store.stop()


async def test_five_thousand_idle_watchers_get_their_bookmarks_in_time_and_not_all_at_once(store: Store) -> None:
    clock = clock_of(store)
    heard: dict[int, list[float]] = {number: [] for number in range(5000)}

    async def read(number: int, batches: AsyncGenerator[bytes, None]) -> None:
        async for _ in batches:
            heard[number].append(clock.monotonic())

    began = clock.monotonic()
    readers = [
        asyncio.create_task(read(number, store.watch(Interest("Pod", node=f"n{number}")))) for number in range(5000)
    ]
    await clock.run_for(31.0, settle=3)
    for times in heard.values():
        assert times[0] == began
        pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert max(pauses) <= 12.0, "clients give up after 15 s"
    moments = [moment for times in heard.values() for moment in times[1:]]
    busiest = max(moments.count(moment) for moment in set(moments))
    assert busiest <= 1000, f"{busiest} bookmarks at the same moment"
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert store.watchers == 0
