"""What kubectl and the Python client do beyond the daily round: foreground deletion, the newer events, proxying."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from cluster.testing import Cluster
from tests.e2e.conftest import own_cluster
from tests.kit.kubectl import Kubectl

WEB = """
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 2
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, command: [sh, -c, "trap '' TERM; sleep 1000"]}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_cluster(tmp_path_factory, nodes=2) as found:
        yield found


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    directory = tmp_path_factory.mktemp("beyond-home")
    (directory / "web.yaml").write_text(WEB)
    return Kubectl(cluster, directory)


# --- foreground


def test_foreground_returns_when_all_is_gone(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.expect("apply -f web.yaml", "created")
    cluster.wait("rc/web", ready=2)
    kubectl.expect("delete rc web --cascade=foreground --wait=false", 'replicationcontroller "web" deleted')
    kubectl.expect("get rc web -o jsonpath={.metadata.finalizers}", r'\["foregroundDeletion"\]')
    assert len(cluster.list("pods", "default", "app=web")) == 2, "they have their grace period"
    kubectl.expect("delete rc web --cascade=foreground --timeout=20s", 'replicationcontroller "web" deleted')
    assert cluster.list("pods", "default", "app=web") == []
    kubectl.expect("get rc web", "not found", code=1)


def test_foreground_of_our_own_command(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.expect("apply -f web.yaml", "created")
    cluster.wait("rc/web", ready=2)
    cluster.podium("delete", "rc/web", "--cascade", "foreground", "--timeout", "20")
    assert cluster.list("pods", "default", "app=web") == []
    kubectl.expect("create configmap alone --from-literal=a=b", "created")
    kubectl.expect("delete configmap alone --cascade=foreground --timeout=20s", "deleted")


WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


def test_foreground_of_kinds_that_users_define(cluster: Cluster, kubectl: Kubectl) -> None:
    (kubectl.directory / "widgets.yaml").write_text(WIDGETS)
    kubectl.expect("apply -f widgets.yaml", "created")
    kubectl.expect("wait --for=condition=Established crd/widgets.example.com --timeout=20s", "condition met")
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    (kubectl.directory / "widget.json").write_text(json.dumps(widget))
    kubectl.expect("create -f widget.json", "created")
    uid = kubectl.expect("get widget w -o jsonpath={.metadata.uid}", "-").out
    owner = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": uid, "blockOwnerDeletion": True}
    meta = {"name": "part", "ownerReferences": [owner], "finalizers": ["example.com/hold"]}
    part = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
    (kubectl.directory / "part.json").write_text(json.dumps(part))
    kubectl.expect("create -f part.json", "created")
    kubectl.expect("delete widget w --cascade=foreground --wait=false", "deleted")
    kubectl.expect("wait --for=jsonpath={.metadata.deletionTimestamp} cm/part --timeout=20s", "condition met")
    kubectl.expect("get widget w -o jsonpath={.metadata.finalizers}", "foregroundDeletion")
    kubectl.expect('patch cm part --type=merge -p \'{"metadata":{"finalizers":null}}\'', "patched")
    kubectl.expect("wait --for=delete widget/w --timeout=20s", "")
    kubectl.expect("delete -f widgets.yaml --cascade=foreground --timeout=20s", "deleted")


@pytest.mark.parametrize("process", ["master", "manager"])
def test_foreground_ends_though_a_process_was_killed(cluster: Cluster, kubectl: Kubectl, process: str) -> None:
    kubectl.expect("apply -f web.yaml", "created")
    cluster.wait("rc/web", ready=2)
    kubectl.expect("delete rc web --cascade=foreground --wait=false", "deleted")
    cluster.kill_process(process)
    cluster.wait_until(lambda: "NotFound" in kubectl.run("get", "rc", "web").err, "the controller is gone")
    assert cluster.list("pods", "default", "app=web") == []


# --- events of both groups

EVENT = """
apiVersion: events.k8s.io/v1
kind: Event
metadata: {name: told}
eventTime: "2026-01-02T03:04:05.678901Z"
reportingController: example.com/robot
reportingInstance: robot-1
action: Look
reason: Looked
type: Warning
regarding: {apiVersion: v1, kind: ConfigMap, name: seen, namespace: default}
note: all is well
"""


def test_events_of_the_newer_group(kubectl: Kubectl) -> None:
    (kubectl.directory / "event.yaml").write_text(EVENT)
    kubectl.expect("api-resources --api-group=events.k8s.io", r"^events +ev +events.k8s.io/v1 +true +Event$")
    kubectl.expect("create -f event.yaml", "event.events.k8s.io/told created")
    kubectl.expect("get events.events.k8s.io", r"LAST SEEN +TYPE +REASON +OBJECT +MESSAGE")
    kubectl.expect("get events.events.k8s.io told -o jsonpath={.note}", "^all is well$")
    kubectl.expect("get events told -o jsonpath={.message}", "^all is well$")
    kubectl.expect(
        "get events.v1.events.k8s.io --field-selector regarding.name=seen -o name", "^event.events.k8s.io/told$"
    )
    kubectl.expect("events --for configmap/seen", r"Warning +Looked +ConfigMap/seen +all is well")
    kubectl.expect("events --for node/node-1 --types=Normal", r"node-1")
    kubectl.expect("explain events.regarding --api-version=events.k8s.io/v1", r"FIELD: regarding <ObjectReference>")
    kubectl.expect("label events.events.k8s.io told a=b", "labeled")
    kubectl.expect("apply --server-side -f event.yaml", "event.events.k8s.io/told serverside-applied")
    kubectl.expect("delete events.events.k8s.io told", "deleted")
    kubectl.expect("get events told", "not found", code=1)


def test_events_of_the_newer_group_with_the_official_client(kubectl: Kubectl) -> None:
    client = pytest.importorskip("kubernetes.client")
    from kubernetes.config import new_client_from_config

    api = client.EventsV1Api(new_client_from_config(str(kubectl.config)))
    body = yaml.safe_load(EVENT)
    api.create_namespaced_event("default", body)
    found = api.list_namespaced_event("default", field_selector="regarding.name=seen").items
    assert [(each.note, each.regarding.kind, each.event_time.microsecond) for each in found] == [
        ("all is well", "ConfigMap", 678901)
    ]
    assert api.patch_namespaced_event("told", "default", {"note": "better"}).note == "better"
    api.delete_namespaced_event("told", "default")


# --- service accounts


def test_a_token_of_a_service_account(kubectl: Kubectl) -> None:
    kubectl.expect("create serviceaccount robot", "which may get tokens of it")
    token = kubectl.expect("create token robot --duration=10m", r"^ey").out.strip()
    config = yaml.safe_load(kubectl.config.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    (kubectl.directory / "robot").write_text(yaml.safe_dump(config))
    as_robot = f"--kubeconfig {kubectl.directory}/robot"
    kubectl.expect(f"{as_robot} auth whoami", r"^Username +system:serviceaccount:default:robot$")
    kubectl.expect(f"{as_robot} get pods", "No resources found")
    kubectl.expect(f"{as_robot} api-resources", "replicationcontrollers")
    kubectl.expect(f"{as_robot} auth can-i list pods", "^yes$")
    kubectl.expect(f"{as_robot} auth can-i get secrets", "^no", code=1)
    kubectl.expect(f"{as_robot} auth can-i --list", r"^pods +\[\] +\[\] +\[get list watch\]")
    kubectl.expect(f"{as_robot} get nodes", r"\(Forbidden\)", code=1)
    kubectl.expect(f"{as_robot} get secrets", r"\(Forbidden\)", code=1)
    kubectl.expect(f"{as_robot} -n other get pods", r"\(Forbidden\)", code=1)
    user = 'User "system:serviceaccount:default:robot" cannot'
    where = 'in API group "" in the namespace "default"'
    denied = f'configmaps is forbidden: {user} create resource "configmaps" {where}'
    kubectl.expect(f"{as_robot} create configmap c --from-literal=a=b", denied, code=1)
    kubectl.expect(f"{as_robot} top pods", r"\(Forbidden\)|Forbidden", code=1)
    kubectl.expect("create token robot --duration=1m", "10 minutes", code=1)
    kubectl.expect("create token robot --audience=vault", "Unsupported value", code=1)
    kubectl.expect("create token robot --bound-object-kind=Pod --bound-object-name=p", "boundObjectRef", code=1)
    kubectl.expect("create token nobody", "not found", code=1)
    kubectl.expect(f"--token={token} auth whoami", r"^Username +\S+robot$")
    kubectl.expect("delete serviceaccount robot", "deleted")


# --- HTTP through the API

HTTP = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline() or b"0", 16)):
            body += self.rfile.read(size + 2)[:size]
        said = f"{self.command} {self.path} {self.headers.get('Authorization')} {body.decode()} of {os.environ['ME']}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(said.encode())
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer
http.server.ThreadingHTTPServer((os.environ["POD_IP"], 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def website(cluster: Cluster, kubectl: Kubectl) -> Iterator[str]:
    """A service "site" with two pods behind it."""
    env = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    container = {
        "name": "main",
        "command": [sys.executable, "-c", HTTP],
        "env": env,
        "ports": [{"containerPort": 8080}],
    }
    template = {"metadata": {"labels": {"app": "site"}}, "spec": {"containers": [container]}}
    rc = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "site"},
        "spec": {"replicas": 2, "selector": {"app": "site"}, "template": template},
    }
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "site"},
        "spec": {"selector": {"app": "site"}, "ports": ports},
    }
    (kubectl.directory / "site.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [rc, service]})
    )
    kubectl.expect("apply -f site.json", "created")
    cluster.wait("rc/site", ready=2)
    cluster.wait("svc/site", ready=2)
    yield "/api/v1/namespaces/default/services/site:http/proxy"
    kubectl.expect("delete -f site.json --cascade=foreground", "deleted")


