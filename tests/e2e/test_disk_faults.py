"""A master whose disk is full, fails, or is slow. The faults are the kernel's own: a small file system in a mount
namespace, and strace that injects errors and delays into the system calls of a real master.

Writers keep what was acknowledged; whatever happens to the disk, it is there afterwards.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, DeadlineExceeded, Overloaded, Unavailable
from cluster.api.meta import Key
from cluster.client import operations
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.interface import ClusterClient
from cluster.master.server import EXIT_FAILURE
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.kit.leaks import leak_check
from tests.kit.master_process import MasterProcess, Pki, poller_open

DEADLINE_S = 30.0
MIB = 1024 * 1024


def pod(name: str, note: str = "") -> core.Pod:
    """A pod that no scheduler takes: nobody but its writer changes it, and deleting removes it at once."""
    meta = core.ObjectMeta(name=name, namespace="default", annotations={"tests/note": note})
    return core.Pod(
        metadata=meta,
        spec=core.PodSpec(schedulerName="nobody", containers=[core.Container(name="main", command=["true"])]),
    )


class Writer:
    """Creates pods, and remembers which were acknowledged."""

    def __init__(self, client: ClusterClient) -> None:
        self.client = client
        self.acknowledged: dict[str, int] = {}
        """Name -> revision."""
        self._count = 0

    async def write(self, note: str = "", timeout_s: float = 5.0) -> None:
        """Raises as the client does."""
        self._count += 1
        name = f"p{self._count}"
        written = await self.client.write([operations.create(pod(name, note))], timeout_s=timeout_s)
        written.outcomes[0].unwrap()
        self.acknowledged[name] = written.revision

    async def until_refused(self, note: str) -> Exception:
        """Writes until something is refused, and returns that."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                await self.write(note)
            except ApiError as error:
                return error
        raise AssertionError(f"nothing was refused in {len(self.acknowledged)} writes")

    async def until_accepted(self) -> None:
        """Writes until something is acknowledged."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    return await self.write()
                except (Overloaded, Unavailable, DeadlineExceeded):
                    await asyncio.sleep(0.05)

    async def delete(self, name: str) -> None:
        written = await self.client.write([operations.delete(Key("Pod", "default", name))])
        written.outcomes[0].unwrap()
        del self.acknowledged[name]

    async def check(self) -> None:
        """Everything that was acknowledged is there, at its revision."""
        found = {obj.metadata.name: int(obj.metadata.resourceVersion) for obj in await self._list()}
        lost = {name: revision for name, revision in self.acknowledged.items() if found.get(name) != revision}
        assert not lost, f"acknowledged and lost: {lost}"

    async def _list(self) -> list[core.Pod]:
        pods: list[core.Pod] = []
        token = ""
        while True:
            page = await self.client.list(core.Pod, limit=500, continue_token=token)
            pods += page.items
            token = page.continue_token
            if not token:
                return pods


@asynccontextmanager
async def watching(client: ClusterClient) -> AsyncIterator[Callable[[str, str], bool]]:
    """A watch of all pods; says whether an event of a type about a name was heard, and fails if the watch ended."""
    heard: set[tuple[str, str]] = set()
    tasks = Tasks("watching")

    async def read() -> None:
        async with client.watch(core.Pod, initial_state=True) as stream:
            async for batch in stream:
                heard.update(
                    (event.type.name, event.object.metadata.name) for event in batch if event.object is not None
                )

    task = tasks.spawn(read(), name="read")

    def has(type_: str, name: str) -> bool:
        if task.done():
            task.result()
        return (type_, name) in heard

    try:
        yield has
    finally:
        await tasks.cancel_all()


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {DEADLINE_S:g} s"
        await asyncio.sleep(0.02)


# --- full


class SmallDisk:
    """A tmpfs of its own, in a mount namespace that lives as long as this does."""

    def __init__(self, directory: Path, size: int) -> None:
        if os.getuid() != 0 or shutil.which("unshare") is None or shutil.which("nsenter") is None:
            pytest.skip("a small file system needs root, unshare and nsenter")
        directory.mkdir()
        script = f"mount -t tmpfs -o size={size} tmpfs '{directory}' && echo mounted && exec sleep 600"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != "mounted\n":
            reason = self._holder.stderr.read()
            self.close()
            pytest.skip(f"no mount namespace here: {reason}")
        self.prefix = ["nsenter", f"--target={self._holder.pid}", "--mount", f"--wd={os.getcwd()}", "--"]
        """Before a command that shall see it."""
        self.inside = Path(f"/proc/{self._holder.pid}/root{directory}")
        """The directory, seen from here."""

    def fill(self, leave: int) -> None:
        """Takes all of the space but so many bytes."""
        status = os.statvfs(self.inside)
        with (self.inside / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, status.f_bfree * status.f_frsize - leave)

    def empty(self) -> None:
        """Gives it back."""
        (self.inside / "filler").unlink()

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[SmallDisk]:
    disk = SmallDisk(directory, size)
    try:
        yield disk
    finally:
        disk.close()


async def test_on_a_full_disk_reading_watching_and_deleting_go_on_and_writing_comes_back(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    environment = {"PODIUM_MASTER_BALLAST_BYTES": str(2 * MIB)}
    with small_disk(tmp_path / "disk", 16 * MIB) as disk:
        directory = ["--dir", str(tmp_path / "disk" / "store")]
        async with (
            poller_open(pki.admin),
            leak_check(),
            MasterProcess(pki, arguments=directory, environment=environment, prefix=disk.prefix) as master,
        ):
            client = master.client()
            writer = Writer(client)
            for _ in range(20):
                await writer.write()
            async with watching(client) as heard:
                await writer.write()
                await until(lambda: heard("ADDED", "p21"), "the watch has begun")
                disk.fill(leave=300_000)
                error = await writer.until_refused("x" * 5000)
                assert isinstance(error, Overloaded), error
                assert "the disk is full" in str(error)
                before = len(writer.acknowledged)
                await writer.check()
                await writer.delete("p1")
                await until(lambda: heard("DELETED", "p1"), "the watch lives on")
                assert isinstance(await writer.until_refused("x" * 5000), Overloaded)
                assert len(writer.acknowledged) == before - 1, "only deletions, until there is room"

                await master.kill()
            await master.start()
            await writer.check()
            async with watching(client) as heard:
                assert isinstance(await writer.until_refused("x" * 5000), Overloaded), "it starts on a full disk, too"
                await writer.delete("p2")
            assert await master.terminate() == 0
            await master.start()
            async with watching(client) as heard:
                assert isinstance(await writer.until_refused("x" * 5000), Overloaded), "after an orderly stop as well"
                await writer.delete("p3")

                disk.empty()
                await writer.until_accepted()
                last = max(writer.acknowledged, key=lambda name: writer.acknowledged[name])
                await until(lambda: heard("ADDED", last), "the watch hears of what is written again")
                await writer.check()
            assert await master.terminate() == 0
            assert (disk.inside / "store" / "ballast").stat().st_size == 2 * MIB, "the next time, too"
            await master.start()
            await writer.check()
            await client.close()
            assert await master.terminate() == 0


# --- damaged


def podium(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster.cli.main", *arguments],
        env={**os.environ, "PODIUM_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_damaged_store_is_refused_with_a_way_out_and_is_still_there(tmp_path: Path) -> None:
    home = tmp_path / "podium"
    up = ("up", "--cluster", "hurt", "--nodes", "1", "-d")
    assert podium(home, *up).returncode == 0
    assert "in use by a master" in podium(home, "fsck", "--cluster", "hurt").stderr
    assert podium(home, "down", "--cluster", "hurt", "--keep").returncode == 0
    sound = podium(home, "fsck")
    assert (sound.returncode, "verdict      sound" in sound.stdout) == (0, True), sound

    store = home / "clusters" / "hurt" / "master" / "store.db"
    data = bytearray(store.read_bytes())
    data[data.index(b"kubernetes.io/hostname")] ^= 1
    store.write_bytes(data)
    refused = podium(home, *up)
    assert refused.returncode == 1
    for words in ("not those that were written", "podium fsck --dir", "podium restore", "the state is kept"):
        assert words in refused.stderr, refused.stderr
    assert store.read_bytes() == data
    checked = podium(home, "fsck")
    assert (checked.returncode, "verdict      damaged" in checked.stdout) == (1, True), checked
    assert podium(home, "down", "--cluster", "hurt").returncode == 0


# --- failing


class Strace:
    """Injects a fault into the system calls of a process, until it is closed."""

    def __init__(self, pid: int, injection: str, log: Path) -> None:
        if shutil.which("strace") is None:
            pytest.skip("faults of the disk are injected by strace, which is not installed")
        calls = injection.partition(":")[0]
        self._process = subprocess.Popen(
            [
                "strace",
                "-f",
                "-qq",
                "-e",
                f"trace={calls}",
                "-e",
                f"inject={injection}",
                "-o",
                str(log),
                "-p",
                str(pid),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + DEADLINE_S
        while not self._attached(pid):
            if self._process.poll() is not None or time.monotonic() > deadline:
                assert self._process.stderr is not None
                reason = self._process.stderr.read() if self._process.poll() is not None else "it takes too long"
                self.close()
                pytest.skip(f"strace cannot attach here: {reason}")
            time.sleep(0.02)

    def _attached(self, pid: int) -> bool:
        """To every thread: one that is missed has no faults."""
        statuses = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
        return bool(statuses) and all(f"TracerPid:\t{self._process.pid}\n" in status for status in statuses)

    def close(self) -> None:
        """The process goes on without faults."""
        self._process.kill()  # a SIGTERM may find strace in the middle of its process's end, and wait for ever
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()


@pytest.mark.parametrize("when", [1, 3, 10])
async def test_a_failing_fsync_ends_the_master_and_the_next_start_has_everything(tmp_path: Path, when: int) -> None:
    pki = Pki(tmp_path)
    async with poller_open(pki.admin), leak_check(), MasterProcess(pki) as master:
        client = master.client()
        writer = Writer(client)
        for _ in range(10):
            await writer.write()
        strace = Strace(master.pid, f"fsync,fdatasync:error=EIO:when={when}", tmp_path / "strace")
        try:
            error = await writer.until_refused("")
            assert isinstance(error, ApiError)
            assert await master.wait() == EXIT_FAILURE, master.story()
        finally:
            strace.close()
        assert "ends now" in master.story()
        await master.start()
        await writer.until_accepted()
        await writer.check()
        await client.close()
        assert await master.terminate() == 0


def test_podium_up_starts_a_master_again_whose_disk_has_failed(podium_cluster: Cluster, tmp_path: Path) -> None:
    podium_cluster.run(lambda client: client.write([operations.create(pod("before"))]))
    strace = Strace(podium_cluster.pid("master"), "fsync,fdatasync:error=EIO:when=1", tmp_path / "strace")
    try:
        first = podium_cluster.pid("master")
        podium_cluster.run(lambda client: _ignore(client.write([operations.create(pod("lost"))], timeout_s=5.0)))
    finally:
        strace.close()
    podium_cluster.wait_until(lambda: podium_cluster.pid("master") not in (0, first), "a new master")

    async def write(client: ClusterClient) -> None:
        await Writer(client).until_accepted()

    podium_cluster.run(write, timeout_s=60.0)
    assert podium_cluster.get("pod", "before").metadata.name == "before"


async def _ignore(call: object) -> None:
    try:
        await call  # type: ignore[misc]
    except ApiError:
        pass


# --- slow


async def test_on_a_slow_disk_heartbeats_go_on_and_what_is_too_much_is_refused(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    async with poller_open(pki.admin), leak_check(), MasterProcess(pki) as master:
        clients = [GrpcClusterClient(master.address, pki.admin) for _ in range(4)]
        heart = master.client()
        await Writer(heart).write()
        strace = Strace(master.pid, "fsync,fdatasync:delay_enter=300000", tmp_path / "strace")
        try:
            outcomes = await _flood(clients, heart)
        finally:
            strace.close()
        acknowledged = {name for name, outcome in outcomes.items() if outcome is None}
        refused = [outcome for outcome in outcomes.values() if outcome is not None]
        assert acknowledged
        assert refused, "4 times 1,000 writes are more than wait in line"
        assert {type(outcome) for outcome in refused} == {Overloaded}, refused[:3]
        await master.kill()
        await master.start()
        names = {obj.metadata.name for obj in (await heart.list(core.Pod)).items}
        assert acknowledged <= names
        assert names - {"p1"} <= acknowledged, "what was refused was not written"
        for client in (*clients, heart):
            await client.close()
        assert await master.terminate() == 0


async def _flood(clients: list[GrpcClusterClient], heart: ClusterClient) -> dict[str, ApiError | None]:
    """A great many writes at once, and heartbeats meanwhile; returns what became of the writes."""
    outcomes: dict[str, ApiError | None] = {}

    async def write(client: ClusterClient, name: str) -> None:
        try:
            (outcome,) = (await client.write([operations.create(pod(name))], timeout_s=DEADLINE_S)).outcomes
            outcome.unwrap()
            outcomes[name] = None
        except ApiError as error:
            outcomes[name] = error

    beats = 0
    async with heart.heartbeats() as line:
        async with asyncio.TaskGroup() as group:
            writes = [group.create_task(write(c, f"w{n}-{m}")) for n, c in enumerate(clients) for m in range(1000)]
            while sum(not task.done() for task in writes) > 0:
                await line.beat([wire.NodeHeartbeat(node="n1")], timeout_s=DEADLINE_S)
                beats += 1
                await asyncio.sleep(0.01)
        assert beats > 20, f"only {beats} heartbeats while {len(writes)} writes waited for the disk"
    return outcomes
