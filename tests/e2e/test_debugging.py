"""`podium debug`: a command in the place of a container that does not run. It is its caller's, and the pod's."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.testing import Cluster
from tests.e2e.foreground import Foreground
from tests.e2e.workloads import pod
from tests.kit.processes import Proc, alive, family

MISSING = "./start"
REPAIR = (
    "echo as $A of $POD_NAME; printf '#!/bin/sh\\ntouch ran; exec sleep 1000\\n' > start; chmod +x start;"
    " until [ -e ran ]; do sleep 0.02; done; echo it runs; until [ -e done ]; do sleep 0.02; done; echo still here"
)
LOOK = "(setsid sleep 1000 &); echo ready; exec sleep 1000"


def start_broken(cluster: Cluster, namespace: str) -> None:
    """A pod whose program is not there: it is never up, not even for a moment."""
    manifest = pod("broken", "", restart="Always", extra="env: [{name: A, value: b}]", spec="nodeName: node-1")
    cluster.apply(manifest.replace("command: [sh, -c, '']", f"command: [{MISSING}]"), namespace)
    cluster.wait_until(lambda: restarts(cluster, namespace) > 0, "it cannot be started")


def restarts(cluster: Cluster, namespace: str) -> int:
    return sum(each.restartCount for each in cluster.get("pod", "broken", namespace).status.containerStatuses)


def debugging(cluster: Cluster, namespace: str, script: str) -> Foreground:
    words = ("--cluster", cluster.name, "debug", "-n", namespace, "broken", "--", "sh", "-c", script)
    return Foreground(cluster.home, *words)


def remembered(cluster: Cluster, node: str = "node-1") -> set[str]:
    """The runs that the node's spawner has in its records."""
    runs: set[str] = set()
    for line in (cluster.directory / "nodes" / node / "runs.jsonl").read_text().splitlines():
        entry = json.loads(line)
        runs |= {entry["run"]} if "run" in entry else set()
        runs -= {entry.get("forget")}
    return runs


def groups_of(pid: int) -> list[Path]:
    """The control groups of a command that it has for itself."""
    mount, found = Path("/sys/fs/cgroup"), []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        version_2 = "unified" if (mount / "unified").is_dir() else "."
        if ".exec-" in path:
            found.append(mount / (names.split(",")[0] or version_2) / path.lstrip("/"))
    return found


class Looking:
    """What runs in the place of a container, and all that is to be gone with it."""

    def __init__(self, cluster: Cluster, before: set[Proc]) -> None:
        self._cluster = cluster
        new = family(cluster.pid("node-1-spawner")) - before
        self.processes = {proc for proc in new if "sleep 1000" in proc.title}
        self.groups = [group for proc in self.processes for group in groups_of(proc.pid)]
        assert len(self.processes) >= 2
        assert [run for run in remembered(cluster) if ".exec-" in run]
        assert all(group.is_dir() for group in self.groups)
        if cluster.get("node", "node-1").status.isolation.enforcement == "cgroup":
            assert self.groups

    def is_gone(self) -> bool:
        is_known = any(".exec-" in run for run in remembered(self._cluster))
        return not alive(self.processes) and not is_known and not any(group.exists() for group in self.groups)


def test_it_goes_on_when_the_container_starts(shared_cluster: Cluster, namespace: str) -> None:
    """It repairs what keeps the container from starting, and sees it run."""
    start_broken(shared_cluster, namespace)
    with debugging(shared_cluster, namespace, REPAIR) as looking:
        looking.wait_for("as b of broken\n")
        looking.wait_for("it runs\n")
        shared_cluster.wait("pod/broken", namespace)
        assert shared_cluster.exec("broken", ["touch", "done"], namespace).code == 0
        assert looking.wait() == 0
        assert looking.text.endswith("still here\n")
    shared_cluster.wait("pod/broken", namespace)


def test_it_goes_on_while_the_container_fails_again(shared_cluster: Cluster, namespace: str) -> None:
    """And `top` counts it."""
    start_broken(shared_cluster, namespace)
    with debugging(shared_cluster, namespace, "echo ready; until [ -e done ]; do sleep 0.02; done; exit 7") as looking:
        looking.wait_for("ready\n")
        before = restarts(shared_cluster, namespace)
        shared_cluster.wait_until(lambda: restarts(shared_cluster, namespace) >= before + 2, "it fails twice")
        counted = shared_cluster.podium("top", "pods", "-n", namespace).stdout.splitlines()[1].split()
        assert (counted[0], int(counted[3]) >= 1) == ("broken", True)
        again = shared_cluster.podium("debug", "-n", namespace, "broken", "--", "touch", "done")
        assert again.returncode == 0, "several may look at a time"
        assert looking.wait() == 7


def delete_the_pod(cluster: Cluster, namespace: str, looking: Foreground) -> None:
    cluster.delete("pod", "broken", namespace)
    assert looking.wait() == 137


def go(cluster: Cluster, namespace: str, looking: Foreground) -> None:
    os.kill(looking.pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [delete_the_pod, go])
@pytest.mark.parametrize("profile", ["baseline", "restricted", "sandbox"])
def test_it_ends_with_the_pod_or_with_whoever_looks(
    shared_cluster: Cluster, namespace: str, profile: str, end: Callable[[Cluster, str, Foreground], None]
) -> None:
    """With all that it has started; and nothing remembers it. Its container will not run again: one in a sandbox is up
    for a moment, whatever it runs."""
    if profile not in shared_cluster.get("node", "node-1").status.isolation.profiles:
        pytest.skip(f"this machine has not what the profile {profile} needs")
    spec = f"nodeName: node-1\n          securityProfile: {profile}"
    shared_cluster.apply(pod("broken", "exit 1", spec=spec), namespace)
    shared_cluster.wait("pod/broken", namespace, phase="Failed")
    before = family(shared_cluster.pid("node-1-spawner"))
    with debugging(shared_cluster, namespace, LOOK) as looking:
        looking.wait_for("ready\n")
        run = Looking(shared_cluster, before)
        end(shared_cluster, namespace, looking)
        shared_cluster.wait_until(run.is_gone, "nothing of it is left")


@pytest.mark.podium(nodes=1)
def test_it_ends_with_the_agent_that_passes_everything_on(podium_cluster: Cluster) -> None:
    """Which disconnects whoever looks. Nothing of it is left in the next one's life."""
    start_broken(podium_cluster, "default")
    before = family(podium_cluster.pid("node-1-spawner"))
    with debugging(podium_cluster, "default", LOOK) as looking:
        looking.wait_for("ready\n")
        run = Looking(podium_cluster, before)
        podium_cluster.kill_process("node-1")
        podium_cluster.wait_until(lambda: not alive(run.processes), "it ends")
        assert looking.wait() != 0
    podium_cluster.start_node("node-1")
    podium_cluster.wait_until(run.is_gone, "nothing of it is left")
    assert podium_cluster.podium("debug", "broken", "--", "true").returncode == 0
