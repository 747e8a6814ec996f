"""Which nodes are alive, judged by our own clock at the moment of hearing.

Agents' timestamps are never looked at, so skewed clocks do no harm (Kubernetes: node_lifecycle_controller.go).
A node is

  FRESH    heard of within half of its grace
  SUSPECT  silent for longer: not dead yet, but it counts when the breaker asks whether many nodes are failing at once
           (nodes that die together are heard of last at slightly different times)
  SILENT   silent for longer than the grace; or, if it never said that it was ready, than the startup grace

Silence says something about a node only while we could have heard it. So nothing is judged while the stream of
heartbeats is not flowing, and every timer restarts

  - when the stream comes (back), and when it was mute for half of the grace (the master was suspended);
  - when our own ticks were that far apart (this process was suspended, or starved);
  - when the breaker says that a mass failure is over.

The half is what makes this safe: a gap shorter than that, plus one interval between heartbeats, is less than the grace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Freshness(Enum):
    """How long nothing was heard of a node."""

    FRESH = "fresh"
    SUSPECT = "suspect"
    SILENT = "silent"


@dataclass(slots=True)
class _Pulse:
    uid: str
    heard_at: float
    sequence: int = -1

    def hear(self, now: float) -> None:
        """It is alive. What was granted beyond now is not taken back: after a failover, a first beat may have come by a
        way that breaks once more."""
        self.heard_at = max(self.heard_at, now)


class Heartbeats:
    """The pulse of every node. All times are monotonic seconds of one clock, handed in."""

    def __init__(self, *, grace_s: float, startup_grace_s: float) -> None:
        self._grace_s = grace_s
        self._startup_grace_s = startup_grace_s
        self._gap_s = grace_s / 2
        self._pulses: dict[str, _Pulse] = {}
        self._ticked_at: float | None = None
        self._stream_at: float | None = None
        self._restarted_at = float("-inf")

    def track(self, node: str, uid: str, now: float) -> None:
        """The node exists. A new uid is a new node: its timer starts now."""
        pulse = self._pulses.get(node)
        if pulse is None or pulse.uid != uid:
            self._pulses[node] = _Pulse(uid, now)

    def forget(self, node: str) -> None:
        """The node object is gone."""
        self._pulses.pop(node, None)

    def sign_of_life(self, node: str, now: float) -> None:
        """The node's agent did something that only a living agent does, such as posting its status."""
        pulse = self._pulses.get(node)
        if pulse is not None:
            pulse.hear(now)

    def stream_opened(self, now: float) -> None:
        """A stream of heartbeats begins: what was not heard until now says nothing. `now` may lie ahead, for agents
        that need time to find where they are heard."""
        self.restart(now)
        self._stream_at = None

    def stream_lost(self) -> None:
        """No judgement until a new stream has begun."""
        self._stream_at = None

    def batch(self, heartbeats: Iterable[tuple[str, int]], now: float) -> None:
        """A batch of (node, sequence), perhaps empty.

        The first batch of a stream repeats what the master last heard of every node, however long ago; it is no sign
        of life, and need not be: all timers have just restarted.
        """
        if self._stream_at is not None and now - self._stream_at > self._gap_s:
            self.restart(now)
        self._stream_at = now
        for node, sequence in heartbeats:
            pulse = self._pulses.get(node)
            if pulse is not None and pulse.sequence != sequence:
                pulse.sequence = sequence
                pulse.hear(now)

    def tick(self, now: float) -> bool:
        """To be called at every look at the nodes. False: there is nothing to judge by now."""
        if self._ticked_at is not None and now - self._ticked_at > self._gap_s:
            self.restart(now)
        self._ticked_at = now
        return self._stream_at is not None and now - self._stream_at <= self._gap_s

    def restart(self, now: float) -> None:
        """All timers start again."""
        self._restarted_at = now
        for pulse in self._pulses.values():
            pulse.hear(now)

    def freshness(self, node: str, now: float, *, was_ready: bool) -> Freshness:
        """`was_ready`: the node has reported a Ready condition before, so the ordinary grace applies."""
        pulse = self._pulses.get(node)
        if pulse is None:
            return Freshness.FRESH
        silence_s = now - pulse.heard_at
        grace_s = self._grace_s if was_ready else max(self._startup_grace_s, self._grace_s)
        if silence_s > grace_s:
            return Freshness.SILENT
        return Freshness.SUSPECT if silence_s > self._gap_s else Freshness.FRESH

    def is_settled(self, now: float) -> bool:
        """The timers have run for a whole grace since they last restarted."""
        return now - self._restarted_at > self._grace_s
