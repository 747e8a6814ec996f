"""A node agent, its spawner, the supervisor die: in the lifetime `dev` nothing outlives them, and pods come back."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.api.conditions import is_node_ready
from cluster.testing import Cluster
from tests.e2e.workloads import pod, sleeper, wait_off
from tests.kit.processes import Proc, alive, family, mentioning


def escaping(token: str) -> str:
    """A command whose processes leave its group, its session and their parents; each has the token in its arguments."""
    return f"(setsid sh -c '(sleep {token} &) ; sleep {token}' &) ; sleep {token} & sleep {token}"


def vanishing(token: str) -> str:
    """A command that leaves a process with neither session, environment, descriptors nor parents of its container."""
    return f"(setsid env -i /bin/sleep {token} <&- >&- 2>&- &) ; sleep 1000"


def asleep(token: str) -> list[Proc]:
    """Those processes: four of each command, once its shells have started them all."""
    return [proc for proc in mentioning(token) if proc.title == f"sleep {token}"]


def away_of(token: str) -> set[Proc]:
    """That process."""
    return {proc for proc in mentioning(token) if proc.title == f"/bin/sleep {token}"}


def new_token() -> str:
    """A number of seconds that nobody else sleeps."""
    return f"1000.{secrets.randbelow(10**12):012d}"


def all_processes(cluster: Cluster) -> set[Proc]:
    """Supervisor, daemons, spawners, pods."""
    return family(*(process["pid"] for process in cluster.info()["processes"] if process["pid"]))


def spawner_of(cluster: Cluster, node: str) -> Proc:
    """The process that owns the pods of a node."""
    (child,) = psutil.Process(cluster.pid(node)).children()
    (proc,) = (proc for proc in family(child.pid) if proc.pid == child.pid)
    return proc


@pytest.mark.podium(nodes=2)
def test_everything_of_a_killed_agent_ends_and_is_replaced_elsewhere(podium_cluster: Cluster) -> None:
    token = new_token()
    podium_cluster.apply(sleeper("web", 4, command=escaping(token)))
    podium_cluster.wait("rc/web", ready=4)
    podium_cluster.wait_until(lambda: len(asleep(token)) == 16, "all processes of the pods run")
    doomed = family(podium_cluster.pid("node-1"))
    assert sum(token in proc.title for proc in doomed) >= 8
    podium_cluster.kill_node("node-1")
    podium_cluster.wait_until(lambda: not alive(doomed), "nothing of node-1 is left")
    podium_cluster.wait_until(lambda: not is_node_ready(podium_cluster.get("node", "node-1")), "it is noticed")
    wait_off(podium_cluster, "node-1")
    podium_cluster.wait("rc/web", ready=4)
    assert {pod.spec.nodeName for pod in podium_cluster.pods("app=web")} == {"node-2"}
    podium_cluster.stop()
    assert not mentioning(token)


@pytest.mark.podium(nodes=1)
def test_a_killed_spawner_loses_its_pods_and_they_are_started_again(podium_cluster: Cluster) -> None:
    token = new_token()
    podium_cluster.apply(sleeper("web", 2, command=escaping(token)))
    escaped: set[Proc] = set()
    if podium_cluster.get("node", "node-1").status.isolation.enforcement == "cgroup":
        away = new_token()
        podium_cluster.apply(pod("away", vanishing(away)))
        podium_cluster.wait_until(lambda: away_of(away), "a process has given up all but its control group")
        escaped = away_of(away)
    podium_cluster.wait("rc/web", ready=2)
    podium_cluster.wait_until(lambda: len(asleep(token)) == 8, "all processes of the pods run")
    uids = {pod.metadata.uid for pod in podium_cluster.pods("app=web")}
    spawner = spawner_of(podium_cluster, "node-1")
    lost = family(spawner.pid) | escaped
    os.kill(spawner.pid, signal.SIGKILL)
    podium_cluster.wait_until(lambda: not alive(lost), "what the spawner owned is gone")

    def restarted() -> bool:
        statuses = [pod.status.containerStatuses[0] for pod in podium_cluster.pods("app=web")]
        return len(statuses) == 2 and all(one.restartCount >= 1 and one.state.HasField("running") for one in statuses)

    podium_cluster.wait_until(restarted, "the containers run again")
    podium_cluster.wait("rc/web", ready=2)
    for one in podium_cluster.pods("app=web"):
        assert one.metadata.uid in uids, "a lost container is restarted in its pod"
        ended = one.status.containerStatuses[0].lastState.terminated
        assert ended.exitCode == 137
        assert ended.reason == "ContainerStatusUnknown"


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A control group whose processes not even SIGKILL ends while it is frozen: as when a disk does not answer."""
    group = Path("/sys/fs/cgroup/freezer") / f"podium-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no process that does not die can be had here: {group}: {error.strerror}; needs root, cgroup v1")
    yield group
    (group / "freezer.state").write_text("THAWED")
    deadline = time.monotonic() + 20
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    group.rmdir()


