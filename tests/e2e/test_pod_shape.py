"""Pods of several containers: their order, their hooks and probes, their last words."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

from cluster.api.conditions import get_condition
from cluster.api.meta import from_time
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.workloads import sleeper
from tests.kit.processes import mentioning


def apply(cluster: Cluster, name: str, spec: str) -> None:
    body = textwrap.indent(textwrap.dedent(spec), "  ")
    cluster.apply(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default}}\nspec:\n{body}")


def directory_of(cluster: Cluster, name: str) -> Path:
    """The pod's own directory on its node."""
    pod = cluster.get("pod", name)
    return Path(cluster.directory, "nodes", pod.spec.nodeName, "pods", pod.metadata.uid)


def status_of(cluster: Cluster, name: str, container: str = "main") -> core.ContainerStatus:
    """The status of a container; an empty one before there is any."""
    statuses = cluster.get("pod", name).status.containerStatuses
    return next((status for status in statuses if status.name == container), core.ContainerStatus())


def phase(cluster: Cluster, name: str) -> str:
    return str(cluster.get("pod", name).status.phase)


def test_init_containers_and_a_sidecar_of_a_job(shared_cluster: Cluster) -> None:
    apply(
        shared_cluster,
        "job",
        """
        restartPolicy: OnFailure
        terminationGracePeriodSeconds: 5
        initContainers:
        - {name: prepare, command: [sh, -c, "test -e again && echo prepared > data && exit 0; touch again; exit 1"]}
        - name: side
          restartPolicy: Always
          command: [sh, -c, "trap 'echo side ends >> order; exit 0' TERM; touch started; while :; do sleep 0.05; done"]
          startupProbe: {exec: {command: [test, -e, started]}, periodSeconds: 1}
        containers:
        - {name: main, command: [sh, -c, "test -e started && cat data && sleep 0.5 && echo main ends >> order"]}
        """,
    )
    shared_cluster.wait_until(lambda: phase(shared_cluster, "job") == "Succeeded", "the job is done")
    pod = shared_cluster.get("pod", "job")
    prepare, side = pod.status.initContainerStatuses
    assert (prepare.restartCount, prepare.state.terminated.exitCode) == (1, 0)
    assert shared_cluster.logs("job", container="main") == "prepared\n"
    shared_cluster.wait_until(
        lambda: shared_cluster.get("pod", "job").status.initContainerStatuses[1].state.HasField("terminated"),
        "the sidecar ends after the others",
    )
    assert side.restartCount == 0
    assert (directory_of(shared_cluster, "job") / "order").read_text() == "main ends\nside ends\n"
    shared_cluster.delete("pod", "job")


def test_a_sidecar_that_does_not_start_keeps_its_pod_pending(shared_cluster: Cluster) -> None:
    """Neither a program that is not there nor a startup probe that fails counts as a start."""
    apply(
        shared_cluster,
        "missing",
        """
        initContainers: [{name: side, restartPolicy: Always, command: [no-such-program]}]
        containers: [{name: main, command: [sleep, "1000"]}]
        """,
    )
    apply(
        shared_cluster,
        "unwell",
        """
        terminationGracePeriodSeconds: 1
        initContainers:
        - name: side
          restartPolicy: Always
          command: [sh, -c, "exec sleep 1000"]
          startupProbe: {exec: {command: [test, -e, well]}, periodSeconds: 1, failureThreshold: 1}
        containers: [{name: main, command: [sh, -c, "test -e well && exec sleep 1000"]}]
        """,
    )

    def restarts(name: str) -> int:
        statuses = shared_cluster.get("pod", name).status.initContainerStatuses
        return int(statuses[0].restartCount) if statuses else 0

    for name in ("missing", "unwell"):
        shared_cluster.wait_until(lambda name=name: restarts(name) >= 2, "the sidecar has failed twice")  # type: ignore[misc]
        status = shared_cluster.get("pod", name).status
        (main,) = status.containerStatuses
        assert (status.phase, main.state.waiting.reason) == ("Pending", "PodInitializing")

    def makes_well() -> bool:
        told = shared_cluster.podium("exec", "unwell", "-c", "side", "--", "touch", "well", check=False)
        return bool(told.returncode == 0)

    shared_cluster.wait_until(makes_well, "a run of the sidecar is there to be told")
    shared_cluster.wait("pod/unwell", condition="Ready")
    assert shared_cluster.get("pod", "unwell").status.containerStatuses[0].restartCount == 0, "it found what it needs"
    shared_cluster.podium("delete", "pod/missing", "pod/unwell")


