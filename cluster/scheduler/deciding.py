"""A round of decisions: takes runs from the queue, places them, makes room for those that fit nowhere.

    run of a lot       placed one after the other; the rest is refused, or, if it is important enough, others make room
    nominated pod      its node first, as soon as the others are gone; else any; else room is made again
    gang               tried as a whole; if it does not fit, everything is as before, or room is made for all of it

Everything that is decided counts at once: what comes later in the round sees it. What has to be written stands in
`Decisions`; what becomes of that comes back to the world as `bound`, `unbound` and `spared`.

A gang makes room as a whole or not at all, with the priority of its least important member; until the last victim is
gone, all of its places are held for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.api.meta import Key
from cluster.scheduler.assumed import Assumed, AssumedPod
from cluster.scheduler.cycle import Cycle, Placement
from cluster.scheduler.facts import PlacedPod
from cluster.scheduler.filters import Refusal
from cluster.scheduler.gangs import MOST_TOGETHER, Gangs
from cluster.scheduler.lots import GangKey, Lot, Run, Waiting
from cluster.scheduler.nominations import EVERYBODY, Nominations
from cluster.scheduler.patience import Stranger
from cluster.scheduler.preemption import NEVER, WAITS, Plan, Preemption
from cluster.scheduler.queue import SchedulingQueue
from cluster.scheduler.records import Nominated, Outcome, Records, Stamp
from cluster.scheduler.refused import ClusterEvent
from cluster.scheduler.snapshot import Snapshot
from cluster.scheduler.together import Binding, Together, Trial

DECISIONS_PER_LOOK = 50
"""While pods are placed, one refused lot is looked at again for so many decisions: looking costs as much as a few."""
LOOKS_AT_ONCE = 32
"""When there is nothing else to do."""
TELL_AGAIN_S = 60.0
"""Those that still fit nowhere are told so at most this often, whatever has changed in what they are told."""
TOLD_AGAIN = 100
"""And if nothing has, so many of a lot."""
ANSWERS_AT_ONCE = 2000
"""So many pods of a round get an answer that stands already."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Pods that do not get a place now, and what they are told."""

    waiting: Sequence[Waiting]
    message: str
    """Empty: nothing but where they are nominated has changed."""
    node: str = ""
    """Where others make room for them."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """A pod that has to go."""

    victim: PlacedPod
    node: str
    preemptor: Key
    """For whom."""
    profile: str


@dataclass(slots=True)
class Decisions:
    """What came of one round, in the order of the queue."""

    bindings: list[Binding] = field(default_factory=list)
    gangs: list[list[Binding]] = field(default_factory=list)
    """Each is bound as a whole, or not at all."""
    refusals: list[Refused] = field(default_factory=list)
    evictions: list[Eviction] = field(default_factory=list)
    strangers: list[Stranger] = field(default_factory=list)
    """Each is told once."""
    broken: list[str] = field(default_factory=list)
    """Plug-ins that were cut out, and why; each is told once."""


class Decider:
    """Makes the rounds."""

    def __init__(
        self,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        cycles: Mapping[str, Cycle],
        assumed: Assumed,
        gangs: Gangs,
        nominations: Nominations,
        preemption: Preemption,
        records: Records,
    ) -> None:
        self._snapshot = snapshot
        self._queue = queue
        self._cycles = cycles
        self._assumed = assumed
        self._gangs = gangs
        self._nominations = nominations
        self._preemption = preemption
        self._records = records
        self._together = Together(snapshot, cycles)
        self._decisions = Decisions()
        self._stamp = Stamp()
        self._now_s = 0.0
        self._credit = 0.0
        """How many looks the decisions so far have earned."""
        self.looks = 0
        """How many lots were looked at again."""
        self.decided = 0
        """How many pods were placed or tried; those that get the answer of one before them are not counted."""

    def round(self, limit: int, now_s: float, stamp: Stamp) -> Decisions:
        """Decides about the pods whose turn it is: at most so many, but a gang goes as a whole."""
        self._decisions, self._now_s, self._stamp = Decisions(), now_s, stamp
        # First those that something may have helped: they are in line again then, where their age puts them.
        looks = max(1, int(self._credit)) if self._queue.has_active else LOOKS_AT_ONCE
        looked = self._queue.recheck(self._look, now_s, looks)
        self._credit = max(0.0, self._credit - looked)
        self._queue.begin_round()
        decided = answered = 0
        while decided < limit and answered < ANSWERS_AT_ONCE:
            run = self._queue.pop(limit - decided, self._look, now_s)
            if run is None:
                break
            if run.standing is not None:
                answered += len(run.waiting)
                self._refuse(run.waiting, run.standing)
                continue
            decided += len(run.waiting)
            self._nominations.admit(min(waiting.lot.priority for waiting in run.waiting))
            if run.gang is not None:
                self._decide_gang(run)
            elif run.together:
                self._decide_nominated(run.waiting[0])
            else:
                self._decide_run(run.waiting)
        self._credit = min(self._credit + decided / DECISIONS_PER_LOOK, LOOKS_AT_ONCE)
        self._nominations.admit(EVERYBODY)
        return self._decisions

    # -- runs of one lot

    def _decide_run(self, waiting: Sequence[Waiting]) -> None:
        lot = waiting[0].lot
        outcomes = self._cycles[lot.profile].decide_many(lot.pod_class, [each.pod for each in waiting])
        placements = [outcome for outcome in outcomes if isinstance(outcome, Placement)]
        # The first refusal holds for all that follow: they are alike, and nothing has changed since.
        placed, rest = waiting[: len(placements)], waiting[len(placements) :]
        self.decided += len(placed) + bool(rest)
        if placed:
            self._records.add(self._stamp, placed, placements)
            for each, placement in zip(placed, placements, strict=True):
                self._assume(each, placement.node)
                self._decisions.bindings.append(Binding(each, placement))
            self._queue.help(ClusterEvent.POD_ADDED.value)
        if rest:
            refusal = outcomes[len(placements)]
            assert isinstance(refusal, Refusal)
            self._make_room(rest, refusal)

    def _assume(self, waiting: Waiting, node: str) -> None:
        self._assumed.assume(AssumedPod(waiting.uid, waiting.key, node))
        if waiting.gang is not None:
            self._gangs.place(waiting.uid, placed=True)

    def _refuse(self, waiting: Sequence[Waiting], refusal: Refusal) -> None:
        self._records.add(self._stamp, waiting, refusal)
        self._queue.refused([each.uid for each in waiting], refusal, self._now_s)
        self._decisions.refusals.append(Refused(waiting, refusal.message))

    # -- making room

    def _make_room(self, waiting: Sequence[Waiting], refusal: Refusal) -> None:
        """Others make room for as many of these pods of one lot as they can; the rest is refused."""
        lot = waiting[0].lot
        for index, each in enumerate(waiting):
            plan = self._plan(lot.priority, each) if lot.preempts else None
            if plan is None:
                self._refuse(waiting[index:], self._worded(refusal, each))
                return
            self._nominate(each, plan, refusal)

    def _plan(self, priority: int, waiting: Waiting) -> Plan | None:
        if not self._preemption.has_lower(priority):
            return None
        profile = self._cycles[waiting.lot.profile].filters
        return self._preemption.plan(waiting.lot.pod_class, priority, profile)

    def _worded(self, refusal: Refusal, waiting: Waiting) -> Refusal:
        """The refusal, with why nobody makes room, where somebody might."""
        lot = waiting.lot
        if not self._preemption.has_lower(lot.priority):
            return refusal
        why = NEVER
        if lot.preempts:
            why = self._preemption.refusal(lot.pod_class, lot.priority, self._cycles[lot.profile].filters)
        return Refusal(f"{refusal.message} {why}", refusal.filters)

    def _nominate(self, waiting: Waiting, plan: Plan, refusal: Refusal) -> None:
        self._clear(plan.node, waiting.lot.priority)
        going = self._send(plan, waiting)
        self._nominations.put(waiting, plan.node, going)
        self._queue.nominated([waiting.uid], refusal, self._now_s)
        self._tell_nominated(waiting, plan.node, plan.victims.pods, refusal)

    def _send(self, plan: Plan, waiting: Waiting) -> set[str]:
        """Sends the victims away; the uids of all that have to be gone before there is room."""
        row = self._snapshot.row_of(plan.node)
        assert row is not None
        going = {pod.uid for pod in self._snapshot.pods_on(row) if self._preemption.is_going(pod)}
        self._preemption.send(plan.victims.pods)
        for pod in plan.victims.pods:
            self._decisions.evictions.append(Eviction(pod, plan.node, waiting.key, waiting.lot.profile))
        return going | {pod.uid for pod in plan.victims.pods}

    def _clear(self, node: str, priority: int) -> None:
        """Those of a lower priority lose their nomination for a node: they have to look anew."""
        for nomination in self._nominations.on(node):
            if nomination.waiting.lot.priority < priority:
                self._renounce(nomination.waiting)

    def _renounce(self, waiting: Waiting) -> None:
        self._nominations.drop(waiting.uid)
        self._queue.renounce(waiting.uid)
        self._decisions.refusals.append(Refused([waiting], ""))

    def _tell_nominated(
        self, waiting: Waiting, node: str, victims: Sequence[PlacedPod], refusal: Refusal, message: str = ""
    ) -> None:
        names = tuple(f"{pod.pod_class.namespace}/{pod.name}" for pod in victims)
        self._records.add(self._stamp, [waiting], Nominated(node, names, refusal))
        who = f"{len(names)} pod(s) of lower priority make room" if names else "pods that are going make room"
        words = message or f"{refusal.message} preemption: {who} on {node}."
        self._decisions.refusals.append(Refused([waiting], words, node))

    def _look(self, lot: Lot) -> Refusal | None:
        """What pods of a lot would be told now; None: one would find a place, or others would make room for it."""
        self.looks += 1
        key = lot.key
        self._nominations.admit(key.priority)
        refusal = self._cycles[key.profile].refusal_of(key.pod_class)
        if refusal is None or not lot.refused.size:
            return refusal
        waiting = lot.refused.head()
        assert waiting is not None
        if key.preempts and self._plan(key.priority, waiting.waiting) is not None:
            return None
        refusal = self._worded(refusal, waiting.waiting)
        if lot.told_s + TELL_AGAIN_S <= self._now_s:
            told = [entry.waiting for entry in lot.refused.all()]
            if lot.told == refusal.message:
                told = told[:TOLD_AGAIN]  # that it is still so is no news for a crowd
            self._decisions.refusals.append(Refused(told, refusal.message))
            lot.told, lot.told_s = refusal.message, self._now_s
        return refusal

    # -- a pod for which others made room

    def _decide_nominated(self, waiting: Waiting) -> None:
        self.decided += 1
        nomination = self._nominations.drop(waiting.uid)
        cycle = self._cycles[waiting.lot.profile]
        outcome: Outcome | None = None
        if nomination is not None:
            outcome = cycle.decide_for(waiting.pod, nomination.node)
        if outcome is None:
            outcome = cycle.decide(waiting.pod)
        if isinstance(outcome, Placement):
            self._records.add(self._stamp, [waiting], [outcome])
            self._assume(waiting, outcome.node)
            self._decisions.bindings.append(Binding(waiting, outcome))
            self._queue.help(ClusterEvent.POD_ADDED.value)
            return
        assert isinstance(outcome, Refusal)
        if nomination is not None and nomination.victims:  # not again while they are on their way
            self._nominations.put(waiting, nomination.node, nomination.victims)
            self._queue.nominated([waiting.uid], outcome, self._now_s)
            words = f"{outcome.message} {WAITS}"
            self._decisions.refusals.append(Refused([waiting], words, nomination.node))
            return
        self._make_room([waiting], outcome)

    # -- gangs

    def _decide_gang(self, run: Run) -> None:
        assert run.gang is not None
        name = run.gang.name
        if run.need > MOST_TOGETHER:
            words = f"pod group {name}: {run.need} pods cannot be bound at once, the most is {MOST_TOGETHER}"
            self._refuse(run.waiting, Refusal(words, frozenset()))
            return
        self.decided += len(run.waiting)
        held = [n for waiting in run.waiting if (n := self._nominations.drop(waiting.uid)) is not None]
        trial = self._together.attempt(run.waiting, {each.waiting.uid: each.node for each in held})
        if len(trial.placed) >= run.need:
            self._bind_gang(run.gang, trial)
            return
        words = f"pod group {name}: {run.need} of its members cannot be placed together: {trial.refusal.message}"
        refusal = Refusal(words, trial.refusal.filters)
        awaited = {victim for nomination in held for victim in nomination.victims}
        if awaited:  # not again while they are on their way
            self._together.undo(trial)
            for nomination in held:
                self._nominations.put(nomination.waiting, nomination.node, nomination.victims)
                self._decisions.refusals.append(Refused([nomination.waiting], f"{words} {WAITS}", nomination.node))
            self._queue.nominated([each.uid for each in run.waiting], refusal, self._now_s)
            return
        priority = min(waiting.lot.priority for waiting in run.waiting)
        plans = self._plan_gang(trial, run.need - len(trial.placed), priority)
        self._together.undo(trial)
        if plans:
            self._nominate_gang(run, trial, plans, refusal)
        else:
            self._refuse(run.waiting, refusal)

    def _bind_gang(self, gang: GangKey, trial: Trial) -> None:
        self._decisions.gangs.append(trial.placed)
        for binding in trial.placed:
            self._records.add(self._stamp, [binding.waiting], [binding.placement])
            self._assume(binding.waiting, binding.placement.node)
        self._queue.set_need(gang, self._gangs.need(gang))
        self._queue.help(ClusterEvent.POD_ADDED.value)
        for waiting, refusal in trial.refused:
            self._refuse([waiting], refusal)
        self._queue.postponed(each.uid for each in trial.surplus)

    def _plan_gang(self, trial: Trial, missing: int, priority: int) -> list[tuple[Waiting, Plan]]:
        """How room is made for so many of those that did not fit, all at once; empty: it cannot be."""
        if not all(waiting.lot.preempts for waiting, _ in trial.refused):
            return []
        plans: list[tuple[Waiting, Plan]] = []
        for waiting, _ in trial.refused:
            plan = self._plan(priority, waiting)
            if plan is None:
                continue
            self._preemption.send(plan.victims.pods)
            self._snapshot.place(waiting.pod, plan.node)
            plans.append((waiting, plan))
            if len(plans) == missing:
                break
        for waiting, plan in plans:
            self._snapshot.remove(waiting.uid)
            for victim in plan.victims.pods:
                self._preemption.stays(victim.uid)
        return plans if len(plans) == missing else []

    def _nominate_gang(self, run: Run, trial: Trial, plans: Sequence[tuple[Waiting, Plan]], refusal: Refusal) -> None:
        priority = min(waiting.lot.priority for waiting in run.waiting)
        going: set[str] = set()
        for waiting, plan in plans:
            self._clear(plan.node, priority)
            going |= self._send(plan, waiting)
        victims = [pod for _, plan in plans for pod in plan.victims.pods]
        words = f"{refusal.message} preemption: {len(victims)} pod(s) of lower priority make room for the group."
        places = [(binding.waiting, binding.placement.node) for binding in trial.placed]
        for waiting, node in (*places, *((waiting, plan.node) for waiting, plan in plans)):
            self._nominations.put(waiting, node, going)
            self._tell_nominated(waiting, node, victims, refusal, words)
        self._queue.nominated([each.uid for each in run.waiting], refusal, self._now_s)
