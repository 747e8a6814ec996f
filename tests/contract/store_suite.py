"""What every store does, whatever makes its log durable: one suite, many implementers.

An implementer inherits `StoreSuite` and says how to make its journal; `journal()` twice is the same log, opened again.
Every watch of these tests is held against the six guarantees (tests/kit/watch_validators.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.api.errors import Expired, StoreRewound, Unavailable
from cluster.store.history import Window
from cluster.store.interface import Journal
from cluster.store.store import Store, StoreSettings
from cluster.store.watchers import Interest
from tests.contract.journal_suite import JournalSuite
from tests.kit.clock import VirtualClock
from tests.kit.watch_validators import Seen, check
from tests.unit.store.rig import Script, Watching, key

SMALL = StoreSettings(ring_changes=8, bookmark_interval_s=5.0, window=Window(revisions=40, age_s=1e12, slack=10))


class StoreSuite(JournalSuite):
    """Inherit, and define `journal`."""

    def journal(self, tmp_path: Path) -> Journal:
        raise NotImplementedError

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = Store(self.journal(tmp_path), SMALL, VirtualClock())
        await store.start()
        await store.journal.campaign("127.0.0.1:1")
        yield store
        await store.stop()

    async def reopened(self, store: Store, tmp_path: Path, settings: StoreSettings = SMALL) -> Store:
        await store.stop()
        again = Store(self.journal(tmp_path), settings, VirtualClock())
        await again.start()
        await again.journal.campaign("127.0.0.1:1")
        return again

    # --- reading and writing

    async def test_a_new_store_is_empty_and_has_an_id(self, store: Store) -> None:
        assert store.revision == 0
        assert store.store_id
        assert list(store.state.list("Pod")) == []

    async def test_reads_see_what_was_committed(self, store: Store) -> None:
        script = Script(store)
        await script.put("b")
        await script.put("a", node="n1")
        await script.put("c", namespace="other")
        await script.delete("b")
        assert store.revision == 4
        assert store.get(key("b")) is None
        found = store.get(key("a"))
        assert found is not None
        assert found.object.metadata.name == "a"
        assert [v.key.name for v in store.state.list("Pod")] == ["a", "c"]
        assert [v.key.name for v in store.state.list("Pod", "other")] == ["c"]
        assert [v.key.name for v in store.state.list("Pod", "", "n1")] == ["a"]
        assert store.state.count("Pod") == 2

    async def test_a_list_as_of_a_revision_is_that_of_then(self, store: Store) -> None:
        script = Script(store)
        expected: dict[int, list[tuple[str, int]]] = {}
        for number in range(30):
            name = f"p{number % 5}"
            if store.get(key(name)) is not None and number % 3 == 0:
                await script.delete(name)
            else:
                await script.put(name)
            expected[store.revision] = [(v.key.name, v.revision) for v in store.state.list("Pod")]
        assert store.state.horizon > 1, "the old ones are to be read from disk"
        for revision, names in expected.items():
            assert [(v.key.name, v.revision) for v in await store.list_at(revision, "Pod")] == names

    async def test_a_list_as_of_the_future_is_refused(self, store: Store) -> None:
        with pytest.raises(StoreRewound, match="has not happened"):
            await store.list_at(1, "Pod")

    async def test_what_was_committed_is_there_after_a_restart(self, store: Store, tmp_path: Path) -> None:
        script = Script(store)
        for number in range(20):
            await script.put(f"p{number % 7}", node=f"n{number % 2}")
        await script.delete("p3")
        before = [(v.key, v.revision, v.data, v.node) for v in store.state.list("Pod")]
        again = await self.reopened(store, tmp_path)
        assert again.store_id == store.store_id
        assert again.revision == 21
        assert [(v.key, v.revision, v.data, v.node) for v in again.state.list("Pod")] == before
        assert [v.key.name for v in await again.list_at(20, "Pod")] == [f"p{n}" for n in range(7)]
        await Script(again).put("p3")
        assert again.revision == 22
        await again.stop()

    async def test_the_revision_survives_when_everything_was_deleted_and_forgotten(
        self, store: Store, tmp_path: Path
    ) -> None:
        script = Script(store)
        for _ in range(40):
            await script.put("p")
            await script.delete("p")
        await store.history.compact(store.revision, 1e9, 0.0)
        window = Window(revisions=0, age_s=1e12, slack=1)
        again = await self.reopened(store, tmp_path, StoreSettings(window=window))
        await again.history.compact(again.revision, 1e9, 0.0)
        assert again.oldest == 80
        third = await self.reopened(again, tmp_path)
        assert third.revision == 80
        assert third.get(key("p")) is None
        await third.stop()

    # --- watching

    async def test_a_watch_with_initial_state(self, store: Store) -> None:
        script = Script(store)
        for name in ("a", "b", "c"):
            await script.put(name)
        watching = Watching(store.watch(Interest("Pod"), initial_state=True))
        await watching.until(3)
        assert [(e.type, e.revision, e.key) for e in watching.recording.events] == [
            ("ADDED", 1, "Pod/default/a"),
            ("ADDED", 2, "Pod/default/b"),
            ("ADDED", 3, "Pod/default/c"),
            ("INITIAL_STATE_END", 3, ""),
        ]
        await script.put("a")
        await script.delete("b")
        recording = await watching.until(5)
        log = [Seen("MODIFIED", 4, "Pod/default/a"), Seen("DELETED", 5, "Pod/default/b")]
        assert recording.changes == log
        check(recording, log)
        await watching.close()
        assert store.watchers == 0

    async def test_a_watch_from_now_on_begins_with_a_bookmark(self, store: Store) -> None:
        await Script(store).put("a")
        watching = Watching(store.watch(Interest("Pod")))
        recording = await watching.until(1)
        assert recording.events == [Seen("BOOKMARK", 1)]
        await watching.close()

    @pytest.mark.parametrize("after", [0, 1, 12, 29, 30])
    async def test_a_watch_resumes_after_any_kept_revision(self, store: Store, after: int) -> None:
        log = await _history(store, 30)
        watching = Watching(store.watch(Interest("Pod"), after=after), after)
        await watching.until(30)
        await Script(store).put("new")
        check(await watching.until(31), [*log, Seen("ADDED", 31, "Pod/default/new")])
        await watching.close()

    @pytest.mark.parametrize("after", [0, 7, 30])
    async def test_a_watch_resumes_over_a_restart(self, store: Store, after: int, tmp_path: Path) -> None:
        log = await _history(store, 30)
        again = await self.reopened(store, tmp_path)
        watching = Watching(again.watch(Interest("Pod"), after=after), after)
        await Script(again).put("new")
        log.append(Seen("ADDED", 31, "Pod/default/new"))
        check(await watching.until(31), log)
        await watching.close()
        await again.stop()

    async def test_enter_and_leave_of_a_selector(self, store: Store) -> None:
        script = Script(store)
        interest = Interest("Pod", selector="app=x", matches=lambda obj: obj.metadata.labels.get("app") == "x")
        live = Watching(store.watch(interest))
        await script.put("a", app="x")
        await script.put("a", app="y")
        await script.put("a", app="z")
        await script.put("a", app="x")
        await script.put("a", app="x")
        await script.delete("a")
        expected = [
            Seen("ADDED", 1, "Pod/default/a"),
            Seen("DELETED", 2, "Pod/default/a"),
            Seen("ADDED", 4, "Pod/default/a"),
            Seen("MODIFIED", 5, "Pod/default/a"),
            Seen("DELETED", 6, "Pod/default/a"),
        ]
        check(await live.until(6), expected)
        late = Watching(store.watch(interest, after=0), 0)
        check(await late.until(6), expected)
        await live.close()
        await late.close()

    async def test_a_watch_of_a_node_and_of_a_namespace(self, store: Store) -> None:
        script = Script(store)
        node = Watching(store.watch(Interest("Pod", node="n1")))
        namespace = Watching(store.watch(Interest("Pod", "other")))
        await script.put("a")
        await script.put("a", node="n1")
        await script.put("b", node="n2")
        await script.put("c", namespace="other")
        await script.delete("a")
        await script.delete("c", "other")
        recording = await node.until(5)
        check(recording, [Seen("ADDED", 2, "Pod/default/a"), Seen("DELETED", 5, "Pod/default/a")])
        recording = await namespace.until(6)
        check(recording, [Seen("ADDED", 4, "Pod/other/c"), Seen("DELETED", 6, "Pod/other/c")])
        await node.close()
        await namespace.close()

    async def test_an_atomic_write_is_one_revision_in_one_batch(self, store: Store, tmp_path: Path) -> None:
        script = Script(store)
        await store.commit([script.change(name, 1) for name in ("a", "b", "c")])
        assert store.revision == 1
        again = await self.reopened(store, tmp_path)
        watching = Watching(again.watch(Interest("Pod"), after=0), 0)
        recording = await watching.until(1)
        check(recording, [Seen("ADDED", 1, f"Pod/default/{name}") for name in ("a", "b", "c")])
        assert len(recording.batches[0]) == 3
        await watching.close()
        await again.stop()

    async def test_compaction_forgets_and_says_so(self, store: Store) -> None:
        log = await _history(store, 60)
        await store.history.compact(store.revision, 0.0, 0.0)
        assert store.oldest == 20
        with pytest.raises(Expired, match="no longer kept; the oldest is 20"):
            await store.list_at(19, "Pod")
        stale = Watching(store.watch(Interest("Pod"), after=19))
        assert isinstance(await stale.end(), Expired)
        assert len(await store.list_at(20, "Pod")) == 3
        watching = Watching(store.watch(Interest("Pod"), after=20), 20)
        check(await watching.until(60), log)
        await watching.close()

    async def test_a_client_that_is_ahead_is_told_to_list_again(self, store: Store) -> None:
        watching = Watching(store.watch(Interest("Pod"), after=7))
        error = await watching.end()
        assert isinstance(error, StoreRewound)
        assert "is at 0" in str(error)

    async def test_stopping_ends_watches(self, store: Store) -> None:
        watching = Watching(store.watch(Interest("Pod")))
        await watching.until(0)
        store.drain()
        assert isinstance(await watching.end(), Unavailable)
        late = Watching(store.watch(Interest("Pod")))
        assert isinstance(await late.end(), Unavailable)
        assert store.watchers == 0


async def _history(store: Store, revisions: int) -> list[Seen]:
    """Three pods that are made, changed, deleted and made again; what a watcher of all pods is told."""
    script, log = Script(store), []
    while store.revision < revisions:
        name = f"p{store.revision % 3}"
        exists = store.get(key(name)) is not None
        if exists and store.revision % 7 == 0 and store.revision < revisions - 3:
            await script.delete(name)
            log.append(Seen("DELETED", store.revision, f"Pod/default/{name}"))
        else:
            await script.put(name)
            log.append(Seen("MODIFIED" if exists else "ADDED", store.revision, f"Pod/default/{name}"))
    return log
