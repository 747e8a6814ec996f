"""What was answered lately to writes that may be sent again: so a write that is repeated happens once.

A caller that has heard no answer does not know whether its write happened. If it named the write (request_id), it sends
it again, to whichever master, and is told what the first one did. The log keeps a `Request` in the same append as the
changes that it made, so both are durable or neither is, and every master that follows the log knows both.

The window is ten minutes, and at most 20,000 requests; whoever comes back later than that is too late, and the write
happens again. In memory that is about half a kilobyte each.

Pure; what `Request.outcome` means is the master's business.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from cluster.store.interface import Request

AGE_S = 600.0
"""By wall time; when that is set forward, requests are forgotten sooner."""
LIMIT = 20_000


class Requests:
    """Requests by their id; added in the order of revisions."""

    def __init__(self, limit: int = LIMIT, age_s: float = AGE_S) -> None:
        self._limit = limit
        self._age_s = age_s
        self._requests: OrderedDict[str, Request] = OrderedDict()

    def __len__(self) -> int:
        return len(self._requests)

    def until(self, revision: int) -> list[Request]:
        """All that are kept and were carried out by then, the oldest first."""
        return [request for request in self._requests.values() if request.revision <= revision]

    def find(self, request_id: str, now_s: float) -> Request | None:
        """The request of that id, if it is not older than the window."""
        found = self._requests.get(request_id)
        return found if found is not None and found.time_s >= now_s - self._age_s else None

    def add(self, requests: Iterable[Request]) -> None:
        """Takes these in; the same again does no harm. What falls out of the window is forgotten."""
        kept = self._requests
        newest_s = 0.0
        for request in requests:
            kept[request.request_id] = request
            newest_s = request.time_s
        while kept:
            oldest = next(iter(kept.values()))
            if len(kept) <= self._limit and oldest.time_s >= newest_s - self._age_s:
                break
            kept.popitem(last=False)
