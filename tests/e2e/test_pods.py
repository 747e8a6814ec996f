"""What a pod's manifest promises its programs: restarts, probes, environment, directory, time to end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from cluster.api.meta import from_time
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.workloads import pod, sleeper
from tests.kit.processes import mentioning


def column(cluster: Cluster, name: str, namespace: str, place: int) -> str:
    """A column of `podium get pod`."""
    line: str = cluster.podium("get", "pod", name, "-n", namespace, "--no-headers").stdout
    return line.split()[place]


def waits_to_run_again(cluster: Cluster, name: str, namespace: str) -> bool:
    """In one look: between two looks the back-off may have ended, and begun again."""
    pod = cluster.get("pod", name, namespace)
    waiting = pod.status.containerStatuses[0].state.waiting
    return (
        pod.status.phase == "Running"
        and waiting.reason == "CrashLoopBackOff"
        and "restarting failed container=main" in waiting.message
    )


def test_restart_policies(shared_cluster: Cluster, namespace: str) -> None:
    once = "test -e $HOME/again && exit 0; touch $HOME/again; exit 1"
    for name, command, policy in (
        ("done", "exit 0", "Never"),
        ("failed", "exit 3", "Never"),
        ("second", once, "OnFailure"),
        ("loop", "echo dying; exit 4", "Always"),
    ):
        shared_cluster.apply(pod(name, command, restart=policy), namespace)
    shared_cluster.wait("pod/done", namespace, phase="Succeeded")
    shared_cluster.wait("pod/failed", namespace, phase="Failed")
    shared_cluster.wait("pod/second", namespace, phase="Succeeded")
    statuses = {
        name: shared_cluster.get("pod", name, namespace).status.containerStatuses[0]
        for name in ("done", "failed", "second")
    }
    assert [(s.restartCount, s.state.terminated.exitCode) for s in statuses.values()] == [(0, 0), (0, 3), (1, 0)]
    assert column(shared_cluster, "done", namespace, 2) == "Completed"
    assert column(shared_cluster, "failed", namespace, 2) == "Error"
    shared_cluster.wait_until(lambda: column(shared_cluster, "loop", namespace, 2) == "CrashLoopBackOff", "it loops")
    shared_cluster.wait_until(lambda: shared_cluster.events("BackOff", "loop", namespace), "that is told")
    shared_cluster.wait_until(lambda: waits_to_run_again(shared_cluster, "loop", namespace), "it says why")
    failing = shared_cluster.podium(
        "get", "pods", "-n", namespace, "--field-selector", "status.phase!=Succeeded"
    ).stdout
    assert [line.split()[0] for line in failing.splitlines()[1:]] == ["failed", "loop"]


def test_failed_liveness_restarts_with_its_reason(shared_cluster: Cluster, namespace: str) -> None:
    probe = (
        "livenessProbe: {exec: {command: [sh, -c, 'echo cannot; test ! -e sick']}, periodSeconds: 1, "
        "timeoutSeconds: 20, failureThreshold: 1}"
    )
    shared_cluster.apply(pod("sick", "rm -f sick; exec sleep 1000", restart="Always", extra=probe), namespace)
    shared_cluster.wait("pod/sick", namespace)
    shared_cluster.exec("sick", ["touch", "sick"], namespace)
    shared_cluster.wait_until(
        lambda: shared_cluster.get("pod", "sick", namespace).status.containerStatuses[0].restartCount == 1, "restarted"
    )
    shared_cluster.wait("pod/sick", namespace)
    shared_cluster.wait_until(lambda: shared_cluster.events("Killing", "sick", namespace), "that is told")
    unhealthy = shared_cluster.events("Unhealthy", "sick", namespace)
    assert unhealthy[0].type == "Warning"
    assert "Liveness probe failed" in unhealthy[0].message
    assert "cannot" in unhealthy[0].message


def test_environment_and_directory(shared_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    shared_cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: the-db}, spec: {ports: [{name: sql, port: 5432}]}}", namespace
    )
    work = tmp_path / "work"
    work.mkdir()
    file = tmp_path / "pod.yaml"
    refs = {
        "NODE": "spec.nodeName",
        "IP": "status.podIP",
        "UID": "metadata.uid",
        "SPACE": "metadata.namespace",
        "TIER": "metadata.labels['tier']",
    }
    env: list[dict[str, object]] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in refs.items()
    ]
    env.append({"name": "MIXED", "value": "$(NODE) $(THE_DB_SERVICE_HOST):$(THE_DB_SERVICE_PORT) $$(NODE) $(NOBODY)"})
    container = {
        "name": "main",
        "command": ["sh", "-c", 'echo "$0 $1"; pwd; exec sleep 1000'],
        "args": ["$(TIER)", "grüße ☃"],
        "env": env,
        "workingDir": "./work",
        "ports": [{"name": "web", "containerPort": 8081}],
        "readinessProbe": {"exec": {"command": ["true"]}},
    }
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "env", "labels": {"tier": "fe"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    file.write_text(json.dumps(manifest))
    shared_cluster.podium("apply", "-f", str(file), "-n", namespace, "--wait")
    shared_cluster.wait_until(
        lambda: shared_cluster.podium("logs", "env", "-n", namespace).stdout == f"fe grüße ☃\n{work}\n", "it is said"
    )
    live = shared_cluster.get("pod", "env", namespace)
    printed = shared_cluster.exec("env", ["env"], namespace).stdout
    seen = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    host = shared_cluster.address("the-db", namespace)[0]
    assert seen["NODE"] == live.spec.nodeName
    assert seen["IP"] == live.status.podIP
    assert seen["UID"] == live.metadata.uid
    assert (seen["SPACE"], seen["TIER"]) == (namespace, "fe")
    assert seen["MIXED"] == f"{live.spec.nodeName} {host}:5432 $(NODE) $(NOBODY)"
    assert (seen["THE_DB_SERVICE_PORT_SQL"], seen["PORT"], seen["PORT_WEB"]) == ("5432", "8081", "8081")


def test_json_is_that_of_kubernetes(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("json", "sleep 1000", restart="Always"), namespace)
    shared_cluster.wait("pod/json", namespace)
    live = json.loads(shared_cluster.podium("get", "pod/json", "-n", namespace, "-o", "json").stdout)
    assert (live["apiVersion"], live["kind"]) == ("v1", "Pod")
    assert isinstance(live["metadata"]["resourceVersion"], str)
    assert live["metadata"]["creationTimestamp"][-1] == "Z"
    assert live["spec"]["containers"][0]["resources"] == {}
    status = live["status"]["containerStatuses"][0]
    assert status["lastState"] == {}
    assert set(status) >= {"containerID", "image", "imageID", "name", "ready", "restartCount", "started", "state"}
    assert {c["type"] for c in live["status"]["conditions"]} == {
        "PodScheduled",
        "Initialized",
        "ContainersReady",
        "Ready",
    }
    assert live["status"]["podIPs"] == [{"ip": live["status"]["podIP"]}]
    again = shared_cluster.podium("apply", "-f", "-", "-n", namespace, stdin=json.dumps(live))
    assert again.stdout.startswith("pod/json "), "what was read can be applied"


def test_exec_takes_and_gives_a_lot(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("box", "sleep 1000"), namespace)
    shared_cluster.wait("pod/box", namespace)
    data = bytes(range(256)) * 20_000
    command = [sys.executable, "-m", "cluster.cli.main", "--cluster", shared_cluster.name, "exec", "-n", namespace]
    environment = {"PODIUM_HOME": str(shared_cluster.home), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [*command, "-i", "box", "--", "sh", "-c", "tee /dev/stderr; exit 42"],
        input=data,
        capture_output=True,
        env=environment,
        timeout=60.0,
        check=False,
    )
    assert result.returncode == 42
    for output in (result.stdout, result.stderr):
        assert (len(output), hashlib.sha256(output).digest()) == (len(data), hashlib.sha256(data).digest())


def test_what_does_not_want_to_end_is_given_no_time(shared_cluster: Cluster, namespace: str) -> None:
    stubborn = pod("stubborn", "trap '' TERM; while :; do sleep 0.1; done", restart="Always")
    shared_cluster.apply(
        stubborn.replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 600"), namespace
    )
    shared_cluster.wait("pod/stubborn", namespace)
    pids = shared_cluster.pod_pids("stubborn", namespace)
    shared_cluster.podium("delete", "pod", "stubborn", "-n", namespace, "--no-wait")
    shared_cluster.wait_until(lambda: column(shared_cluster, "stubborn", namespace, 2) == "Terminating", "it is asked")
    shared_cluster.podium("delete", "pod", "stubborn", "-n", namespace, "--grace-period", "0")
    shared_cluster.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its process is gone")


def test_what_ignores_sigterm_is_killed_when_its_grace_is_over(shared_cluster: Cluster, namespace: str) -> None:
    """Until then it runs and is Terminating. What was recorded says so, whenever one looks."""
    token = f"1000.{os.getpid()}33"
    stubborn = f"sleep {token} & trap 'echo told to end' TERM; echo runs; while :; do sleep 0.05; done"
    manifest = pod("stubborn", stubborn, restart="Always")
    shared_cluster.apply(
        manifest.replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 3"), namespace
    )
    shared_cluster.wait("pod/stubborn", namespace)
    pids = shared_cluster.pod_pids("stubborn", namespace)
    shared_cluster.wait_until(
        lambda: shared_cluster.logs("stubborn", namespace) == "runs\n" and mentioning(f"sleep {token}"), "it is deaf"
    )
    shared_cluster.delete("pod", "stubborn", namespace)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not mentioning(f"sleep {token}")
    kept = shared_cluster.run(lambda client: client.history(core.Pod, "stubborn", namespace)).entries
    terminating = [
        entry.object.pod for entry in reversed(kept) if entry.object.pod.metadata.HasField("deletionTimestamp")
    ]
    assert terminating[0].status.containerStatuses[0].state.HasField("running")
    assert terminating[0].metadata.deletionGracePeriodSeconds == 3
    how = terminating[-1].status.containerStatuses[0].state.terminated
    assert (how.exitCode, how.signal, how.message) == (137, 9, "runs\ntold to end")
    assert from_time(how.finishedAt) >= from_time(terminating[0].metadata.deletionTimestamp), "not before its time"


def test_a_finalizer_holds_a_pod_and_is_named(shared_cluster: Cluster, namespace: str) -> None:
    held = pod("held", "sleep 1000").replace("metadata: {", "metadata: {finalizers: [example.com/hold], ")
    shared_cluster.apply(held, namespace)
    shared_cluster.wait("pod/held", namespace)
    pids = shared_cluster.pod_pids("held", namespace)
    slow = shared_cluster.podium("delete", "pod", "held", "-n", namespace, "--timeout", "0.5", check=False)
    assert slow.returncode == 4
    assert "example.com/hold" in slow.stderr
    shared_cluster.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its process is gone")
    shared_cluster.patch("pod", "held", {"metadata": {"finalizers": None}}, namespace)
    shared_cluster.wait("pod/held", namespace, gone=True)


def test_a_namespace_goes_with_all_that_is_in_it(shared_cluster: Cluster, namespace: str) -> None:
    inner = f"{namespace}-x"
    shared_cluster.apply(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {inner}}}}}")
    shared_cluster.apply(sleeper("web", 2), inner)
    shared_cluster.apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}", inner)
    shared_cluster.wait("rc/web", inner, ready=2)
    assert "Active" in shared_cluster.podium("get", "ns", inner).stdout
    pids = [
        pid for found in shared_cluster.pods("", inner) for pid in shared_cluster.pod_pids(found.metadata.name, inner)
    ]
    shared_cluster.podium("delete", "ns", inner)
    assert shared_cluster.podium("get", "pods,rc,svc", "-n", inner, "-o", "name").stdout == ""
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    refused = shared_cluster.podium("apply", "-f", "-", "-n", inner, stdin=sleeper("late", 1), check=False)
    assert refused.returncode == 3
    assert shared_cluster.podium("delete", "ns", "default", check=False).returncode == 1


def test_apply_takes_back_what_it_gave_and_leaves_the_rest(shared_cluster: Cluster, namespace: str) -> None:
    def service(labels: str, spec: str) -> str:
        return f"{{apiVersion: v1, kind: Service, metadata: {{name: s, labels: {labels}}}, spec: {spec}}}"

    space = ("-n", namespace)
    before = service("{a: '1', b: '2'}", "{selector: {x: y, z: w}, sessionAffinity: ClientIP, ports: [{port: 80}]}")
    shared_cluster.podium("apply", "-f", "-", *space, stdin=before)
    shared_cluster.podium("label", "svc", "s", "mine=yes", *space)
    address = shared_cluster.address("s", namespace)[0]
    after = service("{a: '1'}", "{selector: {x: y}, ports: [{port: 81}]}")
    assert "configured" in shared_cluster.podium("apply", "-f", "-", *space, stdin=after).stdout
    live = shared_cluster.get("svc", "s", namespace)
    assert dict(live.metadata.labels) == {"a": "1", "mine": "yes"}
    assert dict(live.spec.selector) == {"x": "y"}
    assert [port.port for port in live.spec.ports] == [81]
    assert (live.spec.sessionAffinity, live.spec.clusterIP) == ("None", address)


def test_names_selectors_and_all_exclude_each_other(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("one", "sleep 1000"), namespace)
    space = ("-n", namespace)
    for arguments in (
        ("get", "pods", "one", "-l", "a=b"),
        ("delete", "pods", "one", "--all"),
        ("delete", "pods", "one", "-l", "a=b"),
        ("label", "pods", "one", "-l", "a=b", "c=d"),
        ("wait", "pods", "one", "-l", "a=b", "--for", "condition=Ready"),
        ("wait", "pods", "--for", "condition=Ready"),
    ):
        assert shared_cluster.podium(*arguments, *space, check=False).returncode == 2, arguments
    done = shared_cluster.podium("wait", "pods", "--all", "--for", "condition=Ready", *space)
    assert done.stdout == "pod/one condition met\n"
