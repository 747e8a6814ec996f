"""The journal against an etcd in memory: opening, appending, and what becomes of an append whose answer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from cluster.rpc.etcd import Put
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.values import Head
from cluster.store.interface import DiskFull, JournalFailed, NotLeading, Request, StoreRefused, TooLarge, Undecided
from tests.unit.store.etcd.fake import Weather
from tests.unit.store.etcd.rig import PREFIX, Book, Following, Members, fold, loaded

KEYS = Keys(PREFIX)


@pytest.fixture
async def members() -> AsyncIterator[Members]:
    members = Members()
    yield members
    await members.close()


# --- opening


async def test_a_store_is_created_once(members: Members) -> None:
    first, second = await members.join(), await members.join()
    assert (await first.open()).store_id == (await second.open()).store_id == "store-1"
    assert members.etcd.names() == [KEYS.head, KEYS.store]
    assert first.engine == "etcd"
    assert first.version == "3.6.1"
    assert first.problems == []


async def test_two_that_create_it_at_once_agree(members: Members) -> None:
    first, second = await asyncio.gather(members.join(), members.join())
    assert (await first.open()).store_id == (await second.open()).store_id


async def test_a_restored_etcd_is_another_incarnation(members: Members) -> None:
    journal = await members.join()
    members.etcd.cluster_id = 0x1122334455667788
    assert (await journal.open()).store_id == "store-1+55667788"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (b"/podium/test/else", b"1", "there is something else below /podium/test/"),
        (KEYS.store, b'{"format": 7}', "format 7"),
        (KEYS.store, b"hello", "not the mark"),
    ],
)
async def test_what_is_something_else_is_refused(members: Members, key: bytes, value: bytes, message: str) -> None:
    members.etcd.txn([], [Put(key, value)], [])
    with pytest.raises(StoreRefused, match=message):
        await members.join()


async def test_a_store_without_its_head_is_refused(members: Members) -> None:
    await members.join()
    members.etcd.flip(KEYS.head, 3)
    with pytest.raises(StoreRefused, match="damaged"):
        await members.join()


# --- appending and loading


async def test_what_was_appended_is_there_for_everybody(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    first = book.next("a", "b")
    book.keep(first)
    await journal.append(first, [Request("admin/1", 1, 1.0, b"done")])
    await journal.append(book.more(3))
    assert await journal.head() == 4
    other = await members.join()
    assert await loaded(other) == book.records
    assert await other.load_requests() == [Request("admin/1", 1, 1.0, b"done")]
    assert await other.head() == 4
    assert await other.leader() == "a:1"


async def test_nobody_appends_who_does_not_lead(members: Members) -> None:
    journal, book = await members.join(), Book()
    for work in (journal.append(book.next("a")), journal.compact(1, 10)):
        with pytest.raises(NotLeading, match="does not lead"):
            await work
    assert await journal.leader() == ""


async def test_a_large_append_is_all_there(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    records = book.more(4000, names=4000, size=1000)
    requests = [Request(f"r{n}", n, 1.0, bytes(100)) for n in range(1, 4001, 7)]
    await journal.append(records, requests)
    chunks = [key for key in members.etcd.names() if KEYS.is_chunk(key)]
    assert len(chunks) > 3
    other = await members.join()
    assert await loaded(other) == records
    assert await other.load_requests() == requests
    with pytest.raises(TooLarge):
        await journal.append(book.next("big", size=1_500_000))
    await journal.append(book.more(1))
    assert await loaded(other) == book.records


async def test_a_large_append_that_was_not_finished_never_was(members: Members) -> None:
    weather = iter([Weather.FINE] * 5)
    journal, book = await members.join(lambda: next(weather, Weather.DOWN)), Book()
    await members.lead(journal)
    kept = book.more(2)
    await journal.append(kept)
    follower = await members.join()
    following = Following(follower)
    with pytest.raises((Undecided, NotLeading)):
        await members.run(journal.append(book.copy().more(4000, names=4000, size=1000)))
    assert len([key for key in members.etcd.names() if KEYS.is_chunk(key)]) > 1, "something was staged"
    assert await loaded(follower) == kept
    await members.crash(journal)
    await members.lead(follower, "b:1")
    assert [key for key in members.etcd.names() if KEYS.is_chunk(key)] == [KEYS.chunk(2)]
    own = book.more(2)
    await follower.append(own)
    third = await members.join()
    assert await loaded(third) == book.records
    await members.clock.settle()
    assert following.records == kept, "what was staged was never handed on; what is own is known"
    await following.close()


async def test_damage_is_refused_wherever_it_is(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    for _ in range(3):
        await journal.append(book.more(2, names=2))
    await journal.compact(2, 100)
    await journal.append(book.more(1))
    for key in members.etcd.names():
        if not KEYS.is_chunk(key) and key != KEYS.head:
            continue
        for index in (0, 40, -1):
            members.etcd.flip(key, index)
            with pytest.raises(StoreRefused, match=r"damaged|unknown form"):
                await loaded(await members.join())
            members.etcd.flip(key, index)
    assert fold(await loaded(await members.join())) == book.live


async def test_a_chunk_that_is_gone_is_missed(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    for _ in range(4):
        await journal.append(book.more(1, names=2))
    await journal.compact(2, 100)
    await journal.append(book.more(1))
    for key in [key for key in members.etcd.names() if KEYS.is_chunk(key)]:
        item = members.etcd._live.pop(key)
        past = members.etcd._past.pop(key)
        with pytest.raises(StoreRefused):
            await loaded(await members.join())
        members.etcd._live[key], members.etcd._past[key] = item, past


# --- answers that are lost


def script(*moods: Weather) -> Iterator[Weather]:
    yield from moods
    while True:
        yield Weather.FINE


@pytest.mark.parametrize(
    "moods",
    [
        [Weather.LOST],
        [Weather.UNANSWERED],
        [Weather.LATE],
        [Weather.DOWN],
        [Weather.LOST, Weather.LOST, Weather.UNANSWERED],
        [Weather.LATE, Weather.LOST, Weather.UNANSWERED],
        [Weather.UNANSWERED, Weather.LOST],
    ],
)
async def test_an_append_happens_once_whatever_answer_is_lost(members: Members, moods: list[Weather]) -> None:
    sky = script()
    journal, book = await members.join(lambda: next(sky)), Book()
    await members.lead(journal)
    await journal.append(book.more(1))
    sky = script(*moods)
    await members.run(journal.append(book.more(2), [Request("r", 3, 1.0, b"")]))
    members.etcd.deliver()
    assert await loaded(await members.join()) == book.records
    await members.run(journal.append(book.more(1)))
    members.etcd.deliver()
    assert await loaded(await members.join()) == book.records


@pytest.mark.parametrize(
    ("mood", "error"), [(Weather.LOST, Undecided), (Weather.LATE, Undecided), (Weather.DOWN, NotLeading)]
)
async def test_what_is_not_settled_in_time_ends_the_term(
    members: Members, mood: Weather, error: type[Exception]
) -> None:
    sky = script()
    journal, book = await members.join(lambda: next(sky)), Book()
    term = await members.lead(journal)
    await journal.append(book.more(1))
    sky = iter([mood] * 10_000)
    with pytest.raises(error):
        await members.run(journal.append(book.copy().more(1)))
    assert "in time" in await term.ended()
    sky = script()
    with pytest.raises(NotLeading):
        await journal.append(book.copy().more(1))
    assert await loaded(await members.join()) == book.records
    # The same process may lead again, without waiting for its own lease.
    before_s = members.clock.monotonic()
    await members.lead(journal)
    assert members.clock.monotonic() - before_s < 1.0
    members.etcd.deliver()  # what was late comes too late: the fence
    assert await loaded(await members.join()) == book.records
    await journal.append(book.more(1))
    assert await loaded(await members.join()) == book.records


async def test_an_undecided_append_may_be_found_by_the_next_leader(members: Members) -> None:
    sky = script()
    journal, book = await members.join(lambda: next(sky)), Book()
    await members.lead(journal)
    await journal.append(book.more(1))
    following = Following(journal, after=1)
    sky = iter([Weather.LATE] + [Weather.LOST] * 10_000)
    pending = book.copy().more(1)
    with pytest.raises(Undecided):
        await members.run(journal.append(pending))
    members.etcd.deliver()
    book.keep(pending)
    other = await members.join()
    assert await loaded(other) == book.records
    assert await members.run(following.until(2)) == pending, "its own follower hears of it, for nobody told"
    await following.close()


async def test_a_leader_that_was_replaced_writes_nothing(members: Members) -> None:
    old, new, book = await members.join(), await members.join(), Book()
    term = await members.lead(old, "old:1")
    await old.append(book.more(1))
    members.etcd.revoke(term.tenure.lease)  # as an etcd that is wrong about a lease does
    await members.lead(new, "new:1")
    assert await new.leader() == "new:1"
    with pytest.raises(NotLeading, match="another leads: new:1"):
        await old.append(book.copy().more(1))
    assert "another leads" in await term.ended()
    await new.append(book.more(1))
    with pytest.raises(NotLeading):
        await old.append(book.copy().more(1))
    assert await loaded(await members.join()) == book.records


@pytest.mark.parametrize("others", [0, 1, 3])
async def test_an_append_whose_leader_was_replaced_meanwhile_is_settled_exactly(members: Members, others: int) -> None:
    """It was written, the answer was lost, and another leads, and may have gone on, before this one asks again."""
    sky = script()
    old, new, book = await members.join(lambda: next(sky)), await members.join(), Book()
    term = await members.lead(old, "old:1")
    await old.append(book.more(1))

    async def takes_over() -> None:
        members.etcd.revoke(term.tenure.lease)
        await members.lead(new, "new:1")
        for _ in range(others):
            await new.append(book.more(1))

    sky = script(Weather.UNANSWERED)
    appending = asyncio.create_task(old.append(book.more(1)))
    while members.etcd.value(KEYS.head) == Head().encode() or Head.decode(members.etcd.value(KEYS.head)).revision < 2:
        await asyncio.sleep(0)
    await takes_over()
    await members.run(_wait(appending))
    assert await term.ended()
    assert await loaded(await members.join()) == book.records


async def _wait(task: asyncio.Task[None]) -> None:
    await task


async def test_a_cancelled_append_ends_the_term(members: Members) -> None:
    journal, book = await members.join(), Book()
    term = await members.lead(journal)
    task = asyncio.create_task(journal.append(book.next("a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "given up" in await term.ended()
    with pytest.raises(NotLeading):
        await journal.append(book.next("a"))


async def test_somebody_who_writes_without_leading_is_noticed(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    members.etcd.txn([], [Put(KEYS.head, Head(7).encode())], [])
    with pytest.raises(JournalFailed, match="is another program writing there"):
        await journal.append(book.next("a"))


# --- space


@pytest.mark.parametrize("carried_out", [False, True])
async def test_without_space_nothing_is_written_and_that_is_said(members: Members, carried_out: bool) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    await journal.append(book.more(1))
    members.etcd.full = True
    members.etcd.carries_out_what_raises_the_alarm = carried_out
    if carried_out:
        await journal.append(book.more(1))
    with pytest.raises(DiskFull, match="quota"):
        await journal.append(book.copy().more(1))
    assert [problem.split(":")[0] for problem in journal.problems] == ["DiskFull"]
    assert await journal.head() == book.revision
    assert await loaded(await members.join()) == book.records
    members.etcd.full = False
    await members.wait(5)
    assert journal.problems == []
    await journal.append(book.more(1))
    assert await loaded(await members.join()) == book.records


async def test_a_staged_part_is_removed_when_space_ran_out_between(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    await journal.append(book.more(1))
    calls = 0

    def fills_up() -> Weather:
        nonlocal calls
        calls += 1
        members.etcd.full = calls == 3
        return Weather.FINE

    members.clients[journal].weather = fills_up
    with pytest.raises(DiskFull):
        await journal.append(book.copy().more(4000, names=4000, size=1000))
    members.etcd.full = False
    for _ in range(5):
        await journal.append(book.more(600, size=1000))
    assert await loaded(await members.join()) == book.records


# --- reading who waits together


async def test_readers_that_wait_together_share_a_read(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    await journal.append(book.more(3))
    client = members.clients[journal]
    before = client.gets
    assert await asyncio.gather(*[journal.head() for _ in range(100)]) == [3] * 100
    assert client.gets - before <= 2


async def test_a_reader_never_gets_what_was_read_before_it_asked(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    early = asyncio.create_task(journal.head())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await journal.append(book.more(3))
    assert await journal.head() == 3
    assert await early in (0, 3)


async def test_one_reader_that_goes_away_does_not_disturb_the_others(members: Members) -> None:
    journal = await members.join()
    tasks = [asyncio.create_task(journal.head()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [0, 0]
