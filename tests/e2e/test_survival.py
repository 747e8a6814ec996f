"""Pods outlive what watches over them: agents that are killed or upgraded; in the lifetime `service` all daemons."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.api.conditions import is_node_ready
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from node_agent.process_tree import start_ticks_of
from tests.e2e.workloads import pod, sleeper
from tests.kit.processes import Proc, alive, family

COUNTING = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done"


UNTIL_TOLD = "while ! test -e told; do sleep 0.05; done"


def tell(pid: int) -> None:
    """Ends a container's waiting, whether its node's agent is there or not."""
    Path(f"/proc/{pid}/cwd/told").touch()


def processes_of(cluster: Cluster, node: str = "node-1") -> set[Proc]:
    """The processes of the node's pods."""
    spawner = cluster.pid(f"{node}-spawner")
    return {proc for proc in family(spawner) if proc.pid != spawner}


def containers(cluster: Cluster, selector: str = "app=web") -> dict[str, core.ContainerStatus]:
    """The status of each pod's first container, by the pod's uid."""
    return {one.metadata.uid: one.status.containerStatuses[0] for one in cluster.pods(selector)}


@pytest.mark.podium(nodes=1)
def test_pods_of_a_killed_agent_run_on_and_are_adopted(podium_cluster: Cluster) -> None:
    podium_cluster.apply(sleeper("web", 3, command=COUNTING))
    podium_cluster.apply(pod("short", f"{UNTIL_TOLD}; echo the last words; exit 42"))
    podium_cluster.wait("rc/web", ready=3)
    podium_cluster.wait_until(lambda: podium_cluster.get("pod", "short").status.phase == "Running", "short runs")
    before, running = containers(podium_cluster), processes_of(podium_cluster)
    (short,) = podium_cluster.pod_pids("short")
    podium_cluster.kill_process("node-1")
    tell(short)
    podium_cluster.wait_until(
        lambda: not any(proc.pid == short for proc in alive(running)), "a pod ends while no agent is there"
    )
    podium_cluster.start_node("node-1")
    podium_cluster.wait_until(lambda: podium_cluster.get("pod", "short").status.phase == "Failed", "its end is known")
    ended = podium_cluster.get("pod", "short").status.containerStatuses[0].state.terminated
    assert (ended.exitCode, ended.reason, ended.message) == (42, "Error", "the last words")
    podium_cluster.wait("rc/web", ready=3)
    after = containers(podium_cluster)
    assert {uid: (one.containerID, one.restartCount) for uid, one in after.items()} == {
        uid: (one.containerID, 0) for uid, one in before.items()
    }
    name = podium_cluster.pods("app=web")[0].metadata.name
    lines = podium_cluster.logs(name).split()
    assert lines == [str(number) for number in range(1, len(lines) + 1)], "its log has no gap"
    assert len(lines) > 20
    # What was adopted is ours: it can be spoken to, restarted, and ended.
    assert podium_cluster.exec(name, ["sh", "-c", "echo $POD_NAME"]).stdout.strip() == name
    podium_cluster.delete("rc", "web")
    podium_cluster.wait_until(lambda: not alive(running), "the pods end with grace")


@pytest.mark.podium(nodes=1)
def test_what_was_deleted_while_no_agent_was_there_ends_on_its_return(podium_cluster: Cluster) -> None:
    podium_cluster.apply(sleeper("web", 2))
    podium_cluster.wait("rc/web", ready=2)
    running = processes_of(podium_cluster)
    podium_cluster.kill_process("node-1")
    podium_cluster.podium("delete", "rc/web", "--no-wait")
    podium_cluster.wait_until(
        lambda: all(one.metadata.HasField("deletionTimestamp") for one in podium_cluster.pods("app=web")),
        "the pods are being deleted",
    )
    assert len(alive(running)) == len(running)
    podium_cluster.start_node("node-1")
    podium_cluster.wait_until(lambda: not podium_cluster.pods("app=web"), "the pods are gone")
    assert not alive(running)


