"""Pods of several containers: their order, their hooks and probes, their last words."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from cluster.testing import Cluster
from tests.kit.processes import mentioning


def apply(cluster: Cluster, name: str, spec: str) -> None:
    body = textwrap.indent(textwrap.dedent(spec), "  ")
    cluster.apply(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default}}\nspec:\n{body}")


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
    shared_cluster.delete("pod", "job")


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


def test_dependencies_and_readiness_by_port(shared_cluster: Cluster) -> None:
    listen = (
        "import os, socket, time; time.sleep(0.5);"
        " s = socket.create_server((os.environ['POD_IP'], 8080)); time.sleep(1000)"
    )
    apply(
        shared_cluster,
        "ordered",
        f"""
        terminationGracePeriodSeconds: 1
        containers:
        - {{name: web, command: [sleep, "1000"], dependsOn: [db]}}
        - {{name: db, command: [python3, -c, "{listen}"], ports: [{{containerPort: 8080}}]}}
        """,
    )
    shared_cluster.wait("pod/ordered", condition="Ready")
    web, db = shared_cluster.get("pod", "ordered").status.containerStatuses
    assert db.ready
    assert web.state.running.startedAt.seconds >= db.state.running.startedAt.seconds
    apply(
        shared_cluster,
        "later",
        """
        terminationGracePeriodSeconds: 1
        dependsOn: [service/ordered-db]
        containers: [{name: main, command: [sleep, "1000"]}]
        """,
    )

    def waits() -> bool:
        statuses = shared_cluster.get("pod", "later").status.containerStatuses
        return len(statuses) == 1 and statuses[0].state.waiting.reason == "WaitingForDependency"

    shared_cluster.wait_until(waits, "it waits for the service")
    shared_cluster.podium("label", "pod/ordered", "app=ordered-db")
    shared_cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: ordered-db}\n"
        "spec: {selector: {app: ordered-db}, ports: [{port: 80, targetPort: 8080}]}"
    )
    shared_cluster.wait("pod/later", condition="Ready")
    shared_cluster.podium("delete", "pod/ordered", "pod/later", "service/ordered-db")


def test_a_pod_that_is_active_for_too_long(shared_cluster: Cluster) -> None:
    apply(
        shared_cluster,
        "long",
        """
        activeDeadlineSeconds: 1
        terminationGracePeriodSeconds: 1
        containers: [{name: main, command: [sleep, "1000"]}]
        """,
    )
    shared_cluster.wait_until(lambda: phase(shared_cluster, "long") == "Failed", "its time is over")
    status = shared_cluster.get("pod", "long").status
    assert (status.reason, status.containerStatuses[0].state.terminated.signal) == ("DeadlineExceeded", 15)
    shared_cluster.delete("pod", "long")
