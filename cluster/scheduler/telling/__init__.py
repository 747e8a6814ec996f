"""The words in which placement is explained: for each filter a teller, for each score what it compared.

A filter says why it refuses in Kubernetes' words, counted over nodes. Here is what people ask next: which numbers, on
which node, and what would help. Every filter has its teller, every score its line (the tests see to it). Of plug-ins
nothing is known but what they say themselves.
"""

from __future__ import annotations

from cluster.scheduler.filters import Filter
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.scoring import Score
from cluster.scheduler.snapshot import IntArray, Snapshot
from cluster.scheduler.telling.base import Teller, format_amount, plugin_teller
from cluster.scheduler.telling.load import DataDirectories, HostPorts, Resources
from cluster.scheduler.telling.marks import TELL
from cluster.scheduler.telling.node import ImageRuntime, NodeAffinity, NodeName, NodeUnschedulable, TaintToleration
from cluster.scheduler.telling.pods import InterPodAffinity, PodTopologySpread

__all__ = ["TELL", "TELLERS", "Teller", "format_amount", "teller_for", "told"]

TELLERS: dict[str, type[Teller]] = {
    teller.filter: teller
    for teller in (
        NodeUnschedulable,
        NodeName,
        TaintToleration,
        NodeAffinity,
        ImageRuntime,
        HostPorts,
        Resources,
        DataDirectories,
        PodTopologySpread,
        InterPodAffinity,
    )
}
"""By the name of the filter."""


def teller_for(of: Filter) -> type[Teller]:
    """Who tells of a filter, also of one that is a plug-in's."""
    return TELLERS.get(of.name) or plugin_teller(of)


def told(score: Score, snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> list[str]:
    """What a score compared, for each of the rows; of a plug-in's: nothing."""
    tell = TELL.get(score.name)
    return tell(snapshot, pod_class, rows) if tell is not None else [""] * len(rows)
