"""The rules of what a pod says about its place: affinity, spreading, gates, priority, group.

Kubernetes' rules and words. Whether the priority class exists, and what priority it gives, is the master's to say
(`cluster.master.priorities`).

After its creation a pod's place is settled, but for one case: a pod that gates hold back has not been looked at by any
scheduler, so whoever holds it may still narrow where it goes. Gates themselves can only be taken away.

    gates               some of the old ones
    nodeSelector        of a gated pod: more of it
    node affinity       of a gated pod: none before: anything; required terms: the same terms, each with the same
                        conditions and more behind them; preferences: anything
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.api.labels import label_key_problems
from cluster.api.names import dns1123_label_problems, dns1123_subdomain_problems
from cluster.api.priorities import PREEMPTION_POLICIES
from cluster.api.problems import Report
from cluster.api.validation_selectors import validate_label_selector, validate_node_selector, validate_node_term
from cluster.pb.v1 import core_pb2 as core

MAX_WEIGHT = 100
WHEN_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
INCLUSION_POLICIES = ("Honor", "Ignore")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def validate_placement(report: Report, spec: core.PodSpec, path: str) -> None:
    """Checks what is said about the place of a pod, in a pod or in a template."""
    _validate_affinity(report, spec.affinity, f"{path}.affinity")
    _validate_spreading(report, spec, f"{path}.topologySpreadConstraints")
    _validate_gates(report, spec, path)
    if spec.priorityClassName:
        name = spec.priorityClassName
        report.check(f"{path}.priorityClassName", name, dns1123_subdomain_problems(name))
    if spec.HasField("preemptionPolicy"):
        report.one_of(f"{path}.preemptionPolicy", spec.preemptionPolicy, PREEMPTION_POLICIES)
    if spec.HasField("podGroup"):
        _validate_group(report, spec.podGroup, f"{path}.podGroup")


def _validate_affinity(report: Report, affinity: core.Affinity, path: str) -> None:
    nodes, where = affinity.nodeAffinity, f"{path}.nodeAffinity"
    if nodes.HasField("requiredDuringSchedulingIgnoredDuringExecution"):
        validate_node_selector(report, nodes.requiredDuringSchedulingIgnoredDuringExecution, f"{where}.{_REQUIRED}")
    for index, preferred in enumerate(nodes.preferredDuringSchedulingIgnoredDuringExecution):
        place = f"{where}.{_PREFERRED}[{index}]"
        _validate_weight(report, preferred.weight, place)
        validate_node_term(report, preferred.preference, f"{place}.preference")
    for name, pods in (("podAffinity", affinity.podAffinity), ("podAntiAffinity", affinity.podAntiAffinity)):
        for index, term in enumerate(pods.requiredDuringSchedulingIgnoredDuringExecution):
            _validate_pod_term(report, term, f"{path}.{name}.{_REQUIRED}[{index}]")
        for index, weighted in enumerate(pods.preferredDuringSchedulingIgnoredDuringExecution):
            place = f"{path}.{name}.{_PREFERRED}[{index}]"
            _validate_weight(report, weighted.weight, place)
            _validate_pod_term(report, weighted.podAffinityTerm, f"{place}.podAffinityTerm")


def _validate_weight(report: Report, weight: int, path: str) -> None:
    if not 1 <= weight <= MAX_WEIGHT:
        report.invalid(f"{path}.weight", weight, f"must be in the range 1-{MAX_WEIGHT}")


def _validate_pod_term(report: Report, term: core.PodAffinityTerm, path: str) -> None:
    validate_label_selector(report, term.labelSelector, f"{path}.labelSelector")
    validate_label_selector(report, term.namespaceSelector, f"{path}.namespaceSelector")
    for index, namespace in enumerate(term.namespaces):
        report.check(f"{path}.namespaces[{index}]", namespace, dns1123_label_problems(namespace))
    _validate_topology_key(report, term.topologyKey, f"{path}.topologyKey")


def _validate_topology_key(report: Report, key: str, path: str) -> None:
    if not key:
        report.required(path, "can not be empty")
    else:
        report.check(path, key, label_key_problems(key))


def _validate_spreading(report: Report, spec: core.PodSpec, path: str) -> None:
    seen: set[tuple[str, str]] = set()
    for index, constraint in enumerate(spec.topologySpreadConstraints):
        where = f"{path}[{index}]"
        if constraint.maxSkew <= 0:
            report.invalid(f"{where}.maxSkew", constraint.maxSkew, "must be greater than zero")
        _validate_topology_key(report, constraint.topologyKey, f"{where}.topologyKey")
        report.one_of(f"{where}.whenUnsatisfiable", constraint.whenUnsatisfiable, WHEN_UNSATISFIABLE)
        pair = (constraint.topologyKey, constraint.whenUnsatisfiable)
        if pair in seen:
            report.duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", "{" + ", ".join(pair) + "}")
        seen.add(pair)
        if constraint.HasField("minDomains"):
            if constraint.minDomains <= 0:
                report.invalid(f"{where}.minDomains", constraint.minDomains, "must be greater than zero")
            if constraint.whenUnsatisfiable != "DoNotSchedule":
                message = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {pair[1]}"
                report.invalid(f"{where}.minDomains", constraint.minDomains, message)
        if constraint.HasField("nodeAffinityPolicy"):
            report.one_of(f"{where}.nodeAffinityPolicy", constraint.nodeAffinityPolicy, INCLUSION_POLICIES)
        if constraint.HasField("nodeTaintsPolicy"):
            report.one_of(f"{where}.nodeTaintsPolicy", constraint.nodeTaintsPolicy, INCLUSION_POLICIES)
        validate_label_selector(report, constraint.labelSelector, f"{where}.labelSelector")


def _validate_gates(report: Report, spec: core.PodSpec, path: str) -> None:
    seen: set[str] = set()
    for index, gate in enumerate(spec.schedulingGates):
        where = f"{path}.schedulingGates[{index}]"
        report.check(where, gate.name, label_key_problems(gate.name))
        if gate.name in seen:
            report.duplicate(where, gate.name)
        seen.add(gate.name)
    if spec.nodeName and spec.schedulingGates:
        report.forbidden(f"{path}.nodeName", "cannot be set until all schedulingGates have been cleared")


def _validate_group(report: Report, group: core.PodGroup, path: str) -> None:
    if not group.name:
        report.required(f"{path}.name")
    else:
        report.check(f"{path}.name", group.name, dns1123_subdomain_problems(group.name))
    if not group.HasField("minMember"):
        report.required(f"{path}.minMember", "how many pods of the group must be placed together")
    else:
        report.at_least(f"{path}.minMember", group.minMember, 1)
    if group.HasField("scheduleTimeoutSeconds"):
        report.at_least(f"{path}.scheduleTimeoutSeconds", group.scheduleTimeoutSeconds, 1)


# --- updates


def validate_placement_update(report: Report, new: core.PodSpec, old: core.PodSpec) -> None:
    """Checks what an update does to the place of a pod. What it may do is put back in `new`, so that the rest can be
    compared as a whole."""
    before = {gate.name for gate in old.schedulingGates}
    for index, gate in enumerate(new.schedulingGates):
        if gate.name not in before:
            message = f"only deletion is allowed, but found new scheduling gate '{gate.name}'"
            report.forbidden(f"spec.schedulingGates[{index}]", message)
    if before:
        _validate_narrower_selector(report, new, old)
        _validate_narrower_affinity(report, new, old)
    for spec in (new, old):
        spec.ClearField("schedulingGates")


def _validate_narrower_selector(report: Report, new: core.PodSpec, old: core.PodSpec) -> None:
    if any(new.nodeSelector.get(key) != value for key, value in old.nodeSelector.items()):
        shown = ",".join(f"{key}={new.nodeSelector[key]}" for key in sorted(new.nodeSelector))
        message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        report.invalid("spec.nodeSelector", shown, message)
    for spec in (new, old):
        spec.ClearField("nodeSelector")


def _validate_narrower_affinity(report: Report, new: core.PodSpec, old: core.PodSpec) -> None:
    path = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    after = new.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
    terms = old.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
    if terms and len(terms) != len(after):
        message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        report.invalid(path, f"{len(after)} terms", message)
    elif terms:
        for index, (narrower, term) in enumerate(zip(after, terms, strict=True)):
            if not _only_adds(narrower, term):
                message = "only additions are allowed (no mutations or deletions)"
                report.invalid(f"{path}[{index}]", f"term {index}", message)
    for spec in (new, old):
        spec.affinity.ClearField("nodeAffinity")
        if not spec.affinity.ListFields():  # an empty affinity says the same as none
            spec.ClearField("affinity")


def _only_adds(new: core.NodeSelectorTerm, old: core.NodeSelectorTerm) -> bool:
    """Conditions were added to a term, behind those that it had. One that had none selects no node, and more of
    nothing would be something: it stays as it is."""
    if not old.matchExpressions and not old.matchFields:
        return new == old
    return _begins_with(new.matchExpressions, old.matchExpressions) and _begins_with(new.matchFields, old.matchFields)


def _begins_with(new: Sequence[core.NodeSelectorRequirement], old: Sequence[core.NodeSelectorRequirement]) -> bool:
    return list(new)[: len(old)] == list(old)
