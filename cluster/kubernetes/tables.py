"""Objects as Kubernetes' Table: what `kubectl get` shows.

The columns are those of `cluster.api.columns`, which the terminal shows as well, but where Kubernetes' own differ; of
kinds that users define, those of the definition. Cells are ready to be shown. What does not
depend on the time is encoded once for each version of an object, with gaps for the ages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from cluster.api.columns import COLUMNS, NONE, WIDE, Cell, Column, age, age_of, restarts_of
from cluster.api.events import first_seen, times
from cluster.api.json import to_json
from cluster.api.kinds import AnyObject, Kind
from cluster.kubernetes import views
from cluster.kubernetes.encoding import TAIL, Encoder, metadata_of
from cluster.kubernetes.resources import Resource
from cluster.pb.v1 import core_pb2 as core

MAX_ROWS = 50_000
"""Of which the cells are kept."""


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
        Column(_titled(heading), cell, priority, ages=cell in (age_of, restarts_of))
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
    form: str = ""
    """Of a kind that users define: of which definition. Cells that were made by another one are not to be used."""


def _layout_of(columns: tuple[Column, ...], form: str = "") -> _Layout:
    runs: list[list[Cell]] = [[]]
    for column in columns:
        if column.ages:
            runs.append([])
        else:
            runs[-1].append(column.cell)
    return _Layout(columns, tuple(map(tuple, runs)), tuple(column for column in columns if column.ages), form)


class _Cells(NamedTuple):
    """Of an object's last version."""

    version: str
    texts: list[bytes]
    """Before the first age, between the first and the second ..., after the last."""
    moments: list[Any]
    """What ages are reckoned from, of columns that read that once."""


class Tables:
    """Makes tables, and remembers the cells of each object's last version."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._layouts: dict[str, _Layout] = {}
        self._rows: dict[str, _Cells] = {}

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
    ) -> bytes:
        """A Table. `include`: how much of each object its row has, Metadata, Object or None."""
        rows = self.rows(row, objects, now_s, include=include)
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
        self, row: Resource, objects: Iterable[AnyObject], now_s: float, *, include: str = "Metadata"
    ) -> list[bytes]:
        """The rows of objects of one kind."""
        layout = self._layout(row)
        rows = []
        for obj in objects:
            (_, texts, moments), metadata = self._cells(layout, row, obj)
            cells = texts[0]
            for column, text, moment in zip(layout.ages, texts[1:], moments, strict=True):
                cells += orjson.dumps(column.cell(obj if column.moment is None else moment, now_s)) + text
            if include == "None":
                rows.append(b'{"cells":[%s],"object":null}' % cells)
            else:
                shown = self._encoder.json(obj, row) if include == "Object" else self._encoder.metadata(obj, metadata)
                rows.append(b'{"cells":[%s],"object":%s}' % (cells, shown))
        return rows

    def forget(self, uid: str) -> None:
        """No cells that were made of this object are used again."""
        self._rows.pop(uid, None)

    def _layout(self, row: Resource) -> _Layout:
        custom = row.custom
        if custom is None:
            name = row.kind.name
            return self._layouts.get(name) or self._layouts.setdefault(name, _layout_of(columns_of(row.kind)))
        name = f"{custom.name}/{row.version}"
        found = self._layouts.get(name)
        if found is None or found.form != custom.tag:
            found = self._layouts[name] = _layout_of(custom.columns, custom.tag)
        return found

    def _cells(self, layout: _Layout, row: Resource, obj: AnyObject) -> tuple[_Cells, dict[str, Any] | None]:
        """And the metadata as JSON's values, if they were needed for that."""
        meta = obj.metadata
        uid = meta.uid
        version = f"{meta.resourceVersion} {layout.form}" if layout.form else meta.resourceVersion
        found = self._rows.get(uid)
        if found is not None and found.version == version:
            return found, None
        content: Any = obj
        metadata: dict[str, Any] | None = None
        if isinstance(obj, core.CustomObject):
            metadata = metadata_of(obj)
            content, _ = views.custom(obj, row, metadata)
        texts, last = [], len(layout.ages)
        for number, run in enumerate(layout.runs):
            text = orjson.dumps([cell(content, 0.0) for cell in run])[1:-1]
            before = b"," if number and run else b""
            after = b"," if number < last and (number or run) else b""
            texts.append(before + text + after)
        moments = [column.moment(content) if column.moment else None for column in layout.ages]
        found = _Cells(version, texts, moments)
        if uid and version:
            self._rows.pop(uid, None)
            self._rows[uid] = found
            if len(self._rows) > MAX_ROWS:
                del self._rows[next(iter(self._rows))]
        return found, metadata
