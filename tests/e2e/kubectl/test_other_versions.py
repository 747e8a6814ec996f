"""Every other kubectl that there is, on a real cluster: those of the machine, and Debian's of 1.20."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cluster.testing import Cluster
from tests.e2e.kubectl.stories import FILES, STORIES, WEB
from tests.kit.kubectl import OLD, Kubectl, Story, binaries, minor_of

OTHERS = [
    binary
    for binary in binaries()
    if Path(binary).parent != Path(sys.executable).parent and Path(binary) != OLD  # which has a test of its own
]


@pytest.fixture(scope="module")
def older(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Another kubectl that knows all the commands: 1.32 if the machine has it."""
    able = [binary for binary in OTHERS if minor_of(binary) >= 28]
    if not able:
        pytest.skip("this machine has no other kubectl of 1.28 or later")
    chosen = min(able, key=lambda each: (abs(minor_of(each) - 32), -len(each)))
    return Kubectl(cluster, tmp_path_factory.mktemp("older-home"), chosen, FILES)


@pytest.mark.parametrize("story", list(STORIES))
def test_an_older_kubectl_says_the_same(older: Kubectl, story: str) -> None:
    older.tell(STORIES[story])


OLD_STORY: Story = [
    ("version", r'Server Version: .*GitVersion:"v1'),
    ("get nodes", r"^node-1 +Ready"),
    ("describe node node-1", r"(?s)Name: +node-1.*Capacity:"),
    ("apply --validate=false -f web.yaml", r"replicationcontroller/web created\s+service/web created"),
    ("apply --validate=false -f web.yaml", r"replicationcontroller/web unchanged\s+service/web unchanged"),
    ("apply -f web.yaml", r"replicationcontroller/web unchanged"),
    ("diff -f web.yaml", r"\A\Z"),
    ("create --validate=false -f pod.yaml", r"pod/lone created"),
    ("create -f unknown.yaml", r'unknown field "contaners"', 1),
    ("wait --for=condition=Ready pod/lone --timeout=20s", r"condition met"),
    ("get pods -o wide", r"NOMINATED NODE"),
    ("get pod lone -o jsonpath={.status.phase}", r"^Running$"),
    ("describe pod lone", r"(?s)Name: +lone.*main:.*side:.*Ready +True"),
    ("describe svc web", r"Selector: +app=web"),
    ("logs lone -c main", r"\Aone\ntwo\n\Z"),
    ("exec lone -c main -- echo hello", r"^hello$"),
    ("exec lone -c side -- sh -c 'exit 3'", r"exit code 3", 3),
    ("scale rc web --replicas=1", r"scaled"),
    ("label rc web a=b", r"labeled"),
    ("annotate rc web a=b", r"annotated"),
    ("set env rc/web B=2", r"env updated"),
    ("create configmap c --from-literal=a=b", r"configmap/c created"),
    ("get events", r"^LAST SEEN"),
    (
        "explain pod.spec.containers",
        r"(?s)RESOURCE: containers <\[\]Object>.*command\s+<\[\]string>\s+The program and its",
    ),
    ("explain rc --recursive", r"readinessProbe\s+<Object>"),
    ("top nodes", r"^node-1"),
    ("auth can-i list pods", r"^yes"),
    ("delete rc web --cascade=false", r"deleted"),
    ("delete svc/web cm/c", r"deleted"),
    ("delete pod -l app=web --now", r"deleted"),
]


def test_debians_kubectl(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> None:
    """1.20: from before aggregated discovery, OpenAPI 3 and WebSockets."""
    if not OLD.exists():
        pytest.skip(f"{OLD} is not there: .ci/run unpacks it")
    old = Kubectl(cluster, tmp_path, str(OLD), FILES)
    old.tell(OLD_STORY)
    there = tmp_path / "there"
    old.expect(f"cp web.yaml lone:{there} -c main", "")
    assert there.read_text() == WEB
    with old.running("port-forward", "pod/lone", ":8080", "--address", "127.0.0.1") as forwarding:
        assert "Forwarding from 127.0.0.1:" in forwarding.said.readline()
    old.expect("delete pod lone --now", "deleted")


def counted(kubectl: Kubectl, namespace: str) -> str:
    """Replicas, and those of them that are ready. (kubectl before 1.23 does not wait for such.)"""
    fields = "jsonpath={.status.replicas} {.status.readyReplicas}"
    return kubectl.run("-n", namespace, "get", "rc", "web", "-o", fields).out


@pytest.mark.parametrize("binary", OTHERS or [""], ids=lambda binary: Path(binary).name)
def test_every_kubectl_of_the_machine_works_as_well(cluster: Cluster, tmp_path: Path, binary: str) -> None:
    if not binary:
        pytest.skip("this machine has no other kubectl")
    other = Kubectl(cluster, tmp_path, binary)
    (tmp_path / "web.yaml").write_text(WEB)
    namespace = f"of-{minor_of(binary)}-{OTHERS.index(binary)}"
    within = f"-n {namespace}"
    other.expect("get nodes", "node-1 +Ready")
    other.expect(f"create namespace {namespace}", "created")
    other.expect(f"{within} apply -f web.yaml", "replicationcontroller/web created")
    other.expect(f"{within} create configmap other --from-literal=a=b", "configmap/other created")
    cluster.wait_until(lambda: counted(other, namespace) == "2 2", "both replicas are ready")
    other.expect(f"{within} wait --for=condition=Ready pod -l app=web --timeout=20s", "condition met")
    other.expect(f"{within} scale rc web --replicas=1", "scaled")
    cluster.wait_until(lambda: counted(other, namespace) == "1 1", "one is left")
    listed = other.expect(f"{within} get pods -l app=web --field-selector=status.phase=Running", "1/1 +Running")
    name = next(line.split()[0] for line in listed.out.splitlines() if "Running" in line)
    other.expect(f"{within} exec {name} -- echo hello", "^hello$")
    other.expect(f"{within} exec -i {name} -- cat", r"\Athere\Z", stdin="there")
    other.expect(f"{within} logs {name}", "^ready$")
    other.expect(f"{within} describe pod {name}", r"(?s)Name: +web-.*Status: +Running.*Events:.*Started")
    other.expect(f"delete namespace {namespace}", "deleted")
