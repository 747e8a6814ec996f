"""How the HTTP ambassador is told where requests go: rules that stand in the options of a service. Pure.

Options are text, so a rule is a line: conditions that must all hold, an arrow, and where the request goes then. That is
one selector over the labels of endpoints, or several with weights, from which one is drawn:

    rule.1: path=/api method=GET header:x-beta=yes => app=api
    rule.2: host=shop.example => app=shop, tier in (a,b)
    rule.9: => track=stable @ 95 | track=canary @ 5

Rules are tried by their number, the first that matches decides. A path is a prefix of whole elements, as in Kubernetes'
Ingress: /api stands for /api and /api/x, and not for /apix. `header:NAME` without a value asks whether it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.api.errors import BadRequest
from cluster.api.labels import EVERYTHING, Selector, parse_selector

PREFIX: Final = "rule."
MAX_WEIGHT: Final = 1_000_000
_CONDITIONS = "path=/PREFIX, method=NAME, host=NAME, header:NAME or header:NAME=VALUE"


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints that a rule leads to."""

    selector: Selector
    weight: int = 1
    """Its share among the groups of its rule; 0: none of the requests."""


@dataclass(frozen=True, slots=True)
class HttpRule:
    """What a request must be like, and where it goes then. What is empty is not asked for."""

    path: str = ""
    method: str = ""
    host: str = ""
    headers: tuple[tuple[str, str | None], ...] = ()
    """Names in lower case; None: any value will do."""
    groups: tuple[Group, ...] = (Group(EVERYTHING),)

    def matches(self, method: str, path: str, host: str, headers: Mapping[str, str]) -> bool:
        """Whether a request is meant. `path` is without its query, `host` without its port, names in lower case."""
        return (
            (not self.path or path == self.path or path.startswith(self.path.rstrip("/") + "/"))
            and (not self.method or method == self.method)
            and (not self.host or host.lower() == self.host)
            and all(name in headers if value is None else headers.get(name) == value for name, value in self.headers)
        )


EVERYTHING_RULE: Final = HttpRule()
"""Every request may go to any endpoint: what holds if there are no rules."""


def parse_rules(options: Mapping[str, str]) -> list[HttpRule]:
    """The rules among the options, by their number. Raises ValueError, which names the option and what is wrong."""
    numbered: list[tuple[int, HttpRule]] = []
    for name in sorted(options):
        if not name.startswith(PREFIX):
            continue
        digits = name.removeprefix(PREFIX)
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 4):
            raise ValueError(f"{name}: rules are numbered: {PREFIX}1 to {PREFIX}9999")
        try:
            numbered.append((int(digits), parse_rule(options[name])))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    numbers = [number for number, _ in numbered]
    for number in numbers:
        if numbers.count(number) > 1:
            raise ValueError(f"{PREFIX}{number}: there are two rules of this number")
    return [rule for _, rule in sorted(numbered, key=lambda each: each[0])]


def parse_rule(text: str) -> HttpRule:
    """One rule. Raises ValueError."""
    conditions, arrow, targets = text.partition("=>")
    if not arrow:
        raise ValueError('a rule is "CONDITIONS => SELECTOR [@ WEIGHT] [| SELECTOR @ WEIGHT ...]"')
    found: dict[str, str] = {}
    headers: list[tuple[str, str | None]] = []
    for word in conditions.split():
        key, equals, value = word.partition("=")
        if key.startswith("header:"):
            name = key.removeprefix("header:").lower()
            if not _is_token(name) or (equals and not value):
                raise ValueError(f"{word!r} is no condition; there are {_CONDITIONS}")
            headers.append((name, value if equals else None))
            continue
        if key not in ("path", "method", "host") or not value or key in found:
            raise ValueError(f"{word!r} is no condition, or its second; there are {_CONDITIONS}")
        if key == "path" and not value.startswith("/"):
            raise ValueError(f"{word!r}: a path begins with /")
        found[key] = value.lower() if key == "host" else value
    groups = tuple(_group(part) for part in targets.split("|"))
    if not any(group.weight for group in groups):
        raise ValueError("all weights are 0: the request could go nowhere")
    return HttpRule(found.get("path", ""), found.get("method", ""), found.get("host", ""), tuple(headers), groups)


def draw(groups: Sequence[Group], dice: float) -> Group:
    """The group that a throw of the dice, from 0 up to 1, falls on."""
    rest = dice * sum(group.weight for group in groups)
    for group in groups:
        if rest < group.weight:
            return group
        rest -= group.weight
    return max(groups, key=lambda group: group.weight)


def _group(text: str) -> Group:
    selector, at, weight = text.partition("@")
    weight = weight.strip()
    if at and not (weight.isascii() and weight.isdigit() and int(weight) <= MAX_WEIGHT):
        raise ValueError(f"{weight!r} is no weight: a whole number from 0 to {MAX_WEIGHT}")
    try:
        return Group(parse_selector(selector), int(weight) if at else 1)
    except BadRequest as error:
        raise ValueError(f"{selector.strip()!r}: {error.message}") from error


def _is_token(name: str) -> bool:
    return bool(name) and all(character.isalnum() or character in "!#$%&'*+-.^_`|~" for character in name)
