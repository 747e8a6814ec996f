"""Where a request of HTTP goes: the group that a rule leads to, and whose turn it is in the group. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import h11

from cluster.api.http_rules import EVERYTHING_RULE, draw, parse_rules
from cluster.api.labels import Selector, parse_selector
from proxy.ambassadors.http_heads import Refused
from proxy.ambassadors.policy import Endpoint, in_turn

if TYPE_CHECKING:
    from random import Random


class HttpRouting:
    """Of one port. Its options: rule.N, mirror, hash-header."""

    def __init__(self, options: Mapping[str, str], rng: Random) -> None:
        self.mirror: Selector | None = parse_selector(options["mirror"]) if "mirror" in options else None
        """Who gets a copy of each request."""
        self._rules = parse_rules(options) or [EVERYTHING_RULE]
        self._hash_header = options.get("hash-header", "").lower().encode()
        self._rng = rng
        self._turn = 0

    def group_for(self, request: h11.Request) -> Selector:
        """Which endpoints may answer it. Raises Refused: no rule has anything to say about it."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        path = request.target.decode("latin-1").partition("?")[0]
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        method = request.method.decode("latin-1")
        for rule in self._rules:
            if rule.matches(method, path, host, headers):
                return draw(rule.groups, self._rng.random()).selector
        raise Refused(404, f"no rule of the service leads anywhere for {path[:200]}")

    def order(self, endpoints: Sequence[Endpoint], group: Selector, request: h11.Request) -> list[Endpoint]:
        """The endpoints of a group, for one request: best first."""
        found = [each for each in endpoints if group.matches(each.labels)]
        value = next((value for name, value in request.headers if name == self._hash_header), None)
        if self._hash_header and value is not None:  # the highest hash wins: few move when one comes or goes
            return sorted(found, key=lambda each: hashlib.blake2b(str(each).encode() + b"\0" + value).digest())
        self._turn += 1
        return in_turn(found, self._turn)
