"""Three masters in processes of their own, on a real etcd: who leads, what the others do, what becomes of both."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from cluster.api.errors import ApiError, DeadlineExceeded, Forbidden, Unavailable
from cluster.client import operations as ops
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.informer import Informer
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials, Identity, issue
from cluster.rpc.servicer import ON_BEHALF_OF
from cluster.rpc.stub import ClusterStub
from tests.kit.etcd import EtcdCluster, etcd, shared_etcd
from tests.kit.master_process import MasterProcess, Pki

__all__ = ["etcd", "shared_etcd"]

T = TypeVar("T")
PATIENCE_S = 30.0


def service(name: str) -> core.Service:
    spec = core.ServiceSpec(ports=[core.ServicePort(port=80)], selector={"app": "web"})
    return core.Service(metadata=core.ObjectMeta(name=name, namespace="default"), spec=spec)


class Masters:
    """Three, by name."""

    def __init__(self, pki: Pki, processes: list[MasterProcess]) -> None:
        self.pki = pki
        self.processes = processes

    async def leader(self, but: MasterProcess | None = None) -> MasterProcess:
        """Who leads, once somebody (else) does."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for process in self.processes:
                if process.runs and process is not but and (await self.status(process)).leader:
                    return process
            await asyncio.sleep(0.05)
        stories = "\n".join(f"--- {process.name}\n{process.story()}" for process in self.processes)
        raise AssertionError(f"nobody leads after {PATIENCE_S:g} s\n{stories}")

    async def status(self, process: MasterProcess) -> wire.StoreStatusResponse:
        stub, channels = process.stub()
        try:
            return await stub.store_status(wire.StoreStatusRequest(), 2.0)
        except (Unavailable, DeadlineExceeded):
            return wire.StoreStatusResponse()
        finally:
            await channels.close()

    async def followers(self) -> list[MasterProcess]:
        leader = await self.leader()
        return [process for process in self.processes if process is not leader]


@asynccontextmanager
async def three(etcd: EtcdCluster, tmp_path: Path, *options: str) -> AsyncIterator[Masters]:
    pki = Pki(tmp_path)
    arguments = ["--store", f"{etcd.url}/{tmp_path.name}", *options]
    async with AsyncExitStack() as stack:
        processes = [MasterProcess(pki, f"m{number}", arguments) for number in range(3)]
        await asyncio.gather(*(stack.enter_async_context(process) for process in processes))
        yield Masters(pki, processes)


@pytest.fixture
async def masters(etcd: EtcdCluster, tmp_path: Path) -> AsyncIterator[Masters]:
    async with three(etcd, tmp_path) as found:
        yield found


@pytest.fixture
async def steady(etcd: EtcdCluster, tmp_path: Path) -> AsyncIterator[Masters]:
    """Whose leader may be silent for 15 s: nobody else leads unless it is made to go."""
    async with three(etcd, tmp_path, "--profile", "kubernetes") as found:
        yield found


@asynccontextmanager
async def calling(address: str, credentials: Credentials, on_behalf_of: str = "") -> AsyncIterator[ClusterStub]:
    channels = Channels(address, credentials)
    try:
        yield ClusterStub(channels, [(ON_BEHALF_OF, on_behalf_of)] if on_behalf_of else [])
    finally:
        await channels.close()


async def patiently(call: Callable[[], Awaitable[T]]) -> tuple[T, float]:
    """Until it succeeds, and how long that took."""
    began = time.monotonic()
    while True:
        try:
            return await call(), time.monotonic() - began
        except (Unavailable, DeadlineExceeded):
            if time.monotonic() > began + PATIENCE_S:
                raise
            await asyncio.sleep(0.05)


async def test_every_master_reads_and_takes_writes_with_the_callers_own_rights(steady: Masters) -> None:
    follower, other = await steady.followers()
    leader = await steady.leader()
    async with aclosing(follower.client()) as client, aclosing(other.client()) as reader:
        for number in range(20):
            made = await client.write([ops.create(service(f"s{number}"))])
            (outcome,) = made.outcomes
            assert outcome.error is None
            found = await reader.get(core.Service, f"s{number}", "default")
            assert found.metadata.resourceVersion == str(made.revision), "acknowledged there, visible here"
    pki = steady.pki
    node = issue(pki.directory / "ca", pki.directory / "node", Identity("node", "n1"))
    foreign = wire.WriteRequest(operations=[ops.create(core.Node(metadata=core.ObjectMeta(name="n2")))])
    own = wire.WriteRequest(operations=[ops.create(core.Node(metadata=core.ObjectMeta(name="n1")))])
    async with calling(follower.address, node) as stub:
        refused = await stub.write(foreign, 10.0)
        assert refused.results[0].status.reason == "Forbidden"
        written = await stub.write(own, 10.0)
        assert written.results[0].object.node.metadata.actor == "node:n1", "not the master that handed it on"
        with pytest.raises(Forbidden):
            await stub.undo(wire.UndoRequest(kind="Service", namespace="default", name="s1"), 10.0)
    for process in (leader, follower):
        async with calling(process.address, node, on_behalf_of="admin") as stub:
            with pytest.raises(Forbidden, match="node:n1 may not call on behalf of others"):
                await stub.write(own, 10.0)


