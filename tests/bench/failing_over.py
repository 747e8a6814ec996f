"""Three masters on three members of etcd, and the one that leads is killed: how long until writes are taken again.

The clock starts with kill -9 and stops when a write that was sent afterwards is acknowledged. The client knows all the
masters and keeps trying, as every part of the cluster does. Between two rounds what was killed comes back: `podium up`
starts the master again, and this bench the member of etcd. etcd has its default timers, on the disk of the project.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.api.errors import ApiError, DeadlineExceeded, Unavailable
from cluster.client import operations
from cluster.client.store_status import ask_masters
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials
from cluster.up.layout import ClusterDir
from tests.bench import harness
from tests.bench.harness import Sides, benchmark
from tests.bench.whole import Whole, whole
from tests.kit.etcd import EtcdCluster

MASTERS = 3
MEMBERS = 3
PATIENCE_S = 60.0
_TRY_S = 10.0
_PAUSE_S = 0.05
_names = itertools.count()


async def write(cluster: Whole) -> None:
    """Returns when a write is acknowledged that is sent now, or again because nobody took it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            event = core.Event(metadata=core.ObjectMeta(name=f"bench-{next(_names)}", namespace="default"))
            event.involvedObject.kind, event.involvedObject.name = "Pod", "bench"
            event.involvedObject.namespace = "default"
            event.reason, event.type = "Bench", "Normal"
            try:
                done = await cluster.client.write([operations.create(event)], timeout_s=_TRY_S)
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(_PAUSE_S)
                continue
            done.outcomes[0].unwrap()
            return


async def leader(cluster: Whole) -> str:
    """Where the master is that leads, once every one answers and is not behind."""
    addresses = cluster.info["master"].split(",")
    credentials = Credentials.load(Path(cluster.info["credentials"]))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answers = await ask_masters(addresses, credentials)
            well = {a: s for a, s in answers.items() if not isinstance(s, ApiError) and not s.problems}
            leaders = [address for address, status in well.items() if status.leader]
            if len(well) == len(addresses) and len(leaders) == 1:
                return leaders[0]
            await asyncio.sleep(_PAUSE_S)


@asynccontextmanager
async def masters_on_etcd() -> AsyncIterator[tuple[Whole, EtcdCluster]]:
    """The cluster and its etcd, with a write behind them."""
    if shutil.which("etcd") is None:
        raise harness.Unavailable("etcd is not installed: apt-get install etcd-server")
    build = Path(__file__).parents[2] / "build"  # on a disk; /tmp may be memory
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="podium-bench-", dir=build) as directory:
        etcd = EtcdCluster(Path(directory), MEMBERS, election_ms=1000)
        try:
            await etcd.start()
            store = ("--masters", str(MASTERS), "--store", f"{etcd.url}/podium/bench")
            async with whole(2, *store) as cluster:
                await write(cluster)
                yield cluster, etcd
        finally:
            etcd.stop()


@benchmark(
    "failover_master",
    unit="s",
    what="kill -9 of the leading master of three, until a write is acknowledged that is sent then",
    aim="<= 5",
)
@asynccontextmanager
async def failover_master() -> AsyncIterator[Sides]:
    async with masters_on_etcd() as (cluster, _):

        async def ours() -> float:
            address = await leader(cluster)
            state = ClusterDir(Path(cluster.info["directory"])).read_state()
            assert state is not None, "it runs"
            pid = next(process.pid for process in state.processes if process.address == address)
            start = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            await write(cluster)
            return time.perf_counter() - start

        yield Sides(ours)


@benchmark(
    "failover_etcd",
    unit="s",
    what="kill -9 of etcd's leading member of three, until a write is acknowledged that is sent then",
    aim="<= 5",
)
@asynccontextmanager
async def failover_etcd() -> AsyncIterator[Sides]:
    async with masters_on_etcd() as (cluster, etcd):

        async def ours() -> float:
            await leader(cluster)
            member = await etcd.leader()
            start = time.perf_counter()
            member.kill()
            await write(cluster)
            took = time.perf_counter() - start
            member.start()
            await etcd.ready()
            return took

        yield Sides(ours)
