"""Which policies a service may name, and what may be said to those that ship. Pure.

A policy is one of the built-in names, or "module:Class" for a class of the user's own, which only the proxy can look
for. The options of the built-in ones are checked here, when the service is written: a misspelt option would otherwise
be found out when the first connection comes. Those of a user's class are its own; they are held to a size only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from cluster.api.errors import BadRequest
from cluster.api.http_rules import PREFIX, parse_rules
from cluster.api.labels import label_key_problems, label_value_problems, parse_selector

MAX_OPTIONS: Final = 64
MAX_OPTION_BYTES: Final = 1024

_OWN = re.compile(r"[a-z_][a-z0-9_]{0,62}:[A-Za-z_][A-Za-z0-9_]{0,62}")

_Check = Callable[[str], str | None]
"""What is wrong with a value; None: nothing."""


def _label_key(value: str) -> str | None:
    return next(iter(label_key_problems(value)), None)


def _label_value(value: str) -> str | None:
    return next(iter(label_value_problems(value)), None) if value else "must not be empty"


def _boolean(value: str) -> str | None:
    return None if value in ("true", "false") else 'must be "true" or "false"'


def _seconds(value: str) -> str | None:
    fine = value.isascii() and value.isdigit() and 1 <= int(value) <= 86400
    return None if fine else "must be a whole number of seconds from 1 to 86400"


def _selector(value: str) -> str | None:
    try:
        parse_selector(value)
    except BadRequest as error:
        return error.message
    return None if value.strip() else "must not be empty"


def _header(value: str) -> str | None:
    return None if re.fullmatch(r"[A-Za-z0-9-]{1,64}", value) else "must be the name of a header"


_ROLES: Final[Mapping[str, _Check]] = {
    "role-label": _label_key,
    "master": _label_value,
    "replica": _label_value,
    "pin-after-write": _boolean,
}
BUILT_IN: Final[Mapping[str, Mapping[str, _Check]]] = {
    "redis": _ROLES,
    "postgresql": _ROLES,
    "http": {
        "mirror": _selector,
        "forwarded": _boolean,
        "hash-header": _header,
        "timeout-seconds": _seconds,
    },
}
"""The policies that ship, with their options and what those may be; the rules of "http" are beside them."""


def policy_problems(policy: str) -> list[str]:
    """What is wrong with the name of a policy."""
    if policy in BUILT_IN or _OWN.fullmatch(policy):
        return []
    known = ", ".join(f'"{name}"' for name in BUILT_IN)
    return [f'must be one of {known}, or "module:Class" for a class in the directory that `--policies` names']


def option_problems(policy: str, options: Mapping[str, str]) -> list[tuple[str, str]]:
    """What is wrong with the options: the name of each, "" for all of them, and a sentence."""
    if len(options) > MAX_OPTIONS:
        return [("", f"must have at most {MAX_OPTIONS} entries")]
    found = [
        (name, f"must have a name, and at most {MAX_OPTION_BYTES} bytes")
        for name in sorted(options)
        if not name or len(name.encode()) + len(options[name].encode()) > MAX_OPTION_BYTES
    ]
    if policy not in BUILT_IN:
        return found
    known = BUILT_IN[policy]
    for name in sorted(options):
        if policy == "http" and name.startswith(PREFIX):
            continue
        if name not in known:
            supported = ", ".join((*known, *([f"{PREFIX}N"] if policy == "http" else [])))
            found.append((name, f"is no option of the policy {policy!r}; there are {supported}"))
        elif (problem := known[name](options[name])) is not None:
            found.append((name, problem))
    if policy == "http":
        try:
            parse_rules(options)
        except ValueError as error:
            where, _, problem = str(error).partition(": ")
            found.append((where, problem))
    elif options.get("master", "master") == options.get("replica", "replica"):
        found.append(("replica", "must not be the same as that of the master"))
    return found
