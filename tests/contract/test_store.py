"""The stores that there are, each against the one suite."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from cluster.rpc.etcd import EtcdClient
from cluster.store.etcd.journal import EtcdJournal
from cluster.store.interface import Journal
from cluster.store.journal import SqliteJournal
from cluster.store.memory import MemoryJournal
from tests.contract.store_suite import StoreSuite
from tests.kit.etcd import PATIENT_JOURNAL, EtcdCluster, shared_etcd

__all__ = ["shared_etcd"]


class TestMemoryStore(StoreSuite):
    def setup_method(self) -> None:
        self._journal = MemoryJournal("a-store")

    def journal(self, tmp_path: Path) -> Journal:
        return self._journal


class TestSqliteStore(StoreSuite):
    def journal(self, tmp_path: Path) -> Journal:
        return SqliteJournal(tmp_path / "store", lambda: "a-store")


@pytest.mark.usefixtures("no_leaks")
class TestEtcdStore(StoreSuite):
    """One etcd for all of them, a prefix for each."""

    @pytest.fixture(autouse=True)
    def _etcd(self, shared_etcd: EtcdCluster) -> None:
        self._endpoints = shared_etcd.endpoints
        self._prefix = f"/podium/{random.SystemRandom().getrandbits(64):x}/"

    def journal(self, tmp_path: Path) -> Journal:
        client = EtcdClient(self._endpoints)
        return EtcdJournal(client, self._prefix, PATIENT_JOURNAL, SystemClock(), random.Random(), lambda: "a-store")