@pytest.mark.podium(nodes=1)
def test_an_agent_is_replaced_by_hangup_without_touching_its_pods(podium_cluster: Cluster) -> None:
    podium_cluster.apply(sleeper("web", 2))
    podium_cluster.wait("rc/web", ready=2)
    before = containers(podium_cluster)
    agent = family(podium_cluster.kill_process("node-1", signal.SIGHUP)) - processes_of(podium_cluster)
    podium_cluster.wait_until(lambda: not any(proc.title.endswith("node-1") for proc in alive(agent)), "it ends")
    podium_cluster.start_node("node-1")
    after = containers(podium_cluster)
    assert {uid: (one.containerID, one.restartCount) for uid, one in after.items()} == {
        uid: (one.containerID, 0) for uid, one in before.items()
    }


def falsify(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes each of the JSON lines of a file."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        change(line)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("rebooted", [True, False], ids=["another boot", "pids used again"])
@pytest.mark.podium(nodes=1)
def test_what_was_lost_with_the_machine_runs_again_and_strangers_are_not_touched(
    podium_cluster: Cluster, rebooted: bool
) -> None:
    """All that is written down of pods and spawner names a process that has nothing to do with them: of another boot,
    with its very pid and start time, or of this one, with its pid."""
    podium_cluster.apply(sleeper("web", 2))
    podium_cluster.apply(pod("job", "sleep 1000"))
    podium_cluster.apply(pod("done", "exit 3"))
    podium_cluster.wait("rc/web", ready=2)
    for name, phase in (("job", "Running"), ("done", "Failed")):
        podium_cluster.wait(f"pod/{name}", phase=phase)
    before = containers(podium_cluster)
    lost = family(podium_cluster.pid("node-1-spawner"))
    podium_cluster.kill_process("node-1")
    podium_cluster.kill_process("node-1-spawner")
    for proc in alive(lost):
        with contextlib.suppress(ProcessLookupError):  # some end with the others
            os.kill(proc.pid, signal.SIGKILL)
    podium_cluster.wait_until(lambda: not alive(lost), "nothing of the node is left")
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        ticks, directory = start_ticks_of(stranger.pid), podium_cluster.directory / "nodes" / "node-1"

        def mistake(line: dict[str, Any]) -> None:
            if "pid" in line:
                line |= {"pid": stranger.pid, "ticks": ticks} if rebooted else {"pid": stranger.pid}
            line |= {key: "another boot" for key in ("boot", "boot_id") if rebooted and key in line}

        for file in (directory / "runs.jsonl", directory / "spawner.json", *(directory / "state").glob("*.json")):
            falsify(file, mistake)
        assert str(stranger.pid) in (directory / "runs.jsonl").read_text()
        podium_cluster.start_node("node-1")
        podium_cluster.wait("pod/job", phase="Failed")
        podium_cluster.wait("rc/web", ready=2)
        after = containers(podium_cluster)
        assert {uid: one.restartCount for uid, one in after.items()} == dict.fromkeys(before, 1)
        job = podium_cluster.get("pod", "job").status.containerStatuses[0].state.terminated
        for ended in (job, *(one.lastState.terminated for one in after.values())):
            assert (ended.exitCode, ended.reason) == (137, "ContainerStatusUnknown")
        assert podium_cluster.get("pod", "done").status.containerStatuses[0].state.terminated.exitCode == 3
        podium_cluster.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_in_the_lifetime_dev_pods_of_a_killed_agent_end_with_the_supervisor(tmp_path: Path) -> None:
    with Cluster.start(nodes=1, home=tmp_path / "podium") as cluster:
        cluster.apply(sleeper("web", 2))
        cluster.wait("rc/web", ready=2)
        everything = processes_of(cluster) | family(cluster.pid("node-1-spawner"))
        cluster.kill_process("node-1")
        assert len(alive(everything)) == len(everything)
        cluster.kill_process("supervisor")
        cluster.wait_until(lambda: not alive(everything), "spawner and pods have ended by themselves")


def test_in_the_lifetime_service_pods_outlive_every_daemon(tmp_path: Path) -> None:
    with Cluster.start(nodes=2, home=tmp_path / "podium", lifetime="service") as cluster:
        cluster.apply(sleeper("web", 4))
        cluster.wait("rc/web", ready=4)
        pods = processes_of(cluster, "node-1") | processes_of(cluster, "node-2")
        before = containers(cluster)
        killed = cluster.kill_process("node-1")
        cluster.wait_until(lambda: cluster.pid("node-1") != killed, "the supervisor starts the agent again")
        cluster.wait_until(lambda: is_node_ready(cluster.get("node", "node-1")), "node-1 is Ready")
        daemons = {
            proc for proc in family(cluster.pid("supervisor")) if proc not in pods and "spawner" not in proc.title
        }
        daemons = {proc for proc in daemons if proc.title.startswith("podium ")}
        cluster.kill_process("supervisor")
        cluster.wait_until(lambda: not alive(daemons), "the daemons end")
        assert len(alive(pods)) == len(pods)
        cluster.podium("up", "-d", "--profile", "test")
        cluster.wait("rc/web", ready=4)
        assert {uid: (one.containerID, one.restartCount) for uid, one in containers(cluster).items()} == {
            uid: (one.containerID, 0) for uid, one in before.items()
        }
        assert len(alive(pods)) == len(pods)
        cluster.stop()
        assert not alive(pods)


def test_down_ends_pods_of_which_only_the_spawner_is_left(tmp_path: Path) -> None:
    with Cluster.start(nodes=1, home=tmp_path / "podium", lifetime="service") as cluster:
        cluster.apply(sleeper("web", 2))
        cluster.wait("rc/web", ready=2)
        pods = family(cluster.pid("node-1-spawner"))
        agent = cluster.pid("node-1")
        os.kill(cluster.kill_process("supervisor", signal.SIGSTOP), signal.SIGKILL)
        os.kill(agent, signal.SIGKILL)
        assert len(alive(pods)) == len(pods)
        down = cluster.podium("down")
        assert "0 processes left" in down.stderr
        assert not alive(pods)


@pytest.mark.podium(nodes=1)
def test_cut_off_from_the_master_pods_run_on_restart_and_are_reported_later(podium_cluster: Cluster) -> None:
    """While the master stands still: one pod crashes and restarts, one ends, and one that must not be cut off stops."""
    podium_cluster.apply(sleeper("web", 1, command="echo started; sleep 1.5; exit 1"))
    podium_cluster.apply(pod("job", f"{UNTIL_TOLD}; exit 3"))
    podium_cluster.apply(pod("shy", "sleep 1000", restart="Always", spec="stopAfterDisconnectSeconds: 4"))
    podium_cluster.wait_until(
        lambda: all(podium_cluster.get("pod", name).status.phase == "Running" for name in ("job", "shy")), "they run"
    )
    running, (job,) = processes_of(podium_cluster), podium_cluster.pod_pids("job")
    podium_cluster.kill_process("master", signal.SIGSTOP)
    tell(job)
    try:
        podium_cluster.wait_until(
            lambda: not alive(proc for proc in running if "sleep 1000" in proc.title), "the shy one was stopped"
        )
        podium_cluster.wait_until(lambda: processes_of(podium_cluster) - running, "what crashed was started again")
    finally:
        podium_cluster.kill_process("master", signal.SIGCONT)
    podium_cluster.wait_until(lambda: podium_cluster.get("pod", "job").status.phase == "Failed", "the end is reported")
    assert podium_cluster.get("pod", "job").status.containerStatuses[0].state.terminated.exitCode == 3
    podium_cluster.wait_until(
        lambda: podium_cluster.get("pod", "shy").status.reason == "StoppedAfterDisconnect", "and why the other stopped"
    )
    assert podium_cluster.get("pod", "shy").status.phase == "Failed"
