"""What the answers of an endpoint to the proxy's own health checks make of it: a count, as for Kubernetes' probes.

An endpoint is well until it has failed so many times in a row, and then ill until it has been well so many times in a
row. Nothing here asks anybody.
"""

from __future__ import annotations

from proxy.routing import HealthTerms


class Health:
    """Of one endpoint."""

    __slots__ = ("_in_a_row", "is_well")

    def __init__(self) -> None:
        self.is_well = True
        self._in_a_row = 0
        """Answers that speak against what it is taken for."""

    def answered(self, *, well: bool, terms: HealthTerms) -> bool:
        """It was asked. True if that changes what it is taken for."""
        if well == self.is_well:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        if self._in_a_row < (terms.success_threshold if well else terms.failure_threshold):
            return False
        self.is_well = well
        self._in_a_row = 0
        return True


def request(path: str, host: str) -> bytes:
    """What an endpoint is asked by HTTP."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: podium-proxy\r\nConnection: close\r\n\r\n".encode(
        "ascii"
    )


def is_well(answer: bytes) -> bool:
    """Whether the first line of an HTTP answer says 200 to 399."""
    version, _, rest = answer.partition(b" ")
    code = rest[:3]
    return version.startswith(b"HTTP/1.") and code.isdigit() and 200 <= int(code) < 400
