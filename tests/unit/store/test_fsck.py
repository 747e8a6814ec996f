from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cluster.cli import main as cli
from cluster.store import fsck
from cluster.store.interface import StoreRefused
from tests.unit.store.damage import copy, fill, flip, journal, make


def files(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir() if not path.name.endswith("-shm")}


@pytest.mark.parametrize("killed", [False, True])
async def test_a_sound_store(tmp_path: Path, killed: bool) -> None:
    store = await make(tmp_path, compact_to=30, killed=killed)
    before = files(store)
    report = fsck.check(store)
    assert report.sound
    assert (report.store_id, report.schema, report.revision, report.oldest) == ("a-store", 2, 60, 30)
    assert (report.records, report.requests, report.high_water) == (37, 30, 60)
    assert report.objects == {"Pod": 7}
    assert len(report.chain) == 64
    assert files(store) == before, "nothing was changed, the WAL neither"


async def test_a_copy_without_a_lock_file_is_as_good(tmp_path: Path) -> None:
    store = copy(await make(tmp_path), tmp_path / "copy")
    (store / "lock").unlink()
    assert fsck.check(store).sound
    assert not (store / "lock").exists()


async def test_all_findings_are_told(tmp_path: Path) -> None:
    store = await make(tmp_path)
    data = (store / "store.db").read_bytes()
    for revision in (17, 33):
        flip(store / "store.db", data.index(b"<payload of revision %06d>" % revision) + 30)
    (store / "high-water").unlink()
    report = fsck.check(store)
    assert not report.sound
    assert [finding.where for finding in report.findings] == [
        str(store / "high-water"),
        "revision 17, Pod default/p3",
        "revision 17, Pod default/p3",
        "revision 33, Pod default/p5",
        "revision 33, Pod default/p5",
    ]
    assert report.high_water is None


async def test_a_great_many_findings_are_counted(tmp_path: Path) -> None:
    store = await make(tmp_path, revisions=150)
    db = sqlite3.connect(store / "store.db", isolation_level=None)
    db.execute("UPDATE log SET node = 'other'")
    db.close()
    report = fsck.check(store)
    assert len(report.findings) == fsck.MOST_FINDINGS
    assert report.more_findings == 2 * 150 - fsck.MOST_FINDINGS


async def test_a_store_that_is_open_is_left_alone(tmp_path: Path) -> None:
    opened = journal(tmp_path / "store")
    await opened.open()
    with pytest.raises(fsck.InUse):
        fsck.check(tmp_path / "store")
    await fill(opened, 1, 3)
    await opened.close()
    assert fsck.check(tmp_path / "store").revision == 3


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(fsck.NotHere, match="there is no store in"):
        fsck.check(tmp_path)
    (tmp_path / "store.db").write_bytes(b"something else, and long enough to be read" * 100)
    assert not fsck.check(tmp_path).sound
    (tmp_path / "store.db").unlink()
    db = sqlite3.connect(tmp_path / "store.db")
    db.execute("CREATE TABLE songs (name TEXT)")
    db.close()
    with pytest.raises(StoreRefused, match="not a store of Podium"):
        fsck.check(tmp_path)


async def test_the_whole_file_lost(tmp_path: Path) -> None:
    store = await make(tmp_path)
    (store / "store.db").unlink()
    (finding,) = fsck.check(store).findings
    assert finding.what == "the file is missing or empty, but there was a store here"


# --- the command


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.podium, ["fsck", *words], standalone_mode=False, obj={})


async def test_the_command_says_sound(tmp_path: Path) -> None:
    store = await make(tmp_path)
    result = run("--dir", str(store))
    assert result.return_value == 0
    assert "verdict      sound" in result.stdout
    assert "revision     60  (kept from 0 on)" in result.stdout
    assert "high-water   revision 60" in result.stdout


async def test_the_command_says_damaged_and_what_next(tmp_path: Path) -> None:
    store = await make(tmp_path)
    flip(store / "store.db", (store / "store.db").read_bytes().index(b"<payload of revision 000033>") + 30)
    result = run("--dir", str(store), "-o", "json")
    assert result.return_value == 1
    document = json.loads(result.stdout)
    assert document["verdict"] == "damaged"
    assert document["findings"][0]["where"] == "revision 33, Pod default/p5"
    assert "podium restore FILE" in result.stderr


async def test_the_command_asks_to_stop_a_master(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = journal(tmp_path / "store")
    await opened.open()
    assert cli.main(["fsck", "--dir", str(tmp_path / "store")]) == 2
    assert "is in use by a master. Stop it first: podium down --keep" in capsys.readouterr().err
    await opened.close()


def test_the_command_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fsck", "--dir", str(tmp_path)]) == 2
    assert "there is no store in" in capsys.readouterr().err


def test_the_command_finds_the_only_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path))
    monkeypatch.delenv("PODIUM_CLUSTER", raising=False)
    assert cli.main(["fsck"]) == 2
    assert "no cluster has kept its state here" in capsys.readouterr().err
    for name in ("one", "two"):
        (tmp_path / "clusters" / name).mkdir(parents=True)
    assert cli.main(["fsck"]) == 2
    assert "there are several clusters (one, two); name one" in capsys.readouterr().err
    assert cli.main(["fsck", "--cluster", "one"]) == 2
    assert f"there is no store in {tmp_path}/clusters/one/master" in capsys.readouterr().err