def test_http_to_a_service_and_a_pod(cluster: Cluster, kubectl: Kubectl, website: str) -> None:
    kubectl.expect(f"get --raw {website}/hello?a=b", r"^GET /hello\?a=b None  of site-")
    seen = {kubectl.run("get", "--raw", f"{website}/").out.rpartition(" ")[2] for _ in range(12)}
    names = {pod.metadata.name for pod in cluster.pods("app=site")}
    assert seen == names, "both pods are asked"
    (name, _) = sorted(names)
    kubectl.expect(f"get --raw /api/v1/namespaces/default/pods/{name}/proxy/x", f"^GET /x None  of {name}$")
    kubectl.expect(f"get --raw /api/v1/namespaces/default/pods/{name}:8080/proxy/", f"^GET / None  of {name}$")
    kubectl.expect(
        f"get --raw /api/v1/namespaces/default/pods/{name}:81/proxy/",
        "error trying to reach service: nothing accepts",
        code=1,
    )
    kubectl.expect("get --raw /api/v1/namespaces/default/services/site:81/proxy/", "no service port 81", code=1)
    kubectl.expect("get --raw /api/v1/nodes/node-1/proxy/metrics", "nodes/proxy is not served", code=1)
    (kubectl.directory / "body").write_text("some words")
    kubectl.expect(f"create --raw {website}/post -f body", r"^POST /post None some words of site-")


