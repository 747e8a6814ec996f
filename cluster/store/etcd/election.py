"""Who leads: what a candidate does next, and how long a leader may believe that it leads.

The leader is whoever's lease the key `leader` is bound to; its term is named by the revision in which the key was
created, the token. A lease alone excludes nobody (a process may sleep through its end), so each write to the log is
guarded by "the key still has my token"; what is decided here only makes sure that somebody leads, and that a leader who
cannot know steps down before another can have been elected.

    the key               what a candidate does
    is not there          CLAIM: get a lease, create the key with it if it is still not there
    has my lease          LEAD: my claim succeeded, though its answer was lost
    has a token of mine   REMOVE it: it is left from a term of mine that has ended, no need to wait for its lease
    has another's lease   WAIT until it goes, or for a while

    since the last renewal that was confirmed, counted from when it was asked for     what the leader does
    less than a third of the lease's time                                             nothing
    less than two thirds                                                              renews it
    two thirds or more                                                                steps down

etcd counts from when it hears of a renewal, later than the leader does, so the leader has gone first. Time is
monotonic; a process that was suspended finds two thirds passed when it wakes.

Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Holder:
    """The key `leader`, as it was read."""

    token: int
    """etcd's revision in which it was created."""
    lease: int
    address: str


class Move(Enum):
    """What a candidate does next."""

    CLAIM = "claim"
    LEAD = "lead"
    REMOVE = "remove"
    WAIT = "wait"


def next_move(holder: Holder | None, lease: int, past_tokens: Collection[int]) -> Move:
    """See the table. `lease`: with which this candidate has tried to claim, or 0; `past_tokens`: its former terms'."""
    if holder is None:
        return Move.CLAIM
    if lease and holder.lease == lease:
        return Move.LEAD
    if holder.token in past_tokens:
        return Move.REMOVE
    return Move.WAIT


@dataclass(frozen=True, slots=True)
class Tenure:
    """A term, as far as its clock goes. All times are seconds, monotonic."""

    token: int
    lease: int
    ttl_s: float
    """As etcd granted it, which may be more than was asked for."""
    confirmed_s: float
    """When the newest renewal that succeeded was asked for."""

    @property
    def renew_every_s(self) -> float:
        return self.ttl_s / 3

    @property
    def until_s(self) -> float:
        """From then on, it must not be believed in any more."""
        return self.confirmed_s + self.ttl_s * 2 / 3

    def verdict(self, now_s: float) -> str:
        """Why the term is over by now; empty: it is not."""
        if now_s < self.until_s:
            return ""
        return f"no renewal of the lease was confirmed for {now_s - self.confirmed_s:.1f} s (it lasts {self.ttl_s:g} s)"


def lost(holder: Holder | None, token: int) -> str:
    """Why a leader with this token does not lead any more, by what is in etcd; empty: it does."""
    if holder is None:
        return "the lease ran out: nobody leads"
    if holder.token != token:
        return f"another leads: {holder.address}"
    return ""
