"""The words in which placement is explained: for each filter a teller, for each score what it compared.

A filter says why it refuses in Kubernetes' words, counted over nodes. Here is what people ask next: which numbers, on
which node, and what would help. Every filter has its teller, every score its line (the tests see to it); those of
plug-ins are told of by their name alone.
"""

from __future__ import annotations

from cluster.scheduler.telling.base import Teller, format_amount
from cluster.scheduler.telling.load import DataDirectories, HostPorts, Resources
from cluster.scheduler.telling.marks import TELL
from cluster.scheduler.telling.node import ImageRuntime, NodeAffinity, NodeName, NodeUnschedulable, TaintToleration
from cluster.scheduler.telling.pods import InterPodAffinity, PodTopologySpread

__all__ = ["TELL", "TELLERS", "Teller", "format_amount"]

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