async def test_a_watch_at_a_follower_goes_on_while_leaders_come_and_go(masters: Masters) -> None:
    follower, _ = await masters.followers()
    async with aclosing(follower.client()) as client, client.watch(core.Service, initial_state=True) as batches:
        seen: list[str] = []
        await anext(batches)
        for number in range(2):
            leader = await masters.leader()
            if leader is follower:
                break

            async def write(name: str = f"s{number}") -> None:
                await client.write([ops.create(service(name))])

            await write()
            while f"s{number}" not in seen:
                seen += [event.object.metadata.name for event in await anext(batches) if event.object is not None]
            await leader.kill()
            _, took_s = await patiently(lambda number=number: _write_once(client, f"after-{number}"))  # type: ignore[misc]
            assert took_s < 15.0, "writes again well within the patience of a client"
            while f"after-{number}" not in seen:
                seen += [event.object.metadata.name for event in await anext(batches) if event.object is not None]
            await leader.start()
        assert len(seen) == len(set(seen)), "nothing twice"


async def _write_once(client: GrpcClusterClient, name: str) -> None:
    outcome = await client.write([ops.create(service(name))], timeout_s=2.0)
    error: ApiError | None = outcome.outcomes[0].error
    assert error is None or error.reason == "AlreadyExists"


async def test_a_leader_that_was_suspended_leads_no_more_and_knows_it_when_it_wakes(masters: Masters) -> None:
    old = await masters.leader()
    others = [process for process in masters.processes if process is not old]
    old.signal(signal.SIGSTOP)
    new = await masters.leader(but=old)
    async with aclosing(new.client()) as client:
        await client.write([ops.create(service("while-it-slept"))])
    old.signal(signal.SIGCONT)
    async with aclosing(old.client()) as client:
        (outcome,), _ = await patiently(lambda: _outcomes(client, "after"))
        assert outcome == ""
        assert {item.metadata.name for item in (await client.list(core.Service)).items} == {"while-it-slept", "after"}
    assert (await masters.leader()) in others


async def _outcomes(client: GrpcClusterClient, name: str) -> list[str]:
    made = await client.write([ops.create(service(name))])
    return [outcome.error.reason if outcome.error is not None else "" for outcome in made.outcomes]


async def test_a_write_that_is_sent_again_to_the_next_leader_happens_once(masters: Masters) -> None:
    leader = await masters.leader()
    request = wire.WriteRequest(operations=[ops.create(service("once"))], request_id="r-1")
    async with calling(leader.address, masters.pki.admin) as stub:
        first = await stub.write(request, 10.0)
    await leader.kill()
    new = await masters.leader(but=leader)
    for process in (new, *(p for p in masters.processes if p not in (leader, new))):
        async with calling(process.address, masters.pki.admin) as stub:
            again = await stub.write(request, 10.0)
        assert (again.replayed, again.revision, again.results) == (True, first.revision, first.results)


async def test_stopping_a_leader_hands_over_at_once(steady: Masters) -> None:
    leader = await steady.leader()
    assert await leader.terminate() == 0
    began = time.monotonic()
    await steady.leader(but=leader)
    assert time.monotonic() - began < 12.0, "before its lease has run out"


async def until(condition: Callable[[], bool], story: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, story()
        await asyncio.sleep(0.02)


async def test_a_client_of_all_masters_notices_nothing_of_failovers(masters: Masters) -> None:
    """One leader is killed, the next suspended for good; whoever writes and watches goes on, and nothing is twice."""
    addresses = ",".join(process.address for process in masters.processes)
    async with aclosing(GrpcClusterClient(addresses, masters.pki.admin)) as client:
        seen: list[str] = []
        informer = Informer(client, core.Service, namespace="default")
        informer.add_handler(lambda old, new: seen.append(new.metadata.name) if new is not None else None)
        await informer.start()
        await informer.wait_synced(PATIENCE_S)
        made: list[str] = []
        stopping = asyncio.Event()

        async def write(number: int) -> None:
            count = 0
            while not stopping.is_set():
                name = f"s-{number}-{count}"
                (outcome,) = (await client.write([ops.create(service(name))], timeout_s=PATIENCE_S)).outcomes
                outcome.unwrap()  # a second time, it would be AlreadyExists
                made.append(name)
                count += 1
                await asyncio.sleep(0.02)

        async def go_on() -> None:
            before = len(made)
            await until(lambda: len(made) >= before + 20, lambda: f"{len(made)} were written")

        writers = [asyncio.ensure_future(write(number)) for number in range(4)]
        await go_on()
        first = await masters.leader()
        await first.kill()
        await go_on()
        second = await masters.leader(but=first)
        second.signal(signal.SIGSTOP)
        await go_on()
        await masters.leader(but=second)
        stopping.set()
        await asyncio.gather(*writers)
        await until(lambda: set(seen) == set(made), lambda: set(made) ^ set(seen))
        assert sorted(seen) == sorted(made), "each was told of once"
        second.signal(signal.SIGCONT)
        await informer.stop()
