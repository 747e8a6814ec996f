"""What kubectl and the Python client do beyond the daily round: foreground deletion, the newer events, proxying."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from cluster.testing import Cluster
from tests.e2e.conftest import assert_nothing_left
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
    home = tmp_path_factory.mktemp("beyond") / "podium"
    with Cluster.start(nodes=2, home=home) as found:
        yield found
    assert_nothing_left(home)


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
    kubectl.expect("delete configmap alone --cascade=foreground --timeout=5s", "deleted")


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
    kubectl.expect(f"{as_robot} create configmap c --from-literal=a=b", "may not create configmaps", code=1)
    kubectl.expect(f"{as_robot} top pods", r"\(Forbidden\)|Forbidden", code=1)
    kubectl.expect("create token robot --duration=1m", "10 minutes", code=1)
    kubectl.expect("create token robot --audience=vault", "Unsupported value", code=1)
    kubectl.expect("create token robot --bound-object-kind=Pod --bound-object-name=p", "boundObjectRef", code=1)
    kubectl.expect("create token nobody", "not found", code=1)
    kubectl.expect(f"--token={token} auth whoami", r"^Username +\S+robot$")
    kubectl.expect("delete serviceaccount robot", "deleted")
