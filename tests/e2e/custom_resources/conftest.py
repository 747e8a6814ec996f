"""A cluster for each file, kubectl with manifests of widgets, and requests as nobody's tool sends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cluster.testing import Cluster
from tests.e2e.conftest import own_cluster
from tests.kit.customs import definition, version, widget
from tests.kit.kubectl import Kubectl
from tests.kit.raw_requests import Raw

OLD: dict[str, Any] = {"deprecated": True, "deprecationWarning": "example.com/v1beta1 is old: use v1", "storage": False}
CRD = definition(version("v1beta1", **OLD), version("v1"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_cluster(tmp_path_factory, nodes=1, options=["--rest"]) as found:
        yield found
        assert "Traceback" not in log_of(found)


def log_of(cluster: Cluster) -> str:
    path = cluster.directory / "log" / "kubernetes.log"
    return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    labelled = widget()
    labelled["metadata"]["labels"] = {"app": "w"}
    bigger = {**labelled, "spec": {"size": 5}}
    named = {**widget(), "metadata": {"generateName": "gen-", "labels": {"app": "gen"}}}
    files = {
        "crd": CRD,
        "one": labelled,
        "bigger": bigger,
        "typo": {**labelled, "spec": {"size": 5, "sise": 1}},
        "wrong": {**labelled, "spec": {"size": 5, "color": "green"}},
        "named": named,
        "status": {**widget("shared"), "status": {"phase": "Up"}},
        "status2": {**widget("shared"), "status": {"phase": "Down"}},
        "ports": widget("shared", ports=[{"port": 1}]),
        "ports2": {**widget("shared"), "spec": {"ports": [{"port": 2}]}},
        "ports3": {**widget("shared"), "spec": {"size": 9, "ports": [{"port": 2}]}},
    }
    texts = {f"{name}.yaml": yaml.safe_dump(content) for name, content in files.items()}
    return Kubectl(cluster, tmp_path_factory.mktemp("kubectl"), files=texts)


@pytest.fixture
def widgets(kubectl: Kubectl) -> Iterator[Kubectl]:
    """The definition, for a test; it and all widgets are gone afterwards."""
    kubectl.expect("apply -f crd.yaml", r"created|unchanged")
    kubectl.expect("delete widgets --all", r"deleted|No resources found")
    yield kubectl
    kubectl.expect("delete crd widgets.example.com --timeout=20s", "deleted")


@pytest.fixture(scope="module")
def raw(cluster: Cluster) -> Raw:
    return Raw(cluster)
