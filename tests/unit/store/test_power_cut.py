"""Power cuts: whatever a cut at any moment leaves on the disk, everything that was acknowledged is there, nothing that
was not written is served, and nothing is refused.

A real process with the real journal writes under strace; from the trace, disks are built as a cut at random moments may
leave them (tests/kit/power_cut.py), and a real store is started on each. PODIUM_POWER_CUTS=n makes more cuts,
PODIUM_CHAOS_SEED=n other ones.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

from cluster.store.interface import StoreError
from cluster.store.store import Store
from tests.kit import store_workload
from tests.kit.clock import VirtualClock
from tests.kit.power_cut import STRACE, Disk, Event, parse

APPENDS = 150
CUTS = int(os.environ.get("PODIUM_POWER_CUTS") or 250)

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@dataclass(frozen=True)
class Trace:
    """What a run did, and what it said."""

    root: Path
    seed: int
    events: list[Event]

    def acknowledged(self, moment: int) -> int:
        """The newest revision that it had acknowledged by then."""
        said = [event.data for event in self.events[:moment] if event.call == "ack"]
        return int(said[-1].split()[1]) if said else 0


def record(root: Path, seed: int, *options: str) -> Trace:
    command = [sys.executable, "-m", "tests.kit.store_workload", str(root / "store"), str(seed), str(APPENDS), *options]
    done = subprocess.run([*STRACE, str(root / "trace"), *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    events = parse((root / "trace").read_text(errors="replace"))
    return Trace(root / "store", seed, events)


@dataclass
class Found:
    """What became of one disk."""

    lost: int = 0
    """Acknowledged revisions that are not there."""
    refused: str = ""
    wrong: str = ""


async def examine(trace: Trace, moment: int, directory: Path, rng: random.Random) -> Found:
    """Cuts the power at a moment, and starts a store on what is left."""
    disk = Disk()
    for event in trace.events[:moment]:
        disk.apply(event)
    directory.mkdir()
    disk.cut(rng, trace.root, directory)
    return await start(directory, trace.seed, trace.acknowledged(moment))


@lru_cache(1)
def written(seed: int) -> tuple[list[store_workload.Append], dict[int, store_workload.Model]]:
    """The appends of a run, and what existed after each, by revision."""
    appends = list(store_workload.script(seed, APPENDS))
    return appends, {0: {}, **{append.puts[-1].revision: append.after for append in appends}}


async def start(directory: Path, seed: int, acknowledged: int) -> Found:
    journal = store_workload.journal(str(directory))
    store = Store(journal, store_workload.SETTINGS, VirtualClock())
    try:
        await store.start()
    except StoreError as error:
        await store.stop()
        return Found(refused=str(error))
    try:
        found = Found(lost=max(0, acknowledged - store.revision))
        appends, whole = written(seed)
        if store.revision not in whole:
            found.wrong = f"half of an append is there: {store.revision}"
            return found
        there = {v.key.name: (v.revision, v.data) for v in store.state.list("Pod")}
        if there != whole[store.revision]:
            found.wrong = f"at {store.revision} there is not what was written"
        past = [revision for revision in whole if store.oldest <= revision <= store.revision]
        for revision in past[:: max(1, len(past) // 5)]:
            listed = {v.key.name: (v.revision, v.data) for v in await store.list_at(revision, "Pod")}
            if listed != whole[revision]:
                found.wrong = f"the past at {revision} is not what was written"
        requests = {request.request_id for request in await journal.load_requests()}
        if requests != {append.request for append in appends if append.puts[-1].revision <= store.revision}:
            found.wrong = f"requests up to {store.revision} are {requests}"
        return found
    finally:
        await store.stop()


async def cut_often(trace: Trace, tmp_path: Path, rng: random.Random, cuts: int) -> list[tuple[int, Found]]:
    """Many cuts, most of them right before or after something is written or synced."""
    moments = [rng.randint(0, len(trace.events)) for _ in range(cuts)]
    found = []
    for number, moment in enumerate(moments):
        directory = tmp_path / f"cut-{number}"
        result = await examine(trace, moment, directory, rng)
        found.append((moment, result))
        if not (result.lost or result.refused or result.wrong):
            shutil.rmtree(directory)
    return found


async def test_no_power_cut_takes_what_was_acknowledged(tmp_path: Path) -> None:
    seed = int(os.environ.get("PODIUM_CHAOS_SEED") or 1)
    print(f"PODIUM_CHAOS_SEED={seed}")
    trace = await asyncio.to_thread(record, tmp_path, seed)
    assert trace.acknowledged(len(trace.events)) > APPENDS
    found = await cut_often(trace, tmp_path, random.Random(seed), CUTS)
    bad = {moment: one for moment, one in found if one.lost or one.refused or one.wrong}
    assert not bad, f"seed {seed}: {len(bad)} of {len(found)} cuts: {bad}"


async def test_a_power_cut_while_the_file_is_made(tmp_path: Path) -> None:
    """Found by the test above: SQLite keeps a rollback journal until the new file is one with a WAL."""
    trace = await asyncio.to_thread(record, tmp_path, 1)
    removed = next(n for n, event in enumerate(trace.events) if event.call == "unlink")
    assert trace.events[removed].path.endswith("store.db-journal")
    for cut in range(40):
        result = await examine(trace, cut % removed + 1, tmp_path / f"cut-{cut}", random.Random(cut))
        assert result == Found(), f"cut {cut} before event {cut % removed + 1}: {result}"


async def test_the_harness_notices_when_commits_are_not_synced(tmp_path: Path) -> None:
    """With synchronous=NORMAL the newest commits are in the WAL and not on the disk."""
    trace = await asyncio.to_thread(record, tmp_path, 1, "--careless")
    found = await cut_often(trace, tmp_path, random.Random(1), 60)
    damaged = [one for _, one in found if one.lost or one.refused]
    assert len(damaged) > 10, "a test of power cuts that cannot fail tests nothing"


def test_a_trace_is_read() -> None:
    def hexed(text: str) -> str:
        return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'

    lines = [
        f"7  openat(AT_FDCWD</>, {hexed('/d/a')}, O_RDWR|O_CREAT, 0600) = 3</d/a>",
        f"7  pwrite64(3</d/a>, {hexed('hello')}, 5, 10) = 5",
        f"8  pwrite64(3</d/a>, {hexed('lost')}, 4, 0) = -1 ENOSPC (No space left on device)",
        "7  fdatasync(3</d/a> <unfinished ...>",
        f"8  write(1<pipe:[1]>, {hexed('ack 1')}, 5) = 5",
        "7  <... fdatasync resumed>) = 0",
        f"7  pwrite64(3</d/a>, {hexed('again')}, 5, 0 <unfinished ...>",
        f"8  write(1<pipe:[1]>, {hexed('ack 2')}, 5 <unfinished ...>",
        "7  <... pwrite64 resumed>) = 5",
        "8  <... write resumed>) = 5",
        "7  ftruncate(3</d/a>, 12) = 0",
        "7  fallocate(3</d/a>, 0, 0, 100) = 0",
        "7  fsync(4</d>) = 0",
        f"7  rename({hexed('/d/a')}, {hexed('/d/b')}) = 0",
        f"7  unlink({hexed('/d/b')}) = 0",
        "7  +++ exited with 0 +++",
    ]
    assert parse("\n".join(lines)) == [
        Event("create", "/d/a"),
        Event("write", "/d/a", b"hello", 10),
        Event("ack", "", b"ack 1"),
        Event("sync", "/d/a"),
        Event("write", "/d/a", b"again", 0),
        Event("ack", "", b"ack 2"),
        Event("truncate", "/d/a", offset=12),
        Event("extend", "/d/a", offset=100),
        Event("sync", "/d"),
        Event("rename", "/d/a", target="/d/b"),
        Event("unlink", "/d/b"),
    ]


def test_what_was_synced_survives_and_the_rest_may(tmp_path: Path) -> None:
    disk = Disk()
    for event in (
        Event("create", "/d/a"),
        Event("write", "/d/a", b"s" * 1024, 0),
        Event("sync", "/d/a"),
        Event("sync", "/d"),
        Event("write", "/d/a", b"n" * 1024, 512),
        Event("create", "/d/b"),
        Event("write", "/d/b", b"b", 0),
        Event("sync", "/d/b"),
    ):
        disk.apply(event)
    contents, names = set(), set()
    for seed in range(200):
        target = tmp_path / str(seed)
        target.mkdir()
        disk.cut(random.Random(seed), Path("/d"), target)
        content = (target / "a").read_bytes()
        assert content[:512] == b"s" * 512
        contents.add(content)
        names.add((target / "b").exists())
    s, n = b"s" * 512, b"n" * 512
    assert contents == {s + s, s + n, s + s + n, s + n + n}
    assert names == {True, False}, "a name that was not synced may be there or not"
