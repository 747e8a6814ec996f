"""How good a node is for a pod: Kubernetes' scores, in whole numbers from 0 to 100, over all nodes at once.

Formulas are those of Kubernetes 1.20 (noderesources, tainttoleration, podtopologyspread with its system defaults), down
to where they cut to whole numbers, so that ties fall the same way. The rack is a further level of spreading, beside
host and zone. Functions over plain arrays: they know neither pods nor nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cluster.scheduler.snapshot import BoolArray, IntArray

BEST = 100

HOST_MAX_SKEW = 3
DOMAIN_MAX_SKEW = 5
"""Kubernetes' system defaults for soft spreading over hosts and over zones."""

ZONE_LABEL = "topology.kubernetes.io/zone"
RACK_LABEL = "podium.dev/rack"
DOMAIN_LABELS = (ZONE_LABEL, RACK_LABEL)


def least_allocated(allocatable: IntArray, used: IntArray) -> IntArray:
    """The mean over cpu and memory of the share that stays free, in percent.

    `allocatable` and `used` have one row per node and the columns cpu and memory; `used` includes the pod. A node that
    has none of a resource, or would be overdrawn, gets 0 for it.
    """
    free = (allocatable - used) * BEST
    share = np.where((allocatable > 0) & (free > 0), free // np.maximum(allocatable, 1), 0)
    mean: IntArray = (share[:, 0] + share[:, 1]) // 2
    return mean


def balanced_allocation(allocatable: IntArray, used: IntArray) -> IntArray:
    """100 when cpu and memory are used in the same proportion, less the further apart; 0 when one is full."""
    fraction = np.where(allocatable > 0, used / np.maximum(allocatable, 1), 1.0)
    apart = np.abs(fraction[:, 0] - fraction[:, 1])
    balanced: IntArray = ((1.0 - apart) * BEST).astype(np.int64)
    return np.where((fraction >= 1.0).any(axis=1), 0, balanced)


def taint_toleration(intolerable: IntArray) -> IntArray:
    """100 for the fewest PreferNoSchedule taints that the pod does not tolerate, 0 for the most."""
    most = int(intolerable.max(initial=0))
    if not most:
        return np.full(len(intolerable), BEST, np.int64)
    return BEST - BEST * intolerable // most


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """A level of spreading above the host, such as the zone."""

    codes: IntArray
    """Per candidate, the number of its zone; -1: it says none."""
    counts: IntArray
    """Per zone number, how many pods of the group are in it, on candidates or not."""


def spread(on_host: IntArray, domains: list[Domain]) -> IntArray:
    """100 where the fewest pods of the group are, weighed over host and domains; less the more there are.

    `on_host`: per candidate, the pods of the group there. Each level weighs log(how many different ones there are + 2),
    so that many hosts and few zones balance out. A candidate without a zone gains and loses nothing by it.
    """
    if not len(on_host):
        return np.zeros(0, np.int64)
    total = on_host * np.log(len(on_host) + 2.0) + (HOST_MAX_SKEW - 1)
    for domain in domains:
        has: BoolArray = domain.codes >= 0
        different = int((np.bincount(domain.codes[has], minlength=1) > 0).sum())
        if not different:
            continue
        weight = np.log(different + 2.0)
        # Codes of -1 pick the last count; the mask throws it away.
        total = total + np.where(has, domain.counts[domain.codes] * weight + (DOMAIN_MAX_SKEW - 1), 0.0)
    crowd = total.astype(np.int64)
    least, most = int(crowd.min()), int(crowd.max())
    if not most:
        return np.full(len(crowd), BEST, np.int64)
    scores: IntArray = BEST * (most + least - crowd) // most
    return scores
