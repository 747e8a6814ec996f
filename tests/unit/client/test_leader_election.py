"""Several candidates, one lease: one acts at a time, and somebody always does in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.errors import Conflict, Unavailable
from cluster.client import operations
from cluster.client.election import ElectionTimers
from cluster.client.events import EventRecorder
from cluster.client.leader_election import LeaderElection, Term
from cluster.client.leading import leading
from cluster.pb.v1 import core_pb2 as core
from tests.unit.client.candidates import KEY, TIMERS, Arena


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    made = Arena()
    yield made
    await made.close()


async def test_the_first_leads_and_the_others_stand_by(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    two, three = arena.add("two"), arena.add("three")
    await arena.run(30)
    assert arena.leaders() == ["one"] == [arena.holder]
    assert len(one.terms) == 1
    assert not two.terms
    assert not three.terms
    assert {name for _, name in arena.acts} == {"one"}
    assert arena.lease is not None
    assert arena.lease.spec.leaseTransitions == 0


async def test_a_holder_renews_no_more_often_than_it_must(arena: Arena) -> None:
    arena.add("one")
    await arena.run(1)
    before = len(arena.cluster.writes)
    await arena.run(10)
    assert len(arena.cluster.writes) - before == 10 / TIMERS.renew_every_s


async def test_of_many_that_start_together_one_leads(arena: Arena) -> None:
    for number in range(5):
        arena.add(f"c{number}")
    await arena.run(10)
    assert sum(len(candidate.terms) for candidate in arena.candidates) == 1


async def test_a_killed_holder_is_followed_once_its_lease_has_run_out(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    arena.add("two")
    await arena.run(5)
    await one.kill()
    killed_s = arena.clock.monotonic()
    await arena.run(10)
    first_act_s = min(at_s for at_s, name in arena.acts if name == "two")
    assert TIMERS.lease_duration_s - TIMERS.renew_every_s <= first_act_s - killed_s
    assert first_act_s - killed_s <= TIMERS.lease_duration_s + 1.2 * TIMERS.retry_s + 0.1
    assert arena.lease is not None
    assert (arena.holder, arena.lease.spec.leaseTransitions) == ("two", 1)


async def test_one_that_stops_gives_the_lease_back_and_the_next_takes_it_at_once(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    arena.add("two")
    await arena.run(5)
    await one.stop()
    assert one.terms[0].reason == "it was given back"
    stopped_s = arena.clock.monotonic()
    await arena.run(5)
    first_act_s = min(at_s for at_s, name in arena.acts if name == "two")
    assert first_act_s - stopped_s <= 1.2 * TIMERS.retry_s + 0.1
    assert arena.lease is not None
    assert arena.lease.spec.leaseTransitions == 1


async def test_a_renewal_that_is_under_way_does_not_keep_the_lease_from_being_given_back(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    assert arena.lease is not None
    before = arena.lease.metadata.resourceVersion
    arena.network.delay_s = 0.8
    while arena.lease.metadata.resourceVersion == before:  # renewed, and the answer is on its way
        await arena.run(0.01, step_s=0.01)
    arena.network.delay_s = 0.0
    await one.stop()
    assert one.terms[0].reason == "it was given back"
    assert arena.holder == ""


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_claim_that_is_under_way_when_its_candidate_stops_keeps_nobody_waiting(
    arena: Arena, arrives: bool
) -> None:
    one = arena.add("one")
    await arena.run(1)
    await one.kill()
    two = arena.add("two")
    await arena.run(TIMERS.lease_duration_s - 0.5)
    arena.network.delay_s = 0.8
    claimed = asyncio.Event()
    arena.network.on_write = claimed.set
    while not (arena.holder == "two" if arrives else claimed.is_set()):  # and the answer, or the claim, is on its way
        await arena.run(0.01, step_s=0.01)
    arena.network.delay_s = 0.0
    await two.stop()
    assert two.terms == []
    assert arena.holder == ""


async def test_a_lease_that_another_has_taken_meanwhile_is_left_to_it(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    taken = core.Lease()
    assert arena.lease is not None
    taken.CopyFrom(arena.lease)
    taken.spec.holderIdentity = "somebody"
    arena.cluster.put(taken)
    await one.stop()
    assert arena.holder == "somebody"


async def test_the_lease_is_kept_until_what_was_run_has_ended(arena: Arena) -> None:
    one = arena.add("one")
    one.linger_s = 8.0  # longer than the lease
    await arena.run(1)
    arena.add("two")
    stopping = asyncio.ensure_future(one.stop())
    await arena.run(7)
    assert arena.holder == "one"
    await asyncio.wait([stopping])
    await arena.run(3)
    assert arena.holder == "two"
    last = max(at_s for at_s, name in arena.acts if name == "one")
    assert last < min(at_s for at_s, name in arena.acts if name == "two")


async def test_one_that_was_suspended_finds_its_term_over_before_it_does_anything(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    two = arena.add("two")
    await arena.run(5)
    one.suspend()
    await arena.run(20)
    assert arena.leaders() == ["two"]
    arena.acts.clear()
    one.resume()
    await arena.run(10)
    assert {name for _, name in arena.acts} == {"two"}
    assert "could not be renewed" in one.terms[0].reason
    two.suspend()
    await arena.run(5)
    assert arena.leaders() == ["one"], "it stands again"
    assert len(one.terms) == 2


async def test_a_master_that_is_away_for_long_ends_the_term_and_the_same_may_lead_again(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    arena.network.loss = 1.0
    await arena.run(TIMERS.renew_deadline_s - TIMERS.renew_every_s - 0.1)
    assert arena.leaders() == ["one"]
    await arena.run(10)
    assert arena.leaders() == []
    arena.network.loss = 0.0
    await arena.run(2)
    assert arena.leaders() == ["one"]
    assert len(one.terms) == 2
    assert arena.lease is not None
    assert arena.lease.spec.leaseTransitions == 0, "nobody else had it"


async def test_a_renewal_whose_answer_was_lost_is_not_taken_for_somebody_elses(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    found = arena.lease
    assert found is not None
    again = core.Lease()
    again.CopyFrom(found)
    arena.cluster.put(again)  # another version, the same holder
    await arena.run(5)
    assert len(one.terms) == 1
    assert arena.leaders() == ["one"]


@pytest.mark.parametrize("holder", ["", "somebody"])
async def test_a_lease_that_is_given_to_another_by_hand_ends_the_term(arena: Arena, holder: str) -> None:
    one = arena.add("one")
    await arena.run(1)
    taken = core.Lease()
    assert arena.lease is not None
    taken.CopyFrom(arena.lease)
    taken.spec.holderIdentity = holder
    arena.cluster.put(taken)
    await arena.run(TIMERS.renew_every_s + 0.1)
    assert one.terms[0].reason == "it is not in its holder's name any more"
    await arena.run(5)
    assert len(one.terms) == 2, "nobody renews it for somebody"


async def test_a_lease_that_is_deleted_by_hand_is_made_again_by_its_holder(arena: Arena) -> None:
    one, two = arena.add("one"), None
    await arena.run(1)
    two = arena.add("two")
    await arena.run(5)
    assert arena.lease is not None
    arena.cluster.remove(arena.lease)
    await arena.run(5)
    assert arena.leaders() == ["one"]
    assert len(one.terms) == 1
    assert not two.terms


async def test_what_ends_by_itself_ends_the_election_and_gives_the_lease_back(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    one.crash = RuntimeError("a bug")
    await arena.run(1)
    with pytest.raises(RuntimeError, match="a bug"):
        one.task.result()
    assert arena.holder == ""
    arena.add("two")
    await arena.run(1)
    assert arena.leaders() == ["two"]


async def test_what_fails_because_the_term_is_over_is_no_crash(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    one.suspend()
    await arena.run(5)
    one.crash = Conflict("refused, because the term is over")
    one.resume()
    await arena.run(0.2)
    assert not one.task.done()
    await arena.run(5)
    assert arena.leaders() == ["one"]


async def test_who_leads_writes_and_who_does_not_any_more_is_refused(arena: Arena) -> None:
    one = arena.add("one")
    await arena.run(1)
    near = arena.cluster.client("controllers")
    client = leading(near, one.terms[0])
    event = core.Event(metadata=core.ObjectMeta(name="a", namespace="default"))
    (await client.write([operations.create(event)])).outcomes[0].unwrap()
    one.suspend()
    await arena.run(3)
    before = len(arena.cluster.writes)
    with pytest.raises(Conflict, match="one does not hold the lease podium-controllers any more: it was not renewed"):
        await client.write([operations.create(event)])
    assert len(arena.cluster.writes) == before
    assert (await client.list(core.Event)).items, "reading is free"
    async with client.watch(core.Event, initial_state=True) as batches:
        assert await anext(batches)


async def test_who_leads_is_an_event(arena: Arena) -> None:
    client = arena.cluster.client("controllers")
    recorder = EventRecorder(client, "controllers", clock=arena.clock, rng=arena.rng)
    await recorder.start()
    election = LeaderElection(client, KEY, "one", TIMERS, clock=arena.clock, rng=arena.rng, events=recorder)

    async def lead(term: Term) -> None:
        await arena.clock.sleep(1.0)

    running = asyncio.ensure_future(election.run(lead))
    await arena.run(3)
    await running
    await recorder.stop()
    events = arena.cluster.objects(core.Event)
    assert sorted(event.message for event in events) == ["one became leader", "one stopped leading"]
    assert {(event.involvedObject.kind, event.metadata.namespace) for event in events} == {("Lease", "kube-system")}


async def test_a_master_that_is_not_there_yet_is_waited_for(arena: Arena) -> None:
    arena.cluster.fail_next(Unavailable("no"), times=7)
    one = arena.add("one")
    await arena.run(10)
    assert arena.leaders() == ["one"]
    assert len(one.terms) == 1


async def test_what_does_not_end_is_told_and_keeps_the_lease_from_others(arena: Arena) -> None:
    gate = asyncio.Event()

    async def lead(term: Term) -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                pass

    client = arena.cluster.client("controllers")
    election = LeaderElection(client, KEY, "one", TIMERS, clock=arena.clock, rng=arena.rng, stop_s=0.01)
    running = asyncio.ensure_future(election.run(lead))
    await arena.run(1)
    arena.cluster.put(core.Lease(metadata=core.ObjectMeta(name=KEY.name, namespace=KEY.namespace)))
    for _ in range(100):
        await arena.clock.run_for(0.1)
        await asyncio.sleep(0.001)
        if running.done():
            break
    with pytest.raises(RuntimeError, match="does not end"):
        running.result()
    gate.set()
    await arena.clock.settle()


# --- whatever happens

STEPS = st.sampled_from(
    ["run", "run", "run", "suspend", "suspend", "resume", "resume", "kill", "start", "slow", "fast", "lossy", "stop"]
)


@settings(max_examples=30)
@given(
    steps=st.lists(st.tuples(STEPS, st.integers(0, 2), st.floats(0.05, 6.0)), max_size=25),
    paces=st.tuples(*[st.floats(0.9, 1.1)] * 3),
    seed=st.integers(0, 2**16),
)
async def test_never_two_at_a_time_and_one_in_the_end(
    steps: list[tuple[str, int, float]], paces: tuple[float, float, float], seed: int
) -> None:
    """Pauses of any length, clocks of other paces, calls and answers that are slow or lost, deaths and restarts."""
    arena = Arena(seed)
    lives = 0
    for number, pace in enumerate(paces):
        arena.add(f"c{number}", pace)
    try:
        for step, number, seconds in steps:
            candidate = arena.candidates[-1 - number]
            match step:
                case "suspend":
                    candidate.suspend()
                case "resume":
                    candidate.resume()
                case "kill":
                    await candidate.kill()
                case "start":
                    lives += 1
                    arena.add(f"d{lives}", paces[number])
                case "slow":
                    arena.network.delay_s = seconds / 2
                case "fast":
                    arena.network.delay_s = arena.network.loss = 0.0
                case "lossy":
                    arena.network.loss = 0.3
                case "stop" if not candidate.task.done():
                    candidate.linger_s = seconds
                    candidate.resume()
                    await candidate.stop()
            await arena.run(seconds)
        arena.network.delay_s = arena.network.loss = 0.0
        for candidate in arena.candidates:
            candidate.resume()
        arena.add("last")
        await arena.run(3 * TIMERS.lease_duration_s)
        assert len(arena.leaders()) == 1
        assert arena.leaders() == [arena.holder]
    finally:
        await arena.close()


async def test_the_check_finds_two_where_a_clock_is_beyond_the_bounds() -> None:
    """The test above is worth something: a candidate whose clock goes three times as fast takes what it must not."""
    arena = Arena()
    arena.add("one", pace=0.5)
    await arena.run(5)  # renewed at 0, 2 and 4: by its own clock, it leads until 8
    arena.candidates[0].suspend()
    arena.add("two", pace=1.5, timers=ElectionTimers(3, 2.0, 0.1))
    with pytest.raises(AssertionError, match="one and two lead"):
        await arena.run(8)
    await arena.close()
