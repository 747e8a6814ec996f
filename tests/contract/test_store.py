"""The stores that there are, each against the one suite."""

from __future__ import annotations

from pathlib import Path

from cluster.store.interface import Journal
from cluster.store.journal import SqliteJournal
from cluster.store.memory import MemoryJournal
from tests.contract.store_suite import StoreSuite


class TestMemoryStore(StoreSuite):
    def setup_method(self) -> None:
        self._journal = MemoryJournal("a-store")

    def journal(self, tmp_path: Path) -> Journal:
        return self._journal


class TestSqliteStore(StoreSuite):
    def journal(self, tmp_path: Path) -> Journal:
        return SqliteJournal(tmp_path / "store", lambda: "a-store")
