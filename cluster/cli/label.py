"""`podium label`."""

from __future__ import annotations

import click

from cluster.cli.exits import CommandError
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import Wanted, names_or, narrowed


@click.command(
    "label",
    epilog="\b\nExamples:\n"
    "  podium label pod web-x2k4p debug=true\n"
    "  podium label node node-2 topology.kubernetes.io/zone=b\n"
    "  podium label pod web-x2k4p app-            remove a label: its controller replaces the pod\n"
    "  podium label pods -l app=web tier=fe --overwrite",
)
@click.argument("words", nargs=-1, required=True, metavar="KIND NAME... | KIND/NAME... KEY=VALUE... KEY-...")
@click.option("-l", "--selector", default="", metavar="SEL", help="All that match, instead of names.")
@click.option("--overwrite", is_flag=True, help="Change labels that have another value.")
@namespace_option
@cluster_option
@click.pass_context
def label_command(ctx: click.Context, words: tuple[str, ...], selector: str, overwrite: bool, namespace: str) -> int:
    """Set labels (KEY=VALUE) and remove labels (KEY-)."""
    changes: dict[str, str | None] = {}
    names: list[str] = []
    for word in words:
        if "=" in word:
            key, _, value = word.partition("=")
            changes[key] = value
        elif word.endswith("-") and len(word) > 1 and names:
            changes[word[:-1]] = None
        else:
            names.append(word)
    if not changes:
        raise click.UsageError("give at least one KEY=VALUE or KEY-")
    wanted = Wanted(names, names_or(selector))

    async def body(session: Session) -> int:
        from cluster.api.meta import key_of
        from cluster.cli.printers import name_of
        from cluster.client import operations
        from cluster.pb.v1 import core_pb2 as core

        objects = []
        for kind, name in await wanted.targets(session.client):
            where = namespace if kind.namespaced else ""
            if name:
                objects.append(await session.client.get(kind.message, name, where))
            elif selector:
                fields = narrowed(kind, "")
                listed = await session.client.list(kind.message, where, label_selector=selector, field_selector=fields)
                objects += listed.items
            else:
                raise click.UsageError("name the objects, or give -l")
        for obj in objects:
            for key, value in changes.items():
                current = obj.metadata.labels.get(key)
                if value is not None and current is not None and current != value and not overwrite:
                    raise CommandError(f"{name_of(obj)} has {key}={current}; to change it, add --overwrite")
        outcome = await session.client.write(
            [operations.patch(key_of(obj), {"metadata": {"labels": changes}}, uid=obj.metadata.uid) for obj in objects],
            atomic=True,
            cause=core.Cause(reason="label"),
        )
        for result in outcome.outcomes:
            click.echo(f"{name_of(result.unwrap())} {'unchanged' if result.unchanged else 'labeled'}")
        return 0

    return run(ctx, body)
