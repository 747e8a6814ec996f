"""Pods of several containers: their order, their hooks and probes, their last words."""

from __future__ import annotations

import textwrap

from cluster.testing import Cluster


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
            preStop: {exec: {command: [sh, -c, "touch bye; sleep 0.3"]}}
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
