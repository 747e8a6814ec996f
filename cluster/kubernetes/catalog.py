"""What is served at a time: Podium's own kinds, and those that users have defined.

A Catalog never changes: when a definition does, another one takes its place (`keeper.py`). So a request takes the one
that there is when it comes, and stays with it. Documents that are made of it (discovery, OpenAPI) are made when
somebody first asks, and kept with it: nothing of this is done again for each request. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from cluster.api.definitions import version_order
from cluster.kubernetes.resources import RESOURCES, Resource

T = TypeVar("T")


class Catalog:
    """What is served. See above."""

    def __init__(self, custom: Iterable[Resource] = ()) -> None:
        """`custom`: rows of definitions. Where one has the path of another, Podium's own counts, or the first."""
        self.rows: tuple[Resource, ...] = ()
        self.by_path: dict[tuple[str, str, str], Resource] = {}
        """(group, version, plural) -> row."""
        own = {(row.group, row.version, row.plural): row for row in RESOURCES}
        added: dict[tuple[str, str, str], Resource] = {}
        for row in custom:
            place = (row.group, row.version, row.plural)
            if place not in own:
                added.setdefault(place, row)
        groups = sorted(added.items(), key=lambda item: (item[0][0], version_order(item[0][1]), item[0][2]))
        self.by_path = own | dict(groups)
        self.rows = tuple(self.by_path.values())
        self.group_versions: tuple[tuple[str, str], ...] = tuple(
            dict.fromkeys((row.group, row.version) for row in self.rows)
        )
        """The core group first, then Podium's others, then those of definitions, in the order of their names; of each
        group the version first that clients are to prefer."""
        self._of: dict[tuple[str, str], list[Resource]] = {}
        for row in sorted(self.rows, key=lambda row: row.plural):
            self._of.setdefault((row.group, row.version), []).append(row)
        self._kept: dict[Hashable, object] = {}

    def resources_of(self, group: str, version: str) -> list[Resource]:
        """Those of one group and version, sorted by name."""
        return self._of.get((group, version), [])

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made of this catalog, by a name that nobody else uses; made now, if it is asked for first."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]  # type: ignore[return-value]


OWN = Catalog()
"""Podium's own kinds alone."""
