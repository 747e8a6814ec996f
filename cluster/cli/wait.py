"""`podium wait`: until a condition holds, the object is gone, or a field has a value. Not there yet means: wait."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.durations import timeout_option
from cluster.cli.exits import CommandError, ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import Target, Wanted, narrowed

if TYPE_CHECKING:
    from cluster.api.kinds import AnyObject, Kind

Check = Callable[["AnyObject | None"], bool]


@click.command(
    "wait",
    epilog="\b\nExamples:\n"
    "  podium wait pod/web-x2k4p --for condition=Ready\n"
    "  podium wait pods -l app=web --for condition=Ready --timeout 30\n"
    "  podium wait pod/web-x2k4p --for delete\n  podium wait rc/web --for jsonpath='{.status.readyReplicas}'=3",
)
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME... | KIND -l SEL")
@click.option(
    "--for",
    "until",
    required=True,
    metavar="CONDITION",
    help="condition=TYPE[=VALUE], delete, create, or jsonpath='{.a.b}'[=VALUE].",
)
@click.option("-l", "--selector", default="", metavar="SEL", help="All that match now (or the first that come).")
@click.option("--all", "everything", is_flag=True, help="All of the kind in the namespace.")
@timeout_option("Such as 5, 30s or 2m; exit code 4 when it is over.", default="30s")
@namespace_option
@cluster_option
@click.pass_context
def wait_command(
    ctx: click.Context,
    what: tuple[str, ...],
    until: str,
    selector: str,
    everything: bool,
    timeout: float,
    namespace: str,
) -> int:
    """Wait until a condition holds for every named object."""
    check = parse_condition(until)
    wanted = Wanted(what, lambda found: _check_names(found, bool(selector) or everything))

    async def body(session: Session) -> int:
        from cluster.actor.clock import SystemClock

        targets = await wanted.targets(session.client)
        clock = SystemClock()
        deadline = clock.monotonic() + timeout
        for kind, name in targets:
            where = namespace if kind.namespaced else ""
            await _wait(session, kind, name, where, selector, check, until, deadline - clock.monotonic())
        return ExitCode.OK

    return run(ctx, body)


def _check_names(targets: list[Target], together: bool) -> None:
    """Either names or what selects all of them. Raises UsageError."""
    if any((name == "") != together for _, name in targets):
        raise click.UsageError("name the objects, or give -l or --all")


async def _wait(
    session: Session, kind: Kind, name: str, namespace: str, selector: str, check: Check, until: str, left_s: float
) -> None:
    """Follows the objects by a watch. Prints a line for each that meets the condition."""
    from cluster.client.informer import Informer
    from cluster.pb.v1 import core_pb2 as core

    changed = asyncio.Event()
    seen: set[str] = set()
    resource, _, name = name.rpartition("/")  # of RESOURCE/NAME
    if resource and kind.message is core.CustomObject:
        fields = f"resource={resource},metadata.name={name}"
    else:
        fields = narrowed(kind, f"metadata.name={name}" if name else "")
    informer: Informer[Any] = Informer(
        session.client,
        kind.message,
        namespace,
        label_selector=selector,
        field_selector=fields,
    )

    def on_change(old: Any, new: Any) -> None:
        seen.update(obj.metadata.name for obj in (old, new) if obj is not None)
        changed.set()

    informer.add_handler(on_change)
    await informer.start()
    try:
        async with asyncio.timeout(max(0.0, left_s)):
            await informer.wait_synced(timeout_s=max(0.001, left_s))
            while True:
                changed.clear()
                live = {obj.metadata.name: obj for obj in informer.indexer.list()}
                names = {name} if name else (set(live) or seen)
                if until == "delete" and not live:
                    names |= seen
                if (names or until == "delete") and all(check(live.get(each)) for each in names):
                    for each in sorted(names):
                        click.echo(f"{kind.field}/{each} {'deleted' if until == 'delete' else 'condition met'}")
                    return
                await changed.wait()
    except TimeoutError as error:
        word = (
            f"{kind.field}/{name}" if name else f"{kind.plural} with {selector}" if selector else f"all {kind.plural}"
        )
        raise CommandError(
            f'timed out waiting for "{until}" on {word}. See: podium describe {kind.field} {name}', ExitCode.TIMEOUT
        ) from error
    finally:
        await informer.stop()


def parse_condition(text: str) -> Check:
    """The check that a --for asks for. Raises click.UsageError."""
    if text == "delete":
        return lambda obj: obj is None
    if text == "create":
        return lambda obj: obj is not None
    word, _, rest = text.partition("=")
    if word == "condition" and rest:
        type_, _, value = rest.partition("=")
        return _condition_check(type_, value or "True")
    if word == "jsonpath" and rest:
        match = re.fullmatch(r"'?\{(\.[^{}]*)\}'?(?:=(.*))?", rest)
        if match is not None:
            return _path_check(parse_path(match.group(1)), match.group(2))
    raise click.UsageError(
        f"--for \"{text}\": write condition=TYPE, delete, create, or jsonpath='{{.status.phase}}'=Running"
    )


def _condition_check(type_: str, value: str) -> Check:
    def check(obj: AnyObject | None) -> bool:
        from cluster.api.custom_json import custom_conditions
        from cluster.pb.v1 import core_pb2 as core

        if obj is None:
            return False
        if isinstance(obj, core.CustomObject):
            found = custom_conditions(obj)
        else:
            conditions = getattr(getattr(obj, "status", None), "conditions", ())
            found = [(condition.type, condition.status) for condition in conditions]
        return any((each.lower(), status.lower()) == (type_.lower(), value.lower()) for each, status in found)

    return check


def parse_path(path: str) -> list[str | int]:
    """The steps of ".status.containerStatuses[0].ready" or ".metadata.labels['app']". Raises click.UsageError."""
    steps: list[str | int] = []
    place = 0
    pattern = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]|\['([^']+)'\]|\[\"([^\"]+)\"\]")
    while place < len(path):
        match = pattern.match(path, place)
        if match is None:
            raise click.UsageError(
                f'"{path}": only names and indexes are understood, such as .status.conditions[0].type'
            )
        name, index, single, double = match.groups()
        steps.append(int(index) if index is not None else name or single or double)
        place = match.end()
    return steps


def _path_check(steps: list[str | int], value: str | None) -> Check:
    def check(obj: AnyObject | None) -> bool:
        from cluster.api.json import object_to_json

        if obj is None:
            return False
        current: Any = object_to_json(obj)
        for step in steps:
            try:
                current = current[step]
            except (KeyError, IndexError, TypeError):
                return False
        if value is None:
            return current not in (None, "", [], {})
        text = str(current).lower() if isinstance(current, bool) else str(current)
        return text == value

    return check
