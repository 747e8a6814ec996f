"""Selectors that stand in objects: which labels, which nodes and which pods they mean.

Three kinds, Kubernetes':

    LabelSelector       of a disruption budget, of spreading, of affinity to pods. Absent, it selects nothing; empty,
                        everything.
    NodeSelectorTerm    all of its conditions on labels and fields must hold. An empty term selects no node; of a
                        list of terms one is enough, so an empty list selects none either.
    PodAffinityTerm     pods by a LabelSelector, in some namespaces: those that it names and those whose labels its
                        namespaceSelector selects; the pod's own if it gives neither.

Gt and Lt compare whole numbers of 64 bits in decimal; a label that is no such number does not match. NotIn and
DoesNotExist match where the label is absent; everything else does not.

Pure. What is not valid (an operator that does not exist) is refused before it is stored, and is no match here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cluster.api.labels import NOTHING, Operator, Requirement, Selector, selector_from_map
from cluster.api.names import LABEL_MAX_LENGTH
from cluster.pb.v1 import core_pb2 as core

LABEL_OPERATORS = {
    "In": Operator.IN,
    "NotIn": Operator.NOT_IN,
    "Exists": Operator.EXISTS,
    "DoesNotExist": Operator.NOT_EXISTS,
}
NUMERIC_OPERATORS = ("Gt", "Lt")
NODE_NAME_FIELD = "metadata.name"
"""The only field of a node that a term can ask for."""

_integer = re.compile(r"[-+]?[0-9]+", re.ASCII)


class _Requirement(Protocol):
    """Of either kind: they have the same fields."""

    @property
    def key(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def values(self) -> Iterable[str]: ...


def label_selector(selector: core.LabelSelector | None) -> Selector:
    """What a LabelSelector selects; None (it is absent) selects nothing, an empty one everything.

    An absent field of a message reads as an empty one, so ask `HasField` first, or take `pod_selector_of`.
    """
    if selector is None:
        return NOTHING
    requirements = list(selector_from_map(selector.matchLabels).requirements)
    for requirement in selector.matchExpressions:
        operator = LABEL_OPERATORS.get(requirement.operator)
        if operator is None:
            return NOTHING
        requirements.append(Requirement(requirement.key, operator, tuple(sorted(set(requirement.values)))))
    return Selector(tuple(requirements))


def pod_selector_of(
    owner: core.PodDisruptionBudgetSpec | core.TopologySpreadConstraint | core.PodAffinityTerm,
) -> Selector:
    """The pods that a budget, a spreading or an affinity term speaks of, by their labels alone."""
    if isinstance(owner, core.PodDisruptionBudgetSpec):
        return label_selector(owner.selector if owner.HasField("selector") else None)
    return label_selector(owner.labelSelector if owner.HasField("labelSelector") else None)


def whole_number(text: str) -> int | None:
    """The number that Gt and Lt compare by; None if it is none, or does not fit 64 bits."""
    number = int(text) if len(text) <= LABEL_MAX_LENGTH and _integer.fullmatch(text) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def requirement_matches(requirement: _Requirement, value: str | None) -> bool:
    """Whether a label's (or field's) value meets one condition; None: there is no such label."""
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            limits = list(requirement.values)
            limit = whole_number(limits[0]) if len(limits) == 1 else None
            number = whole_number(value) if value is not None else None
            if limit is None or number is None:
                return False
            return number > limit if requirement.operator == "Gt" else number < limit
        case _:
            return False


def node_term_matches(term: core.NodeSelectorTerm, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node of that name and with these labels meets all conditions of a term; an empty term no node meets."""
    if not term.matchExpressions and not term.matchFields:
        return False
    return all(
        requirement_matches(requirement, labels.get(requirement.key)) for requirement in term.matchExpressions
    ) and all(
        requirement_matches(requirement, name if requirement.key == NODE_NAME_FIELD else None)
        for requirement in term.matchFields
    )


def node_selector_matches(selector: core.NodeSelector, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node meets one of the terms."""
    return any(node_term_matches(term, name, labels) for term in selector.nodeSelectorTerms)


def required_node_selector(spec: core.PodSpec) -> core.NodeSelector | None:
    """What a pod's node affinity demands of its node; None: nothing."""
    affinity = spec.affinity.nodeAffinity
    if not affinity.HasField("requiredDuringSchedulingIgnoredDuringExecution"):
        return None
    return affinity.requiredDuringSchedulingIgnoredDuringExecution


def node_is_allowed(spec: core.PodSpec, name: str, labels: Mapping[str, str]) -> bool:
    """Whether nodeSelector and the required node affinity of a pod both let it onto a node."""
    if any(labels.get(key) != value for key, value in spec.nodeSelector.items()):
        return False
    selector = required_node_selector(spec)
    return selector is None or node_selector_matches(selector, name, labels)


@dataclass(frozen=True, slots=True)
class PodTerm:
    """What a PodAffinityTerm of a pod means."""

    topology_key: str
    """The label of nodes that says what is near."""
    selector: Selector
    """Of the pods' labels."""
    namespaces: frozenset[str]
    """Where those pods may live ..."""
    namespace_selector: Selector
    """... or in namespaces with labels that this selects."""

    def matches(self, labels: Mapping[str, str], namespace: str, namespace_labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels in that namespace is one of them."""
        here = namespace in self.namespaces or self.namespace_selector.matches(namespace_labels)
        return here and self.selector.matches(labels)


def pod_term(term: core.PodAffinityTerm, own_namespace: str) -> PodTerm:
    """A term, for a pod of that namespace."""
    selects_namespaces = term.HasField("namespaceSelector")
    namespaces = frozenset(term.namespaces)
    if not namespaces and not selects_namespaces:
        namespaces = frozenset((own_namespace,))
    return PodTerm(
        term.topologyKey,
        pod_selector_of(term),
        namespaces,
        label_selector(term.namespaceSelector if selects_namespaces else None),
    )
