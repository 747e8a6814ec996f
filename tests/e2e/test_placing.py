"""Where pods go: resources with free names, host ports, taints, labels of nodes, room; and what is said of the rest."""

from __future__ import annotations

import pytest

from cluster.testing import Cluster
from tests.e2e.workloads import pod, sleeper

ZONE = "topology.kubernetes.io/zone"


READY = 'readinessProbe: {exec: {command: ["true"]}}'  # it declares a port and does not listen on it


def message_of(cluster: Cluster, name: str) -> str:
    """What its condition PodScheduled says, once it is False."""

    def found() -> list[str]:
        conditions = cluster.get("pod", name).status.conditions
        return [c.message for c in conditions if (c.type, c.status) == ("PodScheduled", "False")]

    cluster.wait_until(found, f"pod/{name} is refused")
    return found()[0]


def with_spec(manifest: str, field: str) -> str:
    """The manifest of a controller, with a field more in the spec of its pods."""
    grace = "      terminationGracePeriodSeconds: 1\n"
    return manifest.replace(grace, f"{grace}      {field}\n")


@pytest.mark.podium(nodes=2, options=("--node-resource", "gpu=2", "--node-pods", "6"))
def test_pods_go_where_they_fit_and_the_others_hear_why_not(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    for name in ("gpu-1", "gpu-2"):
        cluster.apply(pod(name, "sleep 1000", extra="resources: {limits: {gpu: 2}}"))
        cluster.wait(f"pod/{name}")
    assert cluster.get("pod", "gpu-1").spec.nodeName != cluster.get("pod", "gpu-2").spec.nodeName
    cluster.apply(pod("gpu-3", "sleep 1000", extra="resources: {limits: {gpu: 1}}"))
    assert message_of(cluster, "gpu-3") == "0/2 nodes are available: 2 Insufficient gpu."

    for name in ("port-1", "port-2", "port-3"):
        declared = f"ports: [{{containerPort: 80, hostPort: 8099}}]\n            {READY}"
        cluster.apply(pod(name, "sleep 1000", extra=declared))
    words = "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
    ports = ("port-1", "port-2", "port-3")
    cluster.wait_until(lambda: sum(bool(cluster.get("pod", name).spec.nodeName) for name in ports) == 2, "two have one")
    left = next(name for name in ports if not cluster.get("pod", name).spec.nodeName)
    assert message_of(cluster, left) == words
    cluster.delete("pod", next(name for name in ports if name != left))
    cluster.wait(f"pod/{left}")

    # Four run by now; there is room for eight more of a controller that asks for a dozen.
    cluster.apply(sleeper("many", 12))
    cluster.wait_until(lambda: cluster.get("rc", "many").status.readyReplicas == 8, "eight are ready")
    late = [found.metadata.name for found in cluster.pods("app=many") if not found.spec.nodeName]
    assert len(late) == 4
    assert message_of(cluster, late[0]) == "0/2 nodes are available: 2 Too many pods."
    assert "2 Too many pods" in cluster.podium("get", "pod", late[0], "-o", "wide").stdout
    cluster.scale("many", 6)
    cluster.wait("rc/many", ready=6)


@pytest.mark.podium(nodes=3)
def test_labels_and_taints_of_nodes_steer_pods_and_survive_the_agent(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    cluster.podium("label", "node", "node-1", "node-2", f"{ZONE}=a")
    cluster.podium("label", "node", "node-3", f"{ZONE}=b", "disk=fast")
    cluster.patch("node", "node-3", {"spec": {"taints": [{"key": "for", "value": "db", "effect": "NoSchedule"}]}})
    fast = "nodeSelector: {disk: fast}"
    cluster.apply(pod("plain", "sleep 1000", spec=fast))
    assert message_of(cluster, "plain") == (
        "0/3 nodes are available: 1 node(s) had taint {for: db}, that the pod didn't tolerate, "
        "2 node(s) didn't match Pod's node affinity/selector."
    )
    tolerating = f"{fast}\n          tolerations: [{{key: for, operator: Equal, value: db, effect: NoSchedule}}]"
    cluster.apply(pod("db", "sleep 1000", spec=tolerating))
    cluster.wait("pod/db")
    assert cluster.get("pod", "db").spec.nodeName == "node-3"

    cluster.kill_node("node-3")
    cluster.wait_until(lambda: cluster.get("pod", "db").metadata.deletionTimestamp.seconds or False, "it is evicted")
    cluster.podium("up", "--cluster", cluster.name)
    node = cluster.get("node", "node-3")
    assert (node.metadata.labels["disk"], node.metadata.labels[ZONE]) == ("fast", "b")
    assert [taint.key for taint in node.spec.taints if not taint.key.startswith("node.")] == ["for"]

    cluster.patch("node", "node-3", {"spec": {"taints": None}})
    cluster.wait("pod/plain")
    cluster.delete("pod", "plain")
    cluster.apply(sleeper("spread", 4))
    cluster.wait("rc/spread", ready=4)
    nodes = [found.spec.nodeName for found in cluster.pods("app=spread")]
    assert nodes.count("node-3") == 2, "as many in one zone as in the other"
    assert nodes.count("node-1") == nodes.count("node-2") == 1


@pytest.mark.podium(nodes=3)
def test_pods_keep_near_and_apart_as_they_say_and_go_where_their_data_lies(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    cluster.podium("label", "node", "node-1", "node-2", f"{ZONE}=a")
    cluster.podium("label", "node", "node-3", f"{ZONE}=b")

    def term(app: str, key: str) -> str:
        selector = f"labelSelector: {{matchLabels: {{app: {app}}}}}"
        return f"requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: {key}, {selector}}}]"

    cluster.apply(pod("db", "sleep 1000", spec="nodeSelector: {kubernetes.io/hostname: node-3}"))
    cluster.wait("pod/db")
    cluster.apply(pod("near", "sleep 1000", spec=f"affinity: {{podAffinity: {{{term('db', ZONE)}}}}}"))
    cluster.apply(pod("apart", "sleep 1000", spec=f"affinity: {{podAntiAffinity: {{{term('db', ZONE)}}}}}"))
    for name in ("near", "apart"):
        cluster.wait(f"pod/{name}")
    assert cluster.get("pod", "near").spec.nodeName == "node-3"
    assert cluster.get("pod", "apart").spec.nodeName in ("node-1", "node-2")

    anti = f"affinity: {{podAntiAffinity: {{{term('one-each', 'kubernetes.io/hostname')}}}}}"
    cluster.apply(with_spec(sleeper("one-each", 4), anti))
    cluster.wait_until(lambda: cluster.get("rc", "one-each").status.readyReplicas == 3, "three are ready")
    [left] = [found.metadata.name for found in cluster.pods("app=one-each") if not found.spec.nodeName]
    assert message_of(cluster, left) == "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."
    told = cluster.podium("why", f"pod/{left}", check=False).stdout
    assert "wants no pods with app=one-each near, and kubernetes.io/hostname=node-1 of node-1 has 1" in told
    cluster.delete("pod", next(f.metadata.name for f in cluster.pods("app=one-each") if f.metadata.name != left))
    cluster.wait_until(lambda: cluster.get("pod", left).spec.nodeName, "it gets the place")

    even = (
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable:"
        " DoNotSchedule, labelSelector: {matchLabels: {app: even}}}]"
    )
    cluster.apply(with_spec(sleeper("even", 4), even))
    cluster.wait("rc/even", ready=4)
    assert [found.spec.nodeName for found in cluster.pods("app=even")].count("node-3") == 2

    data = "volumes: [{name: store, dataDirectory: {name: store}}]"
    mounted = "volumeMounts: [{name: store, mountPath: /store}]"
    cluster.apply(pod("writer", "sleep 1000", spec=data, extra=mounted))
    cluster.wait("pod/writer")
    home = cluster.get("pod", "writer").spec.nodeName
    for name in ("reader-1", "reader-2"):
        cluster.apply(pod(name, "sleep 1000", spec=data, extra=mounted))
        cluster.wait(f"pod/{name}")
        assert cluster.get("pod", name).spec.nodeName == home
    for name in ("writer", "reader-1", "reader-2"):
        cluster.delete("pod", name)
    cluster.wait_until(lambda: "default/store" in cluster.get("node", home).status.dataDirectories, "the node says so")
    cluster.podium("cordon", home)
    cluster.apply(pod("late", "sleep 1000", spec=data, extra=mounted))
    words = message_of(cluster, "late")
    assert "2 node(s) had volume node affinity conflict" in words
    cluster.podium("uncordon", home)
    cluster.wait("pod/late")
