"""The store against a dictionary: random writes, reads, watches, compactions and restarts never tell them apart."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cluster.api.errors import Expired
from cluster.api.meta import Key
from cluster.store.history import Window
from cluster.store.interface import Journal
from cluster.store.journal import SqliteJournal
from cluster.store.memory import MemoryJournal
from cluster.store.store import Store, StoreSettings
from cluster.store.version import Change
from cluster.store.watchers import Interest
from tests.kit.clock import VirtualClock
from tests.kit.watch_validators import Seen, check
from tests.unit.store.rig import Script, Watching, key

R = TypeVar("R")
NAMES = st.sampled_from(["a", "b", "c", "d"])
NODES = st.sampled_from(["", "n1", "n2"])
Snapshot = dict[Key, tuple[int, str]]


class StoreMachine(RuleBasedStateMachine):
    """`model`: key -> (revision, node); `past`: the model at each revision; `log`: what watchers must hear."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.memory = MemoryJournal("memory")
        self.model: Snapshot = {}
        self.past: dict[int, Snapshot] = {0: {}}
        self.log: list[Seen] = []
        self.watching: list[Watching] = []

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        return self.loop.run_until_complete(work)

    def journal(self) -> Journal:
        return self.memory

    @initialize()
    def open(self) -> None:
        limits = StoreSettings(ring_changes=5, window=Window(revisions=12, age_s=1e12, slack=2))
        self.store = Store(self.journal(), limits, VirtualClock())
        self.run(self.store.start())

    @rule(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), node=NODES, delete=st.booleans())
    def write(self, names: list[str], node: str, delete: bool) -> None:
        """One revision: each of the names is put, or deleted if it exists and that is what is wanted."""
        script, changes = Script(self.store), list[Change]()
        revision = self.store.revision + 1
        for name in names:
            exists = key(name) in self.model
            if delete and not exists:
                continue
            changes.append(script.change(name, revision, node=node, deleted=delete))
        if not changes:
            return
        self.run(self.store.commit(changes))
        for change in changes:
            if delete:
                del self.model[change.key]
            else:
                self.model[change.key] = (revision, change.new.node)
            word = "DELETED" if delete else "ADDED" if change.old is None else "MODIFIED"
            self.log.append(Seen(word, revision, str(change.key)))
        self.past[revision] = dict(self.model)

    @rule()
    def restart(self) -> None:
        self.close_watches()
        store_id = self.store.store_id
        self.run(self.store.stop())
        self.open()
        assert self.store.store_id == store_id

    @rule()
    def compact(self) -> None:
        self.run(self.store.history.compact(self.store.revision, 0.0, 1e6))

    @rule(data=st.data())
    def read_the_past(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(0, self.store.revision))
        node = data.draw(NODES)
        wanted = {k: v for k, v in self.past[revision].items() if node in ("", v[1])}
        if revision < self.store.oldest:
            with pytest.raises(Expired):
                self.run(self.store.list_at(revision, "Pod"))
        else:
            found = self.run(self.store.list_at(revision, "Pod", "", node))
            assert [(v.key, (v.revision, v.node)) for v in found] == sorted(wanted.items())

    @precondition(lambda self: len(self.watching) < 4)
    @rule(data=st.data())
    def watch(self, data: st.DataObject) -> None:
        async def begin(after: int) -> Watching:
            return Watching(self.store.watch(Interest("Pod"), after=after), after)

        after = data.draw(st.integers(self.store.oldest, self.store.revision))
        self.watching.append(self.run(begin(after)))

    @rule()
    def check_watches(self) -> None:
        for watching in self.watching:
            recording = self.run(watching.until(self.store.revision))
            assert watching.error is None
            check(recording, self.log)

    @invariant()
    def the_present_is_the_models(self) -> None:
        if hasattr(self, "store"):
            assert self.store.revision == max(self.past)
            found = self.store.state.list("Pod")
            assert [(v.key, (v.revision, v.node)) for v in found] == sorted(self.model.items())

    def close_watches(self) -> None:
        for watching in self.watching:
            self.run(watching.close())
        self.watching = []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.check_watches()
            self.close_watches()
            self.run(self.store.stop())
        self.loop.close()
        self.directory.cleanup()


class SqliteStoreMachine(StoreMachine):
    def journal(self) -> Journal:
        return SqliteJournal(Path(self.directory.name) / "store", lambda: "sqlite")


def test_the_store_on_memory_is_a_dictionary_with_a_past() -> None:
    limits = settings(max_examples=40, stateful_step_count=30, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(StoreMachine, settings=limits)


def test_the_store_on_sqlite_is_a_dictionary_with_a_past() -> None:
    limits = settings(max_examples=15, stateful_step_count=25, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(SqliteStoreMachine, settings=limits)
