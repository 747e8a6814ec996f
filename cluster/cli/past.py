"""Words that `history`, `diff`, `undo` and `trace` have in common: causes, changes and times as text, and reading a
history in pages.

What prints is pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from cluster.api.diff import ABSENT, as_text
from cluster.api.kinds import KINDS, Kind
from cluster.api.meta import from_time
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

if TYPE_CHECKING:
    from cluster.cli.at import Moment
    from cluster.client.interface import ClusterClient

PAGE = 200
VALUE_WIDTH = 60
Side = Literal["old", "new"]
_SIDES: tuple[Side, Side] = ("old", "new")
_WORD_OF_PLURAL = {
    kind.plural: kind.short_names[0] if len(kind.field) > 12 and kind.short_names else kind.field for kind in KINDS
}
"""As users name them in lines that shall be short: pod, service, but rc."""


async def read_history(
    client: ClusterClient,
    kind: Kind,
    name: str,
    namespace: str,
    *,
    limit: int,
    after_revision: int | None = None,
    without_status: bool = False,
) -> tuple[list[wire.HistoryEntry], wire.HistoryResponse]:
    """Entries, newest first, at most `limit`; and the last answer, which says how far the history goes."""
    entries: list[wire.HistoryEntry] = []
    until: int | None = None
    while True:
        answer = await client.history(
            kind.message,
            name,
            namespace,
            after_revision=after_revision,
            until_revision=until,
            limit=min(PAGE, limit - len(entries)),
            without_status=without_status,
        )
        entries += answer.entries
        if not answer.entries or len(entries) >= limit or answer.entries[-1].revision <= 1:
            return entries, answer
        until = answer.entries[-1].revision - 1


async def entry_at(
    client: ClusterClient, kind: Kind, name: str, namespace: str, moment: Moment
) -> tuple[wire.HistoryEntry | None, bool, wire.HistoryResponse]:
    """The newest change of an object up to a moment; None if none is kept. Then the bool says whether it is known that
    there was none: the object did not exist. And the last answer.
    """
    until = moment.revision
    is_whole = False
    while True:
        limit = PAGE if moment.time_s is not None else 1
        answer = await client.history(kind.message, name, namespace, until_revision=until, limit=limit)
        for entry in answer.entries:
            if moment.time_s is None or from_time(entry.time) <= moment.time_s:
                return entry, True, answer
        if moment.revision is not None:
            return None, moment.revision >= answer.oldest_revision, answer
        if not answer.entries:
            return None, is_whole or not answer.oldest_revision, answer
        is_whole = answer.entries[-1].type == wire.WatchEvent.ADDED
        until = answer.entries[-1].revision - 1


# --- text


def cause_text(cause: core.Cause, namespace: str = "") -> str:
    """ "scale (rc/web at 41)"; objects of `namespace` without it. Empty: nothing is known."""
    where = object_text(cause.object, namespace)
    at = f" at {cause.revision}" if cause.revision else ""
    if cause.reason and where:
        return f"{cause.reason} ({where}{at})"
    return cause.reason or (f"{where}{at}" if where else f"revision {cause.revision}" if cause.revision else "")


def object_text(path: str, namespace: str = "") -> str:
    """ "pods/default/web" as users name it: pod/web, or pod/default/web outside of its namespace."""
    plural, _, rest = path.partition("/")
    word = _WORD_OF_PLURAL.get(plural, plural)
    space, slash, name = rest.rpartition("/")
    if slash and space == namespace:
        rest = name
    return f"{word}/{rest}" if rest else word


def change_text(change: wire.FieldChange, width: int = VALUE_WIDTH) -> str:
    """ "spec.replicas: 3 -> 5"; long values are cut to `width`."""
    return f"{change.path}: {_cut(value_text(change, 'old'), width)} -> {_cut(value_text(change, 'new'), width)}"


def value_text(change: wire.FieldChange, side: Side) -> str:
    """One side of a change in one line."""
    return as_text(json.loads(getattr(change, side)) if change.HasField(side) else ABSENT)


def changes_text(changes: Sequence[wire.FieldChange], shown: int) -> str:
    """The first few changes in one line, and how many more there are."""
    text = ", ".join(change_text(change) for change in changes[:shown])
    more = len(changes) - shown
    return f"{text}, and {more} more" if more > 0 else text


def what_text(entry: wire.HistoryEntry, shown: int) -> str:
    """What an entry of a history was."""
    if entry.type == wire.WatchEvent.ADDED:
        return "created"
    if entry.type == wire.WatchEvent.DELETED:
        return "deleted"
    return changes_text(entry.changes, shown) or "(what was before is no longer kept)"


def time_text(time: core.Time, digits: int = 0) -> str:
    """RFC 3339 in UTC, with so many digits of the second."""
    moment = datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{time.nanos // 10 ** (9 - digits):0{digits}d}" if digits else ""
    return f"{moment}{fraction}Z"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


# --- documents


def cause_document(cause: core.Cause) -> dict[str, Any]:
    """The fields that are set."""
    return {field.name: value for field, value in cause.ListFields()}


def change_documents(changes: Sequence[wire.FieldChange]) -> list[dict[str, Any]]:
    """path, old and new, the latter absent where there was nothing."""
    return [
        {"path": change.path} | {side: json.loads(getattr(change, side)) for side in _SIDES if change.HasField(side)}
        for change in changes
    ]


def as_document(data: Any, output: str) -> str:
    """JSON or YAML."""
    if output == "json":
        return json.dumps(data, indent=4, ensure_ascii=False)
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text.rstrip("\n")
