"""`podium delete`: by name, by selector, or what a manifest names; waits until it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cluster.cli.durations import timeout_option
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import Wanted, names_or, narrowed

if TYPE_CHECKING:
    from cluster.api.meta import Key


@click.command(
    "delete",
    epilog="\b\nExamples:\n"
    "  podium delete pod web-x2k4p\n"
    "  podium delete rc/web svc/web\n"
    "  podium delete -f examples/guestbook\n"
    "  podium delete pods -l app=web --grace-period 0",
)
@click.argument("what", nargs=-1, metavar="KIND NAME... | KIND/NAME...")
@click.option(
    "-f", "--filename", "paths", multiple=True, metavar="FILE|DIR|-", help="Delete what these manifests name."
)
@click.option("-l", "--selector", default="", metavar="SEL", help="Delete what matches.")
@click.option("--all", "everything", is_flag=True, help="Delete all of the kind in the namespace.")
@click.option("--grace-period", type=click.IntRange(0), metavar="SECONDS", help="For pods; default: the pod's own.")
@click.option(
    "--cascade",
    type=click.Choice(["background", "foreground", "orphan"]),
    default="background",
    show_default=True,
    help="What happens to the pods of a controller: they go after it, or before it, or they stay.",
)
@click.option("--ignore-not-found", is_flag=True, help="Fine if it is not there.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Return when it is gone.")
@timeout_option("With --wait.")
@namespace_option
@cluster_option
@click.pass_context
def delete_command(
    ctx: click.Context,
    what: tuple[str, ...],
    paths: tuple[str, ...],
    selector: str,
    everything: bool,
    grace_period: int | None,
    cascade: str,
    ignore_not_found: bool,
    wait: bool,
    timeout: float,
    namespace: str,
) -> int:
    """Delete objects. Pods get their grace period to end; a controller's pods go with it."""
    if bool(what) == bool(paths):
        raise click.UsageError("name what to delete, either KIND NAME or -f FILE")
    if paths and (selector or everything):
        raise click.UsageError("-f and -l or --all exclude each other")
    wanted = Wanted(what, names_or(selector or "all" * everything)) if what else None

    async def body(session: Session) -> int:
        from cluster.api.errors import NotFound
        from cluster.api.kinds import kind_of
        from cluster.api.meta import Key, key_of
        from cluster.cli.apply import read
        from cluster.client import operations
        from cluster.client.definitions import find_definitions
        from cluster.pb.v1 import core_pb2 as core

        keys: list[Key] = []
        if wanted is None:
            for manifest in reversed(await find_definitions(session.client, read(paths), namespace)):
                key = key_of(manifest.object)
                if kind_of(manifest.object).namespaced and not isinstance(manifest.object, core.CustomObject):
                    key = key._replace(namespace=key.namespace or namespace)
                keys.append(key)
        else:
            for kind, name in await wanted.targets(session.client):
                where = namespace if kind.namespaced else ""
                if name:
                    keys.append(Key(kind.name, where, name))
                elif selector or everything:
                    listed = await session.client.list(
                        kind.message, where, label_selector=selector, field_selector=narrowed(kind, "")
                    )
                    keys += [key_of(obj) for obj in listed.items]
                else:
                    raise click.UsageError(f"name the {kind.plural} to delete, or give -l or --all")
        if not keys:
            say("nothing to delete")
            return ExitCode.OK
        outcome = await session.client.write(
            [
                operations.delete(
                    key, grace_period_s=grace_period if key.kind == "Pod" else None, propagation=cascade.capitalize()
                )
                for key in keys
            ],
            cause=core.Cause(reason="delete"),
        )
        code = ExitCode.OK
        uids: dict[Key, str] = {}
        for key, result in zip(keys, outcome.outcomes, strict=True):
            word = word_of(key)
            if isinstance(result.error, NotFound):
                if not ignore_not_found:
                    say(f"error: {result.error}")
                    code = ExitCode.NOT_FOUND
            elif result.error is not None:
                say(f"error: {word}: {result.error}")
                code = ExitCode.ERROR
            else:
                click.echo(f"{word} deleted")
                uids[key] = result.unwrap().metadata.uid
        if wait and uids:
            await wait_gone(session, uids, timeout)
        return code

    return run(ctx, body)


def word_of(key: Key) -> str:
    """An object as it is told: pod/web; widgets.example.com/blue of a kind that users define."""
    return key.name if key.kind == "CustomObject" else f"{key.kind.lower()}/{key.name}"


async def wait_gone(session: Session, uids: dict, timeout: float) -> None:  # type: ignore[type-arg]
    """Returns when none of these very objects (by uid) exists. Raises CommandError when time is over."""
    import asyncio

    from cluster.actor.clock import SystemClock
    from cluster.api.errors import NotFound
    from cluster.api.kinds import BY_NAME

    clock = SystemClock()
    deadline = clock.monotonic() + timeout
    left = dict(uids)
    held = dict.fromkeys(uids, "")
    delay_s = 0.01
    while left:
        for key, uid in list(left.items()):
            try:
                live = await session.client.get(BY_NAME[key.kind].message, key.name, key.namespace)
            except NotFound:
                del left[key]
            else:
                if live.metadata.uid != uid:
                    del left[key]
                elif live.metadata.finalizers:
                    held[key] = f" (held by the finalizer {', '.join(live.metadata.finalizers)})"
        if left and clock.monotonic() > deadline:
            names = ", ".join(f"{word_of(key)}{held[key]}" for key in left)
            raise CommandError(f"still there after {timeout:g} s: {names}. See: podium describe …", ExitCode.TIMEOUT)
        if left:
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 1.5, 0.2)