def test_a_sidecar_is_told_even_if_the_others_use_up_the_grace(shared_cluster: Cluster) -> None:
    apply(
        shared_cluster,
        "stubborn",
        """
        terminationGracePeriodSeconds: 1
        volumes: [{name: kept, dataDirectory: {name: told}}]
        initContainers:
        - name: side
          restartPolicy: Always
          command: [sh, -c, "trap 'echo told >> $PODIUM_VOLUME_KEPT/side; exit 0' TERM; while :; do sleep 0.05; done"]
          volumeMounts: [{name: kept, mountPath: /kept}]
        containers: [{name: main, command: [sh, -c, "trap '' TERM; while :; do sleep 0.05; done"]}]
        """,
    )
    shared_cluster.wait("pod/stubborn", condition="Ready")
    node = shared_cluster.get("pod", "stubborn").spec.nodeName
    shared_cluster.delete("pod", "stubborn")
    written = list((shared_cluster.directory / "nodes" / node / "data").rglob("side"))
    assert [file.read_text() for file in written] == ["told\n"]


def test_hooks_last_words_and_what_a_run_used(shared_cluster: Cluster) -> None:
    apply(
        shared_cluster,
        "hooked",
        """
        terminationGracePeriodSeconds: 10
        restartPolicy: Never
        containers:
        - name: main
          command: [sh, -c, "while ! test -e bye; do sleep 0.05; done; echo last > $PODIUM_TERMINATION_LOG; exit 3"]
          lifecycle:
            postStart: {exec: {command: [sh, -c, "sleep 0.3; echo posted > posted"]}}
        """,
    )
    shared_cluster.wait_until(lambda: phase(shared_cluster, "hooked") == "Running", "it runs")
    assert shared_cluster.exec("hooked", ["cat", "posted"]).stdout == "posted\n", "Running means that the hook is done"
    assert shared_cluster.exec("hooked", ["touch", "bye"]).code == 0
    shared_cluster.wait_until(lambda: phase(shared_cluster, "hooked") == "Failed", "it ends")
    ended = shared_cluster.get("pod", "hooked").status.containerStatuses[0].state.terminated
    assert (ended.exitCode, ended.message) == (3, "last\n")
    assert ended.usage.maxRssBytes > 0
    assert "last" in shared_cluster.podium("describe", "pod/hooked").stdout
    shared_cluster.delete("pod", "hooked")


def test_a_deleted_pod_carries_out_its_pre_stop_hook_first(shared_cluster: Cluster) -> None:
    """The program is told to end when the hook is through, whether that went well or not; the grace is for both."""
    token = f"1000.{os.getpid()}88"
    notes: dict[str, Path] = {}
    for name, hook in (
        ("polite", "say hook begins; sleep 0.5; say hook ends"),
        ("failing", "say hook begins; exit 3"),
        ("endless", f"say hook begins; sleep {token}; say hook ends"),
    ):
        say = f"say() {{ echo $* >> $PODIUM_VOLUME_NOTES/{name}; }};"
        apply(
            shared_cluster,
            name,
            f"""
            terminationGracePeriodSeconds: 60
            containers:
            - name: main
              command: [sh, -c, "{say} trap 'say told to end; exit 0' TERM; say runs; while :; do sleep 0.05; done"]
              readinessProbe: {{exec: {{command: [sh, -c, "test -e $PODIUM_VOLUME_NOTES/{name}"]}}}}
              lifecycle: {{preStop: {{exec: {{command: [sh, -c, "{say} {hook}"]}}}}}}
              volumeMounts: [{{name: notes, mountPath: /notes}}]
            volumes: [{{name: notes, dataDirectory: {{name: notes}}}}]
            """,
        )
    for name in ("polite", "failing", "endless"):
        shared_cluster.wait(f"pod/{name}")
        node = shared_cluster.get("pod", name).spec.nodeName
        notes[name] = shared_cluster.directory / "nodes" / node / "data" / "default" / "notes" / name
        shared_cluster.delete("pod", name, wait=False)
        shared_cluster.wait_until(lambda name=name: "hook begins" in notes[name].read_text(), f"{name}'s hook begins")  # type: ignore[misc]
    shared_cluster.delete("pod", "endless", grace_period_s=1)
    for name in ("polite", "failing"):
        shared_cluster.wait(f"pod/{name}", gone=True)
    said = {name: path.read_text() for name, path in notes.items()}
    assert said["polite"] == "runs\nhook begins\nhook ends\ntold to end\n"
    assert said["failing"] == "runs\nhook begins\ntold to end\n"
    assert said["endless"] == "runs\nhook begins\ntold to end\n"
    assert not mentioning(f"sleep {token}"), "a hook ends with its container"

    def complaint(name: str) -> str:
        return " ".join(event.message for event in shared_cluster.events("FailedPreStopHook", name))

    shared_cluster.wait_until(lambda: "ended with exit code 3" in complaint("failing"), "it is said that one failed")
    shared_cluster.wait_until(lambda: "within the grace period" in complaint("endless"), "and that one took too long")
    assert not complaint("polite")


