"""What every journal does, asked directly: what `Store` asks of it is in store_suite.py.

An implementer inherits `JournalSuite` and says how to make its journal; `journal()` twice is the same log, opened
again.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster.store.chain import Base, Sums
from cluster.store.interface import Compacted, Journal, Opening, Request
from cluster.store.version import Record

KEYS = 5


def made(
    revision: int,
    name: str = "",
    *,
    previous: int | None = None,
    deleted: bool = False,
    position: int = 0,
    time_s: float | None = None,
    kind: str = "Pod",
    namespace: str = "default",
) -> Record:
    """A record; without a name, of one of KEYS pods in turns."""
    if previous is None:
        previous = 0 if name else max(0, revision - KEYS)
    return Record(
        revision,
        position,
        kind,
        namespace,
        name or f"p{revision % KEYS}",
        previous,
        deleted,
        f"n{revision % 3}",
        10.0 * revision if time_s is None else time_s,
        b"content at %d" % revision,
    )


def asked(revision: int) -> Request:
    """A request that made a revision."""
    return Request(f"admin/{revision}", revision, 10.0 * revision, b"answer %d" % revision)


async def everything(journal: Journal) -> list[Record]:
    """The log, as it is loaded."""
    return [record for records in [records async for records in journal.load()] for record in records]


class JournalSuite:
    """Inherit, and define `journal`."""

    def journal(self, tmp_path: Path) -> Journal:
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, tmp_path: Path) -> AsyncIterator[tuple[Journal, Opening]]:
        """A journal that is read, and may be appended to."""
        journal = self.journal(tmp_path)
        opening = await journal.open()
        try:
            await everything(journal)
            term = await journal.campaign("127.0.0.1:1")
            yield journal, opening
            await term.resign()
        finally:
            await journal.close()

    @asynccontextmanager
    async def reread(self, tmp_path: Path) -> AsyncIterator[tuple[Journal, Opening, list[Record]]]:
        """The same log opened again, and what it says."""
        journal = self.journal(tmp_path)
        opening = await journal.open()
        try:
            yield journal, opening, await everything(journal)
        finally:
            await journal.close()

    async def test_what_was_appended_is_loaded_in_order(self, tmp_path: Path) -> None:
        log = [made(1, "a"), made(2, "a", position=0), made(2, "b", position=1), made(3, "c", namespace="")]
        async with self.opened(tmp_path) as (journal, opening):
            assert (opening.compacted, await journal.head()) == (0, 0)
            await journal.append(log[:1])
            await journal.append(log[1:])
            assert await journal.head() == 3
        async with self.reread(tmp_path) as (journal, again, records):
            assert records == log
            assert again == opening
            assert await journal.head() == 3
            assert not journal.problems

    async def test_a_record_keeps_every_field(self, tmp_path: Path) -> None:
        odd = Record(1, 0, "Kind", "", "ü-\N{SNOWMAN}", 0, True, "", 1763900000.123456789, bytes(range(256)) * 40)
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([odd, odd._replace(position=1, name="b", data=b"", deleted=False, time_s=0.1 + 0.2)])
        async with self.reread(tmp_path) as (_, _, records):
            assert records[0] == odd
            assert records[1].time_s == 0.1 + 0.2

    async def test_requests_are_kept_with_their_records(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            assert list(await journal.load_requests()) == []
            await journal.append([made(1)], [asked(1)])
            await journal.append([made(2)])
            await journal.append([made(3), made(4), made(5)], [asked(3), asked(5)])
        async with self.reread(tmp_path) as (journal, _, records):
            assert [record.revision for record in records] == [1, 2, 3, 4, 5]
            assert list(await journal.load_requests()) == [asked(1), asked(3), asked(5)]

    async def test_requests_outlive_the_changes_that_they_made(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            for revision in range(1, 21):
                await journal.append([made(revision)], [asked(revision)])
            await _compact(journal, 20)
        async with self.reread(tmp_path) as (journal, _, _):
            assert list(await journal.load_requests()) == [asked(n) for n in range(1, 21)]

    async def test_an_append_that_makes_room_is_like_any_other(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([made(1, "a")])
            await journal.append([made(2, "a", previous=1, deleted=True)], frees=True)
        async with self.reread(tmp_path) as (_, _, records):
            assert [record.deleted for record in records] == [False, True]

    async def test_reading_on_after_a_revision(self, tmp_path: Path) -> None:
        log = [made(n) for n in range(1, 21)]
        async with self.opened(tmp_path) as (journal, _):
            await journal.append(log[:7])
            await journal.append(log[7:])
            seen: list[Record] = []
            while found := await journal.read(seen[-1].revision if seen else 3, 4):
                assert len(found) == 4 or found[-1][0].revision == 20
                for record, old in found:
                    assert old == (log[record.previous - 1] if record.previous else None)
                seen += [record for record, _ in found]
            assert seen == log[3:]

    async def test_a_read_never_cuts_a_revision(self, tmp_path: Path) -> None:
        together = [made(2, f"x{n}", position=n) for n in range(9)]
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([made(1), *together, made(3)])
            assert [record for record, _ in await journal.read(1, 3)] == together
            assert [record.revision for record, _ in await journal.read(0, 2)] == [1] + [2] * 9
            assert [record.revision for record, _ in await journal.read(2, 3)] == [3]

    async def test_reading_one_kind_passes_over_the_others(self, tmp_path: Path) -> None:
        kinds = ("Pod", "Pod", "Service", "Pod", "Node")
        log = [made(n, f"x{n % 3}", kind=kinds[n % 5]) for n in range(1, 41)]
        together = [made(41, f"y{n}", position=n, kind=kinds[n]) for n in range(5)]
        async with self.opened(tmp_path) as (journal, _):
            await journal.append(log)
            await journal.append(together)
            for kind in (*kinds, "Endpoints"):
                wanted = [record for record in [*log, *together] if record.kind == kind and record.revision > 3]
                seen: list[Record] = []
                while found := await journal.read(seen[-1].revision if seen else 3, 4, kind):
                    seen += [record for record, _ in found]
                assert seen == wanted

    async def test_what_is_kept_of_one_object(self, tmp_path: Path) -> None:
        history = [
            made(1, "a"),
            made(3, "a", previous=1),
            made(5, "a", previous=3, deleted=True),
            made(7, "a"),
        ]
        others = [
            made(2, "b"),
            made(4, "a", namespace="other"),
            made(6, "a", kind="Service"),
            made(8, "ab"),
        ]
        log = sorted([*history, *others])

        async def kept(after: int, until: int, limit: int) -> list[int]:
            found = await journal.read_key("Pod", "default", "a", after, until, limit)
            assert all(record in history for record in found)
            return [record.revision for record in found]

        async with self.opened(tmp_path) as (journal, _):
            await journal.append(log)
            assert await kept(0, 8, 100) == [7, 5, 3, 1]
            assert await kept(0, 8, 2) == [7, 5]
            assert await kept(1, 7, 100) == [7, 5, 3]
            assert await kept(3, 6, 100) == [5]
            assert await kept(5, 6, 100) == []
            assert list(await journal.read_key("Pod", "default", "nobody", 0, 8, 9)) == []

    async def test_what_is_compacted_of_one_object_is_its_last_state(self, tmp_path: Path) -> None:
        log = [made(1, "a"), made(2, "a", previous=1), made(3, "b"), made(4, "a", previous=2)]
        async with self.opened(tmp_path) as (journal, _):
            await journal.append(log)
            await _compact(journal, 3)
            found = await journal.read_key("Pod", "default", "a", 0, 4, 10)
            assert [record.revision for record in found] == [4, 2]

    async def test_which_revision_was_the_newest_at_a_time(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            assert await journal.revision_at(1e12) == 0, "there is none"
            for revision in range(1, 40):
                await journal.append([made(revision)])
            assert await journal.revision_at(9.9) == 0
            assert await journal.revision_at(10.0) == 1
            assert await journal.revision_at(19.9) == 1
            for revision in (2, 17, 38, 39):
                assert await journal.revision_at(10.0 * revision) == revision
                assert await journal.revision_at(10.0 * revision + 9) == revision
            assert await journal.revision_at(1e12) == 39

    async def test_times_of_revisions_with_several_changes(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            log = [made(r, f"x{n}", position=n, time_s=float(r)) for r in range(1, 6) for n in range(7)]
            await journal.append(log)
            assert [await journal.revision_at(t) for t in (0.5, 1, 2.5, 4, 5, 9)] == [0, 1, 2, 4, 5, 5]

    async def test_times_of_a_log_whose_beginning_is_compacted(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([made(1, "a"), *(made(n, "b", previous=n - 1 if n > 2 else 0) for n in range(2, 31))])
            await _compact(journal, 20)
            assert [await journal.revision_at(10.0 * n) for n in (20, 21, 25, 30)] == [20, 21, 25, 30]
            assert await journal.revision_at(5.0) == 0

    @pytest.mark.parametrize("seed", range(4))
    async def test_times_that_go_back(self, tmp_path: Path, seed: int) -> None:
        rng = random.Random(seed)
        times = [rng.randint(0, 20) for _ in range(rng.randint(1, 30))]
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([made(n, time_s=float(time)) for n, time in enumerate(times, 1)])
            for when in range(-1, 22):
                found = await journal.revision_at(float(when))
                if found == 0:
                    assert when < times[0], times
                else:
                    assert times[found - 1] <= when, (found, times)
                    assert found == len(times) or times[found] > when, ("time passed there", found, times)

    @pytest.mark.parametrize("limit", [1, 3, 1000])
    async def test_compaction_keeps_what_exists_and_what_follows(self, tmp_path: Path, limit: int) -> None:
        log = list(_busy(60))
        async with self.opened(tmp_path) as (journal, _):
            await journal.append(log)
            for revision in (17, 18, 40):
                await _compact(journal, revision, limit)
                assert list(await journal.read_at(revision, "Pod", "")) == _existing(log, revision)
                assert [r for r, _ in await journal.read(revision, 1000)] == [r for r in log if r.revision > revision]
            assert await journal.head() == 60
        async with self.reread(tmp_path) as (journal, opening, records):
            assert opening.compacted == 40
            beginning = [record for record in records if record.revision <= 40]
            assert sorted(beginning, key=_key) == sorted(_existing(log, 40), key=_key)
            assert records[len(beginning) :] == [record for record in log if record.revision > 40]

    async def test_when_everything_is_deleted_and_forgotten_the_head_is_still_known(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([made(1, "a"), made(2, "a", previous=1, deleted=True)])
            await _compact(journal, 2)
            assert await journal.head() == 2
        async with self.reread(tmp_path) as (journal, opening, records):
            assert (opening.compacted, records, await journal.head()) == (2, [], 2)
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([made(3, "a")])
        async with self.reread(tmp_path) as (_, _, records):
            assert [record.revision for record in records] == [3]

    async def test_what_is_compacted_already_is_no_work(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([made(n) for n in range(1, 11)])
            await _compact(journal, 8)
            assert await journal.compact(8, 100)
            assert await journal.compact(3, 100)
            assert len(await journal.read(8, 100)) == 2
        async with self.reread(tmp_path) as (_, opening, _):
            assert opening.compacted == 8

    @pytest.mark.parametrize("compacted", [0, 23])
    async def test_a_copy_is_the_log_as_of_a_revision(self, tmp_path: Path, compacted: int) -> None:
        log = list(_busy(60))
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([r for r in log if r.revision <= 50])
            await _compact(journal, compacted)
            copy = await journal.copy(40)
            await journal.append([r for r in log if r.revision > 50])
            copied = [record async for piece in copy.records for record in piece]
        assert copied == [*_existing(log, compacted), *(r for r in log if compacted < r.revision <= 40)]
        sums = Sums(copy.base)
        sums.add(copied)
        sums.finish(40)
        assert (copy.base.compacted, copy.revision) == (compacted, 40)

    async def test_a_copy_ends_wherever_it_is_to_end_among_appends(self, tmp_path: Path) -> None:
        log = list(_busy(20))
        async with self.opened(tmp_path) as (journal, _):
            for first in range(1, 21, 3):
                await journal.append([r for r in log if first <= r.revision < first + 3])
            for revision in range(21):
                copy = await journal.copy(revision)
                copied = [record async for piece in copy.records for record in piece]
                assert copied == [r for r in log if r.revision <= revision]

    async def test_a_copy_of_nothing(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            copy = await journal.copy(0)
            assert [piece async for piece in copy.records] == []
            assert copy.base == Base()

    async def test_what_is_forgotten_is_not_copied(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            await journal.append([made(n) for n in range(1, 21)])
            await _compact(journal, 15)
            with pytest.raises(Compacted):
                await journal.copy(14)

    async def test_a_copy_is_whole_or_breaks_off_when_somebody_compacts(self, tmp_path: Path) -> None:
        log = [made(n) for n in range(1, 6001)]
        async with self.opened(tmp_path) as (journal, _):
            await journal.append(log)
            copy = await journal.copy(6000)
            copied = list(await anext(copy.records))
            await _compact(journal, 3000, 500)
            try:
                copied += [record async for piece in copy.records for record in piece]
            except Compacted:
                pass
            else:
                assert copied == log
            await copy.records.aclose()

    async def test_who_leads_is_known_by_the_address(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            assert await journal.leader() == "127.0.0.1:1"

    async def test_resigning_twice_is_fine(self, tmp_path: Path) -> None:
        journal = self.journal(tmp_path)
        await journal.open()
        try:
            await everything(journal)
            term = await journal.campaign("127.0.0.1:1")
            await term.resign()
            await term.resign()
            again = await journal.campaign("127.0.0.1:1")
            await journal.append([made(1)])
            await again.resign()
        finally:
            await journal.close()
            await journal.close()

    async def test_the_engine_has_a_name_and_a_version(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (journal, _):
            assert journal.engine
            assert journal.version


async def _compact(journal: Journal, revision: int, limit: int = 4) -> None:
    while not await journal.compact(revision, limit):
        pass


def _busy(last: int) -> Iterator[Record]:
    """Objects that come, change, go and come again; some revisions have several changes."""
    alive: dict[str, int] = {}
    for revision in range(1, last + 1):
        for position in range(3 if revision % 5 == 0 else 1):
            name = f"p{(revision * 7 + position) % 9}"
            deleted = name in alive and revision % 4 == 0
            yield made(revision, name, previous=alive.get(name, 0), deleted=deleted, position=position)
            if deleted:
                del alive[name]
            else:
                alive[name] = revision


def _existing(log: Sequence[Record], revision: int) -> list[Record]:
    """In the order of their changes."""
    last = {record.name: record for record in log if record.revision <= revision}
    return sorted(record for record in last.values() if not record.deleted)


def _key(record: Record) -> tuple[str, str, str]:
    return record.kind, record.namespace, record.name
