"""What kubectl and the Python client do beyond the daily round: foreground deletion, the newer events, proxying."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
