"""`podium restore`: a cluster becomes what it was when it was backed up.

The new store is made and looked through beside the one that is there, whatever runs. Then, for a moment, no master runs
(the supervisor holds it), and the two change places; if the master does not come up with the new one, they change back.
See cluster/store/restoring.py for what happens when any of this is killed in between.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cluster.actor.clock import SystemClock
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import chosen_cluster, cluster_option

if TYPE_CHECKING:
    from cluster.store.backup_format import Header
    from cluster.store.restoring import Staged
    from cluster.up.layout import ClusterDir, ClusterState

_CLOCK = SystemClock()
_START_S = 30.0
"""How long the master may take to come up with the restored store, besides a second per 20 MB of backup."""
_CRASHES = 2
"""It will not come up any more."""


@click.command(
    "restore",
    epilog="\b\nExamples:\n"
    "  podium restore demo.backup                   into the cluster that runs, or that was kept\n"
    "  podium --cluster demo restore demo.backup --yes\n"
    "  podium --cluster copy restore demo.backup --from demo\n"
    "  podium restore demo.backup --dir /srv/podium/master    where a master started by hand keeps its store\n"
    "  podium restore demo.backup --store etcd://10.0.0.1:2379/podium/demo",
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--from", "source", metavar="NAME", help="It may be a backup of this other cluster.")
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Where store.db lies.")
@click.option(
    "--store", "url", metavar="URL", help="A store in etcd, of which no master runs: etcd://HOST:PORT,.../PREFIX"
)
@click.option("--etcd-credentials", type=click.Path(path_type=Path, file_okay=False), help="For --store: ca.crt, ...")
@cluster_option
@click.pass_context
def restore_command(
    ctx: click.Context,
    file: Path,
    yes: bool,
    source: str | None,
    directory: Path | None,
    url: str | None,
    etcd_credentials: Path | None,
) -> int:
    """Make a cluster what it was when it was backed up: all objects and their history.

    What has changed since then is gone from the cluster; the store with it is kept aside until the next restore. Pods
    that did not exist then are ended, and those that did are started. A cluster that does not run is restored, too, and
    goes on from there with the next podium up."""
    from cluster.store.backup_file import header_of
    from cluster.store.backup_format import BadBackup
    from cluster.store.interface import StoreError, StoreRefused

    if (directory is not None) + bool(chosen_cluster(ctx)) + (url is not None) > 1:
        raise click.UsageError("name a cluster, a directory or a store, and only one of them")
    if etcd_credentials is not None and url is None:
        raise click.UsageError("--etcd-credentials is for --store")
    try:
        header = header_of(file)
        if url is not None:
            if source is not None:
                raise click.UsageError("--from is for a cluster; --store names by its prefix what is restored")
            return _restore_etcd(file, header, url, etcd_credentials, yes=yes)
        target = Target.of_directory(directory) if directory is not None else Target.of_cluster(ctx, header)
        target.check(header, source)
        target.confirm(header, file, yes=yes)
        return target.restore(file)
    except (BadBackup, StoreRefused) as error:
        raise CommandError(f"{error}. Nothing was changed") from error
    except StoreError as error:
        raise CommandError(str(error)) from error
    except sqlite3.Error as error:
        raise CommandError(f"the new store could not be made: {error}. Nothing was changed") from error


class Target:
    """What is restored: a cluster of this machine, running or not, or a directory."""

    def __init__(self, store: Path, cluster: ClusterDir | None, state: ClusterState | None) -> None:
        self._store = store
        """Where store.db lies, or will."""
        self._cluster = cluster
        self._state = state
        """None: the cluster was never started, or it is a directory."""
        self._runs = state is not None and state.is_running()

    @classmethod
    def of_directory(cls, directory: Path) -> Target:
        if not directory.is_dir():
            raise CommandError(f"there is no directory {directory}", ExitCode.USAGE)
        return cls(directory, None, None)

    @classmethod
    def of_cluster(cls, ctx: click.Context, header: Header) -> Target:
        """The named one, or the only one there is, or else the one that was backed up."""
        from cluster.up.layout import cluster_dir, known_clusters

        name = chosen_cluster(ctx)
        if not name:
            known = known_clusters()
            if len(known) > 1:
                names = ", ".join(directory.name for directory in known)
                raise CommandError(f"there are several clusters ({names}); name one: --cluster NAME", ExitCode.USAGE)
            name = known[0].name if known else header.cluster or "default"
        directory = cluster_dir(name)
        return cls(directory.path / "master", directory, directory.read_state())

    def check(self, header: Header, source: str | None) -> None:
        """Raises CommandError if this backup is not for this cluster."""
        if self._cluster is None:
            return
        name = self._cluster.name
        if self._runs and not (self._store / "store.db").exists():
            raise CommandError(
                f'"{name}" runs, and its store is not here. Stop its masters (podium down --cluster {name} --keep) and '
                "name the store: --store URL",
                ExitCode.USAGE,
            )
        if header.cluster not in (name, source):
            raise CommandError(
                f'this is a backup of cluster "{header.cluster}"; to restore it into "{name}": --from {header.cluster}',
                ExitCode.USAGE,
            )
        block = block_of(header)
        if block is None:
            raise CommandError(
                "this backup is of a master that was started by hand, with other addresses than a cluster has; restore "
                "it with --dir",
                ExitCode.USAGE,
            )
        if self._state is not None and self._state.block == block and self._runs:
            return
        if self._runs:
            assert self._state is not None, "it runs"
            raise CommandError(
                f'the objects of this backup have addresses of 127.{block}.0.0/16, and "{name}" runs on '
                f"127.{self._state.block}.0.0/16. Stop it first: podium down --cluster {name} --keep; once it is "
                "restored, it takes the addresses of the backup",
                ExitCode.USAGE,
            )
        from cluster.up.addresses import is_free

        if not is_free(block):
            raise CommandError(
                f"the objects of this backup have addresses of 127.{block}.0.0/16, which another cluster has now; stop "
                "that first (podium down), and try again",
                ExitCode.USAGE,
            )

    def confirm(self, header: Header, file: Path, *, yes: bool) -> None:
        """Asks, if there is something to lose. Raises CommandError, click.Abort."""
        if yes or not (self._runs or (self._store / "store.db").exists()):
            return
        what = f'cluster "{self._cluster.name}"' if self._cluster is not None else f"the store in {self._store}"
        _ask(f"{what}, which runs," if self._runs else what, header, file)

    def restore(self, file: Path) -> int:
        """Raises CommandError, BadBackup, StoreRefused, OSError, sqlite3.Error."""
        from cluster.store import backup_file, restoring

        started_s = _CLOCK.monotonic()
        if self._cluster is not None:
            self._cluster.create()
        with _one_at_a_time(self._store):
            staged = restoring.stage(self._store, backup_file.parts_of(file), _new_suffix())
            had_store = (self._store / "store.db").exists()
            self._exchange(staged, file.stat().st_size)
        _tell(staged, started_s)
        if had_store:
            say(f"the store before is kept until the next restore: {self._store / restoring.OLD}")
        if self._cluster is not None and not self._runs:
            nodes = staged.objects.get("Node", 0)
            say(f"\nNext: podium up --cluster {self._cluster.name} --nodes {max(nodes, 1)} -d")
        return ExitCode.OK

    def _exchange(self, staged: Staged, size_bytes: int) -> None:
        from cluster.api.errors import ApiError
        from cluster.store import restoring

        try:
            with self._held():
                restoring.switch(self._store)
                self._note_block(staged.header)
            if self._runs:
                self._await_master(_START_S + size_bytes / 20e6)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, ApiError):
                say(f"error: {error.message}")
            say("putting the store back that was there before")
            with self._held():
                restoring.put_back(self._store, staged.store_id)
            if self._runs:
                self._await_master(_START_S)
            raise CommandError(f"the cluster was not restored, and is as it was before: {error}") from error

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Within it nobody else opens the store."""
        from cluster.store.opening import take_lock
        from cluster.up.control import hold_masters

        held = hold_masters(self._cluster.control_socket) if self._runs and self._cluster is not None else nullcontext()
        with held:
            lock = take_lock(self._store)
            try:
                yield
            finally:
                os.close(lock)

    def _note_block(self, header: Header) -> None:
        """The next `podium up` takes the addresses that the objects have."""
        from cluster.up.layout import ClusterState

        block = block_of(header)
        if self._cluster is None or self._runs or block is None:
            return
        state = self._state or ClusterState(
            name=self._cluster.name,
            detached=True,
            profile="laptop",
            block=block,
            master=f"127.{block}.0.1:6443",
            started_at=_CLOCK.wall(),
        )
        state.block = block
        self._cluster.write_state(state)

    def _await_master(self, timeout_s: float) -> None:
        """Until every master is up. Raises CommandError with what it said if it does not come up, ApiError."""
        from cluster.up import control
        from cluster.up.child import tail_of

        assert self._cluster is not None, "it runs"
        deadline_s = _CLOCK.monotonic() + timeout_s
        while True:
            answer = control.ask(self._cluster.control_socket, {"op": "status"})
            masters = [child for child in answer["children"] if child["role"] == "master"]
            if all(child["state"] == "running" for child in masters):
                return
            for child in masters:
                if child["crashes"] >= _CRASHES or _CLOCK.monotonic() > deadline_s:
                    said = tail_of(Path(child["log"]))
                    raise CommandError(f"{child['name']} does not start with the restored store:\n{said}")
            time.sleep(0.05)