def test_kubectl_proxy(kubectl: Kubectl, website: str) -> None:
    with kubectl.running("proxy", "--port=0", "--address=127.0.0.1") as proxy:
        address = proxy.said.readline().strip().rpartition(" ")[2]
        request = urllib.request.Request(
            f"http://{address}{website}/put", data=b"words", method="PUT", headers={"Authorization": "Bearer mine"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.read().startswith(b"PUT /put None words of site-")


def test_the_official_client_proxies(kubectl: Kubectl, website: str) -> None:
    client = pytest.importorskip("kubernetes.client")
    from kubernetes.config import new_client_from_config

    api = client.CoreV1Api(new_client_from_config(str(kubectl.config)))
    assert api.connect_get_namespaced_service_proxy("site:http", "default").startswith("GET / ")
    said = api.connect_post_namespaced_service_proxy_with_path("site:80", "default", "a/b")
    assert said.startswith("POST /a/b ")


def test_a_node_that_is_down_is_out_of_reach(cluster: Cluster, kubectl: Kubectl, website: str) -> None:
    pod = next(pod for pod in cluster.pods("app=site") if pod.spec.nodeName == "node-2")
    path = f"/api/v1/namespaces/default/pods/{pod.metadata.name}/proxy/"
    kubectl.expect(f"get --raw {path}", "of site-")
    cluster.kill_process("node-2")
    kubectl.expect(f"get --raw {path}", "(?i)error trying to reach service|unable to handle", code=1)
    cluster.start_node("node-2")
    cluster.wait("rc/site", ready=2)


def test_a_node_that_is_cut_off_on_purpose_is_out_of_reach(cluster: Cluster, kubectl: Kubectl, website: str) -> None:
    pod = cluster.pods("app=site")[0]
    path = f"/api/v1/namespaces/default/pods/{pod.metadata.name}/proxy/"
    kubectl.expect(f"get --raw {path}", "of site-")
    cluster.podium("fault", f"node/{pod.spec.nodeName}", "--partition", "--for", "10s")
    cluster.wait_until(lambda: "cut off on purpose" in kubectl.run("get", "--raw", path).err, "it is out of reach")
    cluster.wait(f"node/{pod.spec.nodeName}", timeout_s=40)
    cluster.wait("rc/site", ready=2)


# --- explained


def test_explain_has_descriptions(kubectl: Kubectl) -> None:
    kubectl.expect("explain pod", r"(?s)DESCRIPTION:\n +\S+.*FIELDS:.*spec\s+<PodSpec>\n +\S+")
    kubectl.expect("explain pod.spec", r"terminationGracePeriodSeconds\s+<integer>\n +Between SIGTERM and SIGKILL")
    kubectl.expect("explain pod.spec.containers.env", r"name\s+<string>\n +Of the variable")
    kubectl.expect("explain service.spec.ports", r"targetPort\s+<Object>\n +The port of the pods")
    kubectl.expect("explain pod.spec.hostNetwork", "A field of Kubernetes that Podium does not carry out")
    assert "<no description>" not in kubectl.run("explain", "pod.spec").out
