"""How objects look on a terminal: Kubernetes' columns, and wide, json, yaml and name.

Pure: objects and the time in, text out. Text that comes from objects is escaped before it reaches a terminal, because a
name or a message may carry control characters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from cluster.api.columns import COLUMNS, WIDE, labels_text
from cluster.api.json import object_to_json
from cluster.api.kinds import AnyObject, DefinedKind, Kind, kind_of
from cluster.pb.v1 import core_pb2 as core


def clean(text: str) -> str:
    """Text without control characters (they are shown as escapes), so that it cannot steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def table(
    kind: Kind,
    objects: Sequence[AnyObject],
    now_s: float,
    *,
    wide: bool = False,
    namespaces: bool = False,
    kind_prefix: bool = False,
    headers: bool = True,
    show_labels: bool = False,
    at_least: list[int] | None = None,
) -> str:
    """Objects of one kind as aligned columns, one line each, no newline at the end.

    `at_least`: widths of the columns of what stands above already; it is brought up to those of this table.
    """
    headings, cells = _columns(kind, wide=wide)
    if show_labels:
        headings.append("LABELS")
    if namespaces and kind.namespaced:
        headings.insert(0, "NAMESPACE")
    rows = [headings] if headers else []
    for obj in objects:
        row = cells(obj, now_s)
        if kind_prefix and kind.name != "Event":
            row[0] = f"{kind.field}/{row[0]}"
        if show_labels:
            row.append(labels_text(obj.metadata.labels))
        if namespaces and kind.namespaced:
            row.insert(0, obj.metadata.namespace)
        rows.append([clean(cell) for cell in row])
    return align(rows, at_least=at_least)


def _columns(kind: Kind, *, wide: bool) -> tuple[list[str], Callable[[Any, float], list[str]]]:
    """Headings, and what gives the cells of an object at a time."""
    if isinstance(kind, DefinedKind):
        from cluster.api.custom_columns import terminal_columns

        return terminal_columns(kind, wide=wide)
    columns = [*COLUMNS[kind.name], *(WIDE.get(kind.name, ()) if wide else ())]
    return [heading for heading, _ in columns], lambda obj, now_s: [cell(obj, now_s) for _, cell in columns]


def align(rows: Sequence[Sequence[str]], gap: int = 3, *, at_least: list[int] | None = None) -> str:
    """Rows of cells as text in columns; the last column is not padded. `at_least`: see `table`."""
    if not rows:
        return ""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    if at_least is not None:
        at_least[:] = widths = [max(pair) for pair in zip_longest(widths, at_least, fillvalue=0)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width + gap) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append("".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def name_of(obj: AnyObject) -> str:
    """As `-o name` prints it: pod/web-1, widget.example.com/blue."""
    if isinstance(obj, core.CustomObject):
        return f"{obj.kind.lower()}.{obj.apiVersion.rpartition('/')[0]}/{obj.metadata.name}"
    return f"{kind_of(obj).field}/{obj.metadata.name}"


def as_json(objects: Sequence[AnyObject], *, single: bool) -> str:
    """Kubernetes v1 JSON: the object, or a List."""
    return json.dumps(_document(objects, single), indent=4, ensure_ascii=False)


def as_yaml(objects: Sequence[AnyObject], *, single: bool) -> str:
    """The same as YAML."""
    import yaml

    text: str = yaml.safe_dump(
        _document(objects, single), sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text.rstrip("\n")


def _document(objects: Sequence[AnyObject], single: bool) -> dict[str, Any]:
    if single and len(objects) == 1:
        return object_to_json(objects[0])
    return {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"resourceVersion": ""},
        "items": [object_to_json(obj) for obj in objects],
    }
