"""ConfigMaps, Secrets and volumes, as pods find them; and what pods may not see."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from cluster.testing import Cluster


def apply(cluster: Cluster, name: str, namespace: str, spec: str) -> None:
    body = textwrap.indent(textwrap.dedent(spec), "  ")
    cluster.apply(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{a: b}}}}\nspec:\n{body}", namespace)


def show(cluster: Cluster, name: str, namespace: str, script: str) -> str:
    result = cluster.exec(name, ["sh", "-c", script], namespace)
    return result.stdout + result.stderr


def test_variables_and_files_of_configmaps_and_secrets(shared_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "app.conf").write_text("level = info\n")
    space = ("-n", namespace)
    apply(
        shared_cluster,
        "web",
        namespace,
        """
        terminationGracePeriodSeconds: 1
        containers:
        - name: main
          command: [sleep, "1000"]
          resources: {requests: {cpu: 250m}, limits: {memory: 64Mi}}
          envFrom: [{configMapRef: {name: web}, prefix: C_}, {secretRef: {name: absent, optional: true}}]
          env:
          - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
          - {name: NOTHING, valueFrom: {configMapKeyRef: {name: web, key: nothing, optional: true}}}
          - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
          - {name: CPU, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
          volumeMounts:
          - {name: conf, mountPath: /etc/web}
          - {name: db, mountPath: /run/db, readOnly: true}
          - {name: me, mountPath: /run/me}
          - {name: scratch, mountPath: /scratch}
        volumes:
        - {name: conf, configMap: {name: web, items: [{key: app.conf, path: sub/app.conf}]}}
        - {name: db, secret: {secretName: db}}
        - {name: me, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
        - {name: scratch, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
        """,
    )

    def waits() -> bool:
        statuses = shared_cluster.get("pod", "web", namespace).status.containerStatuses
        return bool(statuses) and "not found" in statuses[0].state.waiting.message

    shared_cluster.wait_until(waits, "the pod says what is missing")
    status = shared_cluster.get("pod", "web", namespace).status.containerStatuses[0]
    assert status.state.waiting.reason == "CreateContainerConfigError"
    shared_cluster.podium(
        "create", "configmap", "web", *space, f"--from-file={tmp_path}/app.conf", "--from-literal=n=1"
    )
    shared_cluster.podium("create", "secret", "db", *space, "--from-literal=password=hunter2")
    shared_cluster.wait("pod/web", namespace)
    script = "echo $C_n $PASSWORD ${NOTHING-unset} $MEMORY $CPU; cat $PODIUM_VOLUME_CONF/sub/app.conf"
    assert show(shared_cluster, "web", namespace, script) == "1 hunter2 unset 64 250\nlevel = info\n"
    said = show(
        shared_cluster,
        "web",
        namespace,
        "cd $PODIUM_VOLUME_DB && stat -L -c %a password; stat -f -c %T .; cat $PODIUM_VOLUME_ME/labels",
    )
    assert said == '400\ntmpfs\na="b"'
    node = shared_cluster.get("node", shared_cluster.get("pod", "web", namespace).spec.nodeName)
    if node.status.isolation.volumes == "namespace":
        script = "cat /etc/web/sub/app.conf /run/db/password /run/me/labels; echo; touch /run/db/x /scratch/x"
        said = show(shared_cluster, "web", namespace, script)
        assert said.startswith('level = info\nhunter2a="b"\n')
        assert said.count("Read-only") == 1
    # New values appear in the files, all at once.
    manifest = shared_cluster.podium("create", "configmap", "web", *space, "--from-literal=app.conf=new", "--dry-run")
    shared_cluster.apply(manifest.stdout, namespace)
    shared_cluster.wait_until(
        lambda: show(shared_cluster, "web", namespace, "cat $PODIUM_VOLUME_CONF/sub/app.conf") == "new", "it is new"
    )
    manifest = shared_cluster.podium("create", "secret", "db", *space, "--from-literal=password=newer", "--dry-run")
    shared_cluster.apply(manifest.stdout, namespace)
    shared_cluster.podium("label", "pod/web", *space, "--overwrite", "a=c")
    shared_cluster.wait_until(
        lambda: (
            show(shared_cluster, "web", namespace, "cat $PODIUM_VOLUME_DB/password $PODIUM_VOLUME_ME/labels")
            == 'newera="c"'
        ),
        "secrets and labels are new, too",
    )
    # Its emptyDir may hold 1 MiB: with more, the pod is evicted.
    show(shared_cluster, "web", namespace, "head -c 3000000 /dev/zero > $PODIUM_VOLUME_SCRATCH/big")
    shared_cluster.wait_until(
        lambda: shared_cluster.get("pod", "web", namespace).status.reason == "Evicted", "it holds too much"
    )
    described = shared_cluster.podium("describe", "secret/db", *space).stdout
    assert "password: 5 bytes" in described
    assert "hunter2" not in described + shared_cluster.podium("history", "secret/db", *space).stdout


def test_data_directories_outlive_their_pods(shared_cluster: Cluster, namespace: str) -> None:
    for number in (1, 2):
        apply(
            shared_cluster,
            f"writer-{number}",
            namespace,
            f"""
            terminationGracePeriodSeconds: 1
            restartPolicy: Never
            nodeName: node-1
            containers:
            - name: main
              command: [sh, -c, "cd $PODIUM_VOLUME_STORE && echo {number} >> log; cat log"]
              volumeMounts: [{{name: store, mountPath: /store}}]
            volumes: [{{name: store, dataDirectory: {{name: store}}}}]
            """,
        )
        name = f"writer-{number}"
        shared_cluster.wait_until(
            lambda name=name: shared_cluster.get("pod", name, namespace).status.phase == "Succeeded",  # type: ignore[misc]
            f"{name} is done",
        )
        shared_cluster.podium("logs", name, "-n", namespace)
    assert shared_cluster.podium("logs", "writer-2", "-n", namespace).stdout == "1\n2\n"


def test_a_pod_sees_neither_keys_nor_daemons(shared_cluster: Cluster, namespace: str) -> None:
    """It tries to read the cluster's keys, to look into and end its agent, and to reach the master."""
    node = shared_cluster.get("node", "node-1")
    if any("covered" in missing or "namespace" in missing for missing in node.status.isolation.missing):
        pytest.skip(f"this kernel cannot hide it: {list(node.status.isolation.missing)}")
    apply(
        shared_cluster,
        "spy",
        namespace,
        """
        terminationGracePeriodSeconds: 1
        nodeName: node-1
        containers: [{name: main, command: [sleep, "1000"]}]
        """,
    )
    shared_cluster.wait("pod/spy", namespace)
    agent, master, directory = shared_cluster.pid("node-1"), shared_cluster.pid("master"), shared_cluster.directory
    assert (directory / "pki" / "admin" / "tls.key").exists()
    said = show(
        shared_cluster,
        "spy",
        namespace,
        f"cat {directory}/pki/admin/tls.key {directory}/pki/ca/ca.key; ls -A {directory}; echo .;"
        f" cat /proc/{agent}/environ /proc/{master}/mem; ls /proc/{agent}/root/; readlink -v /proc/{agent}/fd/0;"
        f" ls {directory}/nodes/node-1; kill -9 {agent} {master}; kill -9 {shared_cluster.pid('supervisor')}",
    )
    assert "PRIVATE KEY" not in said
    assert said.startswith("nodes\n.\n"), "nothing of the cluster's directory shows but what leads to the node's rooms"
    assert "tls.crt" not in said
    assert said.count("ermission denied") >= 4, said
    assert said.count("not permitted") >= 3, said
    assert os.path.exists(f"/proc/{agent}")
    host, _, port = shared_cluster.master.rpartition(":")
    connect = (
        "import ssl, socket; c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE;"
        f" s = c.wrap_socket(socket.create_connection(('{host}', {port}))); s.send(b'x' * 100);"
        " print('answer', s.recv(100))"
    )
    result = shared_cluster.exec("spy", ["python3", "-c", connect], namespace)
    assert result.code != 0 or result.stdout == "answer b''\n", "hung up on, without a word"
