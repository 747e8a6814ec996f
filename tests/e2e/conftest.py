"""Real clusters for end-to-end tests: one shared by the tests that break nothing, own ones for those that do.

Whatever a test is about, two things are checked besides: what watchers were told meanwhile (tests/e2e/watched.py), and
that neither a process nor a file of its cluster is left (`leaves_nothing`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster.testing import Cluster
from cluster.testing.plugin import artifacts_of, keep_artifacts
from tests.e2e.watched import WatchedCluster

_SETTLE_S = 20.0
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, alive for the whole session; a test keeps to a namespace of its own."""
    home = tmp_path_factory.mktemp("shared") / "podium"
    with Cluster.start(nodes=3, home=home) as cluster, watched(cluster):
        yield cluster
    assert_nothing_left(home)


@contextmanager
def own_cluster(factory: pytest.TempPathFactory, *, nodes: int, options: Sequence[str] = ()) -> Iterator[Cluster]:
    """A cluster for the tests of a file; nothing of it is left afterwards."""
    home = factory.mktemp("own") / "podium"
    with Cluster.start(nodes=nodes, home=home, options=list(options)) as cluster:
        yield cluster
    assert_nothing_left(home)


@pytest.fixture
def podium_cluster(podium_cluster: Cluster) -> Iterator[Cluster]:
    """The plugin's cluster, watched."""
    with watched(podium_cluster):
        yield podium_cluster


@contextmanager
def watched(cluster: Cluster) -> Iterator[None]:
    """Holds what watchers are told meanwhile against the watch guarantees."""
    recorder = WatchedCluster(cluster)
    recorder.start()
    try:
        yield
    finally:
        recorder.stop()
    recorder.check()


@pytest.fixture(autouse=True)
def leaves_nothing(tmp_path: Path) -> Iterator[None]:
    """Checks, after everything else of the test, that nothing of its own clusters is left."""
    yield
    assert_nothing_left(tmp_path / "podium")


def assert_nothing_left(home: Path) -> None:
    """No process that was started for this PODIUM_HOME runs any more, and the directory is gone. Waits a little."""
    deadline = time.monotonic() + _SETTLE_S
    while (left := _processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"left behind: {left}"
    assert not home.exists(), f"left behind: {sorted(map(str, home.rglob('*')))}"


def _processes_of(home: Path) -> list[str]:
    """Processes with this PODIUM_HOME in their environment or below it in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if process.status() != psutil.STATUS_ZOMBIE and (
                process.environ().get("PODIUM_HOME") == str(home) or any(str(home) in word for word in words)
            ):
                found.append(f"{process.pid} {' '.join(words)}")
        except psutil.Error:
            continue
    return found


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
