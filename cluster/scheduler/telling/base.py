"""What is said about one filter: the form that all tellers have, and words that several of them use."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cluster.api.labels import Selector
from cluster.api.quantities import format_bytes, format_milli
from cluster.api.selectors import PodTerm
from cluster.scheduler.filters import Filter
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.shape import Condition, NodeTerm
from cluster.scheduler.snapshot import Snapshot

_SIGNS = {"Gt": ">", "Lt": "<"}


class Teller:
    """Says for one filter and one node what was compared, and what would help."""

    filter: str
    """The name of the filter."""

    def __init__(self, snapshot: Snapshot, pod_class: PodClass) -> None:
        self._snapshot = snapshot
        self._class = pod_class
        self._shape = pod_class.shape

    def detail(self, row: int, passed: bool) -> str:
        """The numbers or words that were compared."""
        raise NotImplementedError

    def remedy(self, row: int) -> str:
        """What to change so that a node that was refused passes: a clause for people."""
        raise NotImplementedError

    def effort(self, row: int) -> float:
        """How much the remedy is to ask for: a judgement, to be compared with other remedies only."""
        raise NotImplementedError

    def _name(self, row: int) -> str:
        return self._snapshot.names[row]

    def _labels(self, row: int) -> dict[str, str]:
        return dict(self._snapshot.facts(row).labels)


def plugin_teller(of: Filter) -> type[Teller]:
    """Tells of a filter of which nothing is known but the reasons that it gives."""

    class OfPlugIn(Teller):
        filter = of.name

        def detail(self, row: int, passed: bool) -> str:
            """Its own words."""
            return "passed" if passed else self._reasons(row)

        def remedy(self, row: int) -> str:
            """Whoever wrote it knows."""
            return f"the plug-in {of.name} refuses {self._name(row)} ({self._reasons(row)}): ask whoever wrote it"

        def effort(self, row: int) -> float:
            """It may be anything."""
            return 4.0

        def _reasons(self, row: int) -> str:
            return ", ".join(sorted(of.reasons(self._snapshot, self._class, np.array([row])))) or "refused"

    return OfPlugIn


def format_amount(resource: str, amount: int) -> str:
    """An amount as people write it: cpu "1500m", memory "64Mi", anything else as a number."""
    if resource == "cpu":
        return format_milli(amount)
    return format_bytes(amount) if resource in ("memory", "ephemeral-storage") else str(amount)


def plural(count: int, noun: str) -> str:
    """ "1 pod", "2 pods"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def condition_text(condition: Condition) -> str:
    """A condition as in a label selector, where it can be said so: "zone in (a,b)", "!gpu", "cores>8"."""
    key, operator, values = condition
    if operator in ("Exists", "DoesNotExist"):
        return key if operator == "Exists" else f"!{key}"
    if operator in _SIGNS:
        return f"{key}{_SIGNS[operator]}{','.join(values)}"
    if len(values) == 1:
        return f"{key}{'=' if operator == 'In' else '!='}{values[0]}"
    return f"{key} {operator.lower()} ({','.join(values)})"


def node_term_text(term: NodeTerm) -> str:
    """All conditions of a term."""
    return " and ".join(condition_text(each) for each in (*term.labels, *term.fields)) or "nothing (an empty term)"


def pods_text(selector: Selector) -> str:
    """Which pods a selector means."""
    if selector.is_nothing:
        return "no pods (it has no labelSelector)"
    return f"pods with {selector}" if selector.requirements else "pods of any labels"


def term_text(term: PodTerm, namespace: str) -> str:
    """Which pods a term means, as seen from a namespace."""
    where = ", ".join(sorted(term.namespaces))
    if not term.namespace_selector.is_nothing:
        chosen = f"namespaces with {term.namespace_selector}" if term.namespace_selector.requirements else "anywhere"
        where = f"{where}, {chosen}" if where else chosen
    return pods_text(term.selector) if where == namespace else f"{pods_text(term.selector)} ({where})"


def label_text(labels: dict[str, str], key: str) -> str:
    """ "zone=a", or "no zone"."""
    return f"{key}={labels[key]}" if key in labels else f"no {key}"


def labels_text(labels: dict[str, str], keys: Iterable[str]) -> str:
    """The same for several keys, each once."""
    return ", ".join(label_text(labels, key) for key in dict.fromkeys(keys))
