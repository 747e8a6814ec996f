"""Pages of a list: all pages show the snapshot of the first, because the token for the next one carries its revision.

A token says where to go on: the store, the revision and the key of the last object sent. It is opaque to callers, and
one that was made up is a BadRequest. The list that a snapshot stands for is kept while somebody reads it (`Snapshots`):
while others write, to make it anew for each page would cost as much as all pages together. Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.api.errors import BadRequest
from cluster.api.kinds import AnyObject
from cluster.api.meta import Key
from cluster.store.version import Version

_VERSION = 2
PAGE_BYTES = 8 * 1024 * 1024
"""A page of large objects ends here, before its limit."""
SNAPSHOTS = 4
"""So many lists are kept for their readers ..."""
SNAPSHOT_S = 30.0
"""... and none for longer than this since its last page."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends."""

    revision: int
    after: Key
    store_id: str = ""
    """To which the revision belongs."""


def write_token(place: Place) -> str:
    """The token for the next page."""
    text = json.dumps([_VERSION, place.store_id, place.revision, *place.after], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(token: str, kind: str) -> Place:
    """Where to go on. Raises BadRequest for anything that `write_token` did not write for this kind."""
    try:
        data = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, store_id, revision, *after = data
        if version != _VERSION or type(revision) is not int or revision < 0 or len(after) != 3 or after[0] != kind:
            raise ValueError
        if not all(isinstance(part, str) for part in (store_id, *after)):
            raise ValueError
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise BadRequest("the continue token is not one of this list; begin again without it") from None
    return Place(revision, Key(*after), store_id)


class Asked(NamedTuple):
    """What a list shows."""

    store_id: str
    revision: int
    kind: str
    namespace: str
    node: str


class Snapshots:
    """The lists that are being read page by page, by what they show. Whoever finds none makes the list anew."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Asked, tuple[float, Sequence[Version]]] = OrderedDict()
        """When it was read last, longest ago first; at most SNAPSHOTS."""

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, asked: Asked, now_s: float) -> Sequence[Version] | None:
        """The list, sorted by key, if it is kept."""
        while self._kept and now_s - next(iter(self._kept.values()))[0] > SNAPSHOT_S:
            self._kept.popitem(last=False)
        found = self._kept.get(asked)
        return None if found is None else found[1]

    def keep(self, asked: Asked, versions: Sequence[Version], now_s: float) -> None:
        """There is more to read of it."""
        self._kept[asked] = now_s, versions
        self._kept.move_to_end(asked)
        if len(self._kept) > SNAPSHOTS:
            self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects, and what comes after."""

    versions: Sequence[Version]
    last: Key | None = None
    """Of the last object, if there are more."""
    remaining: int = 0
    """How many there are still, if that can be told without looking at each."""


def page(
    versions: Sequence[Version], limit: int, after: Key | None, matches: Callable[[AnyObject], bool] | None
) -> Page:
    """At most `limit` (0: all) of the versions, which are sorted by key, that match and come after a key; fewer if they
    are large."""
    start = 0
    if after is not None:
        low, high = 0, len(versions)
        while low < high:
            middle = (low + high) // 2
            if versions[middle].key <= after:
                low = middle + 1
            else:
                high = middle
        start = low
    if matches is None:
        if not limit:
            return Page(versions[start:] if start else versions)
        found = versions[start : start + limit]
        found = found[: _fitting(found)]
        rest = len(versions) - start - len(found)
        return Page(found, found[-1].key, rest) if rest else Page(found)
    matching: list[Version] = []
    size = 0
    for index in range(start, len(versions)):
        version = versions[index]
        if matches(version.parse()):
            if limit and matching and (len(matching) == limit or size + len(version.data) > PAGE_BYTES):
                return Page(matching, matching[-1].key)
            matching.append(version)
            size += len(version.data)
    return Page(matching)


def _fitting(versions: Sequence[Version]) -> int:
    """How many of them, from the first on, a page has room for; one at least."""
    size = 0
    for number, version in enumerate(versions):
        size += len(version.data)
        if size > PAGE_BYTES and number:
            return number
    return len(versions)
