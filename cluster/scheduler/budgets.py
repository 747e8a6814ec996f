"""Disruption budgets, as preemption sees them: which of the pods that could make room are covered by one that is spent.

Preemption may go beyond a budget, but only where nothing else helps (Kubernetes' rule), so it is to be known who would.
What a budget allows is what its controller last said, less the pods that were sent away here since and that it cannot
have seen. Tables without a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.api.labels import Selector
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.podclass import PodClass

CACHE_LIMIT = 4096


@dataclass(slots=True, eq=False)
class Budget:
    """One PodDisruptionBudget."""

    namespace: str
    name: str
    selector: Selector
    """Of the pods that it covers."""
    allowed: int
    """disruptionsAllowed, as its status says."""
    disrupted: frozenset[str]
    """Names of pods whose eviction was granted: they are paid for."""
    sent: set[str] = field(default_factory=set)
    """Uids of pods sent away here; they leave it with the first news of the budget after they were seen to go."""
    seen: set[str] = field(default_factory=set)
    """Those of them that were seen to go: the next news of the budget will have counted them."""

    @property
    def left(self) -> int:
        """How many more pods may be disrupted."""
        return self.allowed - len(self.sent)


class Budgets:
    """All budgets of the cluster."""

    def __init__(self) -> None:
        self._budgets: dict[tuple[str, str], Budget] = {}
        self._covering: dict[PodClass, tuple[Budget, ...]] = {}

    def __len__(self) -> int:
        return len(self._budgets)

    def set(self, budget: Budget) -> bool:
        """A budget is there, or there is news of it. Whether it covers other pods than before."""
        key = (budget.namespace, budget.name)
        before = self._budgets.get(key)
        if before is not None:
            budget.sent |= before.sent - before.seen
        self._budgets[key] = budget
        self._covering.clear()
        return before is None or before.selector != budget.selector

    def remove(self, namespace: str, name: str) -> None:
        """A budget is gone."""
        if self._budgets.pop((namespace, name), None) is not None:
            self._covering.clear()

    def sent(self, pod: PlacedPod) -> None:
        """A pod was told to go."""
        for budget in self.covering(pod):
            if pod.name not in budget.disrupted:
                budget.sent.add(pod.uid)

    def stays(self, pod: PlacedPod) -> None:
        """It was not told after all."""
        for budget in self.covering(pod):
            budget.sent.discard(pod.uid)

    def goes(self, pod: PlacedPod) -> None:
        """It was seen to go: it is being deleted, or gone."""
        for budget in self.covering(pod):
            if pod.uid in budget.sent:
                budget.seen.add(pod.uid)

    def covering(self, pod: PlacedPod) -> tuple[Budget, ...]:
        """The budgets that cover a pod."""
        if not self._budgets:
            return ()
        found = self._covering.get(pod.pod_class)
        if found is None:
            labels = dict(pod.pod_class.labels)
            found = tuple(
                budget
                for budget in self._budgets.values()
                if budget.namespace == pod.pod_class.namespace and budget.selector.matches(labels)
            )
            if len(self._covering) >= CACHE_LIMIT:
                self._covering.clear()
            self._covering[pod.pod_class] = found
        return found

    def violating(self, pods: Iterable[PlacedPod]) -> frozenset[str]:
        """The uids of those that a budget does not allow to go, if all of these go in this order."""
        if not self._budgets:
            return frozenset()
        left: dict[Budget, int] = {}
        violating = set()
        for pod in pods:
            for budget in self.covering(pod):
                if pod.name in budget.disrupted:
                    continue
                left[budget] = left.get(budget, budget.left) - 1
                if left[budget] < 0:
                    violating.add(pod.uid)
        return frozenset(violating)
