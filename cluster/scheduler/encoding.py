"""Labels and taints of nodes as small numbers, one per row, so that arrays can compare them.

    row                       0     1     2            numbers
    label "zone"              0     1     -1           {"a": 0, "b": 1}; -1: the node does not carry it
    taint set                 0     2     0            [(), (...), (gpu=yes:NoSchedule,)]

A label is encoded when somebody first asks for its key; the columns are bounded, and what is left out is encoded afresh
when it is asked for again. Numbers of values that no node has any more stay until the column is encoded anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cluster.scheduler.facts import NodeFacts
from cluster.scheduler.shape import TaintTuple

IntArray = NDArray[np.int64]

LABEL_COLUMNS_LIMIT = 256
"""So many label keys are kept encoded; a selector with yet another key makes the oldest be dropped."""

TAINT_SETS_LIMIT = 1024
"""Different combinations of taints, beyond two per row, that are remembered before old ones are weeded out."""


@dataclass(slots=True, eq=False)
class LabelColumn:
    """The values of one label key, as small numbers: -1 where a node does not carry the key."""

    codes: IntArray
    numbers: dict[str, int] = field(default_factory=dict)

    def code(self, value: str | None) -> int:
        """The number of a value, a new one if need be."""
        return -1 if value is None else self.numbers.setdefault(value, len(self.numbers))


class LabelColumns:
    """The columns that were asked for."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._columns: dict[str, LabelColumn] = {}

    def column(self, key: str, facts: dict[int, NodeFacts]) -> LabelColumn:
        """The column of a key; `facts` of the nodes by row, in case that it is new."""
        column = self._columns.get(key)
        if column is None:
            if len(self._columns) >= LABEL_COLUMNS_LIMIT:
                del self._columns[next(iter(self._columns))]
            column = self._columns[key] = LabelColumn(np.full(self._rows, -1, np.int64))
            for row, of_row in facts.items():
                column.codes[row] = column.code(of_row.label_map.get(key))
        return column

    def set(self, row: int, facts: NodeFacts | None) -> None:
        """A node is new or changed, or gone (None)."""
        for key, column in list(self._columns.items()):
            column.codes[row] = column.code(facts.label_map.get(key)) if facts is not None else -1
            if len(column.numbers) > 2 * self._rows + LABEL_COLUMNS_LIMIT:
                del self._columns[key]  # mostly values of nodes long gone: encoded afresh when asked for

    def grow(self, by: int) -> None:
        """There are so many rows more."""
        self._rows += by
        for column in self._columns.values():
            column.codes = np.concatenate([column.codes, np.full(by, -1, np.int64)])


class TaintSets:
    """Combinations of taints, numbered; 0 is none at all."""

    def __init__(self) -> None:
        self.sets: list[tuple[TaintTuple, ...]] = [()]
        self._numbers: dict[tuple[TaintTuple, ...], int] = {(): 0}

    def __iter__(self) -> Iterator[tuple[TaintTuple, ...]]:
        return iter(self.sets)

    def number(self, taints: tuple[TaintTuple, ...]) -> int:
        """The number of a combination, a new one if need be."""
        number = self._numbers.get(taints)
        if number is None:
            number = self._numbers[taints] = len(self.sets)
            self.sets.append(taints)
        return number

    def is_overgrown(self, rows: int) -> bool:
        """Most of the combinations are those of nodes long gone."""
        return len(self.sets) > 2 * rows + TAINT_SETS_LIMIT
