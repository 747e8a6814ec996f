"""Readers that share a watch are told what each would be told alone, whoever comes, goes or breaks, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.actor.clock import SystemClock
from cluster.api.errors import ApiError, Expired, Unavailable
from cluster.client.interface import EventType, WatchEvent, WatchListener
from cluster.kubernetes.sharing import Hub, News, Wish
from cluster.pb.v1 import core_pb2 as core

STORE = "store-1"
STEPS = ["write", "write", "tell", "tell", "tell", "join", "leave", "break", "rest"]


def change(revision: int, name: str) -> WatchEvent[core.Pod]:
    return WatchEvent(EventType.MODIFIED, revision, core.Pod(metadata=core.ObjectMeta(name=name)))


class Listen:
    """One watch at the master: it knows all up to a revision."""

    def __init__(self, master: Master, listener: WatchListener[Any], since: int | None) -> None:
        self.master, self.listener = master, listener
        self.initial = since is None
        self.told = since or 0

    def tell(self, until: int) -> None:
        """What happened up to there, or that nothing did."""
        batch: list[WatchEvent[Any]] = []
        if self.initial:
            self.initial, until = False, self.master.revision
            batch = [WatchEvent(EventType.ADDED, 1, core.Pod()), WatchEvent(EventType.INITIAL_STATE_END, until, None)]
        else:
            batch += [event for event in self.master.log if self.told < event.revision <= until]
        if not batch:
            batch = [WatchEvent(EventType.BOOKMARK, until, None)]
        self.told = until
        self.listener.heard(batch, STORE)

    def end(self, error: ApiError) -> None:
        self.master.listens.remove(self)
        self.listener.ended(error)


class Master:
    """A client, the master behind it, and the streams between them, of which each is as late as the test wants."""

    def __init__(self) -> None:
        self.log: list[WatchEvent[core.Pod]] = []
        self.revision = 10
        self.listens: list[Listen] = []
        self.begun = 0

    def write(self, count: int) -> None:
        """So many changes at one revision; with 0, of something else."""
        self.revision += 1
        self.log += [change(self.revision, f"{self.revision}-{number}") for number in range(count)]

    def listen(
        self, kind: Any, listener: WatchListener[Any], namespace: str = "", *, after_revision: int | None, **_: Any
    ) -> Callable[[], None]:
        listen = Listen(self, listener, after_revision)
        self.listens.append(listen)
        self.begun += 1

        def end() -> None:
            if listen in self.listens:
                self.listens.remove(listen)

        return end


class Told:
    """A reader, and what it should have been told."""

    def __init__(self, master: Master, hub: Hub, since: int | None) -> None:
        self.master = master
        self.since = since
        self.names: list[str] = []
        self.position = since or 0
        self.begun = since is not None
        self.unread = False
        self.errors: list[ApiError] = []
        client: Any = master
        self.leave = hub.join(client, Wish(core.Pod), self, since=since)

    def heard(self, news: Sequence[News]) -> None:
        assert not self.errors
        self.unread = True
        for each in news:
            event = each.event
            if event.type is EventType.INITIAL_STATE_END:
                assert not self.begun
                self.begun, self.since, self.position = True, event.revision, event.revision
            elif self.begun:
                assert event.revision >= self.position, "back in time"
                self.position = event.revision
                if event.object is not None:
                    self.names.append(event.object.metadata.name)

    def wake(self) -> None:
        self.unread = False

    def ended(self, error: ApiError) -> None:
        self.errors.append(error)
        self.unread = False

    def check(self) -> None:
        """Neither a gap nor a repetition."""
        since = self.since
        if self.begun and since is not None:
            expected = [event for event in self.master.log if since < event.revision <= self.position]
            assert self.names == [event.object.metadata.name for event in expected if event.object is not None]


async def wakes(readers: list[Told]) -> None:
    """Who was told something is woken, by and by."""
    async with asyncio.timeout(20):
        while any(reader.unread for reader in readers):
            await asyncio.sleep(0)


@given(st.data())
@settings(max_examples=300)
def test_whatever_the_order_of_things(data: st.DataObject) -> None:
    async def story() -> None:
        master, hub = Master(), Hub(SystemClock())
        readers: list[Told] = []
        gone: list[Told] = []
        for _ in range(data.draw(st.integers(1, 40))):
            does = data.draw(
                st.sampled_from(["write", "write", "tell", "tell", "tell", "join", "leave", "break", "rest"])
            )
            if does == "write":
                master.write(data.draw(st.integers(0, 2)))
            elif does == "join":
                newest = master.revision
                since = data.draw(st.one_of(st.none(), st.integers(max(5, newest - 5), newest)))
                readers.append(Told(master, hub, since))
            elif does == "rest":
                await asyncio.sleep(0)
            elif does == "tell" and master.listens:
                listen = data.draw(st.sampled_from(master.listens))
                if listen.told <= master.revision:
                    listen.tell(data.draw(st.integers(listen.told, master.revision)))
            elif does == "break" and master.listens:
                data.draw(st.sampled_from(master.listens)).end(Unavailable("broken"))
            elif does == "leave" and readers:
                leaves = readers.pop(data.draw(st.integers(0, len(readers) - 1)))
                leaves.leave()
                leaves.leave()
                gone.append(leaves)
        for reader in readers:
            assert len(reader.errors) <= 1
            reader.check()
        alone = [(reader, list(reader.names)) for reader in gone]
        for _ in range(3):  # at the end all are told all
            for listen in list(master.listens):
                if listen in master.listens:
                    listen.tell(master.revision)
        alive = [reader for reader in readers if not reader.errors]
        await wakes(alive)
        for reader in alive:
            assert reader.begun
            assert reader.position == master.revision
            reader.check()
        assert all(reader.names == names for reader, names in alone), "who has left hears nothing more"
        assert len(master.listens) == (1 if alive else 0), "one watch is left for all of them"
        for reader in alive:
            reader.leave()
        assert not master.listens
        assert not hub._common
        assert not hub._sources

    asyncio.run(story())


async def test_each_event_of_readers_that_share_is_the_same_object() -> None:
    master, hub = Master(), Hub(SystemClock())
    heard: list[News] = []

    class Keeps(Told):
        def heard(self, news: Sequence[News]) -> None:
            super().heard(news)
            heard.extend(news)

    readers = [Keeps(master, hub, 10) for _ in range(3)]
    master.write(1)
    for listen in list(master.listens):
        listen.tell(master.revision)
    assert len(master.listens) == 1
    heard.clear()
    master.write(1)
    master.listens[0].tell(master.revision)
    assert len(heard) == 3
    assert len({id(news) for news in heard}) == 1
    await wakes(list(readers))


async def test_another_wish_another_client_or_another_store_is_not_shared(monkeypatch: Any) -> None:
    master, other, hub = Master(), Master(), Hub(SystemClock())
    first, second = Told(master, hub, 10), Told(other, hub, 10)
    third = Told.__new__(Told)
    client: Any = master
    third.master, third.since, third.names, third.position, third.begun, third.errors = master, 10, [], 10, True, []
    third.leave = hub.join(client, Wish(core.Pod, label_selector="a=b"), third, since=10)
    master.write(1)
    other.write(1)
    for listen in (*master.listens, *other.listens):
        listen.tell(11)
    assert (len(master.listens), len(other.listens)) == (2, 1)
    fourth = Told(master, hub, 10)
    monkeypatch.setattr("tests.unit.kubernetes.test_sharing.STORE", "store-2")
    master.listens[-1].tell(11)
    assert len(master.listens) == 3, "revisions of two stores cannot be compared"
    for reader in (first, second, third, fourth):
        assert reader.names == ["11-0"]


async def test_what_a_master_says_about_the_beginning_is_said_to_that_reader_alone() -> None:
    master, hub = Master(), Hub(SystemClock())
    first, second = Told(master, hub, 10), Told(master, hub, 1)
    master.listens[1].end(Expired("too old"))
    assert [type(error) for error in second.errors] == [Expired]
    assert not first.errors
    master.write(1)
    master.listens[0].tell(11)
    assert first.names == ["11-0"]
    second.leave()


class Slow(SystemClock):
    """Every look at it takes 10 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.looks * 0.01


async def test_what_is_heard_while_a_source_rests_is_told_together() -> None:
    master, hub = Master(), Hub(Slow())
    reader, other = Told(master, hub, 10), Told(master, hub, 10)
    woken: list[int] = []
    master.write(1)
    for listen in list(master.listens):
        listen.tell(11)
    assert len(master.listens) == 1
    reader.wake = lambda: woken.append(len(reader.names))  # type: ignore[method-assign]
    for _ in range(5):
        master.write(1)
        master.listens[0].tell(master.revision)
        await asyncio.sleep(0)
    assert woken == [2]
    async with asyncio.timeout(20):
        while len(woken) < 2:
            await asyncio.sleep(0.001)
    assert woken == [2, 6]
    await wakes([other])


async def test_a_reader_that_shares_with_nobody_is_woken_at_once() -> None:
    master, hub = Master(), Hub(Slow())
    reader = Told(master, hub, 10)
    for _ in range(5):
        master.write(1)
        master.listens[0].tell(master.revision)
        assert not reader.unread
