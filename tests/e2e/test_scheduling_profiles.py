"""Profiles by spec.schedulerName, from what ships and from a file, with the plug-ins of the example."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from cluster.testing import Cluster
from tests.e2e.conftest import EXAMPLES
from tests.e2e.workloads import sleeper

PLUGIN = EXAMPLES / "scheduler_plugin"
IMPORTABLE = os.pathsep.join(filter(None, (str(PLUGIN), os.environ.get("PYTHONPATH"))))


def of_scheduler(manifest: str, scheduler: str) -> str:
    return manifest.replace(
        "terminationGracePeriodSeconds: 1", f"terminationGracePeriodSeconds: 1\n      schedulerName: {scheduler}"
    )


def nodes_of(cluster: Cluster, app: str) -> Counter[str]:
    return Counter(pod.spec.nodeName for pod in cluster.pods(f"app={app}"))


@pytest.mark.podium(
    nodes=3,
    options=("--scheduler-config", str(PLUGIN / "scheduler.toml")),
    environment={"PYTHONPATH": IMPORTABLE},
)
def test_each_profile_places_in_its_own_way(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    cluster.apply(sleeper("even", 3))
    cluster.wait("rc/even", ready=3)
    assert sorted(nodes_of(cluster, "even").values()) == [1, 1, 1]
    cluster.delete("rc", "even")

    cluster.apply(of_scheduler(sleeper("dense", 3), "binpack"))
    cluster.wait("rc/dense", ready=3)
    assert sorted(nodes_of(cluster, "dense").values()) == [3]
    cluster.delete("rc", "dense")

    cluster.podium("label", "node", "node-2", "example.com/rank=90")
    cluster.podium("label", "node", "node-3", "example.com/rank=10")
    cluster.apply(PLUGIN / "tenants.yaml")
    cluster.wait("rc/red", ready=4)
    assert nodes_of(cluster, "red") == {"node-2": 2, "node-1": 2}

    cluster.apply(of_scheduler(sleeper("lost", 1), "defualt"))
    cluster.wait_until(
        lambda: any(event.message.startswith('no scheduler named "defualt" runs here') for event in cluster.events()),
        "it says that there is no such scheduler",
        timeout_s=60.0,
    )


def test_a_config_that_makes_no_sense_starts_nothing(shared_cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.toml"
    file.write_text("[profiles.mine.weights]\nSpraed = 2\n")
    refused = shared_cluster.podium("up", "--cluster", "other", "--scheduler-config", str(file), check=False)
    assert refused.returncode == 2
    assert f"--scheduler-config: {file}: profiles.mine.weights: 'Spraed' is not a score" in refused.stderr
    assert not (shared_cluster.home / "clusters" / "other").exists()
