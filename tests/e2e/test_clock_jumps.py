"""An administrator sets the machine's clock by an hour, back and forth, under a whole cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.api.conditions import is_node_ready
from cluster.testing import Cluster
from tests.e2e.conftest import watched
from tests.e2e.workloads import pod, sleeper

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Calendar:
    """What daemons believe the time to be. Their monotonic clocks are the machine's."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.jump("+0")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, by: str) -> None:
        """From what the machine says."""
        changed = self.file.with_suffix(".new")
        changed.write_text(by)
        changed.replace(self.file)


@pytest.fixture
def calendar(tmp_path: Path) -> Calendar:
    if not LIBRARIES:
        pytest.skip("no process can be told another time here: apt-get install faketime")
    return Calendar(tmp_path / "calendar")


@pytest.fixture
def cluster(calendar: Calendar, tmp_path: Path) -> Iterator[Cluster]:
    with (
        Cluster.start(nodes=1, home=tmp_path / "podium", environment=calendar.environment) as cluster,
        watched(cluster),
    ):
        yield cluster


@pytest.mark.parametrize("by", ["+1h", "-1h"])
def test_pods_and_their_node_do_not_notice(cluster: Cluster, calendar: Calendar, by: str) -> None:
    cluster.apply(sleeper("web", 2))
    cluster.apply(pod("limited", "sleep 1000", spec="activeDeadlineSeconds: 600"))
    cluster.apply(pod("crashing", "sleep 0.3; exit 1", restart="Always"))
    cluster.wait("rc/web", ready=2)
    said: list[str] = []

    def restarts() -> int:
        statuses = cluster.get("pod", "crashing").status.containerStatuses
        if not statuses:
            return 0  # nobody has begun with it
        status = statuses[0]
        if status.state.waiting.reason == "CrashLoopBackOff":
            said.append(status.state.waiting.message.partition(" restarting")[0])
        return int(status.restartCount)

    def silences() -> int:
        return sum(event.count for event in cluster.events("NodeNotReady", "node-1"))

    cluster.wait_until(lambda: restarts() and said[-1:] == ["back-off 2s"], "it waits as long as it can")
    ran = {one.metadata.uid for one in cluster.pods("app=web")}
    calendar.jump(by)
    said.clear()
    before = restarts()
    cluster.wait_until(lambda: restarts() >= before + 3, "it crashes on")
    assert set(said) == {"back-off 2s"}
    assert not silences()
    cluster.kill_process("node-1")
    cluster.wait_until(silences, "it is missed")
    cluster.start_node("node-1")
    calendar.jump("+0")
    before = restarts()
    cluster.wait_until(lambda: restarts() > before, "the next agent goes on with it")
    assert {one.metadata.uid for one in cluster.pods("app=web")} == ran
    assert not any(one.status.containerStatuses[0].restartCount for one in cluster.pods("app=web"))
    assert cluster.get("pod", "limited").status.phase == "Running"
    assert is_node_ready(cluster.get("node", "node-1"))
    assert silences() == 1, "but for when it was dead"
