"""`podium apply`: make the cluster what the manifests say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cluster.cli.durations import timeout_option
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import Session, cluster_option, namespace_option, run

if TYPE_CHECKING:
    from cluster.api.manifest import Manifest


@click.command(
    "apply",
    epilog="\b\nExamples:\n  podium apply -f examples/guestbook          every manifest of a directory\n"
    "  podium apply -f web.yaml -f db.yaml --wait\n  cat web.yaml | podium apply -f -",
)
@click.option("-f", "--filename", "paths", multiple=True, required=True, metavar="FILE|DIR|-", help="Manifests.")
@click.option("--dry-run", is_flag=True, help="Check and show what would happen; write nothing.")
@click.option("--wait", is_flag=True, help="Return when every pod that the manifests ask for is ready.")
@timeout_option("With --wait.")
@namespace_option
@cluster_option
@click.pass_context
def apply_command(
    ctx: click.Context, paths: tuple[str, ...], dry_run: bool, wait: bool, timeout: float, namespace: str
) -> int:
    """Create or change objects from manifests, all of them or none.

    A workingDir that begins with "." is relative to the manifest's directory."""
    manifests = read(paths)
    if ctx.get_parameter_source("namespace") is click.core.ParameterSource.COMMANDLINE:
        _refuse_other_namespaces(manifests, namespace)

    async def body(session: Session) -> int:
        from cluster.api.caveats import caveats
        from cluster.cli.printers import name_of
        from cluster.client.apply import apply_manifests

        applied = await apply_manifests(session.client, manifests, namespace=namespace, dry_run=dry_run)
        for item in applied:
            click.echo(f"{name_of(item.object)} {item.verb}{' (dry run)' if dry_run else ''}")
            for caveat in caveats(item.object) if item.verb != "unchanged" else ():
                say(f"Warning: {name_of(item.object)}: {caveat}")
        if wait and not dry_run:
            from cluster.cli.waiting import wait_until_ready

            slow = await wait_until_ready(session.client, [item.object for item in applied], timeout)
            if slow:
                raise CommandError(f"not ready after {timeout:g} s:\n  " + "\n  ".join(slow), ExitCode.TIMEOUT)
        return ExitCode.OK

    return run(ctx, body)


def read(paths: tuple[str, ...]) -> list[Manifest]:
    """The manifests of all paths. Raises Invalid; says so if there are none."""
    from cluster.api.manifest import read_path

    manifests = [manifest for path in paths for manifest in read_path(path, sys.stdin.buffer)]
    if not manifests:
        raise CommandError(f"no manifests in {', '.join(paths)}")
    if len(paths) > 1 or len(manifests) > 50:
        say(f"{len(manifests)} objects")
    return manifests


def _refuse_other_namespaces(manifests: list[Manifest], namespace: str) -> None:
    """Objects that name another namespace than -n: one of the two is a mistake."""
    for manifest in manifests:
        named = manifest.object.metadata.namespace
        if named and named != namespace:
            raise CommandError(
                f"{manifest.source}:{manifest.line}: {manifest.object.metadata.name} names the namespace {named}, "
                f"not {namespace}; nothing was written. Leave out one of the two"
            )
