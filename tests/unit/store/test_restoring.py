"""Restores that are killed anywhere: the next start sees the old store or the new one, whole, and never a mixture."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.store import backup_file, failpoints, fsck, opening, restoring
from cluster.store.backup_format import BadBackup, Writing
from cluster.store.failpoints import EXIT_CODE, VARIABLE
from cluster.store.interface import Opening, StoreRefused
from cluster.store.journal import SqliteJournal
from tests.unit.store.damage import make
from tests.unit.store.test_backup_format import BACKUP, HEADER, RECORDS, REQUESTS, header_of, log

RESTORED = "a-store+0123abcd"
CHILD = """
import sys
from pathlib import Path
from cluster.store import backup_file, opening, restoring
directory, backup, back = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "back"
staged = restoring.stage(directory, backup_file.parts_of(backup), "0123abcd")
opening.take_lock(directory)
restoring.switch(directory)
if back:
    restoring.put_back(directory, staged.store_id)
"""


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """With 60 revisions of its own, and a WAL: its master was killed."""
    return await make(tmp_path, killed=True)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "backup"
    path.write_bytes(BACKUP)
    return path


def restore(store: Path, backup: Path) -> restoring.Staged:
    staged = restoring.stage(store, backup_file.parts_of(backup), "0123abcd")
    lock = opening.take_lock(store)
    try:
        restoring.switch(store)
    finally:
        os.close(lock)
    return staged


async def opened(store: Path) -> tuple[str, int, int]:
    """What a start finds: id, newest revision, and what is compacted."""
    journal = SqliteJournal(store, lambda: "new", ballast_bytes=0)
    try:
        found = await journal.open()
        async for _ in journal.load():
            pass
        return found.store_id, await journal.head(), found.compacted
    finally:
        await journal.close()


async def test_a_restored_store_has_everything_that_was_backed_up(store: Path, backup: Path) -> None:
    staged = restore(store, backup)
    assert (staged.store_id, staged.records, staged.header) == (RESTORED, len(RECORDS), HEADER)
    assert staged.objects == {"Pod": len(RECORDS)}
    report = fsck.check(store)
    assert report.sound
    assert (report.store_id, report.revision, report.high_water) == (RESTORED, 30, 30)
    journal = SqliteJournal(store, lambda: "new")
    try:
        assert await journal.open() == Opening(RESTORED, 10)
        assert [r for piece in [piece async for piece in journal.load()] for r in piece] == RECORDS
        assert await journal.load_requests() == REQUESTS
        await journal.append([RECORDS[-1]._replace(revision=31, position=0, previous=30)])
        while not await journal.compact(25, 3):
            pass
    finally:
        await journal.close()
    assert await opened(store) == (RESTORED, 31, 25)


async def test_the_store_before_is_kept_and_sound(store: Path, backup: Path) -> None:
    restore(store, backup)
    kept = fsck.check(store / restoring.OLD)
    assert kept.sound
    assert (kept.store_id, kept.revision) == ("a-store", 60)
    assert not (store / restoring.NEW).exists()
    restore(store, backup)
    assert fsck.check(store / restoring.OLD).store_id == RESTORED, (
        "the next restore keeps what it replaces, and no more"
    )


async def test_a_restore_of_a_restored_store_is_another_incarnation(store: Path, backup: Path) -> None:
    assert restoring.incarnation(RESTORED, "ffffffff") == "a-store+ffffffff"


async def test_into_a_directory_without_a_store(tmp_path: Path, backup: Path) -> None:
    (tmp_path / "empty").mkdir()
    restore(tmp_path / "empty", backup)
    assert await opened(tmp_path / "empty") == (RESTORED, 30, 10)


async def test_back_again(store: Path, backup: Path) -> None:
    staged = restore(store, backup)
    restoring.put_back(store, staged.store_id)
    restoring.put_back(store, staged.store_id)
    assert await opened(store) == ("a-store", 60, 0)
    assert not {restoring.NEW, restoring.OLD, restoring.MARKER} & set(os.listdir(store))


async def test_there_is_nothing_to_put_back_before_the_switch(store: Path, backup: Path) -> None:
    """Not even when an earlier restore has kept what was before."""
    restore(store, backup)
    staged = restoring.stage(store, backup_file.parts_of(backup), "99999999")
    restoring.put_back(store, staged.store_id)
    assert await opened(store) == (RESTORED, 30, 10)


@pytest.mark.parametrize("at", [0, 5, 40, 400, len(BACKUP) // 2, len(BACKUP) - 20, len(BACKUP) - 1])
async def test_a_damaged_backup_changes_nothing(store: Path, backup: Path, at: int) -> None:
    data = bytearray(BACKUP)
    data[at] ^= 4
    backup.write_bytes(data)
    with pytest.raises(BadBackup):
        restore(store, backup)
    assert not (store / restoring.NEW).exists()
    assert await opened(store) == ("a-store", 60, 0)


async def test_a_backup_of_a_kind_that_is_not_known_is_refused_in_words(store: Path, backup: Path) -> None:
    records = [*log(5), log(7)[-2]._replace(revision=6, position=0, kind="Volcano")]
    writing = Writing(header_of(records))
    backup.write_bytes(b"".join([writing.begin(), *writing.records(records), writing.end()]))
    with pytest.raises(BadBackup, match=r"does not know \(Volcano\): made by podium 0.1"):
        restore(store, backup)
    assert await opened(store) == ("a-store", 60, 0)


async def test_on_a_full_disk_nothing_changes(store: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk's end."""
    records = log(200, size=200)
    writing = Writing(header_of(records))
    (tmp_path / "large").write_bytes(b"".join([writing.begin(), *writing.records(records), writing.end()]))
    command = ["prlimit", "--fsize=65536", sys.executable, "-c", CHILD, str(store), str(tmp_path / "large"), "there"]
    failed = await asyncio.to_thread(lambda: subprocess.run(command, capture_output=True, text=True, timeout=60))
    assert failed.returncode == 1
    assert "disk" in failed.stderr
    assert not (store / restoring.NEW).exists()
    assert await opened(store) == ("a-store", 60, 0)
    restore(store, tmp_path / "large")
    assert await opened(store) == (RESTORED, 200, 0)


