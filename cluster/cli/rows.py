"""Lines of `podium describe`: a title and what stands beside it, lists below each other, conditions, times."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.pb.v1 import core_pb2 as core

_WIDTH = 19


def row(title: str, value: object, indent: int = 0) -> str:
    """One line; "<none>" where there is nothing to say."""
    from cluster.api.columns import NONE
    from cluster.cli.printers import clean

    text = clean(str(value)) if value not in ("", None) else NONE
    return f"{' ' * indent}{(title + ':').ljust(_WIDTH - indent - 1)} {text}"


def rows(title: str, values: Iterable[str], indent: int = 0) -> list[str]:
    """A title with its values below each other."""
    from cluster.cli.printers import clean

    found = list(values) or ["<none>"]
    lines = [f"{' ' * indent}{(title + ':').ljust(_WIDTH - indent - 1)} {clean(found[0])}"]
    return lines + [f"{' ' * _WIDTH}{clean(value)}" for value in found[1:]]


def pairs(mapping: Any) -> list[str]:
    """Labels or annotations, sorted; not the one that `apply` keeps its notes in."""
    from cluster.api.diff import LAST_APPLIED

    return [f"{key}={mapping[key]}" for key in sorted(mapping) if key != LAST_APPLIED]


def when(time: core.Time) -> str:
    """A time as kubectl describe writes it, in UTC."""
    from datetime import datetime

    return datetime.fromtimestamp(time.seconds, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")


def conditions(found: Any) -> list[str]:
    """A table of them; nothing if there are none."""
    from cluster.cli.printers import align, clean

    if not found:
        return []
    table = [["  Type", "Status", "Reason", "Message"]]
    table += [[f"  {c.type}", c.status, clean(c.reason) or "-", clean(c.message)] for c in found]
    return ["Conditions:", align(table)]
