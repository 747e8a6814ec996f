"""The pytest plugin: a fixture with a real cluster, and what is needed to understand a failure.

    @pytest.mark.podium(nodes=3, profile="test")
    def test_failover(podium_cluster):
        podium_cluster.apply(Path("web.yaml"))
        podium_cluster.wait("rc/web", ready=3)
        podium_cluster.kill_node("node-2")
        podium_cluster.wait("rc/web", ready=3, timeout_s=5)

Each cluster has a directory and a block of addresses of its own, so tests may run side by side. When a test fails, the
cluster's logs and objects are copied to `--podium-artifacts` (default: build/podium-artifacts) before it is stopped;
the fixture fails if a process is left behind.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cluster.testing.cluster import Cluster

FAILED = pytest.StashKey[bool]()
"""In the stash of a test that failed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --podium-artifacts."""
    parser.getgroup("podium").addoption(
        "--podium-artifacts",
        default="build/podium-artifacts",
        metavar="DIR",
        help="where logs and objects of the cluster of a failed test go",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line(
        "markers",
        "podium(nodes=1, profile='test', options=(), environment={}): what `podium_cluster` shall be; "
        "options are those of `podium up`, environment is that of its daemons",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Remembers that a test failed, for the fixture's end."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture
def podium_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster for this test alone; ask for its shape with the marker `podium`."""
    from cluster.testing.cluster import Cluster

    marker = request.node.get_closest_marker("podium")
    arguments: dict[str, Any] = {"nodes": 1, "profile": "test", "options": ()} | (marker.kwargs if marker else {})
    cluster = Cluster.start(home=tmp_path / "podium", **arguments)
    try:
        yield cluster
        if request.node.stash.get(FAILED, False):
            keep_artifacts(cluster, artifacts_of(request.node))
    finally:
        cluster.stop()


def artifacts_of(item: pytest.Item) -> Path:
    """The directory for a test's artefacts."""
    root = Path(item.config.getoption("--podium-artifacts"))
    return root / re.sub(r"[^\w.-]+", "_", item.nodeid)


def keep_artifacts(cluster: Cluster, directory: Path) -> None:
    """Copies the cluster's logs and prints its objects and events into the directory."""
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    shutil.copytree(cluster.directory / "log", directory / "log")
    (directory / "story.txt").write_text(cluster.story())
    objects = cluster.podium("get", "nodes,pods,rc,svc,ep,ns,events", "-A", "-o", "json", check=False)
    (directory / "objects.json").write_text(objects.stdout)
