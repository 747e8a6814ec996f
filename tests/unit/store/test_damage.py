"""Byte surgery: whatever is done to the files of a store, it is refused, or nothing is missing and nothing is wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from cluster.store import highwater
from cluster.store.interface import JournalFailed, StoreRefused
from cluster.store.writing import Writer
from tests.unit.store.damage import Content, content, copy, fill, flip, journal, make, record, request

PAGE = 4096


async def refused(store: Path, *words: str) -> str:
    """The store is refused with these words, and with a way out; its files stay as they are. Returns the message."""
    before = {path.name: path.read_bytes() for path in store.iterdir() if not path.name.endswith(("-shm", "lock"))}
    with pytest.raises(StoreRefused) as caught:
        await content(store)
    message = str(caught.value)
    for word in (*words, f"podium fsck --dir {store}", "podium restore FILE"):
        assert word in message
    after = {path.name: path.read_bytes() for path in store.iterdir() if path.name in before}
    assert after == before, "a store that is refused is not changed"
    return message


def expected(revisions: int = 60) -> Content:
    records = [record(n) for n in range(1, revisions + 1)]
    return Content("a-store", 0, records, [request(n) for n in range(1, revisions + 1, 2)])


@pytest.mark.parametrize("killed", [False, True])
async def test_a_store_that_nobody_touched_is_what_it_was(tmp_path: Path, killed: bool) -> None:
    store = await make(tmp_path, killed=killed)
    assert await content(store) == expected()
    assert await content(store) == expected()


async def test_a_compacted_store_is_what_it_was(tmp_path: Path) -> None:
    found = await content(await make(tmp_path, compact_to=30))
    assert found.compacted == 30
    assert [r.revision for r in found.records] == list(range(24, 61))


async def test_other_bytes_in_the_payload_of_a_row(tmp_path: Path) -> None:
    store = await make(tmp_path)
    offset = (store / "store.db").read_bytes().index(b"<payload of revision 000033>")
    flip(store / "store.db", offset + 30)
    await refused(store, "revision 33, Pod default/p5", "not those that were written")


async def test_other_bytes_in_the_compacted_part(tmp_path: Path) -> None:
    store = await make(tmp_path, compact_to=50)
    offset = (store / "store.db").read_bytes().index(b"<payload of revision 000046>")
    flip(store / "store.db", offset + 30)
    await refused(store, "revision 46, Pod default/p4", "not those that were written")


async def test_other_bytes_in_a_page_of_the_index(tmp_path: Path) -> None:
    store = await make(tmp_path, revisions=400)
    data = (store / "store.db").read_bytes()
    leaves = [at for at in range(PAGE, len(data), PAGE) if data[at] == 0x0A and b"Poddefaultp" in data[at : at + PAGE]]
    assert leaves, "there is an index"
    flip(store / "store.db", leaves[0] + data[leaves[0] : leaves[0] + PAGE].index(b"Poddefaultp") - 8)
    await refused(store, "store.db", "damaged")


async def test_the_header_of_a_page_overwritten(tmp_path: Path) -> None:
    store = await make(tmp_path)
    flip(store / "store.db", PAGE * 2, 16)
    await refused(store, "store.db", "damaged")


async def test_other_bytes_in_the_middle_of_the_wal(tmp_path: Path) -> None:
    store = await make(tmp_path, killed=True)
    wal = store / "store.db-wal"
    assert wal.stat().st_size > 20 * PAGE
    flip(wal, wal.stat().st_size // 2)
    await refused(store, "everything up to revision 60 was acknowledged", "its end is lost")


async def test_the_wal_deleted(tmp_path: Path) -> None:
    store = await make(tmp_path, killed=True)
    (store / "store.db-wal").unlink()
    await refused(store, "after revision 0", "everything up to revision 60 was acknowledged")


async def test_the_wal_torn_where_something_was_acknowledged(tmp_path: Path) -> None:
    store = await make(tmp_path, killed=True)
    _tear(store / "store.db-wal")
    await refused(store, "after revision 59", "everything up to revision 60 was acknowledged")


async def test_the_wal_torn_where_nothing_was_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = journal(tmp_path / "live")
    await live.open()
    await fill(live, 1, 20)
    monkeypatch.setattr(Writer, "_note", lambda self: None)  # killed between the commit and the mark
    await live.append([record(21)])
    monkeypatch.undo()
    whole = copy(tmp_path / "live", tmp_path / "whole")
    torn = copy(tmp_path / "live", tmp_path / "torn")
    await live.close()
    assert [r.revision for r in (await content(whole)).records] == list(range(1, 22))
    _tear(torn / "store.db-wal")
    assert [r.revision for r in (await content(torn)).records] == list(range(1, 21))


def _tear(wal: Path) -> None:
    """Cuts the last frame in two."""
    frame = PAGE + 24
    frames = (wal.stat().st_size - 32) // frame
    os.truncate(wal, 32 + (frames - 1) * frame + 700)


async def test_the_file_of_another_store(tmp_path: Path) -> None:
    store = await make(tmp_path / "one")
    other = await make(tmp_path / "two", store_id="another-store")
    (other / "store.db").replace(store / "store.db")
    await refused(store, "this is store another-store, and store a-store was here")


async def test_an_older_copy_of_the_file(tmp_path: Path) -> None:
    store = await make(tmp_path, revisions=40)
    old = (store / "store.db").read_bytes()
    again = journal(store)
    await again.open()
    await fill(again, 41, 50)
    await again.close()
    (store / "store.db").write_bytes(old)
    await refused(store, "after revision 40", "everything up to revision 50 was acknowledged", "older copy")


async def test_another_history_of_the_same_store(tmp_path: Path) -> None:
    """Twice copied, twice written to: the same length, and not the same."""
    store = await make(tmp_path, revisions=40)
    twin = copy(store, tmp_path / "twin")
    for path, node in ((store, "n1"), (twin, "n2")):
        again = journal(path)
        await again.open()
        await again.append([record(41)._replace(node=node)])
        await again.close()
    (twin / "store.db").replace(store / "store.db")
    await refused(store, "revision 41", "not the one that was acknowledged")


@pytest.mark.parametrize("how", ["missing", "empty"])
async def test_the_file_itself_is_gone(tmp_path: Path, how: str) -> None:
    store = await make(tmp_path)
    (store / "store.db").unlink()
    if how == "empty":
        (store / "store.db").touch()
    await refused(store, "there was a store here, with everything up to revision 60 acknowledged")


STATEMENTS = [
    ("UPDATE meta SET value = 'other' WHERE name = 'store_id'", "meta was changed"),
    ("UPDATE meta SET value = '3' WHERE name = 'compacted'", "meta was changed"),
    ("DELETE FROM meta WHERE name = 'total'", "meta was changed"),
    ("DELETE FROM meta", "meta was changed"),
    ("DELETE FROM log WHERE id >> 12 = 28", "compacted part: there are 6 records, and should be 7"),
    ("DELETE FROM log WHERE id >> 12 = 45", "after revision 44: changes are missing before revision 46"),
    ("DELETE FROM log WHERE id >> 12 = 60", "after revision 59: the log ends here"),
    ("DELETE FROM log", "after revision 30: the log ends here"),
    ("UPDATE log SET deleted = 1 WHERE id >> 12 = 45", "revision 45, Pod default/p3: its bytes"),
    ("UPDATE log SET time_s = 1 WHERE id >> 12 = 45", "revision 45, Pod default/p3: its bytes"),
    ("UPDATE log SET kind = x'00ff' WHERE id >> 12 = 45", "revision 45"),
    ("UPDATE log SET kind = 7 WHERE id >> 12 = 45", "revision 45, 7 default/p3: its bytes"),
    ("UPDATE log SET previous = -1 WHERE id >> 12 = 45", "revision 45, Pod default/p3: it is no record"),
    ("UPDATE log SET name = CAST(x'ff' AS TEXT) WHERE id >> 12 = 45", "it cannot be read"),
    ("UPDATE log SET digest = zeroblob(32) WHERE id >> 12 = 45", "revision 45, Pod default/p3: its bytes"),
    ("UPDATE log SET chain = zeroblob(32) WHERE id >> 12 = 45", "revision 45, Pod default/p3: the chain is broken"),
    ("UPDATE log SET chain = zeroblob(32) WHERE id >> 12 = 60", "not the one that was acknowledged"),
    ("UPDATE log SET id = id + 1 WHERE id >> 12 = 45", "revision 45"),
    ("DELETE FROM requests WHERE number = 7", "after request 6: requests are missing before number 8"),
    ("DELETE FROM requests WHERE number = 30", "requests up to number 30 were acknowledged, and the last is 29"),
    ("UPDATE requests SET outcome = x'00' WHERE number = 7", "request 7: it is not what was written"),
    ("UPDATE requests SET request_id = x'00' WHERE number = 7", "request 7: it is no request"),
    ("DROP INDEX log_by_key", "the index of the log has other columns"),
    ("ALTER TABLE log ADD COLUMN more TEXT", "the table log has other columns"),
    ("PRAGMA user_version = 0", "not a store of Podium"),
    ("PRAGMA user_version = 1", "it cannot be read: duplicate column"),
    ("PRAGMA application_id = 1", "not a store of Podium"),
]


@pytest.mark.parametrize(("statement", "words"), STATEMENTS)
async def test_edited_by_hand(tmp_path: Path, statement: str, words: str) -> None:
    store = await make(tmp_path, compact_to=30)
    db = sqlite3.connect(store / "store.db", isolation_level=None)
    db.execute(statement).fetchall()
    db.close()
    with pytest.raises(StoreRefused) as caught:
        await content(store)
    assert words in str(caught.value)


async def test_the_high_water_mark_is_gone(tmp_path: Path) -> None:
    store = await make(tmp_path)
    (store / "high-water").unlink()
    await refused(store, "high-water: it is missing or damaged")


async def test_both_slots_of_the_high_water_mark_are_damaged(tmp_path: Path) -> None:
    store = await make(tmp_path)
    flip(store / "high-water", 100)
    flip(store / "high-water", highwater.SLOT_BYTES + 100)
    await refused(store, "high-water: it is missing or damaged")


@pytest.mark.parametrize("slot", [0, 1])
async def test_one_slot_of_the_high_water_mark_may_be_torn(tmp_path: Path, slot: int) -> None:
    store = await make(tmp_path)
    flip(store / "high-water", slot * highwater.SLOT_BYTES + 50, 4000)
    assert await content(store) == expected()


async def test_a_row_that_rots_while_the_store_is_open_is_not_served(tmp_path: Path) -> None:
    store = await make(tmp_path, revisions=300)
    opened = journal(store)
    await opened.open()
    async for _ in opened.load():
        pass
    offset = (store / "store.db").read_bytes().index(b"<payload of revision 000033>")
    with (store / "store.db").open("r+b") as file:
        file.seek(offset)
        file.write(b"<payload of revision 000044>")
    assert opened._reader is not None
    opened._reader.execute("PRAGMA shrink_memory")
    for reading in (
        opened.read(32, 1),
        opened.read(39, 1),
        opened.read_at(33, "Pod", ""),
        opened.read_key("Pod", "default", "p5", 0, 100, 10),
    ):
        with pytest.raises(JournalFailed, match="revision 33, Pod default/p5"):
            await reading
    await opened.close()


_MADE: dict[bool, tuple[Path, Content]] = {}


@pytest.mark.parametrize("killed", [False, True])
@settings(max_examples=60)
@given(data=st.data())
def test_wherever_bytes_are_flipped_nothing_wrong_is_served(
    tmp_path_factory: pytest.TempPathFactory, killed: bool, data: st.DataObject
) -> None:
    async def check() -> None:
        if killed not in _MADE:
            made = await make(tmp_path_factory.mktemp("flips"), revisions=40, compact_to=12, killed=killed)
            _MADE[killed] = made, await content(copy(made, made.with_name("sound")))
        made, sound = _MADE[killed]
        names = ["store.db", "high-water", *(["store.db-wal"] if killed else [])]
        name = data.draw(st.sampled_from(names))
        offset = data.draw(st.integers(0, (made / name).stat().st_size - 1))
        length = data.draw(st.sampled_from([1, 4, 64, 700]))
        with tempfile.TemporaryDirectory() as directory:
            store = copy(made, Path(directory) / "store")
            flip(store / name, offset, length)
            try:
                found = await content(store)
            except StoreRefused:
                return
            assert found == sound

    asyncio.run(check())


async def test_a_page_that_is_older_than_the_others(tmp_path: Path) -> None:
    """A write that the disk has lost: each page makes sense, and the file does not."""
    store = await make(tmp_path, revisions=40)
    old = (store / "store.db").read_bytes()
    again = journal(store)
    await again.open()
    await fill(again, 41, 80)
    await again.close()
    new = (store / "store.db").read_bytes()
    changed = [at for at in range(0, len(old), PAGE) if old[at : at + PAGE] != new[at : at + PAGE]]
    assert len(changed) > 2
    for at in changed:
        (store / "store.db").write_bytes(new[:at] + old[at : at + PAGE] + new[at + PAGE :])
        try:
            found = await content(store)
        except StoreRefused:
            continue
        assert found == expected(80), f"the page at {at}"
