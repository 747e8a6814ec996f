"""`podium undo`: an object as it was before, written anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cluster.cli.exits import ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import WantedOne, named

if TYPE_CHECKING:
    from cluster.pb.v1 import cluster_pb2 as wire


@click.command(
    "undo",
    epilog="\b\nExamples:\n"
    "  podium undo rc/web                undo the last change; once more: redo it\n"
    "  podium undo rc/web --to 1432      as it was at revision 1432\n"
    "  podium undo svc/web --dry-run     only show what would change\n"
    "  podium undo rc/web                after `podium delete rc/web`: make it again",
)
@click.argument("what", metavar="KIND/NAME")
@click.option("--to", type=click.IntRange(1), metavar="REVISION", help="As it was then; see podium history.")
@click.option("--dry-run", is_flag=True, help="Check and show, but write nothing.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml", "name"]), default="text", help="Format.")
@namespace_option
@cluster_option
@click.pass_context
def undo_command(ctx: click.Context, what: str, to: int | None, dry_run: bool, output: str, namespace: str) -> int:
    """Bring back the labels, annotations and specification that an object had; make it again if it is gone.

    Without --to: as it was before the last change of those. Undoing an undo does it again. The status, who owns it and
    where a pod runs are not brought back."""
    wanted = WantedOne(what)

    async def body(session: Session) -> int:
        kind, name = await wanted.target(session.client)
        where = namespace if kind.namespaced else ""
        undone = await session.client.undo(kind.message, name, where, to_revision=to, dry_run=dry_run)
        if output == "text":
            click.echo(text(named(kind, name), undone, dry_run=dry_run))
        elif output == "name":
            click.echo(named(kind, name))
        else:
            from cluster.cli.past import as_document

            click.echo(as_document(document(undone), output))
        return ExitCode.OK

    return run(ctx, body)


def text(name: str, undone: wire.UndoResponse, *, dry_run: bool) -> str:
    """What was done, and a line per field that it changed."""
    from cluster.cli.past import change_text
    from cluster.cli.printers import clean

    suffix = " (dry run)" if dry_run else ""
    then = f"as it was at revision {undone.to_revision}"
    if undone.result.unchanged:
        return f"{name} unchanged: it is {then}{suffix}"
    if not undone.changes:
        return f"{name} made again, {then}{suffix}"
    lines = [f"{name} is {then}{suffix}"]
    return "\n".join([*lines, *(f"  {clean(change_text(change))}" for change in undone.changes)])


def document(undone: wire.UndoResponse) -> dict[str, Any]:
    """The same for programs, with the object as it is now."""
    from cluster.api.json import object_to_json
    from cluster.api.kinds import unwrap
    from cluster.cli.past import change_documents

    return {
        "toRevision": undone.to_revision,
        "unchanged": undone.result.unchanged,
        "changes": change_documents(undone.changes),
        "object": object_to_json(unwrap(undone.result.object)),
    }
