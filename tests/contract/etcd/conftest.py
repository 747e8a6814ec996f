"""Real etcds, and clients of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from cluster.rpc.etcd import EtcdClient
from tests.kit.etcd import PATIENT_CLIENT, EtcdCluster, etcd, etcd3, shared_etcd

__all__ = ["etcd", "etcd3", "shared_etcd"]


@pytest.fixture
def key() -> bytes:
    """A prefix for the keys of one test."""
    return b"/test/%016x/" % random.SystemRandom().getrandbits(64)


@pytest.fixture
async def client(shared_etcd: EtcdCluster) -> AsyncIterator[EtcdClient]:
    client = EtcdClient(shared_etcd.endpoints, settings=PATIENT_CLIENT)
    yield client
    await client.close()
