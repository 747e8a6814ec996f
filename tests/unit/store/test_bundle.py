"""Many watches with one reader: each hears what it would alone, and what waits for the reader is bounded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Expired, Forbidden, Overloaded, StoreRewound, Unavailable
from cluster.store import bundle as bundles
from cluster.store.bundle import Bundle, Said
from cluster.store.memory import MemoryJournal
from cluster.store.store import Store, StoreSettings
from cluster.store.watchers import Interest
from tests.kit.clock import VirtualClock
from tests.kit.watch_validators import Recording, check, check_alone, matcher, selected
from tests.unit.store.rig import Script, Watching


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(MemoryJournal("s"), StoreSettings(ring_changes=50), VirtualClock())
    await store.start()
    yield store
    await store.stop()


class Reader:
    """Reads a bundle, message by message."""

    def __init__(self, store: Store) -> None:
        self.interrupted: list[ApiError] = []
        self.bundle: Bundle = store.bundle(self.interrupted.append)
        self.heard: dict[int, Recording] = {}
        self.errors: dict[int, ApiError] = {}
        self.messages: list[list[int]] = []

    def add(self, number: int, interest: Interest, after: int | None = None, *, state: bool = False) -> None:
        self.heard[number] = Recording(after, wants_state=state)
        self.bundle.add(number, interest, after=after, initial_state=state)

    async def take(self) -> list[Said]:
        """The next message; it is taken with the one after it."""
        async with asyncio.timeout(20):
            said = await self.bundle.next()
        self.messages.append([each.number for each in said])
        for number, batch, error in said:
            if error is not None:
                self.errors[number] = error
            else:
                assert batch is not None
                self.heard[number].add(batch)
        return said

    async def until(self, revision: int, *numbers: int) -> None:
        """Reads until these watches have heard of that revision."""
        heard = [self.heard[number] for number in numbers]
        while not all(each.batches and each.last_revision >= revision for each in heard):
            await self.take()
            self.bundle.taken()

    async def read(self, may_read: asyncio.Event) -> None:
        """Reads for ever, while it may."""
        while True:
            await may_read.wait()
            await self.take()
            await may_read.wait()
            self.bundle.taken()

    def names(self, number: int) -> list[str]:
        return [f"{event.type} {event.key.rpartition('/')[2]}" for event in self.heard[number].changes]


def node(number: int) -> Interest:
    return Interest("Pod", node=f"n{number}")


async def test_what_there_is_of_all_watches_comes_in_one_message(store: Store) -> None:
    reader, script = Reader(store), Script(store)
    for number in range(10):
        reader.add(number, node(number))
    await reader.until(0, *range(10))
    begun = len(reader.messages)
    await store.commit([script.change(f"p{number}", number + 1, node=f"n{number}") for number in range(10)])
    await reader.take()
    assert [sorted(message) for message in reader.messages[begun:]] == [list(range(10))]
    assert [reader.names(number) for number in (0, 9)] == [["ADDED p0"], ["ADDED p9"]]
    await reader.bundle.close()
    assert store.watchers == 0


async def test_one_that_may_not_be_and_one_that_ends_leave_the_others_alone(store: Store) -> None:
    reader, script = Reader(store), Script(store)
    reader.add(1, node(1))
    reader.bundle.refuse(2, Forbidden("no"))
    reader.bundle.add(3, node(3), after=0, store_id="another store")
    reader.add(4, node(4), after=99)
    while len(reader.errors) < 3 or not reader.heard[1].batches:
        await reader.take()
        reader.bundle.taken()
    assert {number: type(error) for number, error in reader.errors.items()} == {
        2: Forbidden,
        3: StoreRewound,
        4: StoreRewound,
    }
    assert len(reader.bundle) == 1
    await script.put("a", node="n1")
    await reader.until(1, 1)
    assert reader.names(1) == ["ADDED a"]
    await reader.bundle.close()


async def test_nothing_more_is_said_of_one_that_was_removed_at_any_moment(store: Store) -> None:
    reader, script = Reader(store), Script(store)
    await script.put("a", node="n1")
    reader.add(1, node(1), state=True)
    reader.bundle.remove(1)  # before its turn
    reader.add(2, node(1), state=True)
    await reader.take()
    reader.bundle.remove(2)  # while the reader takes its beginning
    reader.bundle.taken()
    reader.add(3, node(1))
    await reader.until(1, 3)
    await script.put("a", node="n1", app="x")
    reader.bundle.remove(3)  # with something to say
    reader.bundle.remove(3)
    reader.add(4, node(1))
    await reader.until(2, 4)
    assert [event.type for event in reader.heard[2].events] == ["ADDED", "INITIAL_STATE_END"]
    assert reader.names(3) == []
    await reader.bundle.close()
    await reader.bundle.close()
    assert (store.watchers, store._watchers.lanes, store._watchers.pending) == (0, 0, 0)


async def test_it_resumes_from_what_is_on_disk(store: Store) -> None:
    script = Script(store)
    for number in range(200):
        await script.put(f"p{number % 20}", node=f"n{number % 20}", app=str(number))
    assert store.ring.horizon > 20
    reader = Reader(store)
    for number in range(20):
        reader.add(number, node(number), after=0)
    await reader.until(200, *range(20))
    assert all(len(reader.heard[number].changes) == 10 for number in range(20))
    for recording in reader.heard.values():
        check_alone(recording)
    await reader.bundle.close()


async def test_a_reader_who_takes_nothing_loses_all_at_once(store: Store) -> None:
    reader, script = Reader(store), Script(store)
    clock = store._clock
    assert isinstance(clock, VirtualClock)
    reader.add(1, node(1))
    await reader.until(0, 1)
    await script.put("a", node="n1")
    await reader.take()  # and is not heard of again
    await clock.run_for(4.0)
    assert not reader.interrupted
    await clock.run_for(2.0)
    (error,) = reader.interrupted
    assert isinstance(error, Expired)
    assert "has taken nothing" in str(error)
    await reader.bundle.close()


async def test_beginnings_that_wait_for_the_reader_are_few(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "OPENERS", 3)
    monkeypatch.setattr(bundles, "MESSAGE_BYTES", 1)
    script = Script(store)
    await script.put("a", app="x" * 1000)
    reader = Reader(store)
    for number in range(10):
        reader.add(number, Interest("Pod"), state=True)
    await reader.take()
    for _ in range(20):
        await asyncio.sleep(0)
    assert sum(member.batch is not None for member in reader.bundle._members.values()) == 2
    assert store.watchers == 3
    reader.bundle.taken()
    await reader.until(1, *range(10))
    assert all(len(message) == 1 for message in reader.messages)
    await reader.bundle.close()


async def test_too_many_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MOST_WATCHES", 2)
    reader = Reader(store)
    reader.add(1, node(1))
    reader.add(2, node(2))
    with pytest.raises(Overloaded):
        reader.add(3, node(3))
    reader.bundle.remove(1)
    reader.add(3, node(3))
    await reader.bundle.close()


async def test_a_store_that_stops_ends_each_in_words(store: Store) -> None:
    reader = Reader(store)
    reader.add(1, node(1))
    await reader.until(0, 1)
    store.drain()
    reader.add(2, node(2))
    while len(reader.errors) < 2:
        await reader.take()
        reader.bundle.taken()
    assert all(isinstance(error, Unavailable) for error in reader.errors.values())
    reader.bundle.finish()
    assert await reader.take() == []


async def test_no_more_are_added_and_none_is_left(store: Store) -> None:
    reader = Reader(store)
    reader.add(1, node(1))
    await reader.until(0, 1)
    reader.bundle.finish()
    last = asyncio.ensure_future(reader.bundle.next())
    await asyncio.sleep(0)
    assert not last.done()
    reader.bundle.remove(1)
    assert await last == []
    reader.bundle.finish(Forbidden("out"))
    with pytest.raises(Forbidden):
        await reader.bundle.next()


@pytest.mark.parametrize("seed", range(20))
async def test_each_hears_what_it_would_alone(store: Store, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches that come, go and resume at random, beside one that hears everything."""
    rng = random.Random(seed)
    monkeypatch.setattr(bundles, "MESSAGE_BYTES", rng.choice([1, 300, 100_000]))
    monkeypatch.setattr(bundles, "OPENERS", rng.choice([1, 4]))
    everything = Watching(store.watch(Interest("Pod"), after=0), after=0)
    reader, script = Reader(store), Script(store)
    may_read = asyncio.Event()
    tasks = Tasks("test")
    tasks.spawn(reader.read(may_read), name="reader")
    nodes: dict[int, int] = {}
    for _ in range(300):
        match rng.randrange(6):
            case 0:
                number = len(nodes)
                nodes[number] = rng.randrange(4)
                after, state = rng.choice([(None, True), (rng.randint(0, store.revision), False)])
                reader.add(number, node(nodes[number]), after, state=state)
            case 1 if nodes and rng.random() < 0.5:
                reader.bundle.remove(rng.randrange(len(nodes)))
            case 2 | 3:
                name = f"p{rng.randrange(8)}"
                if rng.random() < 0.2 and store.get(script.change(name).key) is not None:
                    await script.delete(name)
                else:
                    await script.put(name, node=f"n{name[1:]}" if rng.random() < 0.9 else "", app=str(rng.random()))
            case 4:
                (may_read.clear if may_read.is_set() else may_read.set)()
            case _:
                for _ in range(rng.randrange(5)):
                    await asyncio.sleep(0)
    may_read.set()
    left = [number for number in nodes if number in reader.bundle]
    for number in range(4):
        await script.put(f"last-{number}", node=f"n{number}")
    async with asyncio.timeout(20):
        while not all(any("last" in event.key for event in reader.heard[number].events) for number in left):
            await asyncio.sleep(0)
    log = await everything.until(store.revision)
    for number, of in nodes.items():
        recording = reader.heard[number]
        check_alone(recording)
        if number in left:
            check(recording, selected(log, matcher("Pod", field_selector=f"spec.nodeName=n{of}")))
    await everything.close()
    await tasks.cancel_all()
    await reader.bundle.close()
    assert store.watchers == 0
