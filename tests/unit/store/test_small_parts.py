"""Encoding, history, failpoints, and the store's clockwork."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from cluster.api.errors import Expired
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.etcd import FAILPOINTS
from cluster.store import encoding, failpoints
from cluster.store.history import History, Marks, Window, compaction_target
from cluster.store.interface import Journal, JournalFailed, Request
from cluster.store.journal import SqliteJournal
from cluster.store.memory import MemoryJournal
from cluster.store.store import Store, StoreSettings
from cluster.store.version import Record, records_of
from cluster.store.watchers import Interest
from tests.kit.clock import VirtualClock
from tests.unit.store.rig import Script, Watching, version


@given(revision=st.integers(0, 2**62), name=st.text("abc", max_size=300))
def test_encoded_events_are_what_the_generated_classes_read(revision: int, name: str) -> None:
    data = version(1, name).data
    event = encoding.event(encoding.ADDED, revision, "Pod", data)
    batch = wire.WatchBatch.FromString(event + encoding.batch_store_id("s") + encoding.event(4, revision))
    assert [e.revision for e in batch.events] == [revision, revision]
    assert batch.events[0].object.pod.metadata.name == name
    assert not batch.events[1].HasField("object")
    assert batch.store_id == "s"


def test_encoded_lists_are_what_the_generated_classes_read() -> None:
    items = [("Pod", version(1, "a").data), ("Pod", version(2, "b" * 200).data)]
    response = wire.ListResponse.FromString(encoding.list_response(items, 7, "s", "token", 300))
    assert [item.pod.metadata.name for item in response.items] == ["a", "b" * 200]
    assert (response.revision, response.store_id, response.remaining_item_count) == (7, "s", 300)
    assert getattr(response, "continue") == "token"


def test_what_to_compact() -> None:
    window = Window(revisions=100, age_s=60, slack=10)
    assert compaction_target(100, 0, 0, window, []) is None
    assert compaction_target(109, 0, 0, window, []) is None
    assert compaction_target(110, 0, 0, window, []) == 10
    assert compaction_target(110, 0, 90, window, []) == 90, "too old, whatever the number"
    assert compaction_target(500, 0, 0, window, [30, 50]) == 30, "a reader is there"
    assert compaction_target(500, 25, 0, window, [30]) is None


def test_marks_say_what_is_too_old() -> None:
    marks = Marks()
    for second in range(0, 300, 10):
        marks.note(float(second), second)
    assert marks.newest_before(0.0) == 0
    assert marks.newest_before(100.0) == 90
    assert marks.newest_before(100.0) == 90
    assert marks.newest_before(1000.0) == 270


async def test_compaction_waits_for_a_reader_and_spares_its_place() -> None:
    journal = MemoryJournal("s")
    await journal.append(records_of(_changes(1, 50)))
    history = History(journal, Window(revisions=10, age_s=1e12, slack=1), 0)
    reader = object()
    assert (await history.read(reader, 5, now_s=0.0))[-1].revision == 50
    history._pins[reader] = (20, 0.0)
    await history.compact(50, 0.0, now_s=1.0)
    assert history.compacted == 20
    await history.compact(50, 0.0, now_s=100.0)
    assert history.compacted == 40, "a reader that stays away is forgotten"
    with pytest.raises(Expired):
        await history.read(reader, 39, now_s=100.0)


def _changes(first: int, last: int) -> list:  # type: ignore[type-arg]
    from cluster.store.version import Change

    return [Change(None, version(n, f"p{n}"), float(n)) for n in range(first, last + 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("store.before_commit=exit", {"store.before_commit": failpoints.Failpoint("exit")}),
        (
            "store.before_commit=exit:1in50; store.after_commit=sleep:200ms",
            {
                "store.before_commit": failpoints.Failpoint("exit", one_in=50),
                "store.after_commit": failpoints.Failpoint("sleep", 0.2),
            },
        ),
        ("store.after_mark=sleep:5ms:1in3", {"store.after_mark": failpoints.Failpoint("sleep", 0.005, 3)}),
        ("store.after_mark=raise:nth7", {"store.after_mark": failpoints.Failpoint("raise", nth=7)}),
        ("store.after_mark=freeze", {"store.after_mark": failpoints.Failpoint("freeze")}),
    ],
)
def test_failpoints_are_read(text: str, expected: dict[str, failpoints.Failpoint]) -> None:
    assert failpoints.parse(text) == expected


@pytest.mark.parametrize("action", ["", "jump", "sleep", "exit:5ms", "exit:1in0", "sleep:xms", "exit:nthx"])
def test_failpoints_that_do_not_parse_are_refused(action: str) -> None:
    with pytest.raises(ValueError, match="PODIUM_FAILPOINTS"):
        failpoints.parse(f"store.before_commit={action}")


@pytest.mark.parametrize("text", ["a", "=exit", "no.such.place=exit"])
def test_failpoints_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="PODIUM_FAILPOINTS"):
        failpoints.parse(text)


def test_the_table_has_every_failpoint_that_there_is() -> None:
    sources = Path(failpoints.__file__).parents[1].rglob("*.py")
    found = {name for source in sources for name in re.findall(r'failpoints\.hit\("([^"]*)"\)', source.read_text())}
    # The client of etcd lives a floor below: it is handed a hook, and says itself which names it calls it with.
    assert found | set(FAILPOINTS) == set(failpoints.KNOWN)


async def test_bookmarks_come_at_their_interval() -> None:
    clock = VirtualClock()
    store = Store(MemoryJournal("s"), StoreSettings(bookmark_interval_s=5.0), clock)
    await store.start()
    watching = Watching(store.watch(Interest("Service")))
    await watching.until(0)
    await Script(store).put("a")
    await clock.run_for(16.0)
    assert [(e.type, e.revision) for e in watching.recording.events] == [("BOOKMARK", 0), *[("BOOKMARK", 1)] * 3]
    await watching.close()
    await store.stop()


async def test_a_reader_that_stops_reading_is_closed_and_memory_stays_flat() -> None:
    clock = VirtualClock()
    store = Store(MemoryJournal("s"), StoreSettings(ring_changes=10), clock)
    await store.start()
    batches = store.watch(Interest("Pod"))
    await anext(batches)
    script = Script(store)
    for _ in range(100):
        await script.put("a", app="x" * 1000)
    await clock.run_for(7.0)
    (lane,) = store._watchers._lanes.values()
    assert not lane._entries
    with pytest.raises(Expired, match="too slow"):
        await anext(batches)
    assert store.watchers == 0
    await store.stop()


class _Broken(MemoryJournal):
    async def compact(self, revision: int, limit: int) -> bool:
        raise JournalFailed("fsync: EIO")


async def test_a_disk_that_fails_while_forgetting_is_told_of() -> None:
    clock, told = VirtualClock(), list[BaseException]()
    limits = StoreSettings(window=Window(revisions=1, slack=1))
    store = Store(_Broken("s"), limits, clock, told.append)
    store.leading = True
    await store.start()
    for _ in range(5):
        await Script(store).put("a")
    await clock.run_for(40.0)
    assert [type(error) for error in told] == [JournalFailed]
    await store.stop()


class _Slow(MemoryJournal):
    """A disk that takes for ever to forget."""

    async def compact(self, revision: int, limit: int) -> bool:
        await asyncio.Event().wait()
        return True


async def test_watchers_hear_that_there_is_nothing_while_the_disk_is_slow_to_forget() -> None:
    clock = VirtualClock()
    store = Store(_Slow("s"), StoreSettings(window=Window(revisions=1, slack=1)), clock)
    store.leading = True
    await store.start()
    for _ in range(5):
        await Script(store).put("a")
    watching = Watching(store.watch(Interest("Service")))
    await watching.until(5)
    await clock.run_for(60.0)
    assert len(watching.recording.events) >= 12
    await watching.close()
    await store.stop()


class _Held(MemoryJournal):
    """A disk that is not ready until it is told so."""

    def __init__(self) -> None:
        super().__init__("s")
        self.go = asyncio.Event()

    async def append(self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        await self.go.wait()
        await super().append(records, requests)


async def test_nobody_sees_a_revision_before_it_is_durable() -> None:
    journal = _Held()
    as_journal: Journal = journal
    store = Store(as_journal, StoreSettings(), VirtualClock())
    await store.start()
    watching = Watching(store.watch(Interest("Pod"), initial_state=True))
    await watching.until(0)
    task = asyncio.create_task(Script(store).put("a"))
    for _ in range(50):
        await asyncio.sleep(0)
    assert store.revision == 0
    assert not store.state.list("Pod")
    assert watching.recording.changes == []
    journal.go.set()
    await task
    assert [e.revision for e in (await watching.until(1)).changes] == [1]
    await watching.close()
    await store.stop()


WRITER = """
import asyncio, sys
from pathlib import Path
from cluster.actor.clock import SystemClock
from cluster.store.journal import SqliteJournal
from cluster.store.store import Store, StoreSettings
from tests.unit.store.rig import Script

async def main():
    store = Store(SqliteJournal(Path(sys.argv[1]), lambda: "s"), StoreSettings(), SystemClock())
    await store.start()
    script = Script(store)
    while True:
        print(await script.put(f"p{store.revision % 50}"), flush=True)

asyncio.run(main())
"""


def _write_until_killed(directory: Path, points: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WRITER, str(directory)],
        env={"PODIUM_FAILPOINTS": points, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("point", ["store.before_commit", "store.after_commit"])
async def test_what_was_acknowledged_survives_a_kill_at_a_crash_point(tmp_path: Path, point: str) -> None:
    acknowledged = 0
    for _ in range(3):
        done = await asyncio.to_thread(_write_until_killed, tmp_path, f"{point}=exit:1in40")
        assert done.returncode == failpoints.EXIT_CODE, done.stderr
        acknowledged = max(acknowledged, *map(int, done.stdout.split() or ["0"]), 0)
        store = Store(SqliteJournal(tmp_path, lambda: "other"), StoreSettings(), VirtualClock())
        await store.start()
        assert acknowledged <= store.revision <= acknowledged + 1
        acknowledged = store.revision
        await store.stop()
