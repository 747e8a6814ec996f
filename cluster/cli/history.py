"""`podium history`: every kept change of an object, newest first: when, who, why, what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.exits import ExitCode, say
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import WantedOne

if TYPE_CHECKING:
    from cluster.pb.v1 import cluster_pb2 as wire


@click.command(
    "history",
    epilog="\b\nExamples:\n"
    "  podium history rc/web\n"
    "  podium history pod/web-x2k4p --all -o wide\n"
    "  podium history svc/web --since 1432 --limit 5\n"
    "  podium history rc/web -o json",
)
@click.argument("what", metavar="KIND/NAME")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many, the newest.")
@click.option("--since", type=click.IntRange(0), metavar="REVISION", help="Only changes after this revision.")
@click.option("--all", "everything", is_flag=True, help="Changes of the status alone, too.")
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml"]), help="Format; default: a table.")
@click.option("--no-headers", is_flag=True, help="Without the line of headings.")
@namespace_option
@cluster_option
@click.pass_context
def history_command(
    ctx: click.Context,
    what: str,
    limit: int,
    since: int | None,
    everything: bool,
    output: str | None,
    no_headers: bool,
    namespace: str,
) -> int:
    """Show what became of an object, newest first, also if it is gone.

    Changes of nothing but the status are left out without --all. -o wide has the time of day and every field."""
    wanted = WantedOne(what)

    async def body(session: Session) -> int:
        kind, name = await wanted.target(session.client)
        from cluster.actor.clock import SystemClock
        from cluster.cli.past import read_history

        where = namespace if kind.namespaced else ""
        entries, answer = await read_history(
            session.client, kind, name, where, limit=limit, after_revision=since, without_status=not everything
        )
        if output in ("json", "yaml"):
            from cluster.cli.past import as_document

            click.echo(as_document(document(entries, answer), output))
            return ExitCode.OK
        if entries:
            now_s = SystemClock().wall()
            click.echo(table(entries, now_s, where, wide=output == "wide", headers=not no_headers))
        note = note_of(entries, answer, limit, since)
        if note:
            say(note)
        return ExitCode.OK

    return run(ctx, body)


def table(
    entries: Sequence[wire.HistoryEntry], now_s: float, namespace: str, *, wide: bool = False, headers: bool = True
) -> str:
    """A line per entry; `wide`: the time instead of the age, and every field."""
    from cluster.api.columns import NONE, age
    from cluster.api.meta import from_time
    from cluster.cli import past
    from cluster.cli.printers import align, clean

    rows = [["REVISION", "TIME" if wide else "AGE", "WHO", "CAUSE", "CHANGE"]] if headers else []
    for entry in entries:
        rows.append(
            [
                str(entry.revision),
                past.time_text(entry.time) if wide else age(now_s - from_time(entry.time)),
                clean(entry.actor) or NONE,
                clean(past.cause_text(entry.cause, namespace)) or NONE,
                clean(past.what_text(entry, len(entry.changes) if wide else 2)),
            ]
        )
    return align(rows)


def note_of(entries: Sequence[wire.HistoryEntry], answer: wire.HistoryResponse, limit: int, since: int | None) -> str:
    """Why the table ends where it ends; empty, if it ends where the object was made."""
    from cluster.pb.v1 import cluster_pb2 as wire

    if len(entries) >= limit:
        return f"only the newest {limit} are shown; --limit shows more"
    if since is not None and since >= answer.oldest_revision:
        return "" if entries else f"nothing was changed after revision {since}"
    if not entries:
        return "nothing but the status was changed in what is kept; --all shows that"
    if answer.oldest_revision and entries[-1].type != wire.WatchEvent.ADDED:
        return f"history begins at revision {answer.oldest_revision}: what was before is no longer kept"
    return ""


def document(entries: Sequence[wire.HistoryEntry], answer: wire.HistoryResponse) -> dict[str, Any]:
    """All there is to know, with the object as it was after each change."""
    from cluster.api.json import object_to_json
    from cluster.api.kinds import unwrap
    from cluster.cli import past
    from cluster.pb.v1 import cluster_pb2 as wire

    return {
        "entries": [
            {
                "revision": entry.revision,
                "time": past.time_text(entry.time, 6),
                "type": wire.WatchEvent.Type.Name(entry.type),
                "actor": entry.actor,
                "cause": past.cause_document(entry.cause),
                "changes": past.change_documents(entry.changes),
                "object": object_to_json(unwrap(entry.object)),
            }
            for entry in entries
        ],
        "oldestRevision": answer.oldest_revision,
        "revision": answer.revision,
    }
