"""A cluster of two nodes for each file, and kubectl with the files of the stories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.testing import Cluster
from tests.e2e.conftest import own_cluster
from tests.e2e.kubectl.stories import FILES
from tests.kit.kubectl import Kubectl


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_cluster(tmp_path_factory, nodes=2) as found:
        yield found


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(cluster, tmp_path_factory.mktemp("kubectl-home"), files=FILES)
