"""Who goes first, who goes at all, and who together: priorities, preemption, budgets, gates, groups; real clusters."""

from __future__ import annotations

import textwrap

import pytest

from cluster.api.conditions import get_condition
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.test_placing import message_of
from tests.e2e.workloads import pod

CLASSES = """
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
value: 1000
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: polite}
value: 1000
preemptionPolicy: Never
"""


def budget(name: str, app: str) -> str:
    return textwrap.dedent(f"""\
        apiVersion: policy/v1
        kind: PodDisruptionBudget
        metadata: {{name: {name}}}
        spec: {{minAvailable: 1, selector: {{matchLabels: {{app: {app}}}}}}}
        """)


def found(cluster: Cluster, name: str) -> core.Pod | None:
    """A pod, if it is there, be it on its way out."""
    return next((each for each in cluster.list("pods", "default") if each.metadata.name == name), None)


ONE_CPU = 'resources: {requests: {cpu: "1"}}'


@pytest.mark.podium(nodes=2, options=("--node-cpu", "2"))
def test_an_important_pod_takes_the_place_of_those_that_no_budget_keeps(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    cluster.apply(CLASSES)
    cluster.apply(budget("kept", "kept"))
    for name in ("kept", "a", "b", "c"):
        cluster.apply(pod(name, "sleep 1000", extra=ONE_CPU))
        cluster.wait(f"pod/{name}")
    cluster.apply(pod("polite", "sleep 1000", extra=ONE_CPU, spec="priorityClassName: polite"))
    assert message_of(cluster, "polite") == (
        "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    )
    # Each of these wants a whole node: on one of them a budget would have to be broken.
    cluster.apply(pod("vip", "sleep 1000", extra='resources: {requests: {cpu: "2"}}', spec="priorityClassName: high"))
    cluster.wait("pod/vip")
    kept = found(cluster, "kept")
    assert kept is not None
    assert not kept.metadata.HasField("deletionTimestamp")
    vip = cluster.get("pod", "vip")
    assert vip.spec.nodeName != kept.spec.nodeName
    assert vip.spec.priority == 1000
    cluster.wait_until(lambda: len(cluster.events("Preempted")) >= 2, "it is told who had to go")
    preempted = cluster.events("Preempted")
    assert len(preempted) == 2
    assert {event.message for event in preempted} == {f"Preempted by default/vip on node {vip.spec.nodeName}"}
    gone = {event.involvedObject.name for event in preempted}
    assert gone < {"a", "b", "c"}
    # One of the others has ended for good; what is free again goes to who waits, the polite one included.
    left = next(name for name in ("a", "b", "c") if name not in gone)
    cluster.delete("pod", left)
    cluster.wait("pod/polite")


@pytest.mark.podium(nodes=1, options=("--node-cpu", "1"))
def test_a_pod_that_has_to_go_says_why_while_it_goes(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    cluster.apply(CLASSES)
    slow = pod("slow", "trap : TERM; sleep 1000 & wait; sleep 1000", extra=ONE_CPU)
    cluster.apply(slow.replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 4"))
    cluster.wait("pod/slow")
    cluster.apply(pod("vip", "sleep 1000", extra=ONE_CPU, spec="priorityClassName: high"))
    cluster.wait_until(
        lambda: cluster.get("pod", "vip").status.nominatedNodeName == "node-1", "the important one is nominated"
    )

    def reason() -> str:
        victim = found(cluster, "slow")
        condition = None if victim is None else get_condition(victim.status, "DisruptionTarget")
        return "" if condition is None else str(condition.reason)

    cluster.wait_until(lambda: reason() == "PreemptionByScheduler", "the other says why it goes")
    cluster.wait("pod/vip")
    assert found(cluster, "slow") is None
    assert not cluster.get("pod", "vip").status.nominatedNodeName


def member(name: str, least: int, timeout_s: int = 60) -> str:
    group = f"podGroup: {{name: team, minMember: {least}, scheduleTimeoutSeconds: {timeout_s}}}"
    return pod(name, "sleep 1000", spec=group)


@pytest.mark.podium(nodes=1, options=("--node-pods", "3"))
def test_a_group_runs_as_a_whole_or_not_at_all(podium_cluster: Cluster) -> None:
    cluster = podium_cluster
    cluster.apply(pod("other", "sleep 1000"))
    cluster.wait("pod/other")
    for name in ("m-1", "m-2"):
        cluster.apply(member(name, 3, timeout_s=1))
    assert message_of(cluster, "m-1") == "pod group team has 2 of 3 members"
    cluster.apply(member("m-3", 3, timeout_s=1))
    words = "pod group team: 3 of its members cannot be placed together: 0/1 nodes are available: 1 Too many pods."
    cluster.wait_until(lambda: message_of(cluster, "m-3") == words, "it says that they do not fit together")
    assert [each.spec.nodeName for each in cluster.pods() if each.metadata.name != "other"] == [""] * 3
    cluster.delete("pod", "other")
    for name in ("m-1", "m-2", "m-3"):
        cluster.wait(f"pod/{name}")


def test_a_gated_pod_waits_for_its_last_gate(shared_cluster: Cluster, namespace: str) -> None:
    cluster = shared_cluster
    gated = pod("gated", "sleep 1000", spec="schedulingGates: [{name: example.com/one}, {name: example.com/two}]")
    cluster.apply(gated, namespace=namespace)

    def scheduled() -> str:
        condition = get_condition(cluster.get("pod", "gated", namespace).status, "PodScheduled")
        return "" if condition is None else str(condition.reason or condition.status)

    assert scheduled() == "SchedulingGated"
    cluster.patch("pod", "gated", {"spec": {"schedulingGates": [{"name": "example.com/two"}]}}, namespace=namespace)
    cluster.apply(pod("after", "sleep 1000"), namespace=namespace)
    cluster.wait("pod/after", namespace=namespace)
    assert scheduled() == "SchedulingGated", "one that came later has its place, and this one is not looked at"
    cluster.patch("pod", "gated", {"spec": {"schedulingGates": None}}, namespace=namespace)
    cluster.wait("pod/gated", namespace=namespace)
