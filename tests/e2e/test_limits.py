"""What containers may use: limits that hold, trees that end whole, whatever programs try."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from node_agent.process_tree import descendants_of
from node_agent.runtime.cgroups import MAX_PROCESSES
from tests.e2e.workloads import pod
from tests.kit.ports import free_port
from tests.kit.processes import MemoryPeak, mentioning
from tests.kit.silent_files import silent_files

HOG = "exec python3 -c 'x = bytes([1]) * (100 << 20); import time; time.sleep(1000)'"
"""Little enough that setting it aside succeeds where it is only looked at."""
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
    assert (how.exitCode, how.reason) == (137, "OOMKilled")
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
    """At its cap it has its share of the processors and no more: without control groups it would have all of them."""
    nodes = shared_cluster.list("node", "")
    if any(node.status.isolation.enforcement != "cgroup" for node in nodes):
        pytest.skip("no control groups can be had here: the number of processes is capped, their use of cpu is not")
    shared_cluster.apply(pod("bomb", "bomb() { bomb | bomb & }; sleep 0.2; bomb; sleep 1000", extra=LIMIT), namespace)
    shared_cluster.wait_until(
        lambda: shared_cluster.get("pod", "bomb", namespace).status.phase in ("Running", "Failed"), "it begins"
    )
    shared_cluster.apply(pod("neighbour", "sleep 1000"), namespace)
    shared_cluster.wait("pod/neighbour", namespace)
    spawner = shared_cluster.pid(f"{shared_cluster.get('pod', 'bomb', namespace).spec.nodeName}-spawner")
    assert len(descendants_of([spawner])) < MAX_PROCESSES + 100
    shared_cluster.delete("pod", "bomb", namespace)
    assert not mentioning("bomb() {")


@pytest.fixture(scope="module")
def bare_cluster() -> Iterator[Cluster]:
    """Without control groups, whatever the machine has; a node of 400 MiB that wants 100 of them to be left."""
    shortage = "eviction-hard=memory.available<100Mi"
    options = ["--agent-arg", "no-cgroups", "--agent-arg", shortage, "--node-memory", "400Mi"]
    with Cluster.start(nodes=1, options=options) as cluster:
        yield cluster


def test_without_control_groups_memory_is_looked_at(bare_cluster: Cluster) -> None:
    """What is forked and shares its memory is counted once; what leaves its parents is counted, too."""
    hold = "held = bytes([1]) * (40 << 20); import os, time; os.fork(); os.fork(); time.sleep(1000)"
    bare_cluster.apply(pod("shares", f"exec python3 -c '{hold}'", extra=LIMIT), "default")
    bare_cluster.wait("pod/shares", "default")
    grow = "x = bytes([1]) * (100 << 20); import time; time.sleep(1000)"
    orphan = f"(setsid python3 -c '{grow}' &) ; sleep 1000"
    bare_cluster.apply(pod("hog", f"exec python3 -c '{grow}'", extra=LIMIT), "default")
    bare_cluster.apply(pod("orphan", orphan, extra=LIMIT), "default")
    for name in ("hog", "orphan"):
        how = ended(bare_cluster, name, "default")
        assert (how.exitCode, how.reason) == (137, "OOMKilled")
    assert bare_cluster.get("pod", "shares", "default").status.containerStatuses[0].restartCount == 0
    assert "LimitsNotEnforced" in bare_cluster.podium("events").stdout, "cpu is not limited, and that is said"
    assert bare_cluster.get("node", "node-1").status.isolation.enforcement == "rlimit"
    assert "control groups: switched off" in bare_cluster.podium("describe", "node", "node-1").stdout
    for name in ("shares", "hog", "orphan"):
        bare_cluster.delete("pod", name, "default")


def test_a_node_that_runs_short_ends_who_took_more_than_it_asked_for(bare_cluster: Cluster) -> None:
    asked = "resources: {requests: {memory: 150Mi}}"
    hold = "exec python3 -c 'x = bytes([1]) * (100 << 20); import time; time.sleep(1000)'"
    take = hold.replace("100", "220")
    bare_cluster.apply(pod("modest", hold, extra=asked), "default")
    bare_cluster.wait("pod/modest", "default")
    bare_cluster.apply(pod("greedy", take), "default")
    bare_cluster.wait_until(
        lambda: bare_cluster.get("pod", "greedy", "default").status.phase == "Failed", "the greedy one goes"
    )
    gone = bare_cluster.get("pod", "greedy", "default").status
    assert gone.reason == "Evicted"
    assert gone.message.startswith("The node was low on resource: memory. Threshold quantity: 100Mi, available: ")
    assert "Container main was using " in gone.message
    assert bare_cluster.get("pod", "modest", "default").status.phase == "Running"

    def pressure() -> str:
        conditions = bare_cluster.get("node", "node-1").status.conditions
        return next(str(each.status) for each in conditions if each.type == "MemoryPressure")

    bare_cluster.wait_until(lambda: pressure() == "False", "the pressure is over")
    taints = "node.kubernetes.io/memory-pressure"
    bare_cluster.wait_until(
        lambda: not any(taint.key == taints for taint in bare_cluster.get("node", "node-1").spec.taints), "no taint"
    )
    events = bare_cluster.podium("events").stdout
    assert "Evicted" in events
    for name in ("modest", "greedy"):
        bare_cluster.delete("pod", name, "default")


def test_a_pod_that_fills_the_disk_is_ended(shared_cluster: Cluster, namespace: str) -> None:
    limit = "resources: {limits: {ephemeral-storage: 5Mi}}"
    shared_cluster.apply(pod("filler", "head -c 8000000 /dev/zero > file; sleep 1000", extra=limit), namespace)
    shared_cluster.wait_until(
        lambda: shared_cluster.get("pod", "filler", namespace).status.reason == "Evicted", "it holds too much"
    )
    why = shared_cluster.get("pod", "filler", namespace).status.message
    assert why == "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. "


def test_a_flood_of_output_is_capped_and_stops_nobody(shared_cluster: Cluster, namespace: str) -> None:
    """Hundreds of megabytes, in lines and in a single one that has no end: the logs stay within their share, agent and
    spawner take hardly more memory at any time, even while the log is read, and others are served."""
    here = "nodeName: node-1"
    peaks = {name: MemoryPeak(shared_cluster.pid(name)) for name in ("node-1", "node-1-spawner")}
    lines = "yes this is a line of a flood | head -c 299000000; echo the end; exit 3"
    giant = "head -c 200000000 /dev/zero | tr '\\0' x; exit 3"
    for name, script in (("lines", lines), ("giant", giant), ("other", "echo fine; sleep 1000")):
        shared_cluster.apply(pod(name, script, spec=here), namespace)
    shared_cluster.wait("pod/other", namespace)
    shared_cluster.wait_until(
        lambda: shared_cluster.podium("logs", "other", "-n", namespace).stdout == "fine\n", "it is served"
    )
    directories = {}
    for name, last_words in (("lines", "this is a line of a flood\nthe end"), ("giant", "x" * 2000)):
        shared_cluster.wait_until(
            lambda name=name: shared_cluster.get("pod", name, namespace).status.phase == "Failed",  # type: ignore[misc]
            f"all of {name} is written",
            timeout_s=90,
        )
        live = shared_cluster.get("pod", name, namespace)
        message = live.status.containerStatuses[0].state.terminated.message
        assert message.endswith(last_words)
        assert len(message) <= 4096
        directories[name] = shared_cluster.directory / "nodes" / "node-1" / "pods" / live.metadata.uid / "logs"
    for directory in directories.values():
        assert 10 << 20 < sum(file.stat().st_size for file in directory.rglob("*.log*")) < 40 << 20
    tail = shared_cluster.podium("logs", "lines", "-n", namespace, "--tail", "2").stdout
    assert tail == "this is a line of a flood\nthe end\n"
    assert shared_cluster.podium("logs", "giant", "-n", namespace, "--limit-bytes", "50").stdout == "x" * 50
    assert len(shared_cluster.podium("logs", "giant", "-n", namespace).stdout) > 10 << 20
    growth = {name: peak.growth_bytes for name, peak in peaks.items()}
    assert growth["node-1"] < 16 << 20
    assert growth["node-1-spawner"] < 4 << 20


def test_a_port_clash_names_the_holder(shared_cluster: Cluster, namespace: str) -> None:
    """Both pods listen on all addresses, which is the same port of one machine."""
    port = free_port("0.0.0.0")
    listen = f"exec python3 -c 'import socket, time; s = socket.create_server((str(), {port})); time.sleep(1000)'"
    ports = f"ports: [{{containerPort: {port}}}]"
    shared_cluster.apply(pod("first", listen, extra=ports), namespace)
    shared_cluster.wait("pod/first", namespace)
    shared_cluster.apply(pod("second", listen, extra=ports), namespace)

    def said() -> str:
        return str(shared_cluster.podium("events", "-n", namespace).stdout)

    shared_cluster.wait_until(lambda: "PortInUse" in said(), "the clash is said")
    assert re.search(rf"port {port} is held by pid \d+ \(python3[.\d]*\) of pod first", said()), said()
    undeclared = f"{listen.removeprefix('exec ')} || echo cannot listen on port {port}: Address already in use; exit 1"
    shared_cluster.apply(pod("third", undeclared), namespace)
    shared_cluster.wait_until(lambda: shared_cluster.events("PortInUse", "third", namespace), "this one's, too")
    message = shared_cluster.events("PortInUse", "third", namespace)[0].message
    assert re.search(rf"port {port} is held by pid \d+ \(python3[.\d]*\) of pod first", message), message


def test_a_probe_that_forks_and_sleeps_leaves_nothing(shared_cluster: Cluster, namespace: str) -> None:
    token = f"1000.{os.getpid()}55"
    probe = f"[sh, -c, 'sleep {token} & sleep {token}']"
    extra = f"livenessProbe: {{exec: {{command: {probe}}}, periodSeconds: 1, failureThreshold: 1000}}"
    shared_cluster.apply(pod("probed", "sleep 1000", extra=extra), namespace)
    shared_cluster.wait_until(lambda: mentioning(f"sleep {token}"), "a probe runs")
    shared_cluster.wait_until(
        lambda: "Liveness probe failed" in shared_cluster.podium("events", "-n", namespace).stdout, "it took too long"
    )
    assert len([proc for proc in mentioning(f"sleep {token}") if not proc.title.startswith("sh ")]) <= 2
    shared_cluster.delete("pod", "probed", namespace)
    assert not mentioning(f"sleep {token}")


@pytest.mark.parametrize(
    ("signal", "condition"), [("nodefs.available", "DiskPressure"), ("pid.available", "PIDPressure")]
)
def test_a_node_without_disk_or_processes_says_so_and_takes_no_more(signal: str, condition: str) -> None:
    """No machine has all of its disk or of its processes free: with this threshold every one is short."""
    with Cluster.start(nodes=1, options=["--agent-arg", f"eviction-hard={signal}<99.99%"]) as cluster:

        def is_short() -> bool:
            conditions = cluster.get("node", "node-1").status.conditions
            return any(each.type == condition and each.status == "True" for each in conditions)

        cluster.wait_until(is_short, f"the node has {condition}")
        cluster.apply(pod("late", "sleep 1000"), "default")
        why = {"DiskPressure": "disk-pressure", "PIDPressure": "pid-pressure"}[condition]

        def waits() -> bool:
            late = cluster.get("pod", "late", "default")
            return any(f"node.kubernetes.io/{why}" in each.message for each in late.status.conditions)

        cluster.wait_until(waits, "a new pod is kept away, and says by what")
        assert cluster.get("pod", "late", "default").spec.nodeName == ""


def test_a_volume_that_does_not_answer_keeps_only_those_who_asked_for_it(
    shared_cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """Its server is gone: the node goes on, and the pod says what is wrong."""
    with silent_files(tmp_path / "silent") as silent:
        volume = f"nodeName: node-1\n          volumes: [{{name: far, hostPath: {{path: {silent}}}}}]"
        mount = "volumeMounts: [{name: far, mountPath: /far}]"
        shared_cluster.apply(pod("stuck", "sleep 1000", extra=mount, spec=volume), namespace)
        shared_cluster.apply(pod("neighbour", "echo here", spec="nodeName: node-1"), namespace)
        assert ended(shared_cluster, "neighbour", namespace).exitCode == 0

        def why() -> str:
            statuses = shared_cluster.get("pod", "stuck", namespace).status.containerStatuses
            waiting = statuses[0].state.waiting if statuses else core.ContainerStateWaiting()
            return f"{waiting.reason}: {waiting.message}"

        said = 'FailedMount: hostPath of volume "far" does not answer'
        shared_cluster.wait_until(lambda: said in why(), "the pod says what it waits for")
        shared_cluster.delete("pod", "stuck", namespace)


def part_of_processors(pid: int) -> str:
    """What its control group says: cpu.shares (v1) or cpu.weight (v2)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for mount, file in (("cpu", "cpu.shares"), ("", "cpu.weight")):
            where = Path("/sys/fs/cgroup") / mount / path.lstrip("/") / file
            if mount in names.split(",") and where.exists():
                return f"{file} {where.read_text().strip()}"
    return ""


