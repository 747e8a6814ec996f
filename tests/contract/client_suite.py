"""What every `ClusterClient` must do, whatever is behind it: one suite, several implementers.

Whatever a test is about, every watch of its client is held against the watch guarantees when it is over.

To prove an implementation, subclass `ClientContract` in a test module and give it a fixture `cluster_client_factory`
that returns clients of one fresh cluster by identity: `factory("admin")`. See test_client_contract.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cluster.client.interface import ClusterClient
from tests.contract.client_deletes import DeleteContract
from tests.contract.client_evictions import EvictContract
from tests.contract.client_kit import ClusterClientFactory
from tests.contract.client_leases import LeaseContract
from tests.contract.client_reads import ReadContract
from tests.contract.client_services import ServiceContract
from tests.contract.client_travel import TravelContract
from tests.contract.client_watches import WatchContract
from tests.contract.client_writes import WriteContract
from tests.kit.watch_recorder import WatchRecorder


class ClientContract(
    WriteContract,
    DeleteContract,
    EvictContract,
    ReadContract,
    ServiceContract,
    WatchContract,
    TravelContract,
    LeaseContract,
):
    """All of it."""

    @pytest.fixture
    async def client(self, cluster_client_factory: ClusterClientFactory) -> AsyncIterator[ClusterClient]:
        recorder = WatchRecorder(cluster_client_factory("admin"))
        yield recorder.client
        await recorder.check()
