"""What the chaos runs over three masters and three members of etcd do to them; dice and durations as in faults.py.

Every master reaches etcd through proxies of its own, so that it can be cut off alone. Each fault breaks something, lets
some time pass, and mends it. A storm is every kind of fault once, in the order of the dice, and then any, until the
time is up; between two faults the clients get on, so that no fault hides behind another.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from cluster.api.errors import DeadlineExceeded, Unavailable
from cluster.pb.v1 import cluster_pb2 as wire
from tests.chaos.faults import SMALL, Dice
from tests.kit.arena import Arena
from tests.kit.chaos_proxy import ChaosProxy
from tests.kit.etcd import EtcdCluster, EtcdMember
from tests.kit.master_process import MasterProcess, Pki

PROGRESS_S = 40.0
"""How long it may take until writes are acknowledged again after a fault is mended."""


@dataclass
class Stage:
    """Everything that can be broken."""

    etcd: EtcdCluster
    masters: Sequence[MasterProcess]
    proxies: Sequence[Sequence[ChaosProxy]]
    """Of each master, one for each member."""

    async def leader(self) -> MasterProcess:
        """The master that says that it leads; the first one if none does."""
        for master in self.masters:
            stub, channels = master.stub()
            try:
                if (await stub.store_status(wire.StoreStatusRequest(), 1.0)).leader:
                    return master
            except (Unavailable, DeadlineExceeded):
                continue
            finally:
                await channels.close()
        return self.masters[0]

    def story(self) -> str:
        """What everybody said last."""
        masters = [f"--- {master.name}\n{master.story()}" for master in self.masters]
        return "\n".join([*masters, *(f"--- {member.name}\n{member.log_tail()}" for member in self.etcd.members)])


@asynccontextmanager
async def staged(etcd: EtcdCluster, pki: Pki, prefix: str) -> AsyncIterator[Stage]:
    """Three masters on that etcd, each behind proxies of its own."""
    async with AsyncExitStack() as stack:
        masters, proxies = [], []
        for number in range(3):
            own = []
            for endpoint in etcd.endpoints:
                host, _, port = endpoint.rpartition(":")
                own.append(await stack.enter_async_context(ChaosProxy((host, int(port)))))
            url = f"etcd://{','.join(proxy.address for proxy in own)}/{prefix}"
            master = MasterProcess(pki, f"m{number}", ["--store", url], environment=SMALL)
            masters.append(await stack.enter_async_context(master))
            proxies.append(own)
        yield Stage(etcd, masters, proxies)


async def kill_the_leading_master(stage: Stage, dice: Dice) -> None:
    """SIGKILL, and back after a while."""
    await _killed(await stage.leader(), dice)


async def kill_any_master(stage: Stage, dice: Dice) -> None:
    """The same with any, also at once after its start."""
    master = dice.rng.choice(stage.masters)
    await _killed(master, dice)
    if dice.rng.random() < 0.5:
        await _killed(master, dice)


async def suspend_the_leading_master(stage: Stage, dice: Dice) -> None:
    """SIGSTOP, for less or for longer than its lease, and SIGCONT: then it may believe that it leads."""
    master = await stage.leader()
    master.signal(signal.SIGSTOP)
    await asyncio.sleep(dice.rng.choice([0.3, 3.0, 5.0]))
    master.signal(signal.SIGCONT)


async def kill_etcds_leader(stage: Stage, dice: Dice) -> None:
    """SIGKILL of the member that leads, and back after a while."""
    member = await stage.etcd.leader()
    member.kill()
    await asyncio.sleep(dice.rng.uniform(0.1, 3.0))
    member.start()
    await stage.etcd.ready()


async def suspend_etcds_leader(stage: Stage, dice: Dice) -> None:
    """SIGSTOP of the member that leads, until another does."""
    member = await stage.etcd.leader()
    await _suspended([member], dice.rng.uniform(0.5, 3.0))


async def take_the_majority(stage: Stage, dice: Dice) -> None:
    """Two of three members are suspended: nothing can be written or known."""
    await _suspended(dice.rng.sample(stage.etcd.members, 2), dice.rng.uniform(0.5, 4.0))


async def cut_a_master_off(stage: Stage, dice: Dice) -> None:
    """The leading master, or any, does not reach etcd any more, and nobody tells it."""
    master = await stage.leader() if dice.rng.random() < 0.6 else dice.rng.choice(stage.masters)
    proxies = stage.proxies[stage.masters.index(master)]
    for proxy in proxies:
        for way in (proxy.up, proxy.down):
            way.hold()
    await asyncio.sleep(dice.rng.choice([0.5, 3.0, 5.0]))
    for proxy in proxies:
        for way in (proxy.up, proxy.down):
            way.release()


async def lose_answers(stage: Stage, dice: Dice) -> None:
    """What masters ask of etcd arrives, and the answers do not; then the connections break."""
    for own in stage.proxies:
        for proxy in own:
            proxy.down.hold()
    await asyncio.sleep(dice.rng.uniform(0.1, 1.0))
    for own in stage.proxies:
        for proxy in own:
            proxy.reset()
            proxy.down.release()


async def slow_etcd_down(stage: Stage, dice: Dice) -> None:
    """Everything between masters and etcd takes its time."""
    delay_s = dice.rng.choice([0.02, 0.1, 0.3])
    for own in stage.proxies:
        for proxy in own:
            proxy.up.delay_s = delay_s
    await asyncio.sleep(dice.rng.uniform(0.5, 2.0))
    for own in stage.proxies:
        for proxy in own:
            proxy.up.delay_s = 0.0


Fault = Callable[[Stage, Dice], Awaitable[None]]
FAULTS: Sequence[Fault] = (
    kill_the_leading_master,
    kill_any_master,
    suspend_the_leading_master,
    kill_etcds_leader,
    suspend_etcds_leader,
    take_the_majority,
    cut_a_master_off,
    lose_answers,
    slow_etcd_down,
)


async def storm(stage: Stage, dice: Dice, arena: Arena) -> list[str]:
    """The names of the faults, in their order."""
    done: list[str] = []
    loop = asyncio.get_running_loop()
    end_s = loop.time() + dice.duration_s
    waiting = dice.rng.sample(FAULTS, len(FAULTS))
    while waiting or loop.time() < end_s:
        fault = waiting.pop() if waiting else dice.rng.choice(FAULTS)
        done.append(fault.__name__)
        await fault(stage, dice)
        try:
            await arena.progress(5, PROGRESS_S)
        except AssertionError as error:
            raise AssertionError(f"after {', '.join(done)}: {error}") from error
    return done


async def _killed(master: MasterProcess, dice: Dice) -> None:
    await master.kill()
    await asyncio.sleep(dice.rng.uniform(0.0, 3.0))
    await master.start()


async def _suspended(members: Sequence[EtcdMember], for_s: float) -> None:
    for member in members:
        member.suspend()
    await asyncio.sleep(for_s)
    for member in members:
        member.resume()
