"""Backups of masters that are written to all the time, on SQLite and on etcd, and restores of a log that they share."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Forbidden, StoreRewound, Unavailable
from cluster.api.meta import key_of
from cluster.client import operations
from cluster.client.backup import fetch_backup
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials, Identity, issue
from cluster.store.backup_format import BadBackup, Header, Reading, Records
from cluster.store.failpoints import EXIT_CODE
from tests.e2e.test_masters import Masters, calling, patiently
from tests.kit.etcd import EtcdCluster, shared_etcd
from tests.kit.master_process import MasterProcess, Pki

__all__ = ["shared_etcd"]


def pod(name: str, note: str) -> core.Pod:
    meta = core.ObjectMeta(name=name, namespace="default", annotations={"tests/note": note})
    spec = core.PodSpec(schedulerName="nobody", containers=[core.Container(name="main", command=["true"])])
    return core.Pod(metadata=meta, spec=spec)


class Busy:
    """Creates, and deletes again, as long as it lasts."""

    def __init__(self, client: ClusterClient, name: str) -> None:
        self._client = client
        self._name = name
        self._tasks = Tasks(name)

    def start(self) -> None:
        self._tasks.spawn(self._run(), name=self._name)

    async def stop(self) -> None:
        await self._tasks.cancel_all()

    async def _run(self) -> None:
        for number in itertools.count():
            try:
                await self._client.write([operations.create(pod(f"{self._name}-{number}", "x" * 500))])
                if number >= 10:
                    key = key_of(pod(f"{self._name}-{number - 10}", ""))
                    await self._client.write([operations.delete(key, grace_period_s=0)])
            except ApiError:
                await asyncio.sleep(0.02)


async def taken(process: MasterProcess, credentials: Credentials | None = None) -> tuple[bytes, Header, dict[str, str]]:
    """A backup: its bytes, what it says of itself, and the pods in it with their versions."""
    reading = Reading()
    pods: dict[str, str] = {}
    whole = b""
    async with aclosing(fetch_backup([process.address], credentials or process.credentials)) as pieces:
        async for piece in pieces:
            whole += piece
            for part in reading.feed(piece):
                for record in part.records if isinstance(part, Records) else ():
                    if record.kind == "Pod":
                        pods.pop(record.name, None)
                        if not record.deleted:
                            pods[record.name] = str(record.revision)
    reading.finish()
    assert reading.header is not None
    return whole, reading.header, pods


@asynccontextmanager
async def running(directory: Path, count: int, *arguments: str) -> AsyncIterator[Masters]:
    pki = Pki(directory)
    async with AsyncExitStack() as stack:
        processes = [MasterProcess(pki, f"m{number}", arguments) for number in range(count)]
        await asyncio.gather(*(stack.enter_async_context(process) for process in processes))
        yield Masters(pki, processes)


@pytest.mark.parametrize("engine", ["sqlite", "etcd"])
async def test_backups_among_writes_are_what_a_list_says_of_that_revision(
    engine: str, tmp_path: Path, shared_etcd: EtcdCluster
) -> None:
    """On etcd, of a master that follows."""
    arguments = ["--store", f"{shared_etcd.url}/{tmp_path.name}"] if engine == "etcd" else []
    async with running(tmp_path, 2 if engine == "etcd" else 1, *arguments) as masters:
        leader = await masters.leader()
        asked = (await masters.followers())[0] if engine == "etcd" else leader
        async with aclosing(leader.client()) as client, aclosing(asked.client()) as reader:
            writers = [Busy(client, f"w{number}") for number in range(4)]
            for writer in writers:
                writer.start()
            before = 0
            try:
                for _ in range(5):
                    at_least = (await client.list(core.Pod)).revision
                    _, header, pods = await taken(asked)
                    assert header.revision >= max(at_least, before + 1), "all that was acknowledged before is in it"
                    listed = await reader.list(core.Pod, revision=header.revision)
                    assert pods == {pod.metadata.name: pod.metadata.resourceVersion for pod in listed.items}
                    assert (header.engine, header.cluster) == (engine, "masters")
                    before = header.revision
                    await asyncio.sleep(0.1)
            finally:
                for writer in writers:
                    await writer.stop()


async def test_only_the_admin_gets_a_backup(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as masters:
        for kind in ("controllers", "scheduler", "proxy", "node"):
            issue(tmp_path / "ca", tmp_path / kind, Identity(kind, "node-1" if kind == "node" else ""))
            with pytest.raises(Forbidden):
                await taken(masters.processes[0], Credentials.load(tmp_path / kind))


@pytest.mark.parametrize("point", ["backup.before_begin", "backup.between_pieces", "backup.before_end"])
async def test_a_backup_of_a_master_that_dies_has_no_end(tmp_path: Path, point: str) -> None:
    async with running(tmp_path, 1) as masters:
        (master,) = masters.processes
        async with aclosing(master.client()) as client:
            await client.write([operations.create(pod("a", ""))])
        await master.kill()
        await master.start(f"{point}=exit")
        with pytest.raises((Unavailable, BadBackup)):
            await taken(master)
        assert await master.wait() == EXIT_CODE
        await master.start()
        assert "a" in (await taken(master))[2]


async def podium(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli.main", *arguments]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env={**os.environ}
        )

    return await asyncio.to_thread(run)


async def test_masters_on_etcd_go_back_together(tmp_path: Path, shared_etcd: EtcdCluster) -> None:
    url = f"{shared_etcd.url}/{tmp_path.name}"
    async with running(tmp_path, 3, "--store", url) as masters:
        leader = await masters.leader()
        (follower, _) = await masters.followers()
        async with aclosing(leader.client()) as client:
            await client.write([operations.create(pod("early", ""))])
            whole, header, _ = await taken(follower)
            (tmp_path / "backup").write_bytes(whole)
            for number in range(30):
                await client.write([operations.create(pod(f"late-{number}", ""))])
            ahead = (await client.list(core.Pod)).revision

        refused = await podium("restore", str(tmp_path / "backup"), "--store", url, "--yes")
        assert (refused.returncode, "a master leads, at" in refused.stderr) == (1, True), refused.stderr
        assert "Nothing was changed" in refused.stderr
        unsure = await podium("restore", str(tmp_path / "backup"), "--store", url)
        assert (unsure.returncode, "--yes" in unsure.stderr) == (2, True)

        await asyncio.gather(*(process.terminate() for process in masters.processes))
        restored = await podium("restore", str(tmp_path / "backup"), "--store", url, "--yes")
        assert restored.returncode == 0, restored.stderr
        await asyncio.gather(*(process.start() for process in masters.processes))

        statuses = [await masters.status(process) for process in masters.processes]
        assert {status.store_id.partition("+")[0] for status in statuses} == {header.store_id}
        assert len({status.store_id for status in statuses}) == 1
        assert statuses[0].store_id != header.store_id
        for process in masters.processes:
            async with aclosing(process.client()) as client:
                found, _ = await patiently(lambda client=client: client.list(core.Pod))  # type: ignore[misc]
                assert [item.metadata.name for item in found.items] == ["early"]
                with pytest.raises(StoreRewound):
                    await client.list(core.Pod, revision=ahead)
                with pytest.raises(StoreRewound):
                    async with client.watch(core.Pod, after_revision=ahead) as batches:
                        await anext(batches)
            # Revision 1 is the same in both, but who has it of the store before may have later ones, too.
            async with calling(process.address, process.credentials) as stub:
                request = wire.WatchRequest(kind="Pod", after_revision=1, store_id=header.store_id)
                stream = stub.watch(request)
                with pytest.raises(StoreRewound, match="revisions mean something else"):
                    await stream.next(10.0)
                await stream.close()
        await masters.leader()
        for process in masters.processes:
            write = [operations.create(pod(f"after-{process.name}", ""))]
            async with aclosing(process.client()) as client:
                await patiently(lambda client=client, write=write: client.write(write))  # type: ignore[misc]
        _, again, pods = await taken(follower)
        assert again.revision > header.revision
        assert sorted(pods) == ["after-m0", "after-m1", "after-m2", "early"]
