"""What `podium describe` says about a pod's place: how important it is, where it may go, what holds it back; and the
priority classes and disruption budgets that speak of it. Pure: objects in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.api.columns import int_or_string
from cluster.api.selectors import label_selector, pod_selector_of
from cluster.cli.rows import conditions, row, rows
from cluster.pb.v1 import core_pb2 as core

_SIGNS = {"In": "in", "NotIn": "notin", "Gt": ">", "Lt": "<"}


def standing(pod: core.Pod) -> Iterable[str]:
    """How important the pod is, and where it will be when others have made room."""
    if pod.spec.HasField("priority"):
        name = f" ({pod.spec.priorityClassName})" if pod.spec.priorityClassName else ""
        never = ", preempts nobody" if pod.spec.preemptionPolicy == "Never" else ""
        yield row("Priority", f"{pod.spec.priority}{name}{never}")
    if pod.status.nominatedNodeName:
        yield row("Nominated Node", pod.status.nominatedNodeName)
    if pod.spec.HasField("podGroup"):
        group = pod.spec.podGroup
        yield row("Pod Group", f"{group.name}, at least {group.minMember} together")
    if pod.spec.schedulingGates:
        yield row("Scheduling Gates", ", ".join(gate.name for gate in pod.spec.schedulingGates))


def wishes(spec: core.PodSpec) -> Iterable[str]:
    """Where the pod may go, and where it is liked better; nothing if it does not say."""
    affinity = spec.affinity
    if affinity.HasField("nodeAffinity"):
        yield from rows("Node Affinity", _node_affinity(affinity.nodeAffinity))
    if affinity.HasField("podAffinity"):
        yield from rows("Pod Affinity", _pod_affinity(affinity.podAffinity))
    if affinity.HasField("podAntiAffinity"):
        yield from rows("Pod Anti-Affinity", _pod_affinity(affinity.podAntiAffinity))
    if spec.topologySpreadConstraints:
        yield from rows("Topology Spread", (_constraint(each) for each in spec.topologySpreadConstraints))


def _node_affinity(affinity: core.NodeAffinity) -> Iterable[str]:
    terms = affinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
    for index, term in enumerate(terms):
        yield ("required: " if index == 0 else "or: ") + _node_term(term)
    for preferred in affinity.preferredDuringSchedulingIgnoredDuringExecution:
        yield f"preferred ({preferred.weight}): {_node_term(preferred.preference)}"


def _node_term(term: core.NodeSelectorTerm) -> str:
    parts = [_requirement(each) for each in (*term.matchExpressions, *term.matchFields)]
    return ", ".join(parts) or "no node"


def _requirement(requirement: core.NodeSelectorRequirement) -> str:
    key, operator, values = requirement.key, requirement.operator, requirement.values
    if operator == "Exists":
        return key
    if operator == "DoesNotExist":
        return f"!{key}"
    text = values[0] if operator in ("Gt", "Lt") and values else f"({','.join(values)})"
    return f"{key} {_SIGNS.get(operator, operator)} {text}"


def _pod_affinity(affinity: core.PodAffinity | core.PodAntiAffinity) -> Iterable[str]:
    for term in affinity.requiredDuringSchedulingIgnoredDuringExecution:
        yield f"required: {_pod_term(term)}"
    for weighted in affinity.preferredDuringSchedulingIgnoredDuringExecution:
        yield f"preferred ({weighted.weight}): {_pod_term(weighted.podAffinityTerm)}"


def _pod_term(term: core.PodAffinityTerm) -> str:
    places = list(term.namespaces)
    if term.HasField("namespaceSelector"):
        places.append(
            f"those with {label_selector(term.namespaceSelector)}" if term.namespaceSelector.ByteSize() else "all"
        )
    where = f" of namespaces {', '.join(places)}" if places else ""
    return f"pods with {_selector(term)}{where} by {term.topologyKey}"


def _constraint(constraint: core.TopologySpreadConstraint) -> str:
    least = f", at least {constraint.minDomains} domains" if constraint.HasField("minDomains") else ""
    return (
        f"{constraint.topologyKey}:{constraint.whenUnsatisfiable} when max skew {constraint.maxSkew} is exceeded"
        f" for selector {_selector(constraint)}{least}"
    )


def _selector(owner: core.PodDisruptionBudgetSpec | core.TopologySpreadConstraint | core.PodAffinityTerm) -> str:
    """Kubernetes' words for the two selectors that have no text."""
    selector = pod_selector_of(owner)
    if selector.is_nothing:
        return "<unset>"
    return "<any>" if selector.is_empty else str(selector)


def priority_class(priority: core.PriorityClass) -> Iterable[str]:
    """Its number and what it means."""
    yield row("Value", priority.value)
    yield row("GlobalDefault", str(priority.globalDefault).lower())
    yield row("PreemptionPolicy", priority.preemptionPolicy)
    yield row("Description", priority.description)


def disruption_budget(budget: core.PodDisruptionBudget) -> Iterable[str]:
    """What it asks for and what it allows now; pods whose eviction was granted and not yet seen."""
    spec, status = budget.spec, budget.status
    for title, field in (("Min available", "minAvailable"), ("Max unavailable", "maxUnavailable")):
        if spec.HasField(field):
            yield row(title, int_or_string(spec, field))
    yield row("Selector", _selector(spec))
    if spec.unhealthyPodEvictionPolicy:
        yield row("Unhealthy pods", spec.unhealthyPodEvictionPolicy)
    yield "Status:"
    numbers: Sequence[tuple[str, int]] = (
        ("Allowed disruptions", status.disruptionsAllowed),
        ("Current", status.currentHealthy),
        ("Desired", status.desiredHealthy),
        ("Total", status.expectedPods),
    )
    for title, number in numbers:
        yield row(title, number, 4)
    if status.disruptedPods:
        yield from rows("Being evicted", sorted(status.disruptedPods))
    if status.observedGeneration < budget.metadata.generation:
        yield row("Not yet counted", "what it asks for was changed since; until it is counted, nothing is allowed")
    yield from conditions(status.conditions)
