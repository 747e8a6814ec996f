"""How one connection finds an endpoint: whom to dial, for how long, when to wait, when to give up.

Kubernetes' userspace proxy dials with growing time-outs, 0.25, 0.5, 1 and 2 s, each on the next endpoint, and then
closes. Two things are done better here. An endpoint that refuses at once costs none of these tries: the next one is
dialled at once, each endpoint once. And when nobody is ready, or everybody refused, the connection is held for a moment
until the endpoints change, so that a pod's replacement is no error to the client.

    event       next step
    start       Dial the one whose turn it is; nobody there: Hold
    refused     Dial the next one that did not refuse; all did: Hold
    timed out   Dial the next one, with the next time-out; none left: GiveUp
    changed     everybody gets another chance: Dial, or go on with Hold
    held enough GiveUp

All that happens before the first byte was sent; afterwards nothing may be tried twice. No sockets here, and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.balancer import Balancer, Target

DIAL_TIMEOUTS_S = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to this target, and wait for that long."""

    target: Target
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the endpoints change, for that long at most."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Close the connection."""

    reason: str
    """"no-endpoint": nobody was ready in time; "dial": nobody answered."""


class DialPlan:
    """The tries of one connection. Ask `next` at the start and after each `refused`, `timed_out` and `changed`."""

    __slots__ = ("_balancer", "_client", "_hold_s", "_hold_until", "_refused", "_tries", "timeouts_s")

    def __init__(
        self, balancer: Balancer, client: str, *, hold_s: float, timeouts_s: Sequence[float] = DIAL_TIMEOUTS_S
    ) -> None:
        self._balancer = balancer
        self._client = client
        self._hold_s = hold_s
        self._hold_until: float | None = None
        self.timeouts_s = timeouts_s
        self._tries = 0
        """Time-outs used up."""
        self._refused: set[Target] = set()

    def next(self, now: float) -> Dial | Hold | GiveUp:
        """What to do now."""
        if self._tries == len(self.timeouts_s):
            return GiveUp("dial")
        target = self._balancer.choose(self._client, now, self._refused)
        if target is not None:
            return Dial(target, self.timeouts_s[self._tries])
        if self._hold_until is None:
            self._hold_until = now + self._hold_s
        left_s = self._hold_until - now
        if left_s > 0:
            return Hold(left_s)
        return GiveUp("dial" if len(self._balancer) else "no-endpoint")

    def refused(self, target: Target, now: float) -> None:
        """The target answered at once that it does not serve."""
        self._refused.add(target)
        self._balancer.failed(self._client, target, now)

    def timed_out(self, target: Target, now: float) -> None:
        """The target did not answer in time."""
        self._tries += 1
        self._balancer.failed(self._client, target, now)

    def changed(self) -> None:
        """The endpoints are others than before; who refused may have been started again."""
        self._refused.clear()
