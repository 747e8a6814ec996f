"""Placing pods together: as many as fit are put into the snapshot, and can be taken out again as if nothing had been.

Members are tried in the order of their turns, those of one lot in one go; a member that is nominated is tried on its
node first. That is a greedy trial: a group that would fit only in another arrangement is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from cluster.scheduler.cycle import Cycle, Placement
from cluster.scheduler.filters import Refusal
from cluster.scheduler.gangs import MOST_TOGETHER
from cluster.scheduler.lots import Waiting
from cluster.scheduler.snapshot import Snapshot

_NOTHING = Refusal("", frozenset())


@dataclass(frozen=True, slots=True)
class Binding:
    """A pod and the node it shall go to."""

    waiting: Waiting
    placement: Placement


@dataclass(slots=True)
class Trial:
    """What came of it."""

    placed: list[Binding] = field(default_factory=list)
    refused: list[tuple[Waiting, Refusal]] = field(default_factory=list)
    surplus: list[Waiting] = field(default_factory=list)
    """More than can be bound at once: not tried."""

    @property
    def refusal(self) -> Refusal:
        """What the first that was refused was told, with all filters that refused somebody."""
        if not self.refused:
            return _NOTHING
        filters = frozenset().union(*(refusal.filters for _, refusal in self.refused))
        return Refusal(self.refused[0][1].message, filters)


class Together:
    """Tries and undoes."""

    def __init__(self, snapshot: Snapshot, cycles: Mapping[str, Cycle]) -> None:
        self._snapshot = snapshot
        self._cycles = cycles

    def attempt(self, waiting: Sequence[Waiting], nodes: Mapping[str, str]) -> Trial:
        """Places as many as fit; `nodes`: where some of them, by uid, are tried first."""
        trial = Trial()
        others: list[Waiting] = []
        for each in waiting:
            node = nodes.get(each.uid)
            placement = None if node is None else self._cycles[each.lot.profile].decide_for(each.pod, node)
            if placement is None:
                others.append(each)
            else:
                trial.placed.append(Binding(each, placement))
        room = MOST_TOGETHER - len(trial.placed)
        trial.surplus = others[room:]
        for lot, alike in groupby(others[:room], lambda each: each.lot):
            members = list(alike)
            outcomes = self._cycles[lot.profile].decide_many(lot.pod_class, [each.pod for each in members])
            for each, outcome in zip(members, outcomes, strict=True):
                if isinstance(outcome, Placement):
                    trial.placed.append(Binding(each, outcome))
                else:
                    trial.refused.append((each, outcome))
        return trial

    def undo(self, trial: Trial) -> None:
        """Nobody of them is there any more."""
        for binding in reversed(trial.placed):
            self._snapshot.remove(binding.waiting.uid)
