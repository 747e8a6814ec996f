"""What a row of probe results means. Pure.

A probe's answer changes only after a threshold of equal results in a row (Kubernetes, pkg/kubelet/prober/worker.go).
Until the first result readiness counts as failed and liveness as fine; startup is neither, and its first answer is its
last. A probe that could not be carried out at all is
neither success nor failure: it is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluster.pb.v1 import core_pb2 as core

READINESS, LIVENESS, STARTUP = "readiness", "liveness", "startup"


@dataclass(frozen=True, slots=True)
class ProbeTimes:
    """When and how often; Kubernetes' defaults where the spec says nothing."""

    initial_delay_s: float = 0.0
    timeout_s: float = 1.0
    period_s: float = 10.0
    success_threshold: int = 1
    failure_threshold: int = 3

    @classmethod
    def of(cls, probe: core.Probe) -> ProbeTimes:
        return cls(
            probe.initialDelaySeconds,
            probe.timeoutSeconds or 1,
            probe.periodSeconds or 10,
            probe.successThreshold or 1,
            probe.failureThreshold or 3,
        )


def first_delay_s(times: ProbeTimes, *, ran_s: float, spread: float = 0.0) -> float:
    """How long until the first probe of a container that has run for `ran_s` already.

    `spread`, between 0 and 1, puts it somewhere into the first period: for the many probes that an agent takes over at
    the same moment when it begins. Kubernetes spreads all probes of a kubelet that begins; here only those wait whose
    containers are known to be well, so that nobody is ready later for it.
    """
    return max(0.0, times.initial_delay_s - ran_s) + spread * times.period_s


@dataclass(frozen=True, slots=True)
class ProbeState:
    """The answer so far and the results in a row that may change it."""

    healthy: bool
    last: bool | None = None
    """The last result; None before the first."""
    in_row: int = 0
    """How many results equal to the last one came in a row."""

    @classmethod
    def initial(cls, kind: str) -> ProbeState:
        """Before the first result."""
        return cls(healthy=kind == LIVENESS)

    def has_answer(self, times: ProbeTimes) -> bool:
        """The last results in a row are enough for an answer, the first or a new one."""
        return self.in_row >= (times.success_threshold if self.last else times.failure_threshold)

    def observe(self, success: bool, times: ProbeTimes) -> ProbeState:
        """The state after one more result."""
        in_row = self.in_row + 1 if self.last == success else 1
        threshold = times.success_threshold if success else times.failure_threshold
        healthy = success if in_row >= threshold else self.healthy
        return replace(self, healthy=healthy, last=success, in_row=in_row)
