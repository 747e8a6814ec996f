"""`podium get`: objects as a table, as JSON or YAML, as names; once, or as they change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cluster.cli.at import AsOf, Moment, moment_option
from cluster.cli.exits import CommandError, say
from cluster.cli.session import Session, cluster_option, namespace_options, run
from cluster.cli.words import Target, Wanted, names_or, narrowed

if TYPE_CHECKING:
    from cluster.api.kinds import AnyObject, Kind
    from cluster.client.interface import ClusterClient

FORMATS = ("wide", "json", "yaml", "name")


@click.command(
    "get",
    epilog="\b\nExamples:\n"
    "  podium get pods -o wide\n"
    "  podium get rc,svc,pods -A\n"
    "  podium get pods -l app=guestbook -w\n"
    "  podium get pod/web-x2k4p -o yaml\n"
    "  podium get pods --at 10m          as it was ten minutes ago\n"
    "  podium get pods -w --from 1432    every change after revision 1432",
)
@click.argument("what", nargs=-1, required=True, metavar="KIND[,KIND] [NAME...] | KIND/NAME...")
@click.option("-o", "--output", type=click.Choice(FORMATS), help="Format; default: a table.")
@click.option("-l", "--selector", default="", metavar="SEL", help="Label selector, such as app=web,tier in (fe,be).")
@click.option("--field-selector", default="", metavar="SEL", help="Such as spec.nodeName=node-1,status.phase!=Running.")
@click.option("-w", "--watch", is_flag=True, help="Print changes as they happen, until Ctrl-C.")
@click.option("--from", "since", type=click.IntRange(0), metavar="REVISION", help="With -w: changes after it only.")
@moment_option("--at", "at", 'As it was then: a revision, a time, or how long ago ("10:00", "5m").')
@click.option("--no-headers", is_flag=True, help="Without the line of headings.")
@click.option("--show-labels", is_flag=True, help="With a column of labels.")
@namespace_options
@cluster_option
@click.pass_context
def get_command(
    ctx: click.Context,
    what: tuple[str, ...],
    output: str | None,
    selector: str,
    field_selector: str,
    watch: bool,
    since: int | None,
    at: Moment | None,
    no_headers: bool,
    show_labels: bool,
    namespace: str,
    all_namespaces: bool,
) -> int:
    """List objects. Kinds: pods (po), nodes (no), replicationcontrollers (rc), services (svc), endpoints (ep), events
    (ev), namespaces (ns), configmaps (cm), secrets, leases, priorityclasses (pc), poddisruptionbudgets (pdb),
    serviceaccounts (sa), faults, customresourcedefinitions (crd), kinds that these define, customobjects (objects of
    all such kinds), or all (pods, rc, svc)."""
    if at is not None and watch:
        raise click.UsageError("--at shows one moment; to watch from a revision on: -w --from REVISION")
    if since is not None and not watch:
        raise click.UsageError("--from goes with --watch; what was at a revision: --at REVISION")
    view = View(output or "", namespaces=all_namespaces, headers=not no_headers, show_labels=show_labels)
    space = "" if all_namespaces else namespace
    wanted = Wanted(what, lambda found: _check(found, selector or field_selector, watch=watch))

    async def body(session: Session) -> int:
        source = AsOf(session.client, at) if at is not None else session.client
        targets = await wanted.targets(source)
        names = [name for _, name in targets if name]
        view.kind_prefix = len({kind.plural for kind, _ in targets}) > 1
        if watch:
            await watch_kind(session, targets, space, selector, field_selector, view, since)
            return 0
        found: list[tuple[Kind, list[AnyObject]]] = []
        missing = 0
        for kind, name in targets:
            where = space if kind.namespaced else ""
            if name:
                obj = await _get_or_complain(source, kind, name, where)
                missing += obj is None
                items = [obj] if obj is not None else []
            else:
                fields = narrowed(kind, field_selector)
                listed = await source.list(kind.message, where, label_selector=selector, field_selector=fields)
                items = list(listed.items)
            if found and found[-1][0] is kind:
                found[-1][1].extend(items)
            else:
                found.append((kind, items))
        view.show(found, single=len(names) == 1 and len(targets) == 1)
        if not names and not output and not any(items for _, items in found):
            say(f"No resources found in {space or 'any'} namespace." if space else "No resources found.")
        return 3 if missing else 0

    return run(ctx, body)


def _check(targets: list[Target], selector: str, *, watch: bool) -> None:
    """Raises UsageError for what does not go together."""
    names_or(selector)(targets)
    if watch and len({kind.plural for kind, _ in targets}) > 1:
        raise click.UsageError("--watch takes one kind")


async def _get_or_complain(source: ClusterClient | AsOf, kind: Kind, name: str, namespace: str) -> AnyObject | None:
    from cluster.api.errors import NotFound

    try:
        return await source.get(kind.message, name, namespace)
    except NotFound as error:
        say(f"error: {error}")
        return None


class View:
    """How the user wants to see objects."""

    def __init__(self, output: str, *, namespaces: bool, headers: bool, show_labels: bool) -> None:
        self.output = output
        self.namespaces = namespaces
        self.headers = headers
        self.show_labels = show_labels
        self.kind_prefix = False
        self._widths: list[int] | None = None
        self._documents = 0

    def show(self, found: Sequence[tuple[Kind, list[AnyObject]]], *, single: bool) -> None:
        """Prints everything at once."""
        from cluster.cli import printers

        everything = [obj for _, objects in found for obj in objects]
        if self.output == "json":
            if everything or not single:
                click.echo(printers.as_json(everything, single=single))
        elif self.output == "yaml":
            if everything or not single:
                click.echo(printers.as_yaml(everything, single=single))
        elif self.output == "name":
            for obj in everything:
                click.echo(printers.name_of(obj))
        else:
            tables = [self.table(kind, objects) for kind, objects in found if objects]
            if tables:
                click.echo("\n\n".join(tables))

    def show_change(self, kind: Kind, objects: Sequence[AnyObject]) -> None:
        """Prints what a watch brought: lines under those above, in the same columns, or a document per object."""
        if self.output in ("", "wide"):
            first = self._widths is None
            if self._widths is None:
                self._widths = []
            click.echo(self.table(kind, objects, headers=self.headers and first))
            return
        for obj in objects:
            if self.output == "yaml" and self._documents:
                click.echo("---")
            self._documents += 1
            self.show([(kind, [obj])], single=True)

    def table(self, kind: Kind, objects: Sequence[AnyObject], *, headers: bool | None = None) -> str:
        from cluster.actor.clock import SystemClock
        from cluster.cli import printers

        if kind.name == "Event":
            from cluster.api.events import last_seen

            objects = sorted(objects, key=last_seen)  # type: ignore[arg-type]
        return printers.table(
            kind,
            objects,
            SystemClock().wall(),
            wide=self.output == "wide",
            namespaces=self.namespaces,
            kind_prefix=self.kind_prefix,
            headers=self.headers if headers is None else headers,
            show_labels=self.show_labels,
            at_least=self._widths,
        )


async def watch_kind(
    session: Session,
    targets: list[Target],
    namespace: str,
    selector: str,
    field_selector: str,
    view: View,
    since: int | None = None,
) -> None:
    """Prints the state, then a line (or document) per change. Resumes by itself while the master is away.

    With `since`, not the state but every change after that revision. Raises CommandError when the cluster has been
    stopped, and when `since` is no longer kept, or has not happened.
    """
    from cluster.api.errors import Expired, StoreRewound, Unavailable
    from cluster.client.interface import EventType

    kind = targets[0][0]
    names = {name.rpartition("/")[2] for _, name in targets if name}  # of RESOURCE/NAME, the name
    if len(names) == 1:
        field_selector = f"metadata.name={next(iter(names))}"
    field_selector = narrowed(kind, field_selector)
    seen_revision, away = since, False
    while True:
        try:
            async with session.client.watch(
                kind.message,
                namespace if kind.namespaced else "",
                label_selector=selector,
                field_selector=field_selector,
                after_revision=seen_revision,
                initial_state=seen_revision is None,
            ) as batches:
                async for batch in batches:
                    away = False
                    objects = [
                        event.object
                        for event in batch
                        if event.object is not None and (len(names) < 2 or event.object.metadata.name in names)
                    ]
                    if any(event.type is not EventType.ADDED or seen_revision is not None for event in batch):
                        seen_revision, since = max(event.revision for event in batch), None
                    if not objects:
                        continue
                    view.show_change(kind, objects)
        except Unavailable:
            session.check_running()
            if not away:
                say("the master is away; waiting for it")
            away = True
            await asyncio.sleep(0.5)
        except (Expired, StoreRewound) as error:
            if since is not None:  # nothing was printed yet: better no changes than not all of them
                raise CommandError(f"cannot watch from revision {since}: {error.message}") from error
            seen_revision = None
