"""The pods that wait for a node: whose turn it is, and who had better wait.

    state           leaves it when
    ACTIVE          popped: highest priority first, then oldest
    DECIDING        placed (`remove`), or nothing fitted (`refused`), or others make room (`nominated`), or the binding
                    failed (`failed`)
    BACKOFF         its back-off is over: after a failed binding, or a gang that did not fit
    UNSCHEDULABLE   something happened that may help, its lot was looked at again, and fits somewhere now
    GATHERING       its gang is complete
    NOMINATED       the pods that made room for it are gone (`ready`), or another place turned up

Kubernetes' scheduling queue, with three sharpenings. Pods stand in line as lots (`cluster.scheduler.lots`), so one
refusal answers for all of a lot, and ten thousand pods that never fit cost the others next to nothing. Events make lots
dirty; `recheck` looks again at as many as its caller can afford, dirty longest first, and only what fits now goes back
into line. Looking is exact, and so what fits now needs no back-off.

`pop` gives a run: pods of one lot, up to the turn of anybody else. So deciding about runs is deciding about the pods
one by one. Where each of them stands is kept in `whereabouts.py`. No clock, no lock, no I/O. The queue has no limit of
its own: it holds pods that exist in the cluster, and the master limits those.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.scheduler.filters import Refusal
from cluster.scheduler.lots import Entry, GangKey, Look, Lot, Party, Run, State, Turn, Unit, Waiting
from cluster.scheduler.refused import ANYTHING, ClusterEvent
from cluster.scheduler.whereabouts import Whereabouts

PASSED_AT_MOST = 8
"""A run goes past so many lots whose answer stands."""
_HELPED_BY_PLACING = ClusterEvent.POD_ADDED.value | {ANYTHING}


class SchedulingQueue:
    """Pods by uid, each in one state."""

    def __init__(self, *, backoff_initial_s: float, backoff_max_s: float, unschedulable_flush_s: float) -> None:
        self._flush_s = unschedulable_flush_s
        self._at = Whereabouts(backoff_initial_s, backoff_max_s)
        self._arrivals = 0
        self._round = 0

    def __len__(self) -> int:
        return len(self._at.entries)

    def __contains__(self, uid: str) -> bool:
        return uid in self._at.entries

    def get(self, uid: str) -> Waiting | None:
        """A pod that waits, as it was last described."""
        entry = self._at.entries.get(uid)
        return None if entry is None else entry.waiting

    def state(self, uid: str) -> State | None:
        """Where a pod is; None if it does not wait."""
        entry = self._at.entries.get(uid)
        return None if entry is None else self._at.state(entry)

    def counts(self) -> dict[State, int]:
        """How many pods are in each state."""
        counts = dict.fromkeys(State, 0)
        for entry in self._at.entries.values():
            counts[self._at.state(entry)] += 1
        return counts

    def waiting_of(self, gang: GangKey) -> list[Waiting]:
        """The members of a gang that wait, in the order in which they came."""
        party = self._at.gangs.get(gang)
        return [] if party is None else [entry.waiting for entry in party.members.values()]

    # -- coming and going

    def add(self, waiting: Waiting, need: int = 1) -> None:
        """A pod wants a node. If it waits already, its description is renewed and its place is kept.

        `need`: how many of its gang have to be placed at once, if it is the first of it that waits (see `set_need`).
        """
        entry = self._at.entries.get(waiting.uid)
        if entry is None:
            self._arrivals += 1
            entry = self._at.entries[waiting.uid] = Entry(waiting, self._arrivals)
            self._at.file(entry, need)
            return
        known = entry.waiting
        if (known.lot, known.gang, known.created_s) == (waiting.lot, waiting.gang, waiting.created_s):
            entry.waiting = waiting
            return
        deciding = entry.state is State.DECIDING
        self._at.unfile(entry)
        entry.describe(waiting)
        entry.state = State.DECIDING if deciding else State.ACTIVE
        self._at.file(entry, need)

    def remove(self, uid: str) -> bool:
        """A pod wants no node any more: it has one, or it is gone. False if it did not wait."""
        entry = self._at.entries.pop(uid, None)
        if entry is None:
            return False
        self._at.unfile(entry)
        return True

    def set_need(self, gang: GangKey, need: int) -> list[str]:
        """So many more of a gang have to be placed at once; 0: it runs, and each member goes for itself.

        Returns the pods that lost their nomination by that: the gang speaks for them now.
        """
        party = self._at.gangs.get(gang)
        if party is None or party.need == need:
            return []
        lost: list[str] = []
        before, party.need = party.need, need
        if not need:
            self._at.retire(party)
            party.state = State.GATHERING
            for entry in party.members.values():
                entry.party = None
                if entry.state is not State.DECIDING:
                    self._at.line_up(entry)
            return lost
        if not before:
            for uid, entry in party.members.items():
                if entry.party is not None:
                    lost.append(uid)
                self._at.leave_line(entry)
                entry.party = party
                if entry.state is not State.DECIDING:
                    entry.state = State.ACTIVE
        self._at.muster(party)
        return lost

    # -- turns

    @property
    def has_active(self) -> bool:
        """Whether `pop` has something."""
        return self._at.line.first() is not None

    @property
    def has_dirty(self) -> bool:
        """Whether `recheck` has something."""
        return self._at.refused.dirty is not None

    def begin_round(self) -> None:
        """Answers that stand from earlier rounds are renewed before somebody is told them: numbers in them change."""
        self._round += 1

    def pop(self, limit: int, look: Look, now_s: float) -> Run | None:
        """Whose turn it is: at most `limit` pods of a lot, or a whole party. None: nobody's."""
        while (unit := self._at.line.first()) is not None:
            if isinstance(unit, Lot) and unit.closed and unit.refused.size and (unit.dirty or unit.round < self._round):
                self._look_again(unit, look, now_s)  # those that were refused may be first
                continue
            self._at.line.leave(unit)
            if isinstance(unit, Lot):
                return self._take_run(unit, limit)
            assert isinstance(unit, Party)
            return self._take_all(unit)
        return None

    def _take_all(self, party: Party) -> Run:
        entries = sorted((e for e in party.members.values() if e.state is not State.DECIDING), key=lambda e: e.turn)
        for entry in entries:
            self._at.is_decided(entry)
        party.state = State.DECIDING
        return Run([entry.waiting for entry in entries], together=True, gang=party.gang, need=party.need)

    def _take_run(self, lot: Lot, limit: int) -> Run:
        standing = lot.standing if self._stands(lot) else None
        until = self._next_turn(standing is None)
        run: list[Waiting] = []
        while len(run) < limit and (head := lot.head()) is not None and (until is None or head.turn < until):
            (lot.refused if head.state is State.UNSCHEDULABLE else lot.fresh).leave(head)
            self._at.is_decided(head)
            run.append(head.waiting)
        self._at.line.offer(lot)
        return Run(run, standing)

    def _stands(self, lot: Lot) -> bool:
        """What its pods are told is known, and does nothing to anybody."""
        return lot.closed and lot.round == self._round and not lot.dirty

    def _is_indifferent(self, lot: Lot) -> bool:
        """Its answer stands, whoever else is placed now."""
        return self._stands(lot) and lot.filters is not None and not lot.filters & _HELPED_BY_PLACING

    def _next_turn(self, passes: bool) -> Turn | None:
        """Where a run has to end, because it is another's turn; None: nowhere. If it `passes`, it goes past a few lots
        whose answer stands: to them it makes no difference, and a run that is cut for each of their pods is slow."""
        passed: list[Unit] = []
        other = self._at.line.first()
        while passes and isinstance(other, Lot) and self._is_indifferent(other) and len(passed) < PASSED_AT_MOST:
            passed.append(other)
            self._at.line.leave(other)
            other = self._at.line.first()
        until = other.in_line if other is not None else None
        for unit in passed:
            self._at.line.offer(unit)
        return until

    # -- answers

    def refused(self, uids: Iterable[str], refusal: Refusal, now_s: float) -> None:
        """Nothing fitted, and that is what all of their lot (or of their gang) are told from now on."""
        parties: dict[Party, None] = {}
        for entry in self._at.answered(uids):
            self._at.end_nomination(entry)
            if entry.party is not None:
                entry.state = State.ACTIVE
                parties[entry.party] = None
                continue
            lot = self._at.lots[entry.waiting.lot]
            entry.state = State.UNSCHEDULABLE
            lot.refused.put(entry, self._at.ticket())
            if lot.standing is not refusal or not lot.closed or lot.dirty:
                if not lot.closed:
                    lot.told, lot.told_s = refusal.message, now_s
                lot.closed, lot.standing, lot.round = True, refusal, self._round
                self._at.refused.settle(lot, refusal.filters, now_s)
        for party in parties:
            self._at.missed(party, now_s)
            party.state = State.UNSCHEDULABLE
            self._at.refused.settle(party, refusal.filters, now_s)

    def nominated(self, uids: Iterable[str], refusal: Refusal, now_s: float) -> None:
        """Nothing fits now, but others make room for them."""
        for entry in self._at.answered(uids):
            if entry.party is None:
                entry.party = Party(gang=None, members={entry.waiting.uid: entry})
            party = entry.party
            entry.state, party.state = State.ACTIVE, State.NOMINATED
            if party.gang is not None:
                if party.is_complete:
                    self._at.refused.settle(party, refusal.filters, now_s)
                else:
                    self._at.muster(party)
                continue
            lot = self._at.lots[entry.waiting.lot]
            lot.nominated[entry.waiting.uid] = party
            if lot.filters is None:
                self._at.refused.settle(lot, refusal.filters, now_s)

    def failed(self, uids: Iterable[str], now_s: float) -> None:
        """A node was found, but the binding failed: again after the back-off."""
        parties: dict[Party, None] = {}
        for entry in self._at.answered(uids):
            self._at.end_nomination(entry)
            if entry.party is not None:
                entry.state = State.ACTIVE
                parties[entry.party] = None
                continue
            self._at.back_off(entry, now_s)
        for party in parties:
            self._at.missed(party, now_s)
            self._at.wait(party)

    def postponed(self, uids: Iterable[str]) -> None:
        """They were not looked at: in line again, as they were."""
        for entry in self._at.answered(uids):
            if entry.party is None:
                self._at.line_up(entry)
            else:
                entry.state = State.ACTIVE
                self._at.activate(entry.party)

    def ready(self, uid: str) -> None:
        """Those that made room for a nominated pod are gone: its turn comes, and that of its gang."""
        entry = self._at.entries.get(uid)
        if entry is not None and entry.party is not None and entry.party.state is State.NOMINATED:
            self._at.activate(entry.party)

    def renounce(self, uid: str) -> None:
        """A nominated pod is nominated no more: it waits like any other."""
        entry = self._at.entries.get(uid)
        if entry is None or entry.party is None or entry.state is State.DECIDING:
            return
        if entry.party.gang is None:
            self._at.end_nomination(entry)
            self._at.line_up(entry)
        elif entry.party.state is State.NOMINATED:
            self._at.activate(entry.party)

    # -- events and time

    def help(self, filters: Iterable[str]) -> None:
        """Something happened that may help those that these filters refused (`ANYTHING`: all)."""
        self._at.refused.help(filters)

    def recheck(self, look: Look, now_s: float, limit: int) -> int:
        """Looks again at dirty lots, at most so many; returns how many it were."""
        looked = 0
        while looked < limit and (unit := self._at.refused.dirty) is not None:
            looked += 1
            if isinstance(unit, Lot):
                self._look_again(unit, look, now_s)
            elif isinstance(unit, Party):
                self._at.refused.forget(unit)
                if unit.state is State.NOMINATED or unit.retry_at_s <= now_s:
                    self._at.activate(unit)
                else:
                    self._at.wait(unit)
        return looked

    def flush(self, now_s: float) -> None:
        """Lets those go on whose back-off is over, and makes dirty what was not looked at for long."""
        for waiter in self._at.over(now_s):
            if isinstance(waiter, Party):
                self._at.activate(waiter)
            else:
                self._at.line_up(waiter)
        self._at.refused.flush(now_s, self._flush_s)

    def next_due_s(self) -> float | None:
        """When `flush` next has something to do; None: not before another call changes that."""
        due = [] if (over_s := self._at.over_at_s) is None else [over_s]
        if (checked_s := self._at.refused.oldest_check_s) is not None:
            due.append(checked_s + self._flush_s)
        return min(due, default=None)

    # -- inside

    def _look_again(self, lot: Lot, look: Look, now_s: float) -> None:
        refusal = look(lot)
        if refusal is not None:
            lot.standing, lot.round = refusal if lot.closed else None, self._round
            self._at.refused.settle(lot, refusal.filters, now_s)
            return
        self._at.refused.forget(lot)
        lot.closed, lot.standing = False, None
        for party in lot.nominated.values():
            if party.state is State.NOMINATED:
                self._at.activate(party)
                break  # when it has found a place, another may
        self._at.line.offer(lot)
