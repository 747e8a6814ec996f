"""Where each pod of the queue stands, and how it gets from one place to another.

    entry      a pod that waits             lot      all that are alike; it stands in line for them
    party      a gang, or one pod for which others make room; it stands in line for its members

A pod stands by itself (in its lot, or in the back-off), or with a party; what it is in the table of `queue.py` follows
from both. Here is what has to be true after every move: a lot and a party know how many they are, nobody stands in two
places, and an empty lot or party is gone. What a move is for, the queue knows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from cluster.scheduler.lots import Entry, GangKey, Lot, LotKey, Party, State, Unit, UnitLine
from cluster.scheduler.refused import Refused


class Whereabouts:
    """See above."""

    def __init__(self, backoff_initial_s: float, backoff_max_s: float) -> None:
        self._backoff_initial_s = backoff_initial_s
        self._backoff_max_s = backoff_max_s
        self.entries: dict[str, Entry] = {}
        """By uid."""
        self.lots: dict[LotKey, Lot] = {}
        self.gangs: dict[GangKey, Party] = {}
        self.line = UnitLine(self.ticket)
        """Lots and parties whose turn comes."""
        self.refused = Refused()
        """Those that nothing fitted."""
        self._backoff: list[tuple[float, int, Entry | Party]] = []
        self._tickets = 0

    # -- pods

    def state(self, entry: Entry) -> State:
        """Where a pod is."""
        if entry.state is State.DECIDING:
            return State.DECIDING
        if entry.party is not None:
            # One that has come while the others are being decided about has its turn with them, or after them.
            return State.ACTIVE if entry.party.state is State.DECIDING else entry.party.state
        if entry.state is State.UNSCHEDULABLE and not self.lots[entry.waiting.lot].closed:
            return State.ACTIVE
        return entry.state

    def file(self, entry: Entry, need: int) -> None:
        """To its lot and its gang, and into line, unless it is decided about. `need`: that of a gang that is new."""
        waiting = entry.waiting
        lot = self.lots.get(waiting.lot)
        if lot is None:
            lot = self.lots[waiting.lot] = Lot(key=waiting.lot)
        lot.size += 1
        deciding = entry.state is State.DECIDING
        if waiting.gang is not None:
            party = self.gangs.get(waiting.gang)
            if party is None:
                party = self.gangs[waiting.gang] = Party(gang=waiting.gang, need=need)
            party.members[waiting.uid] = entry
            party.deciding += deciding
            if party.need:
                entry.party = party
                self.muster(party)
                return
        if not deciding:
            self.line_up(entry)

    def unfile(self, entry: Entry) -> None:
        """Out of everything."""
        waiting, deciding = entry.waiting, entry.state is State.DECIDING
        self.leave_line(entry)
        lot = self.lots[waiting.lot]
        lot.size -= 1
        if not lot.size:
            del self.lots[waiting.lot]
            self.retire(lot)
        if waiting.gang is not None:
            party = self.gangs[waiting.gang]
            del party.members[waiting.uid]
            party.deciding -= deciding
            entry.party = None
            if not party.members:
                del self.gangs[waiting.gang]
                self.retire(party)
            elif party.need:
                self.muster(party)

    def line_up(self, entry: Entry) -> None:
        """Into line, for itself."""
        lot = self.lots[entry.waiting.lot]
        entry.state = State.ACTIVE
        lot.fresh.put(entry, self.ticket())
        self.line.offer(lot)

    def leave_line(self, entry: Entry) -> None:
        """Out of wherever it stands by itself."""
        self.end_nomination(entry)
        if entry.party is None:
            lot = self.lots[entry.waiting.lot]
            if entry.state is State.ACTIVE:
                lot.fresh.leave(entry)
            elif entry.state is State.UNSCHEDULABLE:
                lot.refused.leave(entry)
        entry.ticket = 0

    def end_nomination(self, entry: Entry) -> None:
        """Nobody makes room for it by itself any more; one that a gang speaks for stays with it."""
        party = entry.party
        if party is not None and party.gang is None:
            self.retire(party)
            self.lots[entry.waiting.lot].nominated.pop(entry.waiting.uid, None)
            entry.party = None
            if entry.state is not State.DECIDING:
                entry.state = State.BACKOFF  # of no line; whoever called puts it into one

    def is_decided(self, entry: Entry) -> None:
        """It was taken out of line, and is decided about from now on."""
        entry.state = State.DECIDING
        if entry.waiting.gang is not None:
            self.gangs[entry.waiting.gang].deciding += 1

    def answered(self, uids: Iterable[str]) -> list[Entry]:
        """Those of them that were decided about; from now on they are somewhere else, which whoever called says."""
        entries = []
        for uid in uids:
            entry = self.entries.get(uid)
            if entry is None or entry.state is not State.DECIDING:
                continue
            if entry.waiting.gang is not None:
                self.gangs[entry.waiting.gang].deciding -= 1
            entries.append(entry)
        return entries

    # -- back-off

    def back_off(self, entry: Entry, now_s: float) -> None:
        """Another attempt has failed: it waits for longer each time."""
        entry.failures += 1
        entry.state = State.BACKOFF
        entry.ticket = self.ticket()
        heapq.heappush(self._backoff, (now_s + self._backoff_s(entry.failures), entry.ticket, entry))

    def over(self, now_s: float) -> Iterator[Entry | Party]:
        """Those whose back-off is over by now; they have to go somewhere else."""
        while self._backoff and self._backoff[0][0] <= now_s:
            _, ticket, waiter = heapq.heappop(self._backoff)
            if waiter.ticket == ticket and waiter.state is State.BACKOFF:
                yield waiter

    @property
    def over_at_s(self) -> float | None:
        """When the next back-off may be over; None: there is none."""
        return self._backoff[0][0] if self._backoff else None

    # -- parties

    def muster(self, party: Party) -> None:
        """The members or the need have changed."""
        if not party.is_complete:
            self.retire(party)
            party.state = State.GATHERING
        elif party.state in (State.GATHERING, State.ACTIVE):
            self.activate(party)
        elif party.state is State.UNSCHEDULABLE:
            self.refused.stain(party)  # another member may be one that fits

    def activate(self, party: Party) -> None:
        """Into line, if it is complete."""
        if not party.is_complete:
            self.muster(party)
            return
        self.refused.forget(party)
        party.state = State.ACTIVE
        self.line.offer(party)

    def missed(self, party: Party, now_s: float) -> None:
        """It was tried in vain, and has to wait for longer each time."""
        party.attempts += 1
        party.retry_at_s = now_s + self._backoff_s(party.attempts)

    def wait(self, party: Party) -> None:
        """Until its back-off is over."""
        if not party.is_complete:
            self.muster(party)
            return
        party.state = State.BACKOFF
        party.ticket = self.ticket()
        heapq.heappush(self._backoff, (party.retry_at_s, party.ticket, party))

    def retire(self, unit: Unit) -> None:
        """Out of every line."""
        self.refused.forget(unit)
        self.line.leave(unit)

    def _backoff_s(self, attempts: int) -> float:
        doublings = min(attempts - 1, 32)
        return min(self._backoff_initial_s * 2.0**doublings, self._backoff_max_s)

    def ticket(self) -> int:
        """A number for a place in a line: each is given out once, and what has another one by now is there no more."""
        self._tickets += 1
        return self._tickets
