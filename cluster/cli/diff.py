"""`podium diff`: what is different between two moments of one object.

The objects come from its history, in which the master has put words in the place of secret values.
"""

from __future__ import annotations

import difflib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.at import NOW, Moment, moment_option
from cluster.cli.exits import CommandError, ExitCode, report, say
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import WantedOne, named

if TYPE_CHECKING:
    from cluster.api.kinds import AnyObject, Kind

DIFFERENT = 1
FAILED = 2
"""Or more: what goes wrong has the exit code that it has elsewhere, but never 1."""
_COLORS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(
    "diff",
    epilog="\b\nExamples:\n"
    "  podium diff rc/web --from 1432\n"
    "  podium diff rc/web --from 10m\n"
    "  podium diff pod/web-x2k4p --from 1432 --to 1440 --all\n"
    "  podium diff svc/web --from 2026-11-23T10:00:00Z -o json",
)
@click.argument("what", metavar="KIND/NAME")
@moment_option("--from", "begin", "The earlier moment: a revision, a time, or how long ago.")
@moment_option("--to", "end", "The later moment; default: now.")
@click.option("--all", "everything", is_flag=True, help="The status, too.")
@click.option(
    "-o", "--output", type=click.Choice(["diff", "fields", "json"]), default="diff", show_default=True, help="Format."
)
@namespace_option
@cluster_option
@click.pass_context
def diff_command(
    ctx: click.Context,
    what: str,
    begin: Moment | None,
    end: Moment | None,
    everything: bool,
    output: str,
    namespace: str,
) -> int:
    """Show what is different between two moments of an object; it may be gone by now.

    Exit code 0: nothing, 1: something, 2 or more: an error."""
    if begin is None:
        raise click.UsageError("give --from REVISION|TIME")
    wanted = WantedOne(what)
    moments = (begin, end or NOW)

    async def body(session: Session) -> int:
        kind, name = await wanted.target(session.client)
        where = namespace if kind.namespaced else ""
        states = [await state_at(session, kind, name, where, moment) for moment in moments]
        (old, old_when), (new, new_when) = states
        before, after = (shown(obj, everything=everything) for obj in (old, new))
        labels = [f"{named(kind, name)} {when}" for when in (old_when, new_when)]
        return show(before, after, labels, output)

    try:
        return run(ctx, body)
    except click.ClickException:
        raise
    except Exception as error:
        return max(report(error), FAILED)


async def state_at(
    session: Session, kind: Kind, name: str, namespace: str, moment: Moment
) -> tuple[AnyObject | None, str]:
    """The object at a moment, None if it did not exist; and which change made it so, in words.

    Raises NotFound, StoreRewound, and CommandError if the history does not go back so far.
    """
    from cluster.api.kinds import unwrap
    from cluster.cli.past import entry_at
    from cluster.pb.v1 import cluster_pb2 as wire

    entry, is_whole, answer = await entry_at(session.client, kind, name, namespace, moment)
    if entry is None:
        if not is_whole:
            raise CommandError(f"that is no longer kept: the history begins at revision {answer.oldest_revision}")
        return None, "(it did not exist)"
    if entry.type == wire.WatchEvent.DELETED:
        return None, f"at revision {entry.revision} (it was deleted)"
    return unwrap(entry.object), f"at revision {entry.revision}"


def shown(obj: AnyObject | None, *, everything: bool) -> dict[str, Any] | None:
    """An object as JSON, without what differs always, and without what was not asked for."""
    from cluster.api.diff import LAST_APPLIED
    from cluster.api.json import object_to_json

    if obj is None:
        return None
    data = object_to_json(obj)
    for field in ("resourceVersion", "generation", "actor", "cause"):
        data["metadata"].pop(field, None)
    annotations = data["metadata"].get("annotations", {})
    annotations.pop(LAST_APPLIED, None)
    if not annotations:
        data["metadata"].pop("annotations", None)
    if not everything:
        data.pop("status", None)
    return data


def show(before: dict[str, Any] | None, after: dict[str, Any] | None, labels: list[str], output: str) -> int:
    """Prints the difference, and returns the exit code."""
    if before == after:
        if output == "json":
            click.echo("[]")
        else:
            say("no difference")
        return ExitCode.OK
    if output == "diff":
        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        for line in unified(before, after, labels):
            click.echo(click.style(line, _COLORS.get(line[:1])) if color else line)
    else:
        click.echo(fields(before, after, output))
    return DIFFERENT


def unified(before: dict[str, Any] | None, after: dict[str, Any] | None, labels: list[str]) -> list[str]:
    """The lines of a unified diff of YAML."""
    from cluster.cli.past import as_document
    from cluster.cli.printers import clean

    texts = [as_document(data, "yaml").split("\n") if data is not None else [] for data in (before, after)]
    return [clean(line) for line in difflib.unified_diff(texts[0], texts[1], labels[0], labels[1], lineterm="")]


def fields(before: dict[str, Any] | None, after: dict[str, Any] | None, output: str) -> str:
    """A line per field, or JSON."""
    import json

    from cluster.api.diff import ABSENT, differences
    from cluster.cli.printers import clean

    found = differences(before, after)
    if output == "fields":
        return "\n".join(clean(str(difference)) for difference in found)
    documents = []
    for difference in found:
        sides = {"old": difference.old, "new": difference.new}
        documents.append({"path": difference.path} | {k: v for k, v in sides.items() if v is not ABSENT})
    return json.dumps(documents, indent=4, ensure_ascii=False)
