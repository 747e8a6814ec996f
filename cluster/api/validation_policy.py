"""The rules of priority classes and disruption budgets. Kubernetes' rules and words.

One thing is stricter: a budget that asks for nothing (neither minAvailable nor maxUnavailable) allows every eviction in
Kubernetes; here it is refused, because nobody means it.
"""

from __future__ import annotations

import re

from cluster.api.disruption import UNHEALTHY_POLICIES
from cluster.api.priorities import HIGHEST_USER_PRIORITY, PREEMPTION_POLICIES, SYSTEM_CLASSES, SYSTEM_PREFIX
from cluster.api.problems import Report
from cluster.api.validation_selectors import validate_label_selector
from cluster.pb.v1 import core_pb2 as core

_percent = re.compile(r"[0-9]+%", re.ASCII)


def validate_priority_class(report: Report, priority: core.PriorityClass) -> None:
    """The system's names and numbers are its own; and no owners: nobody would collect what an owner leaves."""
    name = priority.metadata.name
    if name.startswith(SYSTEM_PREFIX):
        why = _not_of_the_system(name, priority)
        if why:
            reserved = f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only"
            report.forbidden("metadata.name", f"{reserved}. error: {why}")
    elif priority.value > HIGHEST_USER_PRIORITY:
        message = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        report.forbidden("value", message)
    report.one_of("preemptionPolicy", priority.preemptionPolicy, PREEMPTION_POLICIES)
    if priority.metadata.ownerReferences:
        why = "Podium does not collect priority classes whose owners are gone"
        report.forbidden("metadata.ownerReferences", why)


def _not_of_the_system(name: str, priority: core.PriorityClass) -> str:
    known = SYSTEM_CLASSES.get(name)
    if known is None:
        return f"{name} is not a known system priority class"
    if priority.value != known[0]:
        return f"value of {name} PriorityClass must be {known[0]}"
    if priority.globalDefault:
        return f"globalDefault of {name} PriorityClass must be false"
    return ""


def validate_priority_class_update(report: Report, new: core.PriorityClass, old: core.PriorityClass) -> None:
    """Pods carry the number of their class: it stays what it was."""
    if new.value != old.value:
        report.forbidden("value", "may not be changed in an update.")
    if new.preemptionPolicy != old.preemptionPolicy:
        report.invalid("preemptionPolicy", new.preemptionPolicy, "field is immutable")


def validate_disruption_budget(report: Report, budget: core.PodDisruptionBudget) -> None:
    """What it asks for, of whom; and the numbers that evictions go by."""
    spec, status = budget.spec, budget.status
    given = [name for name in ("minAvailable", "maxUnavailable") if spec.HasField(name)]
    if not given:
        report.required("spec", "one of minAvailable and maxUnavailable must be set")
    elif len(given) > 1:
        report.invalid("spec", ", ".join(given), "minAvailable and maxUnavailable cannot be both set")
    for name in given:
        _validate_share(report, getattr(spec, name), f"spec.{name}")
    validate_label_selector(report, spec.selector, "spec.selector")
    if spec.HasField("unhealthyPodEvictionPolicy"):
        policy = spec.unhealthyPodEvictionPolicy
        report.one_of("spec.unhealthyPodEvictionPolicy", policy, UNHEALTHY_POLICIES)
    for name in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        report.at_least(f"status.{name}", getattr(status, name), 0)


def _validate_share(report: Report, value: core.IntOrString, path: str) -> None:
    """A number of pods, or a part of them."""
    if value.type != 1:
        report.at_least(path, value.intVal, 0)
    elif not _percent.fullmatch(value.strVal):
        message = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%')"
        report.invalid(path, value.strVal, message)
    elif int(value.strVal[:-1]) > 100:
        report.invalid(path, value.strVal, "must not be greater than 100%")
