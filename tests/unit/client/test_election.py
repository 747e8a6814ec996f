"""What a candidate concludes from a lease that it reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.leases import COMPONENT_LEASES
from cluster.api.meta import to_micro_time
from cluster.client.election import ElectionTimers, Sight, Tenure, attempt_s, decide, given_back, held, pause_s, seen
from cluster.config.profiles import PROFILES
from cluster.pb.v1 import core_pb2 as core

KEY = COMPONENT_LEASES["scheduler"]
KUBERNETES = ElectionTimers(15, 10.0, 2.0)


def lease(holder: str, version: int, duration_s: int | None = 3, uid: str = "u") -> core.Lease:
    found = core.Lease(metadata=core.ObjectMeta(name="x", uid=uid, resourceVersion=str(version)))
    found.spec.holderIdentity = holder
    if duration_s is not None:
        found.spec.leaseDurationSeconds = duration_s
    return found


def look(*reads: tuple[float, core.Lease | None]) -> Sight:
    """What b knows after these reads."""
    sight: Sight | None = None
    for now_s, found in reads:
        sight = seen(sight, found, "b", now_s, 15)
    assert sight is not None
    return sight


def test_where_there_is_no_lease_it_is_made() -> None:
    assert decide(look((5.0, None)), 5.0).take


def test_the_lease_of_another_is_waited_out_from_when_it_was_first_seen() -> None:
    sight = look((5.0, lease("a", 7)), (6.0, lease("a", 7)))
    assert not decide(sight, 7.9).take
    assert decide(sight, 8.0).take
    assert decide(sight, 6.0).until_s == 8.0


def test_each_renewal_begins_the_wait_anew() -> None:
    assert decide(look((5.0, lease("a", 7)), (7.5, lease("a", 8))), 8.0).until_s == 10.5


def test_times_that_the_holder_wrote_do_not_matter() -> None:
    old = lease("a", 7)
    old.spec.renewTime.CopyFrom(to_micro_time(0.0))
    assert not decide(look((5.0, old)), 5.0).take


def test_the_promise_is_the_holders_not_ours() -> None:
    """Two versions of this program may have other timers: what counts is how long the holder may go on."""
    assert decide(look((5.0, lease("a", 7, 60))), 5.0).until_s == 65.0
    assert decide(look((5.0, lease("a", 7, None))), 5.0).until_s == 20.0


@pytest.mark.parametrize("holder", ["", "b"])
def test_what_was_given_back_or_is_ours_is_taken_at_once(holder: str) -> None:
    assert decide(look((5.0, lease("a", 7)), (5.5, lease(holder, 8))), 5.5).take


def test_a_lease_that_has_gone_is_waited_out_because_its_holder_was_not_told() -> None:
    gone = look((5.0, lease("a", 7)), (6.0, None), (7.0, None))
    assert decide(gone, 7.0).until_s == 9.0
    assert decide(look((5.0, lease("", 7)), (6.0, None)), 6.0).take


def test_one_that_was_made_anew_is_another() -> None:
    assert decide(look((5.0, lease("a", 7)), (7.0, lease("c", 7, uid="v"))), 7.5).until_s == 10.0


def test_a_candidate_is_there_when_the_time_has_come_and_looks_now_and_then_before() -> None:
    decision = decide(look((5.0, lease("a", 7))), 5.0)
    assert pause_s(decision, 5.0, 0.5, 0.0) == 0.5
    assert pause_s(decision, 5.0, 0.5, 1.0) == pytest.approx(0.6)
    assert pause_s(decision, 7.9, 0.5, 1.0) == pytest.approx(0.1)
    assert pause_s(decision, 8.0, 0.5, 0.0) == 0.5, "another was faster; not at once again"


def test_an_attempt_to_renew_leaves_time_for_another() -> None:
    assert attempt_s(8.0, 2.0) == 4.0
    assert attempt_s(3.0, 2.0) == 2.0
    assert attempt_s(1.0, 2.0) == 1.0


def test_a_tenure_counts_from_when_its_renewal_was_sent() -> None:
    tenure = Tenure(confirmed_s=5.0, deadline_s=2.0)
    assert tenure.leads(6.9)
    assert not tenure.leads(7.0)


def test_what_is_written() -> None:
    made = held(KEY, None, "a", 15, 100.0)
    assert (made.metadata.name, made.metadata.namespace) == ("podium-scheduler", "kube-system")
    assert (made.spec.holderIdentity, made.spec.leaseDurationSeconds, made.spec.leaseTransitions) == ("a", 15, 0)
    assert made.spec.acquireTime == made.spec.renewTime == to_micro_time(100.0)

    made.metadata.resourceVersion, made.metadata.labels["mine"] = "7", "x"
    renewed = held(KEY, made, "a", 15, 105.0)
    assert renewed.metadata == made.metadata, "the version that was read, and what others wrote to it"
    assert (renewed.spec.acquireTime, renewed.spec.renewTime) == (to_micro_time(100.0), to_micro_time(105.0))
    assert renewed.spec.leaseTransitions == 0

    taken = held(KEY, renewed, "b", 3, 120.0)
    assert (taken.spec.holderIdentity, taken.spec.leaseDurationSeconds, taken.spec.leaseTransitions) == ("b", 3, 1)
    assert taken.spec.acquireTime == to_micro_time(120.0)

    free = given_back(taken, 130.0)
    assert (free.spec.holderIdentity, free.spec.leaseDurationSeconds, free.spec.leaseTransitions) == ("", 1, 1)
    assert held(KEY, free, "b", 3, 131.0).spec.leaseTransitions == 2
    assert taken.spec.holderIdentity == "b", "nothing that was given is changed"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_the_timers_of_every_profile_leave_room(profile: object) -> None:
    timers = ElectionTimers.of(profile)  # type: ignore[arg-type]
    assert timers.lease_duration_s / timers.renew_deadline_s >= 4 / 3, "how much clocks may differ in their pace"
    assert timers.renew_every_s + timers.retry_s < timers.renew_deadline_s, "there is a second attempt"


@pytest.mark.parametrize("wrong", [(3, 3.0, 1.0), (3, 2.0, 2.0), (3, 2.0, 0.0), (15, 2.0, 1.8)])
def test_timers_that_make_no_sense(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="outlast"):
        ElectionTimers(*wrong)


@given(
    sent_s=st.floats(0, 100),
    travelled_s=st.floats(0, 100),
    read_after_s=st.floats(0, 100),
    pace_of_holder=st.floats(0.9, 1.1),
    pace_of_candidate=st.floats(0.9, 1.1),
)
def test_whoever_takes_a_lease_finds_its_last_holder_past_its_time(
    sent_s: float, travelled_s: float, read_after_s: float, pace_of_holder: float, pace_of_candidate: float
) -> None:
    """The proof in one line, for any delays and for clocks of any pace within the bounds. All times are true ones."""
    holder = Tenure(sent_s * pace_of_holder, KUBERNETES.renew_deadline_s)
    first_seen_s = sent_s + travelled_s + read_after_s
    sight = seen(None, lease("a", 7, KUBERNETES.lease_duration_s), "b", first_seen_s * pace_of_candidate, 15)
    taken_s = decide(sight, 0.0).until_s / pace_of_candidate
    assert not holder.leads(taken_s * pace_of_holder)