def waits_for(cluster: Cluster, name: str, container: str = "main") -> str:
    """What a container says that it waits for; empty if it does not."""
    waiting = status_of(cluster, name, container).state.waiting
    return waiting.message if waiting.reason == "WaitingForDependency" else ""


def test_a_container_starts_when_those_it_depends_on_are_ready(shared_cluster: Cluster) -> None:
    """And one is ready, if no probe says otherwise, when the port that it declares listens, not when it runs."""
    listen = (
        "import os, socket, time\n"
        "while not os.path.exists('go'): time.sleep(0.02)\n"
        "open('listens', 'w').close()\n"
        "s = socket.create_server((os.environ['POD_IP'], 8080)); time.sleep(1000)\n"
    )
    apply(
        shared_cluster,
        "ordered",
        f"""
        terminationGracePeriodSeconds: 1
        containers:
        - {{name: web, command: [sh, -c, "ls listens; exec sleep 1000"], dependsOn: [db]}}
        - {{name: db, command: [python3, -c, {json.dumps(listen)}], ports: [{{containerPort: 8080}}]}}
        """,
    )
    shared_cluster.wait_until(
        lambda: status_of(shared_cluster, "ordered", "db").state.HasField("running"), "db runs, and does not listen"
    )
    assert waits_for(shared_cluster, "ordered", "web") == "waiting for container db to be ready"
    assert not status_of(shared_cluster, "ordered", "db").ready
    (directory_of(shared_cluster, "ordered") / "go").touch()
    shared_cluster.wait("pod/ordered", condition="Ready")
    web, db = (status_of(shared_cluster, "ordered", container) for container in ("web", "db"))
    assert db.ready
    assert from_time(web.state.running.startedAt) > from_time(db.state.running.startedAt)
    shared_cluster.wait_until(
        lambda: shared_cluster.logs("ordered", container="web") == "listens\n", "web began when db listened"
    )
    shared_cluster.delete("pod", "ordered")


def test_a_pod_starts_when_controllers_and_services_that_it_depends_on_are_ready(shared_cluster: Cluster) -> None:
    ready = "readinessProbe: {exec: {command: [test, -e, ready]}, periodSeconds: 1}"
    apply(
        shared_cluster,
        "later",
        """
        terminationGracePeriodSeconds: 1
        dependsOn: [rc/the-db, service/the-queue]
        containers: [{name: main, command: [sleep, "1000"]}]
        """,
    )
    shared_cluster.wait_until(
        lambda: waits_for(shared_cluster, "later") == "waiting for rc/the-db, service/the-queue to be ready", "for both"
    )
    shared_cluster.apply(sleeper("the-db", 2, extra=ready))
    shared_cluster.apply(sleeper("the-queue", 1))
    shared_cluster.wait("rc/the-queue", ready=1)
    shared_cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: the-queue}\n"
        "spec: {selector: {app: the-queue}, ports: [{port: 80}]}"
    )
    shared_cluster.wait_until(
        lambda: waits_for(shared_cluster, "later") == "waiting for rc/the-db to be ready", "for the controller"
    )
    one, other = shared_cluster.pods("app=the-db")
    shared_cluster.exec(one.metadata.name, ["touch", "ready"])
    shared_cluster.wait(f"pod/{one.metadata.name}", condition="Ready")
    assert waits_for(shared_cluster, "later") == "waiting for rc/the-db to be ready", "for all of its replicas"
    shared_cluster.exec(other.metadata.name, ["touch", "ready"])
    shared_cluster.wait("pod/later", condition="Ready")
    ready_at_s = []
    for name in (one.metadata.name, other.metadata.name):
        condition = get_condition(shared_cluster.get("pod", name).status, "Ready")
        assert condition is not None
        ready_at_s.append(from_time(condition.lastTransitionTime))
    assert from_time(status_of(shared_cluster, "later").state.running.startedAt) > max(ready_at_s)
    shared_cluster.podium("delete", "pod/later", "rc/the-db", "rc/the-queue", "service/the-queue")


def test_a_pod_that_is_active_for_too_long(shared_cluster: Cluster) -> None:
    apply(
        shared_cluster,
        "long",
        """
        activeDeadlineSeconds: 600
        terminationGracePeriodSeconds: 1
        containers: [{name: main, command: [sleep, "1000"]}]
        """,
    )
    shared_cluster.wait("pod/long", condition="Ready")
    shared_cluster.patch("pod", "long", {"spec": {"activeDeadlineSeconds": 1}})  # it may become shorter, and no longer
    shared_cluster.wait_until(lambda: phase(shared_cluster, "long") == "Failed", "its time is over")
    status = shared_cluster.get("pod", "long").status
    assert (status.reason, status.containerStatuses[0].state.terminated.signal) == ("DeadlineExceeded", 15)
    shared_cluster.delete("pod", "long")