def test_a_store_that_is_in_use_is_not_replaced(tmp_path: Path, backup: Path) -> None:
    lock = opening.take_lock(tmp_path)
    with pytest.raises(StoreRefused, match="in use by another master"):
        restore(tmp_path, backup)
    os.close(lock)


BACK = [name for name in failpoints.KNOWN if name.startswith("restore.") and ".etcd_" not in name]
FORTH = [name for name in BACK if "remove" not in name and "return" not in name]


def die(store: Path, backup: Path, way: str, failpoint: str, nth: int) -> bool:
    """Restores in a process of its own, which dies there; False: it did not come by so often."""
    return _dies([sys.executable, "-c", CHILD, str(store), str(backup), way], failpoint, nth)


def _dies(command: list[str], failpoint: str, nth: int = 1) -> bool:
    environment = {**os.environ, VARIABLE: f"{failpoint}=exit:nth{nth}"}
    code = subprocess.run(command, env=environment, timeout=60).returncode
    assert code in (0, EXIT_CODE)
    return code == EXIT_CODE


OLD_STORE, NEW_STORE = ("a-store", 60, 0), (RESTORED, 30, 10)


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("failpoint", FORTH)
async def test_killed_on_the_way_there(tmp_path: Path, backup: Path, failpoint: str, nth: int) -> None:
    store = await make(tmp_path, killed=True)
    died = die(store, backup, "there", failpoint, nth)
    assert died or nth > 1, "the place was never reached: this tests nothing"
    begun = restoring.interrupted(store)
    if begun:
        assert any("interrupted" in finding.what for finding in fsck.check(store).findings)
    found = await opened(store)
    assert found in (OLD_STORE, NEW_STORE)
    if begun or not died:
        assert found == NEW_STORE, "what was begun is finished"
    assert fsck.check(store).sound
    assert await opened(store) == found
    restore(store, backup)
    assert await opened(store) == NEW_STORE


@pytest.mark.parametrize("failpoint", BACK)
async def test_killed_on_the_way_back(tmp_path: Path, backup: Path, failpoint: str) -> None:
    """Dies as late as it comes by there, which is on the way back for all that it passes there."""
    store = await make(tmp_path, killed=True)
    nth = 1
    while die(store, backup, "back", failpoint, nth):
        assert await opened(store) in (OLD_STORE, NEW_STORE)
        assert fsck.check(store).sound
        store = await make(tmp_path / f"{nth}", killed=True)
        nth += 1
    assert nth > 1, "the place was never reached: this tests nothing"
    assert await opened(store) == OLD_STORE


MOVING = ["between_aside", "after_mark", "between_install", "after_install"]
FINISH = """
import sys
from pathlib import Path
from cluster.store import opening, restoring
opening.take_lock(Path(sys.argv[1]))
restoring.settle(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("way", ["there", "back"])
async def test_killed_again_and_again_while_it_finishes(tmp_path: Path, backup: Path, way: str) -> None:
    """Each start dies at the next place, until one comes through."""
    store = await make(tmp_path, killed=True)
    assert die(store, backup, way, "restore.between_remove" if way == "back" else "restore.between_aside", 1)
    command = [sys.executable, "-c", FINISH, str(store)]
    moving = ["between_remove", "after_mark", "between_return"] if way == "back" else MOVING
    for point in (*moving, "before_done", "after_done"):
        assert _dies(command, f"restore.{point}"), point
    assert not _dies(command, "restore.after_done")
    assert await opened(store) == (OLD_STORE if way == "back" else NEW_STORE)
    assert fsck.check(store).sound
