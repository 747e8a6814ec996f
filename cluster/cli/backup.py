"""`podium backup`: everything that a running cluster keeps, in one file.

What comes is looked through as it comes, and the file gets its name when the end has come and is on the disk: whatever
breaks before that, there is no file of that name, or still the one from before.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from cluster.actor.clock import SystemClock
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import Session, cluster_option, run

_CLOCK = SystemClock()
PARTIAL = ".partial"
"""What is appended to a file's name while it is not whole."""


@click.command(
    "backup",
    epilog="\b\nExamples:\n"
    "  podium backup demo.backup\n"
    "  podium backup --force /backups/demo      in place of the one that is there\n"
    "  podium backup - | ssh host 'cat > demo.backup'\n"
    "  podium fsck demo.backup                  what it holds, and whether it is whole",
)
@click.argument("file", metavar="FILE")
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@cluster_option
@click.pass_context
def backup_command(ctx: click.Context, file: str, force: bool) -> int:
    """Write everything that the cluster keeps into a file, as of one moment, while it goes on working.

    All objects and their history, secrets too: only you can read the file, and nobody else should. Bring it back with
    podium restore. With "-" it goes to standard output."""
    from cluster.client.backup import fetch_backup
    from cluster.rpc.identity import Credentials
    from cluster.store.backup_file import Census
    from cluster.store.backup_format import BadBackup, Reading, Records

    started_s = _CLOCK.monotonic()
    reading, census = Reading(), Census()

    async def body(session: Session, out: BinaryIO) -> int:
        size = 0
        addresses = session.state.masters
        credentials = Credentials.load(session.directory.credentials("admin"))
        async for data in fetch_backup(addresses, credentials):
            for part in reading.feed(data):
                if isinstance(part, Records):
                    census.add(part)
            out.write(data)
            size += len(data)
        reading.finish()
        return size

    try:
        if file == "-":
            if sys.stdout.isatty():
                raise click.UsageError("a backup is not for a terminal; name a file, or redirect the output")
            size = run(ctx, lambda session: body(session, sys.stdout.buffer))
            sys.stdout.buffer.flush()
        else:
            with new_file(Path(file), force=force) as out:
                size = run(ctx, lambda session: body(session, out))
    except BadBackup as error:
        raise CommandError(f"{error}. It was not kept; try again, and see: podium fsck") from error
    header, objects = reading.header, sum(census.objects.values())
    assert header is not None, "a backup that has an end has a beginning"
    took_s = _CLOCK.monotonic() - started_s
    say(
        f'backup of cluster "{header.cluster}" at revision {header.revision}: {objects} objects, '
        f"{size / 1e6:.1f} MB in {took_s:.1f}s" + ("" if file == "-" else f" -> {file}")
    )
    return ExitCode.OK


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """To be written within it; of that name, and durable, when it is left. If it is left by an error, nothing is there
    that was not there before. Raises CommandError, OSError.
    """
    _refuse_to_replace(path, force=force)
    partial = path.with_name(path.name + PARTIAL)
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as out:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"{partial} is being written by another command") from None
        try:
            os.fchmod(fd, 0o600)  # one that was left by a command that was killed may be anything
            os.ftruncate(fd, 0)
            yield out
            out.flush()
            os.fsync(fd)
            _refuse_to_replace(path, force=force)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _refuse_to_replace(path: Path, *, force: bool) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise CommandError(f"{path} is there and is no file", ExitCode.USAGE)
    if not force:
        raise CommandError(f"{path} is there already; to replace it: --force", ExitCode.USAGE)
