"""The network between a node and its master fails. Pods do not notice; what was decided meanwhile is carried out and
what happened meanwhile is reported when it is mended."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path

import pytest

from cluster.api.conditions import is_node_ready
from cluster.api.errors import NotFound
from cluster.api.meta import from_time
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.far_node import FarNode
from tests.e2e.workloads import pod
from tests.kit.processes import Proc, alive, mentioning

ALWAYS = ("kept", "crashing", "deleted", "forced")


def status_of(cluster: Cluster, name: str) -> core.ContainerStatus:
    found: core.ContainerStatus = cluster.get("pod", name).status.containerStatuses[0]
    return found


@pytest.mark.parametrize("fault", ["silence", "refusal"])
@pytest.mark.podium(nodes=1)
def test_pods_of_a_node_that_is_cut_off_live_on_and_all_is_made_up_for_afterwards(
    podium_cluster: Cluster, tmp_path: Path, fault: str
) -> None:
    cluster, token = podium_cluster, f"{secrets.randbelow(10**9):09d}"
    sleeps = {name: f"sleep 1000.{token}{number}" for number, name in enumerate(ALWAYS)}

    def processes(name: str) -> set[Proc]:
        """Of the pod, wherever they are."""
        return {proc for proc in mentioning(sleeps[name]) if proc.title == sleeps[name]}

    with FarNode(cluster, "node-1", tmp_path / "agent.log") as node:
        for name in ALWAYS:
            cluster.apply(pod(name, f"exec {sleeps[name]}", restart="Always"))
        cluster.apply(pod("job", f": {token}; while ! test -e go; do sleep 0.05; done; exit 5"))
        for name in ALWAYS:
            cluster.wait(f"pod/{name}")
        cluster.wait("pod/job", phase="Running")
        kept = status_of(cluster, "kept").containerID
        job = Path(cluster.directory, "nodes", "node-1", "pods", cluster.get("pod", "job").metadata.uid)
        # Its shell, not one that it has forked and that is about to become something else.
        shells = [proc for proc in mentioning(f": {token};") if proc.title.startswith("sh")]
        job_process = min(shells, key=lambda proc: proc.started)

        begun_s = time.time()
        if fault == "silence":
            node.cut()
        else:
            node.unplug()
        cluster.wait_until(lambda: not is_node_ready(cluster.get("node", "node-1")), "the master misses the node")
        # What happens on the node: a container crashes, twice, and is started again each time; a job ends.
        for _ in range(2):
            (running,) = processes("crashing")
            os.kill(running.pid, signal.SIGKILL)
            cluster.wait_until(lambda running=running: processes("crashing") - {running}, "it is started again")  # type: ignore[misc]
        (job / "go").touch()
        cluster.wait_until(lambda: not job_process.is_alive(), "the job ends")
        # What is decided about it: pods are deleted, with grace and by force, and another one is bound to it.
        doomed = processes("deleted") | processes("forced")
        cluster.delete("pod", "deleted", wait=False)
        cluster.delete("pod", "forced", grace_period_s=0)
        cluster.apply(pod("late", "sleep 1000", restart="Always", spec="nodeName: node-1"))
        # Neither side knows of the other's news.
        assert len(alive(doomed)) == 2
        assert cluster.get("pod", "deleted").metadata.HasField("deletionTimestamp")
        assert status_of(cluster, "crashing").restartCount == 0
        assert cluster.get("pod", "job").status.phase == "Running"
        assert cluster.get("pod", "late").status.phase == "Pending"
        assert not cluster.get("pod", "kept").metadata.HasField("deletionTimestamp"), "the last node is not emptied"
        mended_s = time.time()
        node.mend()

        node.wait_ready()
        cluster.wait_until(lambda: not alive(doomed), "what was deleted ends")
        cluster.wait("pod/deleted", gone=True)
        with pytest.raises(NotFound):
            cluster.get("pod", "forced")
        cluster.wait("pod/job", phase="Failed")
        ended = status_of(cluster, "job").state.terminated
        assert ended.exitCode == 5
        assert begun_s < from_time(ended.finishedAt) < mended_s, "when it happened, not when it was heard of"
        cluster.wait_until(lambda: status_of(cluster, "crashing").restartCount == 2, "the restarts are reported")
        crashing = status_of(cluster, "crashing")
        assert (crashing.lastState.terminated.exitCode, crashing.lastState.terminated.signal) == (137, 9)
        assert begun_s < from_time(crashing.state.running.startedAt) < mended_s
        for name in ("kept", "crashing", "late"):
            cluster.wait(f"pod/{name}")
        assert (status_of(cluster, "kept").containerID, status_of(cluster, "kept").restartCount) == (kept, 0)
        assert status_of(cluster, "late").restartCount == 0
