"""`podium create`: a ConfigMap or a Secret from words, files and directories, without a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cluster.cli.exits import CommandError
from cluster.cli.session import Session, cluster_option, namespace_option, run

if TYPE_CHECKING:
    from cluster.pb.v1 import core_pb2 as core

_EPILOG = (
    "\b\nExamples:\n"
    "  podium create configmap web --from-literal=level=info --from-literal=size=3\n"
    "  podium create configmap web --from-file=app.conf --from-file=conf.d/\n"
    "  podium create secret db --from-file=password=./password.txt\n"
    "  podium create secret db --from-env-file=db.env --dry-run"
)


@click.command("create", epilog=_EPILOG)
@click.argument("kind", type=click.Choice(["configmap", "secret", "cm"]))
@click.argument("name")
@click.option("--from-literal", "literals", multiple=True, metavar="KEY=VALUE", help="One value.")
@click.option("--from-file", "files", multiple=True, metavar="[KEY=]PATH", help="A file, or every file of a directory.")
@click.option("--from-env-file", "env_files", multiple=True, metavar="PATH", help="Lines of KEY=VALUE.")
@click.option("--immutable", is_flag=True, help="Nobody can change it any more.")
@click.option("--dry-run", is_flag=True, help="Print the manifest; write nothing.")
@namespace_option
@cluster_option
@click.pass_context
def create_command(
    ctx: click.Context,
    kind: str,
    name: str,
    literals: tuple[str, ...],
    files: tuple[str, ...],
    env_files: tuple[str, ...],
    immutable: bool,
    dry_run: bool,
    namespace: str,
) -> int:
    """Create a ConfigMap or a Secret from words, files and directories.

    To change one that is there: podium create ... --dry-run | podium apply -f -"""
    from cluster.pb.v1 import core_pb2 as core

    values: dict[str, bytes] = {}
    for key, value in (*_literals(literals), *_files(files), *_env_lines(env_files)):
        if key in values:
            raise CommandError(f'cannot add key "{key}": it is given twice')
        values[key] = value
    made: core.ConfigMap | core.Secret = core.Secret() if kind == "secret" else core.ConfigMap()
    made.metadata.name = name
    made.metadata.namespace = namespace
    if immutable:
        made.immutable = True
    _fill(made, values)
    if dry_run:
        from cluster.cli.printers import as_yaml

        click.echo(as_yaml([made], single=True))
        return 0

    async def body(session: Session) -> int:
        from cluster.cli.printers import name_of
        from cluster.client import operations

        outcome = await session.client.write([operations.create(made)], cause=core.Cause(reason="create"))
        created = outcome.outcomes[0].unwrap()
        click.echo(f"{name_of(created)} created")
        return 0

    return run(ctx, body)


def _fill(made: core.ConfigMap | core.Secret, values: dict[str, bytes]) -> None:
    from cluster.pb.v1 import core_pb2

    for key, value in values.items():
        if isinstance(made, core_pb2.Secret):
            made.data[key] = value
            continue
        try:
            made.data[key] = value.decode()
        except UnicodeDecodeError:
            made.binaryData[key] = value


def _literals(pairs: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.UsageError(f'--from-literal "{pair}": write KEY=VALUE')
        yield key, value.encode()


def _files(arguments: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for argument in arguments:
        key, equals, text = argument.rpartition("=")
        path = Path(text)
        try:
            if path.is_dir() and not equals:
                yield from ((file.name, file.read_bytes()) for file in sorted(path.iterdir()) if file.is_file())
            else:
                yield key if equals else path.name, path.read_bytes()
        except OSError as error:
            raise CommandError(f"--from-file {argument}: {error.strerror}") from error


def _env_lines(paths: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        try:
            lines = Path(path).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--from-env-file {path}: {error}") from error
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            key, equals, value = text.partition("=")
            if not equals or not key:
                raise CommandError(f"{path}:{number}: write KEY=VALUE")
            yield key, value.encode()
