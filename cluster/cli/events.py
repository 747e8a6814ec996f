"""`podium events`: what happened, oldest first."""

from __future__ import annotations

import click

from cluster.cli.exits import say
from cluster.cli.session import Session, cluster_option, namespace_options, run
from cluster.cli.words import one_target


@click.command(
    "events",
    epilog="\b\nExamples:\n"
    "  podium events\n"
    "  podium events --for pod/web-x2k4p\n"
    "  podium events --types Warning -A\n"
    "  podium events -w",
)
@click.option("--for", "about", metavar="KIND/NAME", help="Only about this object.")
@click.option("--types", default="", metavar="TYPE", help="Only Normal, or only Warning.")
@click.option("-w", "--watch", is_flag=True, help="Go on with events as they come, until Ctrl-C.")
@namespace_options
@cluster_option
@click.pass_context
def events_command(
    ctx: click.Context, about: str | None, types: str, watch: bool, namespace: str, all_namespaces: bool
) -> int:
    """List events, oldest first."""
    from cluster.cli.get import View, watch_kind

    terms = []
    if about:
        kind, name = one_target(about)
        terms += [f"involvedObject.kind={kind.name}", f"involvedObject.name={name}"]
        all_namespaces = all_namespaces or not kind.namespaced
    if types:
        if types not in ("Normal", "Warning"):
            raise click.UsageError("--types is Normal or Warning")
        terms.append(f"type={types}")
    selector = ",".join(terms)
    view = View("", namespaces=all_namespaces, headers=True, show_labels=False)
    space = "" if all_namespaces else namespace

    async def body(session: Session) -> int:
        from cluster.api.kinds import BY_NAME
        from cluster.pb.v1 import core_pb2 as core

        kind = BY_NAME["Event"]
        if watch:
            await watch_kind(session, [(kind, "")], space, "", selector, view)
            return 0
        events = (await session.client.list(core.Event, space, field_selector=selector)).items
        if not events:
            say("No events.")
            return 0
        view.show([(kind, list(events))], single=False)
        return 0

    return run(ctx, body)