def _ask(what: str, header: Header, file: Path) -> None:
    """Raises CommandError, click.Abort."""
    if not sys.stdin.isatty():
        raise CommandError(
            f"there is no terminal to ask at whether {what.rstrip(',')}, may be replaced; if it may: --yes",
            ExitCode.USAGE,
        )
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.time_s))
    click.confirm(
        f"{what} becomes what {file} says: revision {header.revision} of {moment}. What has changed since then is "
        "gone. Go on?",
        abort=True,
        err=True,
    )


def _restore_etcd(file: Path, header: Header, url_text: str, credentials_dir: Path | None, *, yes: bool) -> int:
    """A store in etcd: its masters are stopped by whoever has started them."""
    import asyncio

    from cluster.rpc.etcd import EtcdClient, load_credentials, parse_etcd_url
    from cluster.rpc.identity import CredentialsError
    from cluster.store import backup_file
    from cluster.store.etcd.restoring import restore

    try:
        url = parse_etcd_url(url_text)
        credentials = None if credentials_dir is None else load_credentials(credentials_dir)
    except (ValueError, CredentialsError) as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    prefix = url.prefix or f"/podium/{header.cluster}/"
    if not yes:
        _ask(f"the store below {prefix} in this etcd", header, file)
    started_s = _CLOCK.monotonic()

    async def run() -> Staged:
        client = EtcdClient(url.endpoints, credentials)
        try:
            return await restore(client, prefix, backup_file.parts_of(file), _new_suffix(), _CLOCK)
        finally:
            await client.close()

    staged = asyncio.run(run())
    _tell(staged, started_s)
    say("Start its masters again; they and their clients read everything anew.")
    return ExitCode.OK


def _new_suffix() -> str:
    return f"{random.SystemRandom().getrandbits(32):08x}"


def _tell(staged: Staged, started_s: float) -> None:
    objects = sum(staged.objects.values())
    say(
        f"restored revision {staged.header.revision}: {objects} objects, {staged.records} records in "
        f"{_CLOCK.monotonic() - started_s:.1f}s; the store is {staged.store_id} now"
    )


def block_of(header: Header) -> int | None:
    """The block 127.N.0.0/16 that a backup's objects have their addresses of; None: they have others."""
    parts = header.service_cidr.split(".")
    if len(parts) != 4 or parts[0] != "127" or not parts[1].isdigit() or parts[2:] != ["0", "0/20"]:
        return None
    block = int(parts[1])
    return block if header.pod_cidr_base == f"127.{block}.16.0" and 10 <= block <= 250 else None


@contextmanager
def _one_at_a_time(store: Path) -> Iterator[None]:
    """Raises CommandError if another restore of this store is under way."""
    import fcntl

    fd = os.open(store / "restore.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"another restore into {store} is under way", ExitCode.USAGE) from None
        yield
    finally:
        os.close(fd)
