"""What filters compared that look at the node alone."""

from __future__ import annotations

from cluster.api.pods import profile_label
from cluster.api.selectors import NODE_NAME_FIELD
from cluster.scheduler import nodes
from cluster.scheduler.filters.node import UNSCHEDULABLE_TAINT
from cluster.scheduler.shape import IMAGE_RUNTIME_LABEL, TaintTuple
from cluster.scheduler.telling.base import Teller, labels_text, node_term_text


class NodeUnschedulable(Teller):
    """Cordoned nodes."""

    filter = "NodeUnschedulable"

    def detail(self, row: int, passed: bool) -> str:
        """Whether it is cordoned."""
        if not self._snapshot.unschedulable[row]:
            return "not cordoned"
        return "cordoned, and tolerated" if passed else "cordoned"

    def remedy(self, row: int) -> str:
        """Uncordon it."""
        return f"{self._name(row)} is cordoned: uncordon it"

    def effort(self, row: int) -> float:
        """An uncordon is a word."""
        return 1.0


class NodeName(Teller):
    """spec.nodeName."""

    filter = "NodeName"

    def detail(self, row: int, passed: bool) -> str:
        """The name that is asked for."""
        return f"asks for {self._shape.node_name}" if self._shape.node_name else "asks for no node by name"

    def remedy(self, row: int) -> str:
        """Ask for none."""
        return f"asks for node {self._shape.node_name} by name: take spec.nodeName away"

    def effort(self, row: int) -> float:
        """Somebody wanted it so."""
        return 5.0


class TaintToleration(Teller):
    """Taints that keep pods away."""

    filter = "TaintToleration"

    def detail(self, row: int, passed: bool) -> str:
        """The taint that is in the way."""
        taints = self._snapshot.taint_sets[int(self._snapshot.taint_set[row])]
        if passed:
            return f"tolerates {len(taints)} taints" if taints else "no taints"
        taint = nodes.untolerated(self._shape, taints)
        assert taint is not None
        return f"does not tolerate {_taint_text(taint)}"

    def remedy(self, row: int) -> str:
        """Uncordon it, bring it back, or tolerate what it has."""
        against = self._against(row)
        if self._only_cordoned(row):
            return f"{self._name(row)} is cordoned: uncordon it"
        if any(taint.key.startswith("node.kubernetes.io/") for taint in against):
            states = ", ".join(sorted({taint.key.removeprefix("node.kubernetes.io/") for taint in against}))
            return f"{self._name(row)} is {states}: bring it back"
        which = ", ".join(_taint_text(taint) for taint in against)
        return f"does not tolerate {which} of {self._name(row)}: add a toleration or take the taint away"

    def effort(self, row: int) -> float:
        """A cordoned node carries a taint that says so too: one remedy for both."""
        if self._only_cordoned(row):
            return 0.0 if self._snapshot.unschedulable[row] else 1.0
        return 3.0

    def _against(self, row: int) -> list[TaintTuple]:
        taints = self._snapshot.taint_sets[int(self._snapshot.taint_set[row])]
        return [taint for taint in taints if nodes.untolerated(self._shape, (taint,)) is not None]

    def _only_cordoned(self, row: int) -> bool:
        return all(taint.key == UNSCHEDULABLE_TAINT.key for taint in self._against(row))


class NodeAffinity(Teller):
    """nodeSelector and required node affinity."""

    filter = "NodeAffinity"

    def detail(self, row: int, passed: bool) -> str:
        """The labels that are wanted, and what the node has of them."""
        shape, labels = self._shape, self._labels(row)
        if passed:
            parts = [f"{key}={value}" for key, value in shape.selector]
            if shape.node_terms is not None:
                parts.append(labels_text(labels, self._keys()))
            return "has " + ",".join(parts) if parts else "no node selector"
        wants = [f"wants {key}={value}, has {labels_text(labels, (key,))}" for key, value in self._unmet(row)]
        if not self._meets_terms(row):
            wants.append(f"wants {self._terms()}, has {labels_text(labels, self._keys()) or 'nothing of it'}")
        return "; ".join(wants)

    def remedy(self, row: int) -> str:
        """Label the node, or ask for less."""
        name, parts = self._name(row), []
        if self._unmet(row):
            missing = " ".join(f"{key}={value}" for key, value in self._unmet(row))
            wish = "spec.nodeSelector"
            if any(key.startswith(profile_label("")) for key, _ in self._unmet(row)):
                wish = "spec.securityProfile (`podium describe node` says what is missing there)"
            parts.append(f"{name} lacks the labels {missing}: label it, or ask for less in {wish}")
        if not self._meets_terms(row):
            parts.append(
                f"{name} does not meet {self._terms()}: label it so, or ask for less in spec.affinity.nodeAffinity"
            )
        return "; and ".join(parts)

    def effort(self, row: int) -> float:
        """A label says what a machine is; it is not to be had for nothing."""
        return 2.5 + 0.1 * len(self._unmet(row))

    def _unmet(self, row: int) -> list[tuple[str, str]]:
        labels = self._labels(row)
        return [(key, value) for key, value in self._shape.selector if labels.get(key) != value]

    def _meets_terms(self, row: int) -> bool:
        terms = self._shape.node_terms
        rows = slice(row, row + 1)
        return terms is None or any(bool(nodes.meets(self._snapshot, term, rows)[0]) for term in terms)

    def _terms(self) -> str:
        return " or ".join(node_term_text(term) for term in self._shape.node_terms or ()) or "one of no terms"

    def _keys(self) -> list[str]:
        terms = self._shape.node_terms or ()
        return [each.key for term in terms for each in term.labels if each.key != NODE_NAME_FIELD]


class ImageRuntime(Teller):
    """Images."""

    filter = "ImageRuntime"

    def detail(self, row: int, passed: bool) -> str:
        """Whether a runtime is needed and there."""
        if not self._shape.needs_image_runtime:
            return "needs no image"
        return f"{IMAGE_RUNTIME_LABEL}=true" if passed else "no runtime for images"

    def remedy(self, row: int) -> str:
        """Do without."""
        return (
            "names an image and no node has a runtime for images: leave the image out, or write image: host, to run the"
            " command from the machine's own file system"
        )

    def effort(self, row: int) -> float:
        """A node that runs images is another machine."""
        return 8.0


def _taint_text(taint: TaintTuple) -> str:
    key, value, effect = taint
    return f"{key}{'=' + value if value else ''}:{effect}"
