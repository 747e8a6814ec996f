"""Security profiles and contexts as users meet them: placed where they can be had, and refused where they cannot."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from node_agent.restrict import landlock_version
from tests.e2e.workloads import pod
from tests.kit.processes import mentioning
from tests.kit.without_namespaces import NO_NAMESPACE, without_namespaces

STATUS = "grep -E 'NoNewPrivs|CapBnd' /proc/self/status"

CALL = """
import os, socket, sys
os.chdir(os.path.dirname(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as caller:
    caller.settimeout(20)
    caller.connect(os.path.basename(sys.argv[1]))
    try:
        caller.send(b'{"op": "status"}\\n')
        print(os.path.basename(sys.argv[1]), "answered" if caller.recv(1000) else "hung up")
    except OSError:
        print(os.path.basename(sys.argv[1]), "hung up")
"""


@pytest.fixture(scope="module")
def trusting_cluster() -> Iterator[Cluster]:
    """Of one node, which may run trusted pods."""
    with Cluster.start(nodes=1, options=["--agent-arg", "allow-trusted"]) as cluster:
        yield cluster


def offered(cluster: Cluster) -> list[str]:
    return list(cluster.list("node", "")[0].status.isolation.profiles)


def output_of(cluster: Cluster, name: str, namespace: str) -> str:
    cluster.wait_until(
        lambda: cluster.get("pod", name, namespace).status.phase in ("Succeeded", "Failed"), f"pod/{name} has ended"
    )
    return str(cluster.podium("logs", name, "-n", namespace).stdout)


def test_a_pod_of_the_default_profile_gets_nowhere(shared_cluster: Cluster, namespace: str) -> None:
    """Neither to the cluster's keys, nor to its daemons, nor past the master's door."""
    isolation = shared_cluster.list("node", "")[0].status.isolation
    if any("cover" in each or "namespace" in each or "signals" in each for each in isolation.missing):
        pytest.skip(f"this kernel cannot do all of it: {list(isolation.missing)}")
    agent, spawner = shared_cluster.pid("node-1"), shared_cluster.pid("node-1-spawner")
    keys = sorted((shared_cluster.directory / "pki").glob("*/*.key"))
    assert {"ca.key", "tls.key"} == {key.name for key in keys}
    host, port = shared_cluster.master.split(":")
    program = f"""
import ctypes, os, socket, ssl
def attempt(what, body):
    try:
        print(what, "worked:", body())
    except Exception as error:
        print(what, "failed:", type(error).__name__)
def trace(pid):
    if ctypes.CDLL(None, use_errno=True).ptrace(16, pid, 0, 0) < 0:
        raise PermissionError
def knock():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(socket.create_connection(("{host}", {port}), 5)) as door:
        door.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n")
        if not door.recv(100):
            raise ConnectionError("closed")
for key in {[str(key) for key in keys]}:
    attempt("key", lambda: open(key).read())
attempt("list", lambda: os.listdir("{shared_cluster.directory}/pki"))
for pid in ({agent}, {spawner}):
    attempt("environ", lambda: open(f"/proc/{{pid}}/environ").read())
    attempt("memory", lambda: open(f"/proc/{{pid}}/mem", "rb").read(1))
    attempt("signal", lambda: os.kill(pid, 9))
    attempt("trace", lambda: trace(pid))
attempt("master", knock)
"""
    lines = "".join(f"      {line}\n" for line in program.splitlines())
    shared_cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: burglar}\nspec:\n  restartPolicy: Never\n  containers:\n"
        "  - name: main\n    command:\n    - python3\n    - -c\n    - |\n" + lines,
        namespace,
    )
    said = output_of(shared_cluster, "burglar", namespace)
    assert "worked" not in said, said
    failures = [line.split(" failed: ") for line in said.splitlines()]
    assert [what for what, _ in failures] == [
        *["key"] * len(keys),
        "list",
        *("environ", "memory", "signal", "trace") * 2,
        "master",
    ]
    assert {why for what, why in failures if what in ("key", "list")} <= {"FileNotFoundError", "PermissionError"}
    assert {why for what, why in failures if what in ("environ", "memory", "signal", "trace")} == {"PermissionError"}
    hung_up = {"SSLError", "SSLEOFError", "ConnectionError", "ConnectionResetError", "BrokenPipeError"}
    assert failures[-1][1] in hung_up, said


def test_keys_are_closed_off_where_nothing_can_be_covered(tmp_path: Path) -> None:
    """A distribution that lets its users make no namespaces: Landlock does it, and the node says what that costs."""
    if not landlock_version():
        pytest.skip("this kernel has no Landlock")
    (tmp_path / "call.py").write_text(CALL)
    script = f"""
import sys
sys.path[:0] = {sys.path}
from pathlib import Path
from cluster.testing import Cluster
from tests.e2e.workloads import pod
with Cluster.start(nodes=1, home=Path({str(tmp_path / "podium")!r})) as cluster:
    key = cluster.directory / "pki" / "admin" / "tls.key"
    assert key.exists()
    spawner, supervisor = cluster.directory / "nodes/node-1/spawner.sock", cluster.directory / "run/control.sock"
    assert spawner.exists() and supervisor.exists(), list(cluster.directory.rglob("*.sock"))
    steps = f"cat {{key}} {{cluster.directory}}/pki/ca/ca.key; echo mine > mine; cat mine; rm {{key}}; ls {{key}}"
    steps += f"; python3 {tmp_path}/call.py {{spawner}}; python3 {tmp_path}/call.py {{supervisor}}"
    cluster.apply(pod("burglar", steps))
    cluster.wait_until(lambda: cluster.get("pod", "burglar").status.phase == "Failed" or
                       cluster.get("pod", "burglar").status.phase == "Succeeded", "the burglar has ended")
    print(cluster.podium("logs", "burglar").stdout, "=" * 80)
    print(cluster.podium("describe", "node", "node-1").stdout)
    print(cluster.podium("events").stdout)
    assert key.exists()
"""
    done = subprocess.run(without_namespaces("-c", script), capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == NO_NAMESPACE:
        pytest.skip("there is no namespace to be had at all")
    assert done.returncode == 0, done.stderr
    said = done.stdout.partition("=" * 80)[0]
    assert "PRIVATE KEY" not in said
    assert said.count("ermission denied") == 3, said
    assert "\nmine\n" in said
    assert said.count("spawner.sock hung up") == said.count("control.sock hung up") == 1, said
    assert "closed by Landlock" in done.stdout
    assert "NotContained" not in done.stdout


def test_restricted_and_sandboxed_pods_serve_and_are_asked(shared_cluster: Cluster, namespace: str) -> None:
    """With probes, exec, volumes and an orderly end, like all others."""
    for profile in ("restricted", "sandbox"):
        if profile not in offered(shared_cluster):
            pytest.skip(f"no node offers {profile}")
        token = f"1000.{os.getpid()}{len(profile)}"
        command = f"trap 'echo bye > /data/bye; exit 0' TERM; echo $POD_NAME > /data/name; sleep {token} & wait"
        mounts = "volumeMounts: [{name: data, mountPath: /data}]"
        probe = "readinessProbe: {exec: {command: [test, -e, /data/name]}, periodSeconds: 1}"
        volumes = f"volumes: [{{name: data, dataDirectory: {{name: {profile}}}}}]"
        spec = f"securityProfile: {profile}\n          {volumes}"
        text = pod(profile, command, extra=f"{mounts}\n            {probe}", spec=spec)
        shared_cluster.apply(text, namespace)
        shared_cluster.wait(f"pod/{profile}", namespace)
        said = shared_cluster.exec(profile, ["sh", "-c", "cat /data/name; ls /root"], namespace)
        assert (said.stdout, said.code) == (f"{profile}\n", 2), "there is no way to what is not its own"
        shared_cluster.delete("pod", profile, namespace)
        node = shared_cluster.directory / "nodes"
        assert [file.read_text() for file in node.glob(f"*/data/{namespace}/{profile}/bye")] == ["bye\n"]
        assert not mentioning(f"sleep {token}")


def test_restricted_and_sandboxed_pods_of_root_are_not_root(shared_cluster: Cluster, namespace: str) -> None:
    """Their volumes, whatever they are made of, and their last words are theirs all the same."""
    if os.geteuid() != 0:
        pytest.skip("only root's could be root")
    secret = "{apiVersion: v1, kind: Secret, metadata: {name: db}, stringData: {password: hunter2}}"
    shared_cluster.apply(secret, namespace)
    for profile in ("restricted", "sandbox"):
        if profile not in offered(shared_cluster):
            pytest.skip(f"no node offers {profile}")
        volumes = (
            f"volumes: [{{name: s, secret: {{secretName: db}}}}, {{name: e, emptyDir: {{}}}},"
            f" {{name: m, emptyDir: {{medium: Memory}}}}, {{name: d, dataDirectory: {{name: {profile}}}}},"
            " {name: w, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]"
        )
        mounts = ", ".join(f"{{name: {name}, mountPath: /v/{name}}}" for name in "semdw")
        command = (
            "head -c 20 /etc/shadow && echo leaked; cat /v/s/password $PODIUM_VOLUME_S/password /v/w/name; echo;"
            " for v in e m d; do echo $v > /v/$v/file && cat /v/$v/file; done; echo sub > /v/sub/file; cat /v/sub/file;"
            " echo out > /dev/stdout; echo last words > $PODIUM_TERMINATION_LOG; id -u"
        )
        extra = f"volumeMounts: [{mounts}, {{name: e, mountPath: /v/sub, subPath: a/b}}]"
        text = pod(profile, command, extra=extra, spec=f"securityProfile: {profile}\n          {volumes}")
        shared_cluster.apply(text, namespace)
        said = output_of(shared_cluster, profile, namespace)
        assert "leaked" not in said, said
        assert said.endswith(f"hunter2hunter2{profile}\ne\nm\nd\nsub\nout\n65534\n"), said
        status = shared_cluster.get("pod", profile, namespace).status
        assert status.containerStatuses[0].state.terminated.message == "last words\n"
        kept = shared_cluster.directory / "nodes"
        (file,) = kept.glob(f"*/data/{namespace}/{profile}/file")
        assert file.stat().st_uid == 65534
        # Another pod takes the data over, and is root.
        node = f"nodeName: {shared_cluster.get('pod', profile, namespace).spec.nodeName}"
        again = f"volumes: [{{name: d, dataDirectory: {{name: {profile}}}}}]"
        mount = "volumeMounts: [{name: d, mountPath: /d}]"
        heir = pod(f"heir-{profile}", "cat /d/file; echo new > /d/new", extra=mount, spec=f"{node}\n          {again}")
        shared_cluster.apply(heir, namespace)
        assert output_of(shared_cluster, f"heir-{profile}", namespace) == "d\n"
        assert file.stat().st_uid == 0


def test_where_no_pod_may_be_root(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's pods could be root")
    options = ["--agent-arg", "no-allow-root"]
    with Cluster.start(nodes=1, options=options, home=tmp_path / "podium") as cluster:
        cluster.apply(pod("plain", "id -u"))

        def why() -> str:
            statuses = cluster.get("pod", "plain").status.containerStatuses
            waiting = statuses[0].state.waiting if statuses else core.ContainerStateWaiting()
            return f"{waiting.reason}: {waiting.message}"

        said = "CreateContainerConfigError: container main: pods may not run as root here (--no-allow-root"
        cluster.wait_until(lambda: said in why(), "it is refused, and says by what")
        assert "with restricted it would be nobody" in why()
        for profile in ("restricted", "sandbox"):
            if profile in offered(cluster):
                cluster.apply(pod(profile, "id -u", spec=f"securityProfile: {profile}"))
                assert output_of(cluster, profile, "default") == "65534\n"


def test_a_profile_that_no_node_offers_waits_and_says_so(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(pod("eager", "sleep 1000", spec="securityProfile: trusted"), namespace)

    def why() -> str:
        return str(shared_cluster.podium("why", "pod/eager", "-n", namespace, check=False).stdout)

    shared_cluster.wait_until(lambda: "spec.securityProfile" in why(), "it is said what is missing")
    assert "podium.dev/security-profile-trusted=true" in why()
    node = shared_cluster.nodes[0]
    assert "--allow-trusted" in shared_cluster.podium("describe", "node", node).stdout
    forced = pod("forced", "sleep 1000", spec=f"securityProfile: trusted\n          nodeName: {node}")
    shared_cluster.apply(forced, namespace)
    shared_cluster.wait_until(
        lambda: shared_cluster.get("pod", "forced", namespace).status.reason == "UnsupportedSecurityProfile",
        "the node refuses it",
    )


def test_what_cannot_be_had_is_refused(shared_cluster: Cluster, namespace: str) -> None:
    for extra, why in (
        ("securityContext: {privileged: true}", "processes of pods never have privileges"),
        ("securityContext: {allowPrivilegeEscalation: true}", "processes of pods never have privileges"),
        ("securityContext: {runAsUser: -1}", "must be between 0 and 2147483647"),
        ("securityContext: {seccompProfile: {type: RuntimeDefault}}", "seccompProfile"),
        ("securityContext: {capabilities: {add: [NET_ADMIN]}}", "add"),
    ):
        text = pod("wild", "sleep 1000", extra=extra)
        result = shared_cluster.podium("apply", "-n", namespace, "-f", "-", stdin=text, check=False)
        assert result.returncode != 0
        assert why in result.stderr, result.stderr
    text = pod("wild", "sleep 1000", spec="securityProfile: strict")
    result = shared_cluster.podium("apply", "-n", namespace, "-f", "-", stdin=text, check=False)
    assert re.search(r'securityProfile.*"strict".*baseline.*restricted.*sandbox.*trusted', result.stderr), result.stderr


def test_who_a_container_may_be(shared_cluster: Cluster, namespace: str) -> None:
    me = os.geteuid()
    fine = f"securityContext: {{runAsUser: {me}, allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}"
    shared_cluster.apply(pod("me", "id -u", extra=fine), namespace)
    assert output_of(shared_cluster, "me", namespace) == f"{me}\n"
    shared_cluster.apply(pod("other", "id -u", extra=f"securityContext: {{runAsUser: {me + 1}}}"), namespace)
    shared_cluster.apply(pod("modest", "id -u", extra="securityContext: {runAsNonRoot: true}"), namespace)

    def waits(name: str, why: str) -> bool:
        statuses = shared_cluster.get("pod", name, namespace).status.containerStatuses
        waiting = statuses[0].state.waiting if statuses else None
        return waiting is not None and waiting.reason == "CreateContainerConfigError" and why in waiting.message

    asked = f"it asks for user {me + 1}"
    shared_cluster.wait_until(lambda: waits("other", asked), "another user cannot be had")
    if "sandbox" in offered(shared_cluster):
        anybody = "securityContext: {runAsUser: 4711, runAsGroup: 4712, runAsNonRoot: true}"
        shared_cluster.apply(pod("anybody", "id -u; id -g", extra=anybody, spec="securityProfile: sandbox"), namespace)
        assert output_of(shared_cluster, "anybody", namespace) == "4711\n4712\n"
    if me == 0:
        shared_cluster.wait_until(lambda: waits("modest", "would run as root"), "root is not modest")
    else:
        assert output_of(shared_cluster, "modest", namespace) == f"{me}\n"


def test_a_root_that_cannot_be_written(shared_cluster: Cluster, namespace: str) -> None:
    command = (
        "echo mine > mine && cat mine; touch /var/tmp/podium-test 2>&1;"
        " echo x > /tmp/$POD_NAME.$$ && rm /tmp/$POD_NAME.$$ && echo tmp"
    )
    context = "securityContext: {readOnlyRootFilesystem: true}"
    shared_cluster.apply(pod("fixed", command, extra=context), namespace)
    said = output_of(shared_cluster, "fixed", namespace)
    assert said.startswith("mine\n")
    assert "Read-only file system" in said
    assert said.endswith("tmp\n")
    assert not os.path.exists("/var/tmp/podium-test")


def test_trusted_pods_have_what_the_agent_has(trusting_cluster: Cluster) -> None:
    """And a second spawner, which ends with the cluster like the first one."""
    trusting_cluster.apply(pod("plain", STATUS), "default")
    trusting_cluster.apply(pod("free", f"{STATUS}; sleep 1000", spec="securityProfile: trusted"), "default")
    trusting_cluster.wait("pod/free", "default")
    assert "NoNewPrivs:\t1" in output_of(trusting_cluster, "plain", "default")
    trusting_cluster.wait_until(lambda: "CapBnd" in trusting_cluster.logs("free"), "it has said what it has")
    said = str(trusting_cluster.podium("logs", "free").stdout)
    assert "NoNewPrivs:\t0" in said
    if os.geteuid() == 0:
        assert "CapBnd:\t0000000000000000" not in said
    assert trusting_cluster.exec("free", ["cat", f"{trusting_cluster.directory}/cluster.json"]).code == 0
    assert trusting_cluster.pid("node-1-trusted-spawner") != trusting_cluster.pid("node-1-spawner")
    trusting_cluster.delete("pod", "free", "default")
