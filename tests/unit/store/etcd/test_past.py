"""Compaction with a crash at every step, and what is read of the past, held against a dictionary and a plain list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.store import failpoints
from cluster.store.etcd.journal import EtcdJournal
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.values import Head
from cluster.store.interface import Compacted, Request, StoreError
from cluster.store.memory import MemoryJournal
from cluster.store.version import Record
from tests.unit.store.etcd.fake import Weather
from tests.unit.store.etcd.rig import PREFIX, Book, Members, fold, loaded

KEYS = Keys(PREFIX)


@pytest.fixture
async def members() -> AsyncIterator[Members]:
    members = Members()
    yield members
    await members.close()


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def crash_at(number: int, names: Sequence[str] = ()) -> Iterator[list[str]]:
    """The failpoint that is reached so many times from now on (of those named, or of all) ends the process. What was
    reached is in the list."""

    reached: list[str] = []

    def hit(name: str) -> None:
        if names and name not in names:
            return
        reached.append(name)
        if len(reached) == number:
            raise Crash(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "hit", hit)
        yield reached


SWEEPING = [name for name in failpoints.KNOWN if name.split("_")[-1] in ("promise", "rewrite", "forget")]


async def state_of(members: Members) -> tuple[dict[str, int], int]:
    """What a fresh member makes of the log, and what it is told is compacted. Verifies every byte."""
    journal = await members.join()
    opening = await journal.open()
    return fold(await loaded(journal)), opening.compacted


async def test_compaction_leaves_what_changes_led_to(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    for names, deleted in (("ab", False), ("a", False), ("b", True), ("c", False), ("a", False)):
        records = book.next(*names, deleted=deleted)
        book.keep(records)
        await journal.append(records)
    assert await journal.compact(4, 100)
    left = await loaded(await members.join())
    assert [(record.revision, record.name) for record in left] == [(2, "a"), (4, "c"), (5, "a")]
    assert Head.decode(members.etcd.value(KEYS.head)).swept == 4
    assert await journal.compact(4, 100)
    assert await journal.compact(3, 100), "never back"
    assert (await (await members.join()).open()).compacted == 4


async def test_the_revision_survives_when_nothing_is_left(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    for deleted in (False, True):
        records = book.next("a", deleted=deleted)
        book.keep(records)
        await journal.append(records)
    assert await journal.compact(2, 100)
    assert not [key for key in members.etcd.names() if KEYS.is_chunk(key)]
    other = await members.join()
    assert await loaded(other) == []
    assert await other.head() == 2
    await journal.append(book.more(1))
    assert await loaded(await members.join()) == book.records[-1:]


async def test_a_piece_at_a_time(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    for _ in range(100):
        await journal.append(book.more(1))
    pieces = 1
    while not await journal.compact(90, 10):
        assert (await state_of(members)) == (book.live, 90)
        pieces += 1
    assert pieces > 3
    assert len([key for key in members.etcd.names() if KEYS.is_chunk(key)]) == 15


async def test_a_crash_at_every_step_of_a_compaction_loses_nothing(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    for number in range(60):
        name = f"p{number % 7}"
        records = book.next(name, deleted=name in book.live and number % 3 == 0)
        book.keep(records)
        await journal.append(records)
    step = 0
    while True:
        step += 1
        with crash_at(step % 5 + 1, SWEEPING) as reached:
            try:
                done = await journal.compact(55, 8)
            except Crash:
                done = False
        assert await state_of(members) == (book.live, 55)
        if done and len(reached) < step % 5 + 1:
            break
        await members.crash(journal)
        journal = await members.join()
        await members.lead(journal)
    assert step > 5
    left = [record for record in await loaded(await members.join()) if record.revision <= 55]
    assert fold(left) == book.past[55]
    assert len(left) == len(book.past[55]), "nothing that is replaced is left"


async def test_what_was_read_before_is_not_written_back(members: Members) -> None:
    """A follower has read a chunk; the leader takes a record out of it; the follower leads and takes out another."""
    first, second, book = await members.join(), await members.join(), Book()
    term = await members.lead(first)

    async def append(journal: EtcdJournal, *puts: str) -> None:
        made: list[Record] = []
        for name in puts:
            records = book.next(name)
            book.keep(records)
            made += records
        await journal.append(made)

    await append(first, "a", "b", "c")
    await append(first, "a")
    assert [old.name for _, old in await second.read(3, 10) if old] == ["a"]
    await first.compact(4, 100)
    await term.resign()
    await members.lead(second)
    await append(second, "b")
    await second.compact(5, 100)
    assert await state_of(members) == (book.live, 5)
    assert [record.revision for record in await loaded(await members.join())] == [3, 4, 5]


names = st.sampled_from("abcde")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.tuples(names, st.booleans()), min_size=1, max_size=4)),
        st.tuples(st.just("compact"), st.integers(0, 30)),
        st.tuples(st.just("crash"), st.integers(1, 6)),
        st.tuples(st.just("weather"), st.sampled_from(list(Weather))),
    ),
    min_size=5,
    max_size=25,
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(steps=steps)
async def test_a_log_is_its_dictionary_whatever_happens(steps: list[tuple[str, object]]) -> None:
    """Puts, deletes, compactions, crashes in the middle of both, lost answers, and another leader each time."""
    members = Members()
    moods: list[Weather] = []
    try:
        await _run(members, moods, steps)
    finally:
        await members.close()


async def _run(members: Members, moods: list[Weather], steps: list[tuple[str, object]]) -> None:
    async def successor() -> EtcdJournal:
        journal = await members.join(lambda: moods.pop() if moods else Weather.FINE)
        await members.lead(journal)
        return journal

    journal, book = await successor(), Book()
    compacted = crash = 0
    for step, argument in steps:
        if step == "weather":
            assert isinstance(argument, Weather)
            moods.append(argument)
            continue
        if step == "crash":
            assert isinstance(argument, int)
            crash = argument
            continue
        pending: list[Record] = []
        swept = False
        with crash_at(crash) as reached:
            try:
                if step == "append":
                    assert isinstance(argument, list)
                    copy = book.copy()
                    for name, deleted in argument:
                        records = copy.next(name, deleted=deleted and name in copy.live)
                        copy.keep(records)
                        pending += records
                    await members.run(journal.append(pending))
                    book.keep(pending)
                    pending = []
                else:
                    assert isinstance(argument, int)
                    compacted = max(compacted, min(argument, book.revision))
                    swept = await members.run(journal.compact(compacted, 5))
                failed = False
            except (Crash, StoreError):
                failed = True
        if failed or (crash and len(reached) >= crash):  # some crash points are within tasks of their own
            moods.clear()
            crash = 0
            await members.crash(journal)
            members.etcd.deliver()
            journal = await successor()
            members.etcd.deliver()
            if pending and await journal.head() >= pending[0].revision:
                book.keep(pending)
        assert await journal.head() == book.revision
        state, seen = await state_of(members)
        assert state == book.live
        assert seen <= compacted
        left = await loaded(await members.join())
        for revision in range(max(compacted, 0), book.revision + 1):
            assert fold(left, revision) == book.past[revision]
        if swept:
            beginning = {record.name: record.revision for record in left if record.revision <= compacted}
            assert beginning == book.past[compacted], "and nothing else"
            assert len(beginning) == len([record for record in left if record.revision <= compacted])


IN_THE_JOURNAL = [
    name
    for name in failpoints.KNOWN
    if name.startswith("etcd.") and name.split("_")[-1] not in ("ask", "change", "watch")  # those are in the client
]


@pytest.mark.parametrize("name", IN_THE_JOURNAL)
async def test_a_process_that_ends_at_any_step_leaves_a_log_for_the_next(name: str) -> None:
    """One life of a leader, with all there is to do, ends at that step; another goes on and finds what was promised."""
    members = Members(EtcdSettings(etcd_age_s=60.0, etcd_revisions=5, request_appends=1))
    book, pending, compacted = Book(), list[Record](), 0

    async def live(journal: EtcdJournal) -> None:
        nonlocal pending, compacted
        term = await members.lead(journal)
        for size in (1, 1, 1500, 1, 1):
            pending = book.copy().more(size, names=3, size=1000)
            request = Request(f"r{pending[-1].revision}", pending[-1].revision, members.clock.wall(), b"x")
            await members.run(journal.append(pending, [request]))
            book.keep(pending)
        pending = []
        compacted = book.revision - 1
        while not await members.run(journal.compact(compacted, 500)):
            pass
        await members.wait(70, 0.5)
        for _ in range(6):
            pending = book.copy().more(1, names=3)
            await members.run(journal.append(pending))
            book.keep(pending)
        pending = []
        await members.wait(130, 0.5)
        await term.resign()

    with crash_at(1, [name]) as reached:
        try:
            journal = await members.join()
            await live(journal)
        except (Crash, StoreError):
            pass
    assert reached, f"{name} was never reached"
    for client in members.clients.values():
        client.cut_off = True
    last = await members.join()
    if await members.run(last.head()) > book.revision:
        book.keep(pending)
    state, seen = await state_of(members)
    assert state == book.live
    assert seen in (0, compacted)
    pending = []
    await live(await members.join())
    assert (await state_of(members)) == (book.live, compacted)
    left = await loaded(await members.join())
    for revision in range(compacted, book.revision + 1):
        assert fold(left, revision) == book.past[revision]
    await members.close()


# --- reading the past


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    appends=st.lists(st.lists(st.tuples(names, st.booleans()), min_size=1, max_size=5), min_size=1, max_size=15),
    share=st.floats(0, 1),
    questions=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9), names), min_size=1, max_size=8),
    sweeps=st.integers(1, 10),
)
async def test_the_past_is_read_as_from_a_list(
    appends: list[list[tuple[str, bool]]], share: float, questions: list[tuple[int, int, str]], sweeps: int
) -> None:
    members, book, plain = Members(replace(EtcdSettings(), cache_bytes=300)), Book(), MemoryJournal("plain")
    journal = await members.join()
    await members.lead(journal)
    for append in appends:
        made: list[Record] = []
        for name, deleted in append:
            records = book.next(name, deleted=deleted and name in book.live)
            book.keep(records)
            made += records
        await journal.append(made)
        await plain.append(made)
    compacted = int(share * book.revision)
    if compacted:
        await plain.compact(compacted, 1000)
        for _ in range(sweeps):
            await journal.compact(compacted, 3)
    try:
        for number, limit, name in questions:
            revision = compacted + number % (book.revision - compacted + 1)
            assert await journal.read(revision, limit) == await plain.read(revision, limit)
            found = sorted(await journal.read_at(revision, "Pod", ""))
            assert found == sorted(await plain.read_at(revision, "Pod", ""))
            assert await journal.read_at(revision, "Pod", "elsewhere") == []
            assert await journal.read_at(revision, "Node", "") == []
            after = number % (revision + 1)
            mine = await journal.read_key("Pod", "default", name, after, revision, limit)
            theirs = await plain.read_key("Pod", "default", name, after, revision, limit)
            kept = [record for record in mine if record.revision > compacted]
            assert kept == [record for record in theirs if record.revision > compacted]
            assert len(mine) <= limit
            if len(kept) < limit and after < compacted:
                base = [record for record in theirs if record.revision <= compacted]
                assert [record for record in mine if record in base] == base, "what is left of the beginning"
            assert await journal.revision_at(revision + 0.5) == await plain.revision_at(revision + 0.5) or (
                revision <= compacted  # what is not swept yet is known a little better
            )
            if revision:
                with pytest.raises(Compacted) if compacted else _nothing():
                    await journal.read(compacted - 1, limit) if compacted else None
    finally:
        await members.close()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


async def test_pages_grow_while_chunks_are_small_and_shrink_when_they_are_not(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    for number in range(300):
        await journal.append(book.more(1, names=300, size=10 if number < 250 else 300_000))
    other = await members.join()
    client = members.clients[other]
    biggest = 0
    get = members.etcd.get

    def weigh(question):  # type: ignore[no-untyped-def]
        nonlocal biggest
        answer = get(question)
        biggest = max(biggest, sum(len(item.value) for item in answer.kvs))
        return answer

    members.etcd.get = weigh  # type: ignore[method-assign]
    before = client.gets
    assert await loaded(other) == book.records
    assert client.gets - before < 40
    assert biggest < 60 * 1024 * 1024


# --- housekeeping


async def test_old_requests_are_forgotten(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    for number in range(10):
        wall_s = members.clock.wall()
        await journal.append(book.more(1), [Request(f"r{number}", book.revision, wall_s, b"x")])
        await members.wait(120, 0.5)
    requests = await _requests(members)
    assert requests[-1] == "r9"
    assert requests[0] in ("r4", "r5")
    assert fold(await loaded(await members.join())) == book.live


async def test_too_many_requests_are_forgotten_sooner() -> None:
    members, book = Members(replace(EtcdSettings(), request_appends=3)), Book()
    journal = await members.join()
    await members.lead(journal)
    for number in range(10):
        await journal.append(book.more(1), [Request(f"r{number}", book.revision, members.clock.wall(), b"x")])
    await members.wait(61, 0.5)
    assert await _requests(members) == ["r7", "r8", "r9"]
    await members.close()


async def _requests(members: Members) -> list[str]:
    other = await members.join()
    return [request.request_id for request in await other.load_requests()]


@pytest.mark.parametrize("compacts", [True, False])
async def test_etcd_is_compacted_far_behind(compacts: bool) -> None:
    members, book = Members(EtcdSettings(etcd_revisions=20, etcd_age_s=600.0, compacts_etcd=compacts)), Book()
    journal = await members.join()
    await members.lead(journal)
    for _ in range(50):
        await journal.append(book.more(1))
    await members.wait(400, 0.5)
    assert members.etcd.compacted == 0
    for _ in range(50):
        await journal.append(book.more(1))
    await members.wait(400, 0.5)
    if compacts:
        assert 0 < members.etcd.compacted <= members.etcd.revision - 20
        assert members.etcd.compacted < 60, "nothing that is younger than ten minutes"
    else:
        assert members.etcd.compacted == 0
    assert await loaded(await members.join()) == book.records
    await members.close()
