"""Objects as Kubernetes' Table: what `kubectl get` shows.

The columns are those of `cluster.api.columns`, which the terminal shows as well, but where Kubernetes' own differ; of
kinds that users define, those of the definition (`custom_columns.py`). Cells are ready to be shown. What does not
depend on the time is encoded once for each version of an object, with gaps for the ages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from cluster.api.columns import COLUMNS, NONE, WIDE, age, age_of
from cluster.api.events import first_seen, times
from cluster.api.json import object_to_json, to_json
from cluster.api.kinds import AnyObject, Kind
from cluster.kubernetes.encoding import TAIL, Encoder
from cluster.kubernetes.resources import Resource
from cluster.pb.v1 import core_pb2 as core

Cell: TypeAlias = Callable[[Any, float], Any]

MAX_ROWS = 50_000
"""Of which the cells are kept."""


@dataclass(frozen=True, slots=True)
class Column:
    """One of them."""

    name: str
    cell: Cell
    """Of an object, at a time."""
    priority: int = 0
    """1: shown only when asked for more (-o wide)."""
    ages: bool = False
    """The cell is another one a while later."""
    type: str = "string"
    format: str = ""
    description: str = ""
    moment: Callable[[Any], Any] | None = None
    """What an age is reckoned from, read from an object once: `cell` is then given that, and not the object."""


_WORDS = {"Ip": "IP", "Os": "OS"}
_NAMES = {"Preemptionpolicy": "Preemption-Policy", "Node": "Node", "Internal-Ip": "Internal-IP"}


def _titled(heading: str) -> str:
    """INTERNAL-IP as Kubernetes writes it: Internal-IP."""
    name = "-".join(_WORDS.get(word, word) for word in heading.title().split("-"))
    return _NAMES.get(name, name)


def _first_seen(event: core.Event, now_s: float) -> str:
    seen_s = first_seen(event)
    return age(now_s - seen_s) if seen_s else "<unknown>"


_EVENT_COLUMNS = (
    Column("Last Seen", COLUMNS["Event"][0][1], ages=True),
    Column("Type", lambda o, _: o.type),
    Column("Reason", lambda o, _: o.reason),
    Column("Object", COLUMNS["Event"][3][1]),
    Column("Subobject", lambda o, _: o.involvedObject.fieldPath, 1),
    Column("Source", WIDE["Event"][0][1], 1),
    Column("Message", lambda o, _: o.message.strip()),
    Column("First Seen", _first_seen, 1, ages=True),
    Column("Count", lambda o, _: str(times(o)), 1),
    Column("Name", lambda o, _: o.metadata.name, 1),
)
_DEFINITION_COLUMNS = (
    Column("Name", lambda o, _: o.metadata.name),
    Column("Created At", lambda o, _: to_json(o.metadata.creationTimestamp), type="date"),
)
_NOT_OF_KUBERNETES = {("Pod", "REASON"), ("Node", "ENFORCE"), ("PriorityClass", "PREEMPTIONPOLICY")}
_EXTERNAL_IP = Column(
    "External-IP", lambda o, _: next((a.address for a in o.status.addresses if a.type == "ExternalIP"), NONE), 1
)
_MORE: dict[str, tuple[Column, ...]] = {
    "Pod": (Column("Readiness Gates", lambda o, _: NONE, 1),),
    "PriorityClass": (Column("PreemptionPolicy", lambda o, _: o.preemptionPolicy),),
}


def columns_of(kind: Kind) -> tuple[Column, ...]:
    """The columns of a kind, wide ones included."""
    if kind.name == "Event":
        return _EVENT_COLUMNS
    if kind.name == "CustomResourceDefinition":
        return _DEFINITION_COLUMNS
    found = [
        Column(_titled(heading), cell, priority, ages=cell is age_of)
        for priority, columns in ((0, COLUMNS[kind.name]), (1, WIDE.get(kind.name, ())))
        for heading, cell in columns
        if (kind.name, heading) not in _NOT_OF_KUBERNETES
    ]
    if kind.name == "Node":
        found.insert([column.name for column in found].index("Internal-IP") + 1, _EXTERNAL_IP)
    return (*found, *_MORE.get(kind.name, ()))


def definitions(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """As a Table says them."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format or ("name" if column.name == "Name" else ""),
            "description": column.description,
            "priority": column.priority,
        }
        for column in columns
    ]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns of a kind, and their cells in runs between those that are ages."""

    columns: tuple[Column, ...]
    runs: tuple[tuple[Cell, ...], ...]
    """One more than there are ages; any of them may be empty."""
    ages: tuple[Column, ...]


def _layout_of(columns: tuple[Column, ...]) -> _Layout:
    runs: list[list[Cell]] = [[]]
    for column in columns:
        if column.ages:
            runs.append([])
        else:
            runs[-1].append(column.cell)
    return _Layout(columns, tuple(map(tuple, runs)), tuple(column for column in columns if column.ages))


class Tables:
    """Makes tables, and remembers the cells of each object's last version."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._layouts: dict[str, _Layout] = {}
        self._rows: dict[str, tuple[str, list[bytes], list[Any]]] = {}

    def table(
        self,
        row: Resource,
        objects: Iterable[AnyObject],
        now_s: float,
        metadata: dict[str, Any],
        *,
        version: str = "v1",
        include: str = "Metadata",
        headings: bool = True,
        encode: Callable[[Any], bytes] | None = None,
    ) -> bytes:
        """A Table. `include`: how much of each object its row has, Metadata, Object (as `encode` prints it) or None."""
        rows = self.rows(row, objects, now_s, include=include, encode=encode)
        return b"".join((self.head(row, metadata, version=version, headings=headings), b",".join(rows), TAIL))

    def head(self, row: Resource, metadata: dict[str, Any], *, version: str = "v1", headings: bool = True) -> bytes:
        """A Table up to its rows, which follow with commas between them, and then `TAIL`."""
        table = {
            "kind": "Table",
            "apiVersion": f"meta.k8s.io/{version}",
            "metadata": metadata,
            "columnDefinitions": definitions(self._layout(row).columns) if headings else [],
        }
        return orjson.dumps(table)[:-1] + b',"rows":['

    def rows(
        self,
        row: Resource,
        objects: Iterable[AnyObject],
        now_s: float,
        *,
        include: str = "Metadata",
        encode: Callable[[Any], bytes] | None = None,
    ) -> list[bytes]:
        """The rows of objects of one kind."""
        layout, form = self._layout(row), row.custom.tag if row.custom is not None else ""
        rows = []
        for obj in objects:
            texts, moments = self._cells(layout, obj, form)
            cells = texts[0]
            for column, text, moment in zip(layout.ages, texts[1:], moments, strict=True):
                cells += orjson.dumps(column.cell(obj if column.moment is None else moment, now_s)) + text
            if include == "None":
                rows.append(b'{"cells":[%s],"object":null}' % cells)
            else:
                if include == "Object":
                    shown = encode(obj) if encode is not None else self._encoder.json(obj, row)
                else:
                    shown = self._encoder.metadata(obj)
                rows.append(b'{"cells":[%s],"object":%s}' % (cells, shown))
        return rows

    def _layout(self, row: Resource) -> _Layout:
        if row.custom is not None:
            return _layout_of(row.custom.columns)
        name = row.kind.name
        return self._layouts.get(name) or self._layouts.setdefault(name, _layout_of(columns_of(row.kind)))

    def _cells(self, layout: _Layout, obj: AnyObject, form: str) -> tuple[list[bytes], list[Any]]:
        """The text of the cells before the first age, between the first and the second ..., after the last; and the
        moments of these ages, of columns that read them once. `form`: which columns these are, where a kind has had
        others."""
        meta = obj.metadata
        uid, version = meta.uid, f"{meta.resourceVersion} {form}" if form else meta.resourceVersion
        found = self._rows.get(uid)
        if found is not None and found[0] == version:
            return found[1], found[2]
        content = object_to_json(obj) if isinstance(obj, core.CustomObject) else obj
        moments = [column.moment(content) if column.moment else None for column in layout.ages]
        texts, last = [], len(layout.ages)
        for number, run in enumerate(layout.runs):
            text = orjson.dumps([cell(content, 0.0) for cell in run])[1:-1]
            before = b"," if number and run else b""
            after = b"," if number < last and (number or run) else b""
            texts.append(before + text + after)
        if uid and version:
            self._rows.pop(uid, None)
            self._rows[uid] = (version, texts, moments)
            if len(self._rows) > MAX_ROWS:
                del self._rows[next(iter(self._rows))]
        return texts, moments
