"""Two plug-ins of Podium's scheduler: a filter that keeps tenants apart, a score that prefers nodes by a number.

The interface is described in `cluster.scheduler.plugins`. Both are about all nodes at once: numpy does the work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cluster.scheduler.plugins import NodesView, PodView, node_only

TENANT = "example.com/tenant"
RANK = "example.com/rank"
MOST_OF_A_TENANT = 2


def away_from_crowds(pod: PodView, nodes: NodesView) -> NDArray[np.bool_]:
    """A filter: a node takes at most two pods of a tenant. Pods without a tenant go anywhere."""
    tenant = pod.labels.get(TENANT)
    if tenant is None:
        return np.ones(len(nodes), np.bool_)
    return nodes.pods({TENANT: tenant}) < MOST_OF_A_TENANT


@node_only
def by_rank(pod: PodView, nodes: NodesView) -> NDArray[np.int64]:
    """A score: the label example.com/rank of a node, 0 to 100; nodes without one are as good as 50."""
    return np.clip(nodes.label_number(RANK, default=50.0), 0, 100).astype(np.int64)
