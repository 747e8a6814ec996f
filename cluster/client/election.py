"""Who may lead by a Lease: what a candidate concludes from the lease as it reads it. Pure.

The idea is that of Kubernetes' leader election. One object, the Lease, names its holder; who writes it names the
version that it has read (compare and swap), so of several only one succeeds. The holder renews it. Nobody compares
clocks of two machines: the times that stand in the lease are for people. A candidate goes by its own monotonic clock,
from the moment at which it first saw the version that is there now; the holder goes by its own, from the moment at
which it sent the last renewal that was confirmed.

    holder a, lease 3 s, deadline 2 s                       candidate b
     0.0  a sends a renewal, which becomes version 7
     0.1                                                    sees version 7: a may act until 3.1 by what b knows
     0.2  a is suspended
     2.0  a may not act any more, whatever it does now
     3.1                                                    still version 7: b writes itself into it, as version 8
     9.0  a goes on: its clock says that it is over; and its renewal of version 7 would be refused

What follows: **at any moment at most one candidate leads**, in the sense of `Tenure.leads`, as long as the candidate's
clock does not run faster than the holder's by more than lease / deadline (4/3 or more in our profiles). Pauses of any
length do no harm, provided that the clock goes on meanwhile (that of a suspended process does; that of a suspended
virtual machine may not); neither do answers that are late or lost. Two exceptions are an administrator's: a lease that
is deleted by hand may be made anew by a candidate that has just started, and two processes must not be given the same
identity.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.api.meta import Key, to_micro_time
from cluster.config.profiles import Profile
from cluster.pb.v1 import core_pb2 as core

JITTER = 0.2
"""Candidates wait up to this share longer than they must, so that they do not all ask at the same moment."""


@dataclass(frozen=True, slots=True)
class ElectionTimers:
    """How long things take; the defaults of Kubernetes are 15, 10 and 2."""

    lease_duration_s: int
    """A candidate takes over when it has seen no renewal for so long."""
    renew_deadline_s: float
    """A holder that could not renew for so long stops acting."""
    retry_s: float
    """Between two looks of a candidate, and between two attempts of a holder whose renewal failed."""

    def __post_init__(self) -> None:
        if not 0 < self.retry_s * (1 + JITTER) < self.renew_deadline_s < self.lease_duration_s:
            raise ValueError(f"the lease must outlast the renewal's deadline, and that the pause between two: {self}")

    @staticmethod
    def of(profile: Profile) -> ElectionTimers:
        """Those of a timer profile."""
        return ElectionTimers(profile.manager_lease_s, profile.manager_renew_deadline_s, profile.manager_retry_s)

    @property
    def renew_every_s(self) -> float:
        """Between two renewals that succeed. Longer than Kubernetes' (its pause is `retry_s`), because each renewal is
        a revision of the history; there is time for some attempts all the same."""
        return max(self.renew_deadline_s / 2, self.retry_s)


@dataclass(frozen=True, slots=True)
class Sight:
    """The lease as a candidate saw it, and since when it has been so."""

    holder: str
    """Empty: it was given back, or there is no lease."""
    version: tuple[str, str]
    """uid and resourceVersion; empty: there is no lease."""
    since_s: float
    """The candidate's monotonic clock, when it had first read this version."""
    duration_s: float
    """Its holder may act for so long after `since_s`, if there is one."""
    free: bool
    """Nobody acts by it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a lease: take it, or look again, at the latest at `until_s`."""

    take: bool
    until_s: float


def seen(before: Sight | None, lease: core.Lease | None, identity: str, now_s: float, default_duration_s: int) -> Sight:
    """What `identity` knows once it has read `lease` (None: there is none), which had been read at `now_s`.

    A lease that has gone counts as one that has changed: who deleted it did not tell its holder. Only when there was
    none from the beginning, it is free.
    """
    version = (lease.metadata.uid, lease.metadata.resourceVersion) if lease is not None else ("", "")
    if before is not None and before.version == version:
        return before
    if lease is None:
        free = before is None or before.free
        return Sight("", version, now_s, before.duration_s if before is not None else 0.0, free)
    holder, spec = lease.spec.holderIdentity, lease.spec
    duration_s = spec.leaseDurationSeconds if spec.HasField("leaseDurationSeconds") else default_duration_s
    # What bears our own name is ours: a claim whose answer was lost, or a term that we have left.
    return Sight(holder, version, now_s, float(duration_s), free=holder in ("", identity))


def decide(sight: Sight, now_s: float) -> Decision:
    """Whether the lease may be taken now. Whoever takes it must name the version that was seen."""
    until_s = sight.since_s if sight.free else sight.since_s + sight.duration_s
    return Decision(now_s >= until_s, until_s)


def pause_s(decision: Decision, now_s: float, retry_s: float, dice: float) -> float:
    """How long a candidate waits before it looks again; `dice` is from 0 to 1. It is there when the time has come."""
    left_s = decision.until_s - now_s
    stretched_s = retry_s * (1 + JITTER * dice)
    return min(stretched_s, left_s) if left_s > 0 else stretched_s


@dataclass(frozen=True, slots=True)
class Tenure:
    """The right of a holder, by its own clock."""

    confirmed_s: float
    """When the last renewal that was confirmed had been sent (not when its answer came)."""
    deadline_s: float
    """It lasts for so long after that."""

    @property
    def until_s(self) -> float:
        return self.confirmed_s + self.deadline_s

    def leads(self, now_s: float) -> bool:
        """Whether the holder may act."""
        return now_s < self.until_s


def attempt_s(left_s: float, retry_s: float) -> float:
    """How long one attempt to renew may take when the term ends in `left_s`: short enough for another one, because a
    master that hangs does not say so."""
    return min(left_s, max(left_s / 2, retry_s))


def held(key: Key, lease: core.Lease | None, identity: str, duration_s: int, wall_s: float) -> core.Lease:
    """The lease as `identity` writes it in order to get it or to keep it; None: it makes it. The version stays that
    of `lease`, so that the write is refused if another was faster."""
    new = core.Lease(metadata=core.ObjectMeta(name=key.name, namespace=key.namespace))
    if lease is not None:
        new.CopyFrom(lease)
    spec, now = new.spec, to_micro_time(wall_s)
    if lease is None or spec.holderIdentity != identity:
        spec.acquireTime.CopyFrom(now)
        spec.leaseTransitions = spec.leaseTransitions + 1 if lease is not None else 0
    spec.holderIdentity, spec.leaseDurationSeconds = identity, duration_s
    spec.renewTime.CopyFrom(now)
    return new


def given_back(lease: core.Lease, wall_s: float) -> core.Lease:
    """The lease as its holder leaves it, so that the next takes it at once. As in Kubernetes, it keeps its count of
    transitions, and its duration becomes 1, for readers that do not know what an empty holder means."""
    new = core.Lease()
    new.CopyFrom(lease)
    new.spec.holderIdentity, new.spec.leaseDurationSeconds = "", 1
    new.spec.renewTime.CopyFrom(to_micro_time(wall_s))
    return new
