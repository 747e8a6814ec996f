"""The master's own process, killed at its crash points under a writer and a watcher: no acknowledged write is lost, and
the watch goes on from where it was, with etcd's guarantees over all its lives.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.api.errors import ApiError, Unavailable
from cluster.client import operations as ops
from cluster.client.grpc_client import GrpcClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.store.failpoints import EXIT_CODE, VARIABLE
from tests.kit.watch_validators import Recording, Seen, check

HOST = "127.0.0.1"
LIVES = 4
WRITES = 120


class Master:
    """A master process on one directory; each life has the same address."""

    def __init__(self, directory: Path) -> None:
        make_ca(directory / "ca", "crash")
        issue(directory / "ca", directory / "master", Identity("master"), hosts=[HOST])
        issue(directory / "ca", directory / "admin", Identity("admin"))
        self._directory = directory
        self.address = f"{HOST}:0"
        self._process: subprocess.Popen[str] | None = None

    async def start(self, failpoints: str) -> None:
        process = self._process = self._spawn(failpoints)
        assert process.stdout is not None
        ready = await asyncio.to_thread(process.stdout.readline)
        assert "address=" in ready, ready
        self.address = ready.split("address=")[1].split()[0]

    def _spawn(self, failpoints: str) -> subprocess.Popen[str]:
        arguments = ["--listen", self.address, "--dir", str(self._directory / "store"), "--profile", "test"]
        command = [sys.executable, "-m", "cluster", "master", *arguments]
        return subprocess.Popen(
            [*command, "--credentials", str(self._directory / "master")],
            env={**os.environ, VARIABLE: failpoints},
            stdout=subprocess.PIPE,
            text=True,
        )

    async def wait(self) -> int:
        assert self._process is not None
        code = await asyncio.to_thread(self._process.wait, 30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def terminate(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def client(self) -> GrpcClusterClient:
        return GrpcClusterClient(self.address, Credentials.load(self._directory / "admin"))


async def _follow(client: GrpcClusterClient, recording: Recording, stop: asyncio.Event) -> None:
    """Watches services over all lives of the master, resuming after the last revision seen; never lists again."""
    after = 0
    while not stop.is_set():
        try:
            async with client.watch(core.Service, after_revision=after) as batches:
                async for batch in batches:
                    recording.add_events(batch)
                    after = recording.last_revision
        except Unavailable:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("point", ["store.before_commit", "store.after_commit"])
async def test_no_acknowledged_write_is_lost_and_no_event(tmp_path: Path, point: str) -> None:
    master = Master(tmp_path)
    await master.start("")
    client, recording, stop = master.client(), Recording(after=0), asyncio.Event()
    follower = asyncio.create_task(_follow(client, recording, stop))
    acknowledged: dict[str, int] = {}
    number = 0
    try:
        for life in range(LIVES):
            last = life == LIVES - 1
            if life:
                await master.start("" if last else f"{point}=exit:1in25")
            for _ in range(WRITES):
                number += 1
                name = f"s{number}"
                service = core.Service(metadata=core.ObjectMeta(name=name, namespace="default"))
                service.spec.ports.add(port=80)
                try:
                    outcome = await client.write([ops.create(service)], timeout_s=5.0)
                    acknowledged[name] = int(outcome.outcomes[0].unwrap().metadata.resourceVersion)
                except ApiError:
                    break
            if not last:
                master.terminate()
                assert await master.wait() in (0, EXIT_CODE)
        found = await client.list(core.Service)
        there = {service.metadata.name: int(service.metadata.resourceVersion) for service in found.items}
        assert acknowledged.items() <= there.items(), "an acknowledged write was lost"
        assert len(there) - len(acknowledged) <= LIVES, "at most the one that was under way at each kill"
        async with asyncio.timeout(20):
            while recording.last_revision < found.revision:
                await asyncio.sleep(0.02)
        log = [Seen("ADDED", revision, f"Service/default/{name}") for name, revision in there.items()]
        check(recording, sorted(log, key=lambda seen: seen.revision))
    finally:
        stop.set()
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        await client.close()
        master.terminate()
        await master.wait()