def test_requests_decide_when_processors_or_memory_are_short(shared_cluster: Cluster, namespace: str) -> None:
    """Who asked for more gets more of the processors, and is killed later; what is executed beside it goes with it."""
    asks = "resources: {requests: {cpu: 250m, memory: 64Mi}}"
    shared_cluster.apply(pod("modest", "sleep 1000", spec="nodeName: node-1"), namespace)
    shared_cluster.apply(pod("asks", "sleep 1000", extra=asks, spec="nodeName: node-1"), namespace)
    spawner, scores, pids = shared_cluster.pid("node-1-spawner"), [], []
    own = int(Path(f"/proc/{spawner}/oom_score_adj").read_text())
    for name in ("modest", "asks"):
        shared_cluster.wait(f"pod/{name}", namespace)
        pids += shared_cluster.pod_pids(name, namespace)
        scores.append(int(Path(f"/proc/{pids[-1]}/oom_score_adj").read_text()))
        beside = shared_cluster.exec(name, ["cat", "/proc/self/oom_score_adj", "/proc/self/cgroup"], namespace).stdout
        assert beside == f"{scores[-1]}\n{Path(f'/proc/{pids[-1]}/cgroup').read_text()}"
    assert scores[0] == 1000
    assert max(own, 3) <= scores[1] <= 999
    assert int(Path(f"/proc/{spawner}/oom_score_adj").read_text()) == own
    if shared_cluster.get("node", "node-1").status.isolation.enforcement == "cgroup":
        expected = (["cpu.shares 2", "cpu.shares 256"], ["cpu.weight 1", "cpu.weight 10"])
        shared_cluster.wait_until(lambda: [part_of_processors(pid) for pid in pids] in expected, "they are divided")
