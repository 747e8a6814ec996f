"""Real clusters for end-to-end tests: one shared by the tests that break nothing, own ones for those that do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.testing import Cluster
from cluster.testing.plugin import artifacts_of, keep_artifacts

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, alive for the whole session; a test keeps to a namespace of its own."""
    with Cluster.start(nodes=3, home=tmp_path_factory.mktemp("shared") / "podium") as cluster:
        yield cluster


@pytest.fixture
def namespace(shared_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace in the shared cluster; it is emptied and removed afterwards, which must work."""
    name = f"t-{abs(hash(request.node.nodeid)) % 10**8}"
    shared_cluster.apply(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")
    yield name
    if request.node.stash.get(_failed_key(), False):
        keep_artifacts(shared_cluster, artifacts_of(request.node))
    shared_cluster.delete("namespace", name)


def _failed_key() -> pytest.StashKey[bool]:
    from cluster.testing import plugin

    return plugin.FAILED


@pytest.fixture
def guestbook(tmp_path: Path) -> Path:
    """A copy of the guestbook example, to show that it needs nothing around it."""
    return Path(shutil.copytree(EXAMPLES / "guestbook", tmp_path / "guestbook"))
