"""Endpoints that fail to answer are left out for a while: passive outlier ejection, with Envoy's rules.

    so many failures to connect in a row    ejected, for the base time x the number of times that it was ejected
    a connection                            the count begins again
    each interval                           who has sat out its time comes back; who has behaved is forgiven one time

Never more than a share of all endpoints are out, but one always may be. Without that a fault of the network would leave
nobody, and with nobody out at all, one broken endpoint of three would take a try of every third client. Who chooses
decides what happens if all that is left is out: they are tried all the same.

Time is an argument. There is no timer: the sweep of an interval that has passed is made up for at the next question.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from proxy.policies import Target


@dataclass(frozen=True, slots=True)
class OutlierTerms:
    """Envoy's defaults."""

    consecutive_failures: int = 5
    """0: nobody is ejected."""
    interval_s: float = 10.0
    base_s: float = 30.0
    max_s: float = 300.0
    max_percent: int = 10


@dataclass(slots=True)
class _Ejected:
    times: int = 0
    until: float | None = None
    """None: it is not out now."""


class OutlierDetector:
    """Of one service port."""

    __slots__ = ("_failures", "_next_sweep", "_out", "_records", "_targets", "ejections", "terms")

    def __init__(self, terms: OutlierTerms | None = None) -> None:
        self.terms = terms or OutlierTerms()
        self._targets: Collection[Target] = ()
        self._failures: dict[Target, int] = {}
        """In a row; who does not fail is not in it."""
        self._records: dict[Target, _Ejected] = {}
        self._out: frozenset[Target] = frozenset()
        self._next_sweep = 0.0
        self.ejections = 0
        """Since the beginning."""

    def replace(self, targets: Collection[Target], terms: OutlierTerms) -> None:
        """Other endpoints or terms. Of those who stay everything is kept, but nobody is out if that is switched off."""
        self.terms = terms
        self._targets = targets
        present = set(targets)
        self._failures = {target: count for target, count in self._failures.items() if target in present}
        self._records = {target: record for target, record in self._records.items() if target in present}
        self._out &= present
        if terms.consecutive_failures == 0:
            self._failures.clear()
            self._records.clear()
            self._out = frozenset()

    def out(self, now: float) -> frozenset[Target]:
        """Who is ejected now."""
        if self._records and now >= self._next_sweep:
            self._sweep(now)
        return self._out

    def failed(self, target: Target, now: float) -> bool:
        """It could not be connected to. True if that was once too often, and it is ejected."""
        if self.terms.consecutive_failures == 0 or target in self._out or target not in self._targets:
            return False
        count = self._failures[target] = self._failures.get(target, 0) + 1
        if count < self.terms.consecutive_failures or len(self._out) >= self._allowed():
            return False
        del self._failures[target]
        if not self._records:
            self._next_sweep = now + self.terms.interval_s
        record = self._records.setdefault(target, _Ejected())
        record.times += 1
        record.until = now + min(self.terms.base_s * record.times, self.terms.max_s)
        self._out |= {target}
        self.ejections += 1
        return True

    def connected(self, target: Target) -> None:
        """It answered."""
        if self._failures:
            self._failures.pop(target, None)

    def _allowed(self) -> int:
        return max(1, len(self._targets) * self.terms.max_percent // 100)

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + self.terms.interval_s
        for target, record in list(self._records.items()):
            if record.until is None:
                record.times -= 1
                if record.times == 0:
                    del self._records[target]
            elif now >= record.until:
                record.until = None
                self._out -= {target}
