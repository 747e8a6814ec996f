"""What containers may use: limits that hold, trees that end whole, whatever programs try."""

from __future__ import annotations

import os

import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.workloads import pod
from tests.kit.processes import mentioning

HOG = "python3 -c 'x = bytes([1]) * (400 << 20); import time; time.sleep(1000)'"
LIMIT = "resources: {limits: {memory: 64Mi, cpu: 500m}}"
ESCAPE = (
    "import os, sys, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        os.closerange(0, 10)\n"
    "        os.execve('/bin/sleep', ['sleep', sys.argv[1]], {})\n"
    "    os._exit(0)\n"
    "time.sleep(1000)\n"
)


def ended(cluster: Cluster, name: str, namespace: str) -> core.ContainerStateTerminated:
    found = core.ContainerStateTerminated()

    def look() -> bool:
        statuses = cluster.get("pod", name, namespace).status.containerStatuses
        if statuses and statuses[0].state.HasField("terminated"):
            found.CopyFrom(statuses[0].state.terminated)
            return True
        return False

    cluster.wait_until(look, f"pod/{name} has ended")
    return found


def test_a_memory_hog_is_killed_and_says_so(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("hog", HOG, extra=LIMIT), namespace)
    how = ended(shared_cluster, "hog", namespace)
    assert (how.exitCode, how.reason) == (137, "OOMKilled") or "MemoryError" in how.message
    said = shared_cluster.podium("get", "nodes", "-o", "wide").stdout
    assert "ENFORCE" in said
    assert "cgroup" in said or "rlimit" in said


def test_what_has_left_everything_ends_with_its_container(shared_cluster: Cluster, namespace: str) -> None:
    """Another session, an empty environment, no descriptors, no parent: only its control group tells whose it is."""
    nodes = shared_cluster.list("node", "")
    if any(node.status.isolation.enforcement != "cgroup" for node in nodes):
        pytest.skip("no control groups can be had here: such a process ends with its node's spawner")
    token = f"1000.{os.getpid()}77"
    program = "".join(f"      {line}\n" for line in ESCAPE.splitlines())
    shared_cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: escape}\nspec:\n  terminationGracePeriodSeconds: 1\n"
        f"  containers:\n  - name: main\n    args: ['{token}']\n    command:\n    - python3\n    - -c\n    - |\n"
        + program,
        namespace,
    )
    shared_cluster.wait_until(lambda: mentioning(f"sleep {token}"), "it has escaped")
    shared_cluster.delete("pod", "escape", namespace)
    assert not mentioning(f"sleep {token}")


def test_a_fork_bomb_is_contained_and_ends_whole(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("bomb", "bomb() { bomb | bomb & }; sleep 0.2; bomb; sleep 1000", extra=LIMIT), namespace)
    shared_cluster.wait_until(
        lambda: shared_cluster.get("pod", "bomb", namespace).status.phase in ("Running", "Failed"), "it begins"
    )
    shared_cluster.apply(pod("neighbour", "sleep 1000"), namespace)
    shared_cluster.wait("pod/neighbour", namespace)
    shared_cluster.delete("pod", "bomb", namespace)
