"""`podium backup` and `podium restore` where no cluster is needed: files, addresses, a master that does not come up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cluster.cli import main as cli
from cluster.cli.backup import new_file
from cluster.cli.exits import CommandError
from cluster.cli.restore import Target, block_of
from cluster.store import fsck
from cluster.up import control
from cluster.up.layout import ClusterDir, ClusterState
from tests.unit.store.damage import make
from tests.unit.store.test_backup_format import BACKUP, HEADER

BLOCK_28 = replace(HEADER, service_cidr="127.28.0.0/20", pod_cidr_base="127.28.16.0")


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.podium, list(words), standalone_mode=False, obj={})


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "backup"
    path.write_bytes(BACKUP)
    return path


# --- files


def test_a_new_file_is_private_and_whole(tmp_path: Path) -> None:
    with new_file(tmp_path / "f", force=False) as out:
        out.write(b"all of it")
        assert os.listdir(tmp_path) == ["f.partial"]
    assert (tmp_path / "f").read_bytes() == b"all of it"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("force", [False, True])
def test_what_breaks_leaves_what_was_there(tmp_path: Path, force: bool) -> None:
    if force:
        (tmp_path / "f").write_text("before")

    def write() -> None:
        with new_file(tmp_path / "f", force=force) as out:
            out.write(b"half of")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write()
    assert os.listdir(tmp_path) == (["f"] if force else [])
    assert not force or (tmp_path / "f").read_text() == "before"


def test_what_a_killed_command_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "f.partial").write_text("much more than what comes, and readable by all")
    (tmp_path / "f.partial").chmod(0o644)
    with new_file(tmp_path / "f", force=False) as out:
        out.write(b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    with new_file(tmp_path / "f", force=False) as out:
        out.write(b"first")
        with pytest.raises(CommandError, match="being written"), new_file(tmp_path / "f", force=False):
            pass
    assert (tmp_path / "f").read_bytes() == b"first"


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    for name, force in (("f", False), ("link", True), (".", True)):
        with pytest.raises(CommandError), new_file(tmp_path / name, force=force):
            pass
    assert (tmp_path / "f").read_text() == "mine"


# --- addresses


@pytest.mark.parametrize(
    ("service_cidr", "pod_cidr_base", "block"),
    [
        ("127.28.0.0/20", "127.28.16.0", 28),
        ("127.28.0.0/20", "127.29.16.0", None),
        ("127.28.0.0/16", "127.28.16.0", None),
        ("127.1.0.0/20", "127.1.16.0", None),
        ("10.0.0.0/20", "10.1.0.0", None),
        ("", "", None),
        ("127.x.0.0/20", "127.x.16.0", None),
    ],
)
def test_the_block_of_a_backup(service_cidr: str, pod_cidr_base: str, block: int | None) -> None:
    assert block_of(replace(HEADER, service_cidr=service_cidr, pod_cidr_base=pod_cidr_base)) == block


# --- fsck of a backup


def test_fsck_says_what_a_backup_holds(backup: Path) -> None:
    result = run("fsck", str(backup))
    assert result.return_value == 0
    for line in (
        "cluster      demo  (services at 127.9.0.0/20, sqlite)",
        "made         1970-01-01T00:00:12Z by podium 0.1",
        "store        a-store",
        "revision     30  (kept from 10 on)",
        "objects      33 Pod",
        "verdict      sound",
    ):
        assert line in result.stdout, result.stdout
    document = json.loads(run("fsck", str(backup), "-o", "json").stdout)
    assert (document["verdict"], document["requests"], document["oldest"]) == ("sound", 10, 10)
    assert "only one of them" in str(run("fsck", str(backup), "--dir", str(backup.parent)).exception)


def test_fsck_says_what_is_wrong_with_a_backup(backup: Path) -> None:
    backup.write_bytes(BACKUP[:-50])
    result = run("fsck", str(backup))
    assert result.return_value == 1
    assert "its end is missing" in result.stdout
    assert "verdict      damaged" in result.stdout
    assert json.loads(run("fsck", str(backup), "-o", "json").stdout.partition("\n}\n")[0] + "}")["findings"]


# --- a directory


async def test_a_directory_is_restored(tmp_path: Path, backup: Path) -> None:
    store = await make(tmp_path)
    refused = run("restore", str(backup), "--dir", str(store))
    assert isinstance(refused.exception, CommandError)
    assert "--yes" in str(refused.exception)
    assert run("restore", str(backup), "--dir", str(store), "--yes").return_value == 0
    report = fsck.check(store)
    assert (report.sound, report.revision) == (True, 30)
    assert report.store_id.startswith("a-store+")
    assert fsck.check(store / "restore.old").revision == 60


def test_two_targets_are_too_many(tmp_path: Path, backup: Path) -> None:
    assert "only one of them" in str(run("--cluster", "a", "restore", str(backup), "--dir", str(tmp_path)).exception)
    assert "only one of them" in str(
        run("restore", str(backup), "--store", "etcd://a", "--dir", str(tmp_path)).exception
    )
    assert "--store" in str(run("restore", str(backup), "--etcd-credentials", str(tmp_path)).exception)


def test_a_cluster_whose_store_is_elsewhere_is_not_given_one_here(
    tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ClusterDir(tmp_path / "demo")
    cluster.create()
    monkeypatch.setattr(ClusterState, "is_running", lambda self: True)
    target = Target(cluster.path / "master", cluster, ClusterState("demo", True, "test", 28, "127.28.0.1:6443", 0.0))
    with pytest.raises(CommandError, match="name the store: --store URL"):
        target.check(BLOCK_28, None)


# --- a master that does not come up


class Supervisor:
    """Starts the master whenever nobody holds it; with which store, a test decides whether it comes up."""

    def __init__(self, store: Path, comes_up: Callable[[str], bool]) -> None:
        self._store = store
        self._comes_up = comes_up
        self.started: list[str] = []

    @contextmanager
    def hold(self, path: Path, *, timeout_s: float = 30.0) -> Iterator[None]:
        try:
            yield
        finally:
            self.started.append(fsck.check(self._store).store_id)

    def ask(self, path: Path, message: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
        up = self._comes_up(self.started[-1])
        master = {
            "name": "master",
            "role": "master",
            "state": "running" if up else "stopped",
            "crashes": 0 if up else 3,
        }
        return {"children": [master | {"log": str(self._store / "log")}]}


@pytest.mark.parametrize("well", [True, False])
async def test_the_old_store_comes_back_if_the_master_does_not_come_up(
    tmp_path: Path, backup: Path, well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ClusterDir(tmp_path / "demo")
    cluster.create()
    (await make(tmp_path)).rename(cluster.path / "new")
    (cluster.path / "master").rmdir()
    store = (cluster.path / "new").rename(cluster.path / "master")
    (store / "log").write_text("it does not like it\n")
    state = ClusterState("demo", True, "test", 28, "127.28.0.1:6443", 0.0)
    monkeypatch.setattr(ClusterState, "is_running", lambda self: True)
    supervisor = Supervisor(store, lambda store_id: well or "+" not in store_id)
    monkeypatch.setattr(control, "hold_masters", supervisor.hold)
    monkeypatch.setattr(control, "ask", supervisor.ask)
    target = Target(store, cluster, state)
    target.check(BLOCK_28, None)
    if well:
        assert target.restore(backup) == 0
        assert fsck.check(store).revision == 30
        assert len(supervisor.started) == 1
        return
    with pytest.raises(CommandError, match="as it was before: master does not start"):
        target.restore(backup)
    report = fsck.check(store)
    assert (report.sound, report.store_id, report.revision) == (True, "a-store", 60)
    assert ["+" in store_id for store_id in supervisor.started] == [True, False]