@pytest.mark.podium(nodes=1)
def test_a_pod_is_terminating_until_nothing_of_it_is_left(podium_cluster: Cluster, freezer: Path) -> None:
    token = new_token()
    podium_cluster.apply(pod("stuck", escaping(token)))
    podium_cluster.wait_until(lambda: len(asleep(token)) == 4, "all processes of the pod run")
    one = asleep(token)[0]
    (freezer / "cgroup.procs").write_text(str(one.pid))
    (freezer / "freezer.state").write_text("FROZEN")
    podium_cluster.wait_until(lambda: (freezer / "freezer.state").read_text() == "FROZEN\n", "it is stopped")
    podium_cluster.delete("pod", "stuck", wait=False)
    podium_cluster.wait_until(
        lambda: podium_cluster.events("FailedKillPod", "stuck"), "it does not die, and that is said"
    )
    assert str(one.pid) in podium_cluster.events("FailedKillPod", "stuck")[0].message
    assert [proc.pid for proc in mentioning(token)] == [one.pid], "all others are gone"
    left = podium_cluster.get("pod", "stuck")
    assert left.metadata.HasField("deletionTimestamp")
    # Neither another spawner nor another agent takes it for gone.
    os.kill(spawner_of(podium_cluster, "node-1").pid, signal.SIGKILL)
    podium_cluster.apply(pod("other", "sleep 1000"))
    podium_cluster.wait("pod/other")
    assert podium_cluster.get("pod", "stuck").metadata.uid == left.metadata.uid
    podium_cluster.kill_process("node-1")
    podium_cluster.start_node("node-1")
    podium_cluster.wait_until(
        lambda: len(podium_cluster.events("FailedKillPod", "stuck")) == 2, "the next agent knows, and says so"
    )
    assert podium_cluster.get("pod", "stuck").metadata.uid == left.metadata.uid
    (freezer / "freezer.state").write_text("THAWED")
    podium_cluster.wait_until(lambda: not podium_cluster.pods("app=stuck"), "it is gone with its last process")
    assert not mentioning(token)


@pytest.mark.podium(nodes=2)
def test_everything_ends_with_a_killed_supervisor_and_down_cleans_up(podium_cluster: Cluster) -> None:
    token = new_token()
    podium_cluster.apply(sleeper("web", 3, command=escaping(token)))
    podium_cluster.wait("rc/web", ready=3)
    everything = all_processes(podium_cluster)
    assert len(everything) > 15
    podium_cluster.kill_process("supervisor")
    podium_cluster.wait_until(lambda: not alive(everything), "everything has ended by itself")
    assert not mentioning(token)
    down = podium_cluster.podium("down")
    assert "0 processes left" in down.stderr
    assert not podium_cluster.directory.exists()


@pytest.mark.podium(nodes=2)
def test_down_right_after_the_supervisor_was_killed(podium_cluster: Cluster) -> None:
    token = new_token()
    podium_cluster.apply(sleeper("web", 3, command=escaping(token)))
    podium_cluster.wait("rc/web", ready=3)
    everything = all_processes(podium_cluster)
    podium_cluster.kill_process("supervisor")
    down = podium_cluster.podium("down")
    assert "0 processes left" in down.stderr
    assert not alive(everything), "down said that nothing is left"
    assert not mentioning(token)


@pytest.mark.podium(nodes=2)
def test_down_of_a_suspended_supervisor_and_a_suspended_agent(podium_cluster: Cluster) -> None:
    token = new_token()
    podium_cluster.apply(sleeper("web", 3, command=escaping(token)))
    podium_cluster.wait("rc/web", ready=3)
    everything = all_processes(podium_cluster)
    podium_cluster.kill_process("node-1", signal.SIGSTOP)
    podium_cluster.kill_process("supervisor", signal.SIGSTOP)
    down = podium_cluster.podium("down")
    assert "killing everything" in down.stderr
    assert "0 processes left" in down.stderr
    assert not alive(everything), "down said that nothing is left"
    assert not mentioning(token)
