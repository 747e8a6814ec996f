"""What `describe` and `get` say of places, priorities and budgets."""

from __future__ import annotations

from cluster.api.kinds import BY_NAME
from cluster.cli import describe_node, describe_pod, printers
from cluster.cli.describe_placement import disruption_budget, priority_class, standing, wishes
from cluster.pb.v1 import core_pb2 as core

BORN = core.Time(seconds=100)


def budget() -> core.PodDisruptionBudget:
    made = core.PodDisruptionBudget(metadata=core.ObjectMeta(name="web", creationTimestamp=BORN, generation=1))
    made.spec.minAvailable.MergeFrom(core.IntOrString(type=1, strVal="50%"))
    made.spec.selector.matchLabels["app"] = "web"
    made.status.MergeFrom(
        core.PodDisruptionBudgetStatus(
            observedGeneration=1, disruptionsAllowed=1, currentHealthy=3, desiredHealthy=2, expectedPods=4
        )
    )
    return made


def test_a_table_of_budgets() -> None:
    other = budget()
    other.metadata.name = "db"
    other.spec.ClearField("minAvailable")
    other.spec.maxUnavailable.intVal = 0
    other.status.disruptionsAllowed = 0
    assert printers.table(BY_NAME["PodDisruptionBudget"], [budget(), other], 110.0).splitlines() == [
        "NAME   MIN AVAILABLE   MAX UNAVAILABLE   ALLOWED DISRUPTIONS   AGE",
        "web    50%             N/A               1                     10s",
        "db     N/A             0                 0                     10s",
    ]


def test_a_table_of_priority_classes() -> None:
    high = core.PriorityClass(
        metadata=core.ObjectMeta(name="high", creationTimestamp=BORN),
        value=1000,
        globalDefault=True,
        preemptionPolicy="Never",
        description="first",
    )
    assert printers.table(BY_NAME["PriorityClass"], [high], 110.0).splitlines() == [
        "NAME   VALUE   GLOBAL-DEFAULT   AGE   PREEMPTIONPOLICY",
        "high   1000    true             10s   Never",
    ]
    assert list(priority_class(high)) == [
        "Value:             1000",
        "GlobalDefault:     true",
        "PreemptionPolicy:  Never",
        "Description:       first",
    ]


def test_a_budget_is_described() -> None:
    made = budget()
    made.spec.unhealthyPodEvictionPolicy = "AlwaysAllow"
    made.status.disruptedPods["web-2"].seconds = 5
    made.status.conditions.add(type="DisruptionAllowed", status="True", reason="SufficientPods")
    assert list(disruption_budget(made)) == [
        "Min available:     50%",
        "Selector:          app=web",
        "Unhealthy pods:    AlwaysAllow",
        "Status:",
        "    Allowed disruptions: 1",
        "    Current:       3",
        "    Desired:       2",
        "    Total:         4",
        "Being evicted:     web-2",
        "Conditions:",
        "  Type                Status   Reason           Message\n  DisruptionAllowed   True     SufficientPods",
    ]


def test_a_budget_that_was_not_counted_yet_says_so_and_whom_it_means() -> None:
    made = budget()
    made.metadata.generation = 2
    made.spec.selector.Clear()
    lines = list(disruption_budget(made))
    assert "Selector:          <any>" in lines
    assert any("nothing is allowed" in line for line in lines)
    made.spec.ClearField("selector")
    assert "Selector:          <unset>" in list(disruption_budget(made))


def test_how_important_a_pod_is_and_what_holds_it_back() -> None:
    pod = core.Pod()
    assert list(standing(pod)) == []
    pod.spec.priority = 1000
    pod.spec.priorityClassName = "high"
    pod.spec.preemptionPolicy = "Never"
    pod.spec.podGroup.MergeFrom(core.PodGroup(name="train", minMember=8))
    pod.spec.schedulingGates.add(name="a")
    pod.spec.schedulingGates.add(name="b")
    pod.status.nominatedNodeName = "node-2"
    assert list(standing(pod)) == [
        "Priority:          1000 (high), preempts nobody",
        "Nominated Node:    node-2",
        "Pod Group:         train, at least 8 together",
        "Scheduling Gates:  a, b",
    ]


def test_where_a_pod_may_go() -> None:
    spec = core.PodSpec()
    assert list(wishes(spec)) == []
    nodes = spec.affinity.nodeAffinity
    terms = nodes.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
    term = terms.add()
    term.matchExpressions.add(key="disk", operator="In", values=["ssd", "nvme"])
    term.matchExpressions.add(key="cores", operator="Gt", values=["4"])
    term.matchExpressions.add(key="gpu", operator="Exists")
    terms.add().matchFields.add(key="metadata.name", operator="NotIn", values=["n1"])
    preferred = nodes.preferredDuringSchedulingIgnoredDuringExecution.add(weight=5)
    preferred.preference.matchExpressions.add(key="old", operator="DoesNotExist")
    near = spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution.add(topologyKey="zone")
    near.labelSelector.matchLabels["app"] = "db"
    near.namespaces.append("data")
    near.namespaceSelector.matchLabels["team"] = "a"
    far = spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=7)
    far.podAffinityTerm.topologyKey = "rack"
    far.podAffinityTerm.namespaceSelector.SetInParent()
    even = spec.topologySpreadConstraints.add(
        maxSkew=1, topologyKey="zone", whenUnsatisfiable="DoNotSchedule", minDomains=3
    )
    even.labelSelector.SetInParent()
    assert list(wishes(spec)) == [
        "Node Affinity:     required: disk in (ssd,nvme), cores > 4, gpu",
        "                   or: metadata.name notin (n1)",
        "                   preferred (5): !old",
        "Pod Affinity:      required: pods with app=db of namespaces data, those with team=a by zone",
        "Pod Anti-Affinity: preferred (7): pods with <unset> of namespaces all by rack",
        ("Topology Spread:   zone:DoNotSchedule when max skew 1 is exceeded for selector <any>, at least 3 domains"),
    ]


def test_a_pod_and_a_node_are_described_with_them() -> None:
    pod = core.Pod(spec=core.PodSpec(priority=7))
    pod.spec.topologySpreadConstraints.add(maxSkew=1, topologyKey="zone", whenUnsatisfiable="ScheduleAnyway")
    lines = list(describe_pod.pod(pod))
    assert "Priority:          7" in lines
    assert any(line.startswith("Topology Spread:") for line in lines)
    node = core.Node(status=core.NodeStatus(dataDirectories=["default/db", "default/logs"]))
    lines = list(describe_node.node(node))
    assert lines[lines.index("Data Directories:  default/db") + 1] == "                   default/logs"
