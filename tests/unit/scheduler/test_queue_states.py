"""The queue under any sequence of calls: nobody is lost or in two places, and in the end everybody has a turn."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster.scheduler.filters import Refusal
from cluster.scheduler.lots import GangKey, Lot, State, Waiting
from cluster.scheduler.queue import SchedulingQueue
from cluster.scheduler.refused import ClusterEvent
from tests.unit.scheduler.test_queue import NO_ROOM, waiting

GANGS = [None, None, GangKey("default", "one"), GangKey("default", "two")]
POOL: dict[tuple[int, int, int], Waiting] = {}


def pod_of(number: int, cpu: int, gang: int) -> Waiting:
    key = (number, cpu, gang)
    if key not in POOL:
        POOL[key] = waiting(f"p{number}", cpu=str(cpu), priority=number % 3, created_s=number % 4, gang=GANGS[gang])
    return POOL[key]


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = SchedulingQueue(backoff_initial_s=1.0, backoff_max_s=10.0, unschedulable_flush_s=60.0)
        self.known: dict[str, Waiting] = {}
        self.deciding: list[str] = []
        self.need = dict.fromkeys(filter(None, GANGS), 2)
        self.now_s = 0.0

    def look(self, lot: Lot) -> Refusal | None:
        return NO_ROOM if len(lot.key.pod_class.shape.requests) and hash(self.now_s) % 2 else None

    @rule(number=st.integers(0, 7), cpu=st.integers(1, 2), gang=st.integers(0, 3))
    def add(self, number: int, cpu: int, gang: int) -> None:
        pod = pod_of(number, cpu, gang)
        self.queue.add(pod, self.need[pod.gang] if pod.gang is not None else 1)
        self.known[pod.uid] = pod

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(self.known)))
        assert self.queue.remove(uid)
        del self.known[uid]
        self.deciding = [each for each in self.deciding if each != uid]

    @rule(limit=st.integers(1, 4))
    def pop(self, limit: int) -> None:
        run = self.queue.pop(limit, self.look, self.now_s)
        if run is not None:
            assert run.waiting
            assert run.together or len({each.lot for each in run.waiting}) == 1
            assert all(self.known[each.uid] is each for each in run.waiting)
            if run.gang is not None:
                assert len(run.waiting) >= run.need > 0
            self.deciding += [each.uid for each in run.waiting]

    @precondition(lambda self: self.deciding)
    @rule(word=st.sampled_from(["refused", "failed", "nominated", "postponed"]))
    def answer(self, word: str) -> None:
        uids, self.deciding = self.deciding, []
        if word == "refused":
            self.queue.refused(uids, NO_ROOM, self.now_s)
        elif word == "failed":
            self.queue.failed(uids, self.now_s)
        elif word == "nominated":
            self.queue.nominated(uids, NO_ROOM, self.now_s)
        else:
            self.queue.postponed(uids)

    @rule(number=st.integers(0, 7), ready=st.booleans())
    def nomination_ends(self, number: int, ready: bool) -> None:
        uid = f"uid-default-p{number}"
        (self.queue.ready if ready else self.queue.renounce)(uid)

    @rule(gang=st.sampled_from([each for each in GANGS if each]), need=st.integers(0, 3))
    def change_need(self, gang: GangKey, need: int) -> None:
        self.need[gang] = need
        self.queue.set_need(gang, need)

    @rule(event=st.sampled_from(list(ClusterEvent)))
    def help(self, event: ClusterEvent) -> None:
        self.queue.help(event.value)

    @rule(limit=st.integers(1, 5))
    def recheck(self, limit: int) -> None:
        assert self.queue.recheck(self.look, self.now_s, limit) <= limit

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.queue.flush(self.now_s)

    @invariant()
    def everybody_is_somewhere(self) -> None:
        assert len(self.queue) == len(self.known)
        counts = self.queue.counts()
        assert sum(counts.values()) == len(self.known)
        assert counts[State.DECIDING] == len(self.deciding)
        assert {uid for uid in self.known if self.queue.state(uid) is State.DECIDING} == set(self.deciding)
        for gang, need in self.need.items():
            party = self.queue._at.gangs.get(gang)
            if party is not None:
                assert party.need == need
                assert party.deciding == sum(uid in self.deciding for uid in party.members)

    def teardown(self) -> None:
        """When everything fits, and time passes, everybody gets a turn, but for gangs that are not complete."""
        queue = self.queue
        queue.refused(self.deciding, NO_ROOM, self.now_s)
        for gang in self.need:
            queue.set_need(gang, 1)
        for uid in list(self.known):
            queue.renounce(uid)
        for _ in range(4):
            self.now_s += 100.0
            queue.flush(self.now_s)
            queue.recheck(lambda lot: None, self.now_s, 100)
            while run := queue.pop(3, lambda lot: None, self.now_s):
                assert run.standing is None
                for each in run.waiting:
                    queue.remove(each.uid)
                    del self.known[each.uid]
        assert not self.known
        assert (len(queue._at.lots), len(queue._at.gangs), queue.has_dirty, queue.has_active) == (0, 0, False, False)
        assert queue._at.refused.oldest_check_s is None


TestQueueStates = QueueMachine.TestCase
TestQueueStates.settings = settings(max_examples=40, stateful_step_count=40)
