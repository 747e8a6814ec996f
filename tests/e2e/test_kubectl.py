"""kubectl, unmodified, on a real cluster: what people type, and what they shall see.

Each story is a list of command lines with what their output must hold (a regular expression, on either output); the
numbers in front are exit codes where 0 is not expected.
"""

from __future__ import annotations

import json
import re
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.testing import Cluster
from tests.e2e.conftest import assert_nothing_left
from tests.kit.kubectl import OLD, Kubectl, binaries, minor_of

WEB = """
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ReplicationController
  metadata: {name: web, labels: {app: web}}
  spec:
    replicas: 2
    selector: {app: web}
    template:
      metadata: {labels: {app: web}}
      spec:
        containers:
        - {name: main, command: [sh, -c, "echo ready; exec sleep 1000"], env: [{name: A, value: "1"}]}
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: lone, labels: {app: lone}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, command: [sh, -c, "echo one; echo two; exec sleep 1000"]}
  - {name: side, command: [sh, -c, "echo aside; exec sleep 1000"]}
"""

EVENT = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "seen.1"},
    "involvedObject": {"kind": "Pod", "namespace": "default", "name": "seen"},
    "type": "Normal",
    "reason": "Odd",
    "message": "it was",
    "lastTimestamp": "2026-01-01T00:00:00Z",
}
STATUS = """'{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}'"""
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r, namespace: default}
rules: []
"""
EVENT = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "seen.1"},
    "involvedObject": {"kind": "Pod", "namespace": "default", "name": "seen"},
    "type": "Normal",
    "reason": "Odd",
    "message": "it was",
    "lastTimestamp": "2026-01-01T00:00:00Z",
}
SVC_PATCH = """-n life patch svc web -p '{"spec":{"selector":{"app":"web"}}}'"""

Story = list[tuple[str, str] | tuple[str, str, int]]

STORIES: dict[str, Story] = {
    "the cluster": [
        ("version", r"Server Version: v1\.\d+\.\d+\+podium"),
        ("cluster-info", r"Kubernetes control plane\S* is running at \S*https://127\.\d+\.0\.251:6443"),
        ("get --raw /healthz", r"^ok$"),
        ("get --raw /readyz", r"^ok$"),
        ("get --raw /version", r'"gitVersion"'),
        ("api-versions", r"^policy/v1$"),
        ("api-resources", r"^poddisruptionbudgets +pdb +policy/v1 +true +PodDisruptionBudget"),
        ("api-resources --namespaced=false -o name", r"^nodes$"),
        ("auth can-i delete nodes", r"^yes$"),
        ("auth can-i create deployments.apps", r"^no", 1),
        ("auth can-i --list", r"^pods +\[\] +\[\] +\[create delete"),
        ("auth whoami", r"^Username +admin$"),
        ("get pods --as=bob", r"Forbidden.*cannot impersonate", 1),
        ("auth reconcile -f role.yaml", r"could not find the requested resource", 1),
        ("certificate approve x", r"the server doesn't have a resource type \"certificatesigningrequests\"", 1),
        ("config view -o jsonpath={.current-context}", r"^podium-"),
        ("get --raw /api/v1/namespaces/default", r'^\{"apiVersion":"v1","kind":"Namespace"'),
        ("get --raw /nothing", r"could not find the requested resource|page not found", 1),
        ("get nothing", r"the server doesn't have a resource type \"nothing\"", 1),
    ],
    "nodes": [
        ("get nodes", r"^NAME +STATUS +ROLES +AGE +VERSION\s+node-1 +Ready"),
        (
            "get nodes -o wide",
            (
                r"INTERNAL-IP +EXTERNAL-IP +OS-IMAGE +KERNEL-VERSION +CONTAINER-RUNTIME\n"
                r"node-1 +Ready +<none> +\d+s +podium-\S+ +127\.\S+ +<none> .+ process://\S+$"
            ),
        ),
        ("get node node-1 -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'", r"^True$"),
        ("describe node node-1", r"(?s)Name: +node-1.*Capacity:.*cpu:.*Non-terminated Pods:"),
        ("label node node-1 disk=ssd", r"node/node-1 labeled"),
        ("get nodes -l disk=ssd -o name", r"^node/node-1\n\Z"),
        ("label node node-1 disk-", r"node/node-1 unlabeled"),
        ("taint node node-2 k=v:NoSchedule", r"node/node-2 tainted"),
        ("get node node-2 -o jsonpath={.spec.taints[0].effect}", r"^NoSchedule$"),
        ("taint node node-2 k=w:NoSchedule --overwrite", r"node/node-2 modified"),
        ("taint node node-2 k-", r"node/node-2 untainted"),
        ("cordon node-2", r"node/node-2 cordoned"),
        ("get node node-2", r"Ready,SchedulingDisabled"),
        ("uncordon node-2", r"node/node-2 uncordoned"),
        ("top nodes", r"^node-1 +\d+m"),
        ("explain node.spec.taints", r"(?s)KIND: +Node.*effect\s+<string>"),
    ],
    "a life of an application": [
        ("create namespace life", r"namespace/life created"),
        ("-n life apply -f web.yaml", r"replicationcontroller/web created\s+service/web created"),
        ("-n life apply -f web.yaml", r"replicationcontroller/web unchanged\s+service/web unchanged"),
        ("-n life diff -f web.yaml", r"\A\Z"),
        ("-n life wait --for=condition=Ready pod -l app=web --timeout=20s", r"condition met"),
        ("-n life get rc web", r"(?m)^web +2 +2 +2 +\d+s"),
        ("-n life get rc web -o wide", r"CONTAINERS +IMAGES +SELECTOR\s.*main.*app=web"),
        ("-n life get all", r"(?s)pod/web-.*replicationcontroller/web.*service/web"),
        ("-n life get pods --show-labels", r"app=web"),
        ("-n life get pods -L app", r"APP\s.*web"),
        ("-n life get pods -o wide", r"IP +NODE +NOMINATED NODE +READINESS GATES"),
        ("-n life get pods -o custom-columns=P:.status.phase", r"^P\nRunning\nRunning"),
        ("-n life get pods --sort-by=.metadata.creationTimestamp -o name", r"^pod/web-"),
        ("get pods -A", r"^NAMESPACE +NAME"),
        ("-n life get svc,ep", r"(?s)service/web +ClusterIP.*endpoints/web"),
        ("-n life describe rc web", r"(?s)Replicas: +2 current / 2 desired.*SuccessfulCreate"),
        ("-n life describe svc web", r"(?s)Selector: +app=web.*Port: +http +80/TCP.*TargetPort: +8080/TCP"),
        ("-n life top pods", r"^web-\S+ +\d+m +\d+Mi"),
        (
            "-n life get endpointslices",
            r"^NAME +ADDRESSTYPE +PORTS +ENDPOINTS +AGE\nweb-0 +IPv4 +8080 +127\.\S+,127\.\S+",
        ),
        ("-n life get endpointslices --field-selector metadata.name=web-1", r"\ANo resources found"),
        ("-n life get pods.metrics.k8s.io", r"^NAME +CPU +MEMORY +WINDOW\nweb-\S+ +\d+n +\d+Ki +"),
        (
            "-n life describe pods -l app=web",
            r"(?s)Name: +web-.*Status: +Running.*Controlled By: +ReplicationController/web",
        ),
        (
            "-n life diff -f web3.yaml",
            (
                r"(?s)\n-  generation: 1\n\+  generation: 2\n(?!.*\n[-+]  (?:actor|resourceVersion|  reason))"
                r".*\n-  replicas: 2\n\+  replicas: 3\n"
            ),
            1,
        ),
        ("-n life scale rc web --replicas=3", r"replicationcontroller/web scaled"),
        ("-n life scale rc web --current-replicas=1 --replicas=5", r"Expected replicas to be 1, was 3", 1),
        ("-n life scale rc web --current-replicas=3 --replicas=1", r"replicationcontroller/web scaled"),
        ("-n life wait --for=jsonpath={.status.replicas}=1 rc/web --timeout=20s", r"condition met"),
        ("-n life label rc web tier=front", r"replicationcontroller/web labeled"),
        ("-n life label rc web tier=back", r"already has a value \(front\)", 1),
        ("-n life label rc web tier=back --overwrite", r"replicationcontroller/web labeled"),
        ("-n life annotate rc web note=hello", r"replicationcontroller/web annotated"),
        ("-n life annotate rc web note-", r"replicationcontroller/web annotated"),
        ("-n life set env rc/web B=2", r"replicationcontroller/web env updated"),
        ("-n life set env rc/web --list", r"(?s)A=1.*B=2"),
        ("-n life set resources rc/web --limits=memory=64Mi", r"resource requirements updated"),
        ("-n life set selector svc/web app=other", r"service/web selector updated"),
        (SVC_PATCH, r"service/web patched"),
        (SVC_PATCH, r"service/web patched \(no change\)"),
        (
            '-n life patch rc web --type=json -p \'[{"op":"test","path":"/spec/replicas","value":7}]\'',
            r"The request is invalid: the patch does not apply: a test failed: 1 ",
            1,
        ),
        (
            '-n life patch rc web --type=json -p \'[{"op":"replace","path":"/spec/replicas","value":2}]\'',
            r"replicationcontroller/web patched",
        ),
        ('-n life patch rc web --type=merge -p \'{"spec":{"replicas":1}}\'', r"replicationcontroller/web patched"),
        ('-n life patch rc web --subresource=status --type=merge -p \'{"status":{"replicas":1}}\'', r"web patched"),
        ("-n life expose rc web --port=90 --name=web2", r"service/web2 exposed"),
        ("-n life get svc web2 -o jsonpath={.spec.ports[0].port}", r"^90$"),
        ("-n life apply view-last-applied rc web", r"replicas: 2"),
        ("-n life replace -f web.yaml", r"(?s)replicationcontroller/web replaced.*service/web replaced"),
        ("-n life apply -f web.yaml --dry-run=server", r"\(server dry run\)"),
        ("-n life rollout restart rc/web", r"(?i)not supported", 1),
        ("-n life rollout status rc/web", r"no status viewer has been implemented for ReplicationController", 1),
        ("-n life set image rc/web main=host", r"replicationcontroller/web image updated"),
        ("-n life set image rc/web nope=host", r'unable to find container named "nope"', 1),
        ("-n life set serviceaccount rc/web robot", r"(?s)Warning: .*not carry out.*serviceaccount updated"),
        ("-n life get rc web -o jsonpath={.spec.template.spec.serviceAccountName}", r"\Arobot\Z"),
        ("-n life apply set-last-applied --create-annotation -f web.yaml", r"replicationcontroller/web configured"),
        ("-n life exec rc/web -- echo by its controller", r"\Aby its controller\n\Z"),
        ("-n life logs rc/web", r"(?s)\A.*ready\n"),
        ("-n life logs -l app=web --prefix --tail=1", r"^\[pod/web-\S+/main\] ready$"),
        ("-n life autoscale rc web --max=3", r"(?i)^error[: ]", 1),
        ("-n life get events --field-selector involvedObject.name=web", r"SuccessfulCreate"),
        ("-n life events", r"^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE"),
        (
            "-n life events --for rc/web --types=Normal",
            r"SuccessfulCreate +ReplicationController/web +Created pod: web-",
        ),
        ("-n life events --for rc/nope", r"\ANo events found in life namespace\.$"),
        ("-n life delete rc web --cascade=orphan", r'replicationcontroller "web" deleted'),
        ("-n life get pods -l app=web -o name", r"^pod/web-"),
        ("-n life delete pods -l app=web --now", r'pod "web-[a-z0-9]+" deleted'),
        ("-n life delete -f web.yaml --ignore-not-found", r'service "web" deleted'),
        ("-n life delete svc --all", r'service "web2" deleted'),
        ("delete namespace life --timeout=30s", r'namespace "life" deleted'),
        ("get namespace life", r'namespaces "life" not found', 1),
    ],
    "pods": [
        ("create -f pod.yaml", r"pod/lone created"),
        ("create -f pod.yaml", r'\(AlreadyExists\).*pods "lone" already exists', 1),
        ("wait --for=condition=Ready pod/lone --timeout=20s", r"pod/lone condition met"),
        ("logs lone -c main", r"\Aone\ntwo\n\Z"),
        ("logs lone", r"Defaulted container \"main\" out of: main, side"),
        ("logs lone --all-containers --prefix", r"(?s)\A(?=.*\[pod/lone/main\] one)(?=.*\[pod/lone/side\] aside)"),
        ("logs lone -c main --tail=1 --timestamps", r"^20\d\d-\d\d-\d\dT[\d:.]+Z two$"),
        ("logs lone -c main --limit-bytes=2", r"\Aon\Z"),
        ("logs lone -c nope", r"container nope is not valid for pod lone", 1),
        ("logs nope", r'pods "nope" not found', 1),
        ("exec lone -c main -- echo hello", r"^hello$"),
        ("exec lone -c side -- sh -c 'echo oops >&2; exit 3'", r"(?s)oops.*exit code 3", 3),
        ("exec lone -c main -- nonexistent-program", r".", 127),
        ("exec nope -- ls", r'pods "nope" not found', 1),
        ("get pod lone -o yaml", r"(?s)^apiVersion: v1\nkind: Pod\n.*phase: Running"),
        ("get pod lone -o name", r"^pod/lone$"),
        ("get pods --field-selector=status.phase=Running -o name", r"^pod/lone$"),
        ("get pods --field-selector=status.phase!=Running -o name", r"\A\Z"),
        ("get pods --field-selector=spec.nope=1", r"BadRequest", 1),
        ("get pods -l 'app in (lone,web),!nope' -o name", r"^pod/lone$"),
        ("get pods -l ==", r"(?i)unable to parse|BadRequest|found '=='", 1),
        ("get pod nope", r'pods "nope" not found', 1),
        ("get pod nope --ignore-not-found", r"\A\Z"),
        ("describe pod lone", r"(?s)Name: +lone.*Containers:.*main:.*side:.*Conditions:.*Ready +True"),
        ("explain pod.spec.containers.env", r"(?s)KIND: +Pod.*FIELD: env <\[\]EnvVar>.*name\s+<string>"),
        ("explain pod --recursive", r"(?s)containers\s+<\[\]Container>.*readinessProbe\s+<Probe>"),
        ("delete pod lone --timeout=20s", r'pod "lone" deleted'),
        ("run one --image=x --command --dry-run=client -o yaml -- sleep 9", r"kind: Pod"),
        ("run done --image=host --restart=Never --attach --rm --command -- sh -c 'echo out; exit 4'", r"^out$", 4),
        ("run done --image=host --restart=Never --command -- sh -c 'exit 4'", r"pod/done created"),
        ("wait --for=jsonpath={.status.phase}=Failed pod/done --timeout=20s", r"pod/done condition met"),
        ("get pod done", r"^done +0/1 +Error +0 +\d+s"),
        ("get pods --field-selector=status.phase=Failed -o name", r"\Apod/done\n\Z"),
        ("delete pod done", r'pod "done" deleted'),
        ("run one --image=x --labels=a=b -- sleep 9", r"pod/one created"),
        ("get pod one", r"one +0/1 +Pending"),
        ("delete pod one --grace-period=0 --force", r'pod "one" force deleted'),
    ],
    "configuration": [
        (
            "create configmap c --from-literal=a=b --from-literal=c=d --dry-run=server -o yaml",
            r"(?s)\A(?!.*resourceVersion).*kind: ConfigMap.*name: c\n",
        ),
        ("get configmap c", r'configmaps "c" not found', 1),
        ("create configmap c --from-literal=a=b --from-literal=c=d", r"configmap/c created"),
        ("annotate configmap c x=dry --dry-run=server", r"configmap/c annotated \(server dry run\)"),
        ("annotate configmap c x=real -o jsonpath={.metadata.annotations.x}", r"\Areal\Z"),
        ("get configmap c", r"^c +2 +\d+s"),
        ("get cm c -o jsonpath={.data.a}", r"^b$"),
        ("describe cm c", r"(?s)Name: +c.*a:\n----\nb"),
        ("create secret generic s --from-literal=password=hunter2", r"secret/s created"),
        ("get secret s", r"^s +Opaque +1 +\d+s"),
        ("get secret s -o jsonpath={.data.password}", r"^aHVudGVyMg==$"),
        ("describe secret s", r"password: +7 bytes"),
        ("create secret generic s --from-literal=a=b", r"already exists", 1),
        ("create pdb b --selector=app=web --min-available=1", r"poddisruptionbudget.policy/b created"),
        ("get pdb", r"^b +1 +N/A +0 +\d+s"),
        ("describe pdb b", r"Min available: +1"),
        ("create priorityclass high --value=1000", r"priorityclass.scheduling.k8s.io/high created"),
        ("get pc high", r"^high +1000 +false"),
        ("describe pc high", r"Value: +1000"),
        ("create service clusterip plain --tcp=80:8080", r"service/plain created"),
        ("get svc plain -o jsonpath={.spec.ports[0].targetPort}", r"^8080$"),
        ("apply --prune -l pruned=yes --prune-allowlist=core/v1/ConfigMap -f two.yaml", r"configmap/two created"),
        ("apply --prune -l pruned=yes --prune-allowlist=core/v1/ConfigMap -f one.yaml", r"configmap/two pruned"),
        ("delete cm one", r"deleted"),
        (f"patch svc plain --subresource=status --type=merge -p {STATUS}", r"Warning: status.loadBalancer"),
        ("get svc plain -o jsonpath={.status.loadBalancer.ingress[0].ip}", r"\A192.0.2.1\Z"),
        ("delete cm/c secret/s pdb/b pc/high svc/plain", r'(?s)configmap "c" deleted.*service "plain" deleted'),
        ("create serviceaccount robot", r"(?s)Warning: it is kept for Kubernetes' tools.*serviceaccount/robot created"),
        ("get sa robot", r"^robot +0 +\d+s"),
        ("describe sa robot", r"Name: +robot"),
        ("delete sa robot", r"deleted"),
        ("get leases -A", r"NAME|No resources found"),
        ("create configmap bad_name --from-literal=a=b", r"is invalid|Invalid value", 1),
    ],
    "applied by the server": [
        ("apply --server-side -f mine.yaml", r"configmap/shared serverside-applied"),
        ("apply --server-side -f mine.yaml", r"configmap/shared serverside-applied"),
        ("apply --server-side --field-manager=other -f theirs.yaml", r'conflict with "kubectl": .data.a', 1),
        ("apply --server-side --field-manager=other -f theirs.yaml --force-conflicts", r"serverside-applied"),
        ("get cm shared -o jsonpath={.data}", r'\{"a":"theirs","b":"mine","c":"theirs"\}'),
        ("get cm shared -o yaml --show-managed-fields", r"(?s)manager: kubectl.*manager: other|manager: other"),
        ("apply --server-side -f mine.yaml", r'conflict with "other": .data.a', 1),
        ("diff --server-side --force-conflicts -f mine.yaml", r"a: mine", 1),
        ("apply --server-side --dry-run=server --force-conflicts -f mine.yaml", r"\(server dry run\)"),
        ("get cm shared -o jsonpath={.data.a}", r"^theirs$"),
        ("label cm shared x=y", r"configmap/shared labeled"),
        ("delete cm shared", r"deleted"),
    ],
    "what is wrong is said": [
        ("apply -f unknown.yaml", r'strict decoding error: unknown field "spec.contaners"', 1),
        ("apply -f unknown.yaml --validate=warn", r'(?s)Warning: unknown field "spec.contaners".*pod/typo created'),
        ("delete pod typo --now", r"deleted"),
        ("apply -f extra.yaml", r"(?s)Warning: spec.hostNetwork: is a field.*not carry out.*pod/extra created"),
        ("get pod extra -o jsonpath={.spec.hostNetwork}", r"^true$"),
        ("apply -f extra.yaml", r"pod/extra unchanged"),
        ("delete pod extra --now", r"deleted"),
        ("apply -f invalid.yaml", r"The Pod \"bad\" is invalid: spec.restartPolicy", 1),
        ("create deployment d --image=x", r"could not find the requested resource", 1),
        ("apply -f broken.yaml", r"error parsing broken.yaml|error converting YAML", 1),
        ("delete node nope", r'nodes "nope" not found', 1),
        ("-n nowhere create configmap c --from-literal=a=b", r'namespaces "nowhere" not found', 1),
    ],
}
FILES = {
    "web.yaml": WEB,
    "pod.yaml": POD,
    "unknown.yaml": POD.replace("name: lone,", "name: typo,").replace("spec:", "spec:\n  contaners: []", 1),
    "extra.yaml": POD.replace("name: lone,", "name: extra,").replace("spec:", "spec:\n  hostNetwork: true", 1),
    "invalid.yaml": POD.replace("name: lone,", "name: bad,").replace("spec:", "spec:\n  restartPolicy: Sometimes", 1),
    "broken.yaml": "a: b: c",
    "web3.yaml": WEB.replace("replicas: 2", "replicas: 3"),
    "role.yaml": ROLE,
    "one.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one, labels: {pruned: 'yes'}}\n",
    "two.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two, labels: {pruned: 'yes'}}\n",
    # What begins with a brace, kubectl before 1.33 takes for JSON.
    "mine.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {a: mine, b: mine}\n",
    "theirs.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {a: theirs, c: theirs}\n",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("kubectl") / "podium"
    with Cluster.start(nodes=2, home=home) as found:
        yield found
    assert_nothing_left(home)


def with_files(cluster: Cluster, directory: Path, binary: str = "") -> Kubectl:
    for name, text in FILES.items():
        (directory / name).write_text(text)
    return Kubectl(cluster, directory, binary)


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return with_files(cluster, tmp_path_factory.mktemp("kubectl-home"))


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
    return with_files(
        cluster,
        tmp_path_factory.mktemp("older-home"),
        min(able, key=lambda each: (abs(minor_of(each) - 32), -len(each))),
    )


def tell(kubectl: Kubectl, story: str) -> None:
    for command, pattern, *code in STORIES[story]:
        kubectl.expect(command, pattern, code=code[0] if code else 0)


@pytest.mark.parametrize("story", list(STORIES))
def test_what_people_type(kubectl: Kubectl, story: str) -> None:
    tell(kubectl, story)


@pytest.mark.parametrize("story", list(STORIES))
def test_an_older_kubectl_says_the_same(older: Kubectl, story: str) -> None:
    tell(older, story)


def test_there_are_a_hundred_commands() -> None:
    assert sum(len(story) for story in STORIES.values()) >= 100


def test_input_goes_to_a_command_and_files_are_copied(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.expect("apply -f pod.yaml", "created")
    kubectl.expect("wait --for=condition=Ready pod/lone --timeout=20s", "condition met")
    kubectl.expect("exec -i lone -c main -- cat", r"\Ahello there\Z", stdin="hello there")
    there = tmp_path / "there"
    (kubectl.directory / "here").write_text("content\n" * 10_000)
    kubectl.expect(f"cp here lone:{there} -c main", "")
    assert there.read_text() == "content\n" * 10_000
    kubectl.expect(f"cp lone:{there} back -c main", "")
    assert (kubectl.directory / "back").read_text() == there.read_text()
    kubectl.expect("delete pod lone --now", "deleted")


def test_changes_are_watched(kubectl: Kubectl) -> None:
    watching = kubectl.start("get", "configmaps", "-w", "--no-headers", "-o", "custom-columns=N:.metadata.name")
    try:
        deadline_s = time.monotonic() + 20
        seen = ""
        assert watching.stdout is not None
        for number in range(3):
            kubectl.expect(f"create configmap watched-{number} --from-literal=a=b", "created")
        while "watched-2" not in seen and time.monotonic() < deadline_s:
            seen += watching.stdout.readline()
        assert [f"watched-{number}" in seen for number in range(3)] == [True] * 3
    finally:
        watching.terminate()
        watching.wait(30)
        watching.stdout.close()  # type: ignore[union-attr]
    kubectl.expect("delete configmap watched-0 watched-1 watched-2", "deleted")


def test_a_port_is_forwarded(cluster: Cluster, kubectl: Kubectl) -> None:
    program = (
        "import http.server, os\n"
        "address = os.environ['POD_IP'], 8080\n"
        "http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    container = {
        "name": "main",
        "command": [sys.executable, "-c", program],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"containerPort": 8080}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "http"}, "spec": {"containers": [container]}}
    (kubectl.directory / "http.json").write_text(json.dumps(pod))
    kubectl.expect("apply -f http.json", "created")
    kubectl.expect("wait --for=condition=Ready pod/http --timeout=20s", "condition met")
    forwarding = kubectl.start("port-forward", "pod/http", ":8080", "--address", "127.0.0.1")
    try:
        assert forwarding.stdout is not None
        port = int(forwarding.stdout.readline().partition(":")[2].partition(" ")[0])
        for _ in range(5):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
                assert b"Directory listing" in response.read()
    finally:
        forwarding.terminate()
        forwarding.wait(30)
        forwarding.stdout.close()  # type: ignore[union-attr]
    kubectl.expect("delete pod http --now", "deleted")


def test_a_node_is_drained(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.expect("apply -f web.yaml", "created")
    cluster.wait("rc/web", ready=2)
    kubectl.expect("drain node-1 --ignore-daemonsets --force --timeout=30s", "node/node-1 drained")
    cluster.wait("rc/web", ready=2)
    assert {pod.spec.nodeName for pod in cluster.list("pod") if pod.metadata.labels.get("app") == "web"} == {"node-2"}
    kubectl.expect("uncordon node-1", "uncordoned")
    kubectl.expect("delete -f web.yaml", "deleted")


def test_an_editor_changes_an_object(kubectl: Kubectl) -> None:
    kubectl.expect("create configmap edited --from-literal=a=before", "created")
    editor = kubectl.directory / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/before/after/ "$1"\n')
    editor.chmod(0o700)
    environment = {"KUBE_EDITOR": str(editor)}
    output = kubectl.run("edit", "configmap", "edited", environment=environment)
    assert "configmap/edited edited" in output.out, output
    kubectl.expect("get configmap edited -o jsonpath={.data.a}", "^after$")
    kubectl.expect("delete configmap edited", "deleted")


def test_a_token_is_as_good_as_a_certificate(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> None:
    config = tmp_path / "token"
    config.write_text(cluster.podium("kubeconfig", "--token", "--lifetime", "10m").stdout)
    kubectl.expect(f"--kubeconfig {config} get nodes", "node-1 +Ready")
    config.write_text(config.read_text().replace("token: ", "token: x"))
    kubectl.expect(f"--kubeconfig {config} get nodes", "(?i)unauthorized|must be logged in", code=1)


TYPED = {
    "describe node": 4,
    "-n typed describe pods": 2,
    "-n typed describe rc web": 3,
    "-n typed describe svc web": 3,
    "-n typed describe configmap settings": 1,
    "-n typed describe secret password": 1,
    "-n typed describe serviceaccount robot": 1,
    "-n typed describe pdb budget": 1,
    "-n typed describe endpoints web": 1,
    "-n typed create configmap settings --from-literal=a=b": 1,
    "-n typed create secret generic password --from-literal=a=b": 1,
    "-n typed create serviceaccount robot": 1,
    "-n typed create pdb budget --selector=app=web --min-available=1": 1,
    "create namespace typed": 1,
    "auth can-i get pods": 1,
    "auth whoami": 1,
    "top nodes": 2,
    "-n typed top pods": 1,
    "cordon node-2": 0,
    "drain node-2 --delete-emptydir-data --timeout=30s": 1,
    "uncordon node-2": 0,
}
"""Commands that ask for protobuf, and how many answers in it they get at least."""


def test_typed_commands_are_answered_in_protobuf(kubectl: Kubectl) -> None:
    if "v1.2" in kubectl.run("version", "--client").out:
        pytest.skip("this kubectl asks for JSON alone")
    order = sorted(TYPED, key=lambda command: ("create namespace" not in command, "create" not in command))
    for number, command in enumerate(order):
        output = kubectl.run(*command.split(), "-v=8")
        assert output.code == 0, output.err
        responses = re.findall(r'"Response" .*?headers=<(.*?)\n >', output.err, re.DOTALL)
        in_protobuf = [each for each in responses if "Content-Type: application/vnd.kubernetes.protobuf" in each]
        assert len(in_protobuf) >= TYPED[command], f"{command}\n{output.err}"
        if number == 0:
            kubectl.expect("-n typed apply -f web.yaml", "created")
            kubectl.expect("-n typed wait --for=condition=Ready pod -l app=web --timeout=20s", "condition met")
    missing = kubectl.run("-n", "typed", "create", "configmap", "settings")
    assert missing.err == 'error: failed to create configmap: configmaps "settings" already exists\n'
    kubectl.expect("delete namespace typed", "deleted")


def test_whoever_changes_what_was_applied_is_in_the_way(cluster: Cluster, kubectl: Kubectl) -> None:
    web = yaml.safe_load(WEB)["items"][0]
    web["metadata"]["name"] = "owned"
    wanted = json.dumps(web)
    kubectl.expect("apply --server-side -f -", "serverside-applied", stdin=wanted)
    cluster.podium("scale", "rc/owned", "--replicas", "3")
    cluster.podium("label", "rc/owned", "app=else", "--overwrite")
    told = kubectl.expect("apply --server-side -f -", "Apply failed with 2 conflicts", code=1, stdin=wanted).err
    assert 'conflicts with "podium" using v1:\n- .metadata.labels.app\n- .spec.replicas' in told
    kubectl.expect("apply --server-side --force-conflicts -f -", "serverside-applied", stdin=wanted)
    kubectl.expect("scale rc owned --replicas=4", "scaled")
    told = kubectl.expect("apply --server-side -f -", "Apply failed with 1 conflict", code=1, stdin=wanted).err
    assert 'conflict with "kubectl" with subresource "scale" using v1: .spec.replicas' in told
    del web["spec"]["replicas"]
    kubectl.expect("apply --server-side -f -", "serverside-applied", stdin=json.dumps(web))
    kubectl.expect("get rc owned -o jsonpath={.spec.replicas}", "^4$")
    shown = kubectl.expect("get rc owned -o json --show-managed-fields", '"managedFields"').out
    managers = {
        (each["manager"], each["operation"], each.get("subresource", ""))
        for each in json.loads(shown)["metadata"]["managedFields"]
    }
    assert managers == {("kubectl", "Apply", ""), ("kubectl", "Update", "scale"), ("controllers", "Update", "status")}
    status = {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "owned"}}
    status["status"] = {"conditions": [{"type": "Odd", "status": "True"}]}
    command = "apply --server-side --subresource=status --field-manager=robot -f -"
    kubectl.expect(command, "serverside-applied", stdin=json.dumps(status))
    kubectl.expect("get rc owned -o jsonpath={.status.conditions[0].type}", "^Odd$")
    kubectl.expect("delete rc owned", "deleted")


def test_what_kubectl_has_applied_itself_it_can_apply_by_the_server(kubectl: Kubectl) -> None:
    def settings(**data: str) -> str:
        return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "moved"}, "data": data})

    kubectl.expect("apply -f -", "created", stdin=settings(a="1", b="1"))
    kubectl.expect("apply --server-side -f -", "serverside-applied", stdin=settings(a="2", b="2", c="2"))
    kubectl.expect("apply -f -", "configured", stdin=settings(a="3", b="3"))
    kubectl.expect("get configmap moved -o jsonpath={.data}", '^{"a":"3","b":"3"}$')
    kubectl.expect("apply --server-side -f -", "serverside-applied", stdin=settings(a="4", b="4"))
    other = "apply --server-side --field-manager=other -f -"
    kubectl.expect(other, 'conflicts with "kubectl"', code=1, stdin=settings(a="5", b="5"))
    kubectl.expect("delete configmap moved", "deleted")


def test_events_are_watched_in_protobuf(kubectl: Kubectl) -> None:
    watching = kubectl.start("events", "--watch", "-v=8")
    too_long = threading.Timer(30.0, watching.kill)
    too_long.start()
    try:
        assert watching.stdout is not None
        said = ""
        for line in watching.stdout:
            said += line
            if "Content-Type: application/vnd.kubernetes.protobuf;stream=watch" in line:
                kubectl.expect("create -f -", "created", stdin=json.dumps(EVENT))
            if re.match(r"\S+ +Normal +Odd +Pod/seen +it was", line):
                break
        else:
            raise AssertionError(f"the event was not told:\n{said}")
    finally:
        too_long.cancel()
        watching.terminate()
        watching.wait(30)
        watching.stdout.close()  # type: ignore[union-attr]


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
    old = Kubectl(cluster, tmp_path, str(OLD))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for command, pattern, *code in OLD_STORY:
        old.expect(command, pattern, code=code[0] if code else 0)
    there = tmp_path / "there"
    old.expect(f"cp web.yaml lone:{there} -c main", "")
    assert there.read_text() == WEB
    forwarding = old.start("port-forward", "pod/lone", ":8080", "--address", "127.0.0.1")
    try:
        assert forwarding.stdout is not None
        assert "Forwarding from 127.0.0.1:" in forwarding.stdout.readline()
    finally:
        forwarding.terminate()
        forwarding.wait(30)
        forwarding.stdout.close()  # type: ignore[union-attr]
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


def test_the_process_comes_back_when_it_was_killed(cluster: Cluster, kubectl: Kubectl) -> None:
    cluster.kill_process("kubernetes")
    cluster.wait_until(lambda: kubectl.run("get", "nodes").code == 0, "kubectl works again")
    said = json.loads(kubectl.expect("get nodes -o json", "node-1").out)
    assert len(said["items"]) == 2


def test_a_node_may_do_what_a_node_may_and_no_more(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> None:
    """The same rights as over gRPC: they are those of the certificate that is shown."""
    pki = cluster.directory / "pki"

    def answer(identity: str, path: str, method: str = "GET") -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(pki / "admin" / "ca.crt"))
        if identity:
            context.load_cert_chain(pki / identity / "tls.crt", pki / identity / "tls.key")
        server = yaml.safe_load(kubectl.config.read_text())["clusters"][0]["cluster"]["server"]
        request = urllib.request.Request(server + path, method=method)
        try:
            with urllib.request.urlopen(request, context=context, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    secrets = "/api/v1/namespaces/default/secrets"
    assert answer("admin", secrets)[0] == 200
    for identity in ("node-node-1", "proxy", "scheduler"):
        code, said = answer(identity, secrets)
        assert (code, json.loads(said)["reason"]) == (403, "Forbidden"), identity
    assert answer("node-node-1", "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-1")[0] == 200
    assert answer("node-node-1", "/api/v1/nodes")[0] == 403
    assert answer("node-node-1", "/api/v1/nodes/node-2", "DELETE")[0] == 403
    assert answer("node-node-1", "/api/v1/pods?watch=1&timeoutSeconds=1")[0] == 403
    assert answer("", secrets)[0] == 401
    for identity in ("master", "kubernetes"):
        code, said = answer(identity, secrets)
        assert code == 403, f"{identity}: {said}"
