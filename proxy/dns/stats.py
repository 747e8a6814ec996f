"""What the DNS server counts: plain integers on the hot path, metrics only when somebody asks (as `proxy.stats`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}
_COUNTERS = (
    ("answers_from_memory", "Answers that were put together before.", "from_memory"),
    ("answers_cut", "Answers that were cut, for the asker to come by TCP.", "cut"),
    ("ignored", "Messages that got no answer: they were no questions, or not from this machine.", "ignored"),
    ("unsent", "Answers that could not be sent.", "unsent"),
    ("forwarded", "Questions asked upstream.", "forwarded"),
    ("forward_failures", "Those that nobody answered, or that were too many.", "forward_failures"),
    ("connections", "TCP connections accepted.", "connections"),
    ("connections_refused", "TCP connections closed at once, since there were too many.", "connections_refused"),
    ("failures", "Questions at which this program failed; its log says how.", "failures"),
)
"""Name, help, and the attribute that counts it."""


@dataclass(slots=True, eq=False)
class DnsStats(Collector):
    """All counters of a DNS server."""

    codes: list[int] = field(default_factory=lambda: [0] * 17)
    from_memory: int = 0
    cut: int = 0
    ignored: int = 0
    unsent: int = 0
    forwarded: int = 0
    forward_failures: int = 0
    connections: int = 0
    connections_refused: int = 0
    failures: int = 0
    names: int = 0
    """In the zone, now."""

    def count(self, code: int) -> None:
        """One more answer with this code."""
        self.codes[code] += 1

    def collect(self) -> Iterator[Metric]:
        """The counters as Prometheus knows them."""
        answers = CounterMetricFamily("podium_dns_answers", "Answers given.", labels=("code",))
        for code, name in _CODES.items():
            answers.add_metric((name,), self.codes[code])
        yield answers
        yield GaugeMetricFamily("podium_dns_names", "Names that there are.", self.names)
        for name, text, attribute in _COUNTERS:
            yield CounterMetricFamily(f"podium_dns_{name}", text, getattr(self, attribute))
