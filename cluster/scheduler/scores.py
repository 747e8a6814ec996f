"""How good a node is for a pod: Kubernetes' scores, in whole numbers from 0 to 100, over all nodes at once.

Formulas are those of Kubernetes 1.20 (noderesources, nodeaffinity, tainttoleration, podtopologyspread,
interpodaffinity), down to where they cut to whole numbers, so that ties fall the same way; and Nomad's for packing.
Functions over plain arrays: they know neither pods nor nodes. Those that compare nodes with each other are given all
nodes that fit, and no others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cluster.scheduler.snapshot import BoolArray, IntArray

BEST = 100


def least_allocated(allocatable: IntArray, used: IntArray) -> IntArray:
    """The mean over cpu and memory of the share that stays free, in percent.

    `allocatable` and `used` have one row per node and the columns cpu and memory; `used` includes the pod. A node that
    has none of a resource, or would be overdrawn, gets 0 for it.
    """
    free = (allocatable - used) * BEST
    share = np.where((allocatable > 0) & (free > 0), free // np.maximum(allocatable, 1), 0)
    mean: IntArray = (share[:, 0] + share[:, 1]) // 2
    return mean


def most_allocated(allocatable: IntArray, used: IntArray) -> IntArray:
    """The mean over cpu and memory of the share that is in use, in percent: fills up nodes.

    Arguments as for `least_allocated`; what is overdrawn counts as full, and what a node has none of as unused.
    """
    share = np.where(allocatable > 0, np.minimum(used, allocatable) * BEST // np.maximum(allocatable, 1), 0)
    mean: IntArray = (share[:, 0] + share[:, 1]) // 2
    return mean


def binpack(allocatable: IntArray, used: IntArray) -> IntArray:
    """Nomad's packing: 20 - (10 ^ free cpu + 10 ^ free memory), from 0 for an empty node to 18 for a full one, scaled.

    Free is a share from 0 to 1. Two half full resources give 76: a node that is full in one thing and empty in the
    other is worth less than one that is half full in both. Arguments as for `least_allocated`.
    """
    free = np.where(allocatable > 0, 1.0 - used / np.maximum(allocatable, 1), 0.0)
    fit = 20.0 - (10.0 ** free[:, 0] + 10.0 ** free[:, 1])
    # A hair above, because powers that should give a whole number may give a hair less.
    scaled: IntArray = (np.clip(fit, 0.0, 18.0) * (BEST / 18.0) + 1e-9).astype(np.int64)
    return scaled


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


def node_affinity(liking: IntArray) -> IntArray:
    """In percent of the most liked node; 0 if none is liked at all."""
    most = int(liking.max(initial=0))
    return BEST * liking // most if most else np.zeros(len(liking), np.int64)


def inter_pod_affinity(liking: IntArray) -> IntArray:
    """From 0 for the least liked node to 100 for the most liked (liking may be negative); 0 if all are equal."""
    if not len(liking):
        return liking
    least, most = int(liking.min()), int(liking.max())
    if least == most:
        return np.zeros(len(liking), np.int64)
    scores: IntArray = (float(BEST) * ((liking - least) / (most - least))).astype(np.int64)
    return scores


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One level of spreading, such as the host or the zone."""

    counts: IntArray
    """Per candidate, how many pods of the group are in its domain."""
    has: BoolArray
    """Which candidates are in a domain. One that is not gains and loses nothing by it."""
    different: int
    """How many different domains the candidates are in."""
    max_skew: int


@lru_cache(8192)
def level_weight(different: int) -> float:
    """How much a pod in a domain weighs: the more domains there are, the more, so that many hosts and few zones balance
    out."""
    return math.log(different + 2.0)


def spread(levels: Sequence[Level], ignored: BoolArray) -> IntArray:
    """100 where the fewest pods of the group are, weighed over all levels; less the more there are; 0 where ignored.

    The sum over the levels of count * weight + maxSkew - 1, cut to a whole number, and turned round.
    """
    total = np.zeros(len(ignored))
    for level in levels:
        weight = level_weight(level.different)
        total += np.where(level.has, level.counts * weight + (level.max_skew - 1), 0.0)
    crowd = total.astype(np.int64)
    compared = crowd[~ignored]
    if not len(compared):
        return np.zeros(len(ignored), np.int64)
    least, most = int(compared.min()), int(compared.max())
    scores = BEST * (most + least - crowd) // most if most else np.full(len(crowd), BEST, np.int64)
    return np.where(ignored, 0, scores)
