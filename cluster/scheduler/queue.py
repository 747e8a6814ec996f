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
one by one. No clock, no lock, no I/O. The queue has no limit of its own: it holds pods that exist in the cluster, and
the master limits those.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from cluster.scheduler.filters import Refusal
from cluster.scheduler.lots import Entry, GangKey, Look, Lot, LotKey, Party, Run, State, Turn, Unit, UnitLine, Waiting
from cluster.scheduler.refused import ANYTHING, ClusterEvent, Refused

PASSED_AT_MOST = 8
"""A run goes past so many lots whose answer stands."""
_HELPED_BY_PLACING = ClusterEvent.POD_ADDED.value | {ANYTHING}


class SchedulingQueue:
    """Pods by uid, each in one state."""

    def __init__(self, *, backoff_initial_s: float, backoff_max_s: float, unschedulable_flush_s: float) -> None:
        self._backoff_initial_s = backoff_initial_s
        self._backoff_max_s = backoff_max_s
        self._flush_s = unschedulable_flush_s
        self._entries: dict[str, Entry] = {}
        self._lots: dict[LotKey, Lot] = {}
        self._gangs: dict[GangKey, Party] = {}
        self._line = UnitLine(self._ticket)
        self._backoff: list[tuple[float, int, Entry | Party]] = []
        self._refused = Refused()
        self._arrivals = 0
        self._round = 0
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, uid: str) -> bool:
        return uid in self._entries

    def get(self, uid: str) -> Waiting | None:
        """A pod that waits, as it was last described."""
        entry = self._entries.get(uid)
        return None if entry is None else entry.waiting

    def state(self, uid: str) -> State | None:
        """Where a pod is; None if it does not wait."""
        entry = self._entries.get(uid)
        return None if entry is None else self._state(entry)

    def counts(self) -> dict[State, int]:
        """How many pods are in each state."""
        counts = dict.fromkeys(State, 0)
        for entry in self._entries.values():
            counts[self._state(entry)] += 1
        return counts

    def waiting_of(self, gang: GangKey) -> list[Waiting]:
        """The members of a gang that wait, in the order in which they came."""
        party = self._gangs.get(gang)
        return [] if party is None else [entry.waiting for entry in party.members.values()]

    # -- coming and going

    def add(self, waiting: Waiting, need: int = 1) -> None:
        """A pod wants a node. If it waits already, its description is renewed and its place is kept.

        `need`: how many of its gang have to be placed at once, if it is the first of it that waits (see `set_need`).
        """
        entry = self._entries.get(waiting.uid)
        if entry is None:
            self._arrivals += 1
            entry = self._entries[waiting.uid] = Entry(waiting, self._arrivals)
            self._file(entry, need)
            return
        known = entry.waiting
        if (known.lot, known.gang, known.created_s) == (waiting.lot, waiting.gang, waiting.created_s):
            entry.waiting = waiting
            return
        deciding = entry.state is State.DECIDING
        self._unfile(entry)
        entry.describe(waiting)
        entry.state = State.DECIDING if deciding else State.ACTIVE
        self._file(entry, need)

    def remove(self, uid: str) -> bool:
        """A pod wants no node any more: it has one, or it is gone. False if it did not wait."""
        entry = self._entries.pop(uid, None)
        if entry is None:
            return False
        self._unfile(entry)
        return True

    def set_need(self, gang: GangKey, need: int) -> list[str]:
        """So many more of a gang have to be placed at once; 0: it runs, and each member goes for itself.

        Returns the pods that lost their nomination by that: the gang speaks for them now.
        """
        party = self._gangs.get(gang)
        if party is None or party.need == need:
            return []
        lost: list[str] = []
        before, party.need = party.need, need
        if not need:
            self._retire(party)
            party.state = State.GATHERING
            for entry in party.members.values():
                entry.party = None
                if entry.state is not State.DECIDING:
                    self._line_up(entry)
            return lost
        if not before:
            for uid, entry in party.members.items():
                if entry.party is not None:
                    lost.append(uid)
                self._leave_line(entry)
                entry.party = party
                if entry.state is not State.DECIDING:
                    entry.state = State.ACTIVE
        self._muster(party)
        return lost

    # -- turns

    @property
    def has_active(self) -> bool:
        """Whether `pop` has something."""
        return self._line.first() is not None

    @property
    def has_dirty(self) -> bool:
        """Whether `recheck` has something."""
        return self._refused.dirty is not None

    def begin_round(self) -> None:
        """Answers that stand from earlier rounds are renewed before somebody is told them: numbers in them change."""
        self._round += 1

    def pop(self, limit: int, look: Look, now_s: float) -> Run | None:
        """Whose turn it is: at most `limit` pods of a lot, or a whole party. None: nobody's."""
        while (unit := self._line.first()) is not None:
            if isinstance(unit, Lot) and unit.closed and unit.refused.size and (unit.dirty or unit.round < self._round):
                self._look_again(unit, look, now_s)  # those that were refused may be first
                continue
            self._line.leave(unit)
            if isinstance(unit, Lot):
                return self._take_run(unit, limit)
            assert isinstance(unit, Party)
            return self._take_all(unit)
        return None

    def _take_all(self, party: Party) -> Run:
        entries = sorted((e for e in party.members.values() if e.state is not State.DECIDING), key=lambda e: e.turn)
        for entry in entries:
            self._is_decided(entry)
        party.state = State.DECIDING
        return Run([entry.waiting for entry in entries], together=True, gang=party.gang, need=party.need)

    def _take_run(self, lot: Lot, limit: int) -> Run:
        standing = lot.standing if self._stands(lot) else None
        until = self._next_turn(standing is None)
        run: list[Waiting] = []
        while len(run) < limit and (head := lot.head()) is not None and (until is None or head.turn < until):
            (lot.refused if head.state is State.UNSCHEDULABLE else lot.fresh).leave(head)
            self._is_decided(head)
            run.append(head.waiting)
        self._line.offer(lot)
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
        other = self._line.first()
        while passes and isinstance(other, Lot) and self._is_indifferent(other) and len(passed) < PASSED_AT_MOST:
            passed.append(other)
            self._line.leave(other)
            other = self._line.first()
        until = other.in_line if other is not None else None
        for unit in passed:
            self._line.offer(unit)
        return until

    # -- answers

    def refused(self, uids: Iterable[str], refusal: Refusal, now_s: float) -> None:
        """Nothing fitted, and that is what all of their lot (or of their gang) are told from now on."""
        parties: dict[Party, None] = {}
        for entry in self._answered(uids):
            self._end_nomination(entry)
            if entry.party is not None:
                entry.state = State.ACTIVE
                parties[entry.party] = None
                continue
            lot = self._lots[entry.waiting.lot]
            entry.state = State.UNSCHEDULABLE
            lot.refused.put(entry, self._ticket())
            if lot.standing is not refusal or not lot.closed or lot.dirty:
                if not lot.closed:
                    lot.told, lot.told_s = refusal.message, now_s
                lot.closed, lot.standing, lot.round = True, refusal, self._round
                self._refused.settle(lot, refusal.filters, now_s)
        for party in parties:
            self._missed(party, now_s)
            party.state = State.UNSCHEDULABLE
            self._refused.settle(party, refusal.filters, now_s)

    def nominated(self, uids: Iterable[str], refusal: Refusal, now_s: float) -> None:
        """Nothing fits now, but others make room for them."""
        for entry in self._answered(uids):
            if entry.party is None:
                entry.party = Party(gang=None, members={entry.waiting.uid: entry})
            party = entry.party
            entry.state, party.state = State.ACTIVE, State.NOMINATED
            if party.gang is not None:
                if party.is_complete:
                    self._refused.settle(party, refusal.filters, now_s)
                else:
                    self._muster(party)
                continue
            lot = self._lots[entry.waiting.lot]
            lot.nominated[entry.waiting.uid] = party
            if lot.filters is None:
                self._refused.settle(lot, refusal.filters, now_s)

    def failed(self, uids: Iterable[str], now_s: float) -> None:
        """A node was found, but the binding failed: again after the back-off."""
        parties: dict[Party, None] = {}
        for entry in self._answered(uids):
            self._end_nomination(entry)
            if entry.party is not None:
                entry.state = State.ACTIVE
                parties[entry.party] = None
                continue
            entry.failures += 1
            entry.state = State.BACKOFF
            entry.ticket = self._ticket()
            heapq.heappush(self._backoff, (now_s + self._backoff_s(entry.failures), entry.ticket, entry))
        for party in parties:
            self._missed(party, now_s)
            self._wait(party)

    def postponed(self, uids: Iterable[str]) -> None:
        """They were not looked at: in line again, as they were."""
        for entry in self._answered(uids):
            if entry.party is None:
                self._line_up(entry)
            else:
                entry.state = State.ACTIVE
                self._activate(entry.party)

    def ready(self, uid: str) -> None:
        """Those that made room for a nominated pod are gone: its turn comes, and that of its gang."""
        entry = self._entries.get(uid)
        if entry is not None and entry.party is not None and entry.party.state is State.NOMINATED:
            self._activate(entry.party)

    def renounce(self, uid: str) -> None:
        """A nominated pod is nominated no more: it waits like any other."""
        entry = self._entries.get(uid)
        if entry is None or entry.party is None or entry.state is State.DECIDING:
            return
        if entry.party.gang is None:
            self._end_nomination(entry)
            self._line_up(entry)
        elif entry.party.state is State.NOMINATED:
            self._activate(entry.party)

    # -- events and time

    def help(self, filters: Iterable[str]) -> None:
        """Something happened that may help those that these filters refused (`ANYTHING`: all)."""
        self._refused.help(filters)

    def recheck(self, look: Look, now_s: float, limit: int) -> int:
        """Looks again at dirty lots, at most so many; returns how many it were."""
        looked = 0
        while looked < limit and (unit := self._refused.dirty) is not None:
            looked += 1
            if isinstance(unit, Lot):
                self._look_again(unit, look, now_s)
            elif isinstance(unit, Party):
                self._refused.forget(unit)
                if unit.state is State.NOMINATED or unit.retry_at_s <= now_s:
                    self._activate(unit)
                else:
                    self._wait(unit)
        return looked

    def flush(self, now_s: float) -> None:
        """Lets those go on whose back-off is over, and makes dirty what was not looked at for long."""
        while self._backoff and self._backoff[0][0] <= now_s:
            _, ticket, waiter = heapq.heappop(self._backoff)
            if waiter.ticket != ticket or waiter.state is not State.BACKOFF:
                continue
            if isinstance(waiter, Party):
                self._activate(waiter)
            else:
                self._line_up(waiter)
        self._refused.flush(now_s, self._flush_s)

    def next_due_s(self) -> float | None:
        """When `flush` next has something to do; None: not before another call changes that."""
        due = [self._backoff[0][0]] if self._backoff else []
        if (checked_s := self._refused.oldest_check_s) is not None:
            due.append(checked_s + self._flush_s)
        return min(due, default=None)

    # -- inside: pods

    def _state(self, entry: Entry) -> State:
        if entry.state is State.DECIDING:
            return State.DECIDING
        if entry.party is not None:
            # One that has come while the others are being decided about has its turn with them, or after them.
            return State.ACTIVE if entry.party.state is State.DECIDING else entry.party.state
        if entry.state is State.UNSCHEDULABLE and not self._lots[entry.waiting.lot].closed:
            return State.ACTIVE
        return entry.state

    def _file(self, entry: Entry, need: int) -> None:
        waiting = entry.waiting
        lot = self._lots.get(waiting.lot)
        if lot is None:
            lot = self._lots[waiting.lot] = Lot(key=waiting.lot)
        lot.size += 1
        deciding = entry.state is State.DECIDING
        if waiting.gang is not None:
            party = self._gangs.get(waiting.gang)
            if party is None:
                party = self._gangs[waiting.gang] = Party(gang=waiting.gang, need=need)
            party.members[waiting.uid] = entry
            party.deciding += deciding
            if party.need:
                entry.party = party
                self._muster(party)
                return
        if not deciding:
            self._line_up(entry)

    def _unfile(self, entry: Entry) -> None:
        waiting, deciding = entry.waiting, entry.state is State.DECIDING
        self._leave_line(entry)
        lot = self._lots[waiting.lot]
        lot.size -= 1
        if not lot.size:
            del self._lots[waiting.lot]
            self._retire(lot)
        if waiting.gang is not None:
            party = self._gangs[waiting.gang]
            del party.members[waiting.uid]
            party.deciding -= deciding
            entry.party = None
            if not party.members:
                del self._gangs[waiting.gang]
                self._retire(party)
            elif party.need:
                self._muster(party)

    def _line_up(self, entry: Entry) -> None:
        lot = self._lots[entry.waiting.lot]
        entry.state = State.ACTIVE
        lot.fresh.put(entry, self._ticket())
        self._line.offer(lot)

    def _leave_line(self, entry: Entry) -> None:
        """Out of wherever it stands by itself."""
        self._end_nomination(entry)
        if entry.party is None:
            lot = self._lots[entry.waiting.lot]
            if entry.state is State.ACTIVE:
                lot.fresh.leave(entry)
            elif entry.state is State.UNSCHEDULABLE:
                lot.refused.leave(entry)
        entry.ticket = 0

    def _end_nomination(self, entry: Entry) -> None:
        party = entry.party
        if party is not None and party.gang is None:
            self._retire(party)
            self._lots[entry.waiting.lot].nominated.pop(entry.waiting.uid, None)
            entry.party = None
            if entry.state is not State.DECIDING:
                entry.state = State.BACKOFF  # of no line; whoever called puts it into one

    def _is_decided(self, entry: Entry) -> None:
        entry.state = State.DECIDING
        if entry.waiting.gang is not None:
            self._gangs[entry.waiting.gang].deciding += 1

    def _answered(self, uids: Iterable[str]) -> list[Entry]:
        entries = []
        for uid in uids:
            entry = self._entries.get(uid)
            if entry is None or entry.state is not State.DECIDING:
                continue
            if entry.waiting.gang is not None:
                self._gangs[entry.waiting.gang].deciding -= 1
            entries.append(entry)
        return entries

    # -- inside: parties

    def _muster(self, party: Party) -> None:
        """The members or the need have changed."""
        if not party.is_complete:
            self._retire(party)
            party.state = State.GATHERING
        elif party.state in (State.GATHERING, State.ACTIVE):
            self._activate(party)
        elif party.state is State.UNSCHEDULABLE:
            self._refused.stain(party)  # another member may be one that fits

    def _activate(self, party: Party) -> None:
        if not party.is_complete:
            self._muster(party)
            return
        self._refused.forget(party)
        party.state = State.ACTIVE
        self._line.offer(party)

    def _missed(self, party: Party, now_s: float) -> None:
        party.attempts += 1
        party.retry_at_s = now_s + self._backoff_s(party.attempts)

    def _wait(self, party: Party) -> None:
        if not party.is_complete:
            self._muster(party)
            return
        party.state = State.BACKOFF
        party.ticket = self._ticket()
        heapq.heappush(self._backoff, (party.retry_at_s, party.ticket, party))

    # -- inside: lots and the line

    def _look_again(self, lot: Lot, look: Look, now_s: float) -> None:
        refusal = look(lot)
        if refusal is not None:
            lot.standing, lot.round = refusal if lot.closed else None, self._round
            self._refused.settle(lot, refusal.filters, now_s)
            return
        self._refused.forget(lot)
        lot.closed, lot.standing = False, None
        for party in lot.nominated.values():
            if party.state is State.NOMINATED:
                self._activate(party)
                break  # when it has found a place, another may
        self._line.offer(lot)

    def _retire(self, unit: Unit) -> None:
        self._refused.forget(unit)
        self._line.leave(unit)

    def _backoff_s(self, attempts: int) -> float:
        doublings = min(attempts - 1, 32)
        return min(self._backoff_initial_s * 2.0**doublings, self._backoff_max_s)

    def _ticket(self) -> int:
        self._tickets += 1
        return self._tickets
