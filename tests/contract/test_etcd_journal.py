"""The journal on real etcds that are killed, suspended, cut off and full, by several members at once.

What is shown: an append that was acknowledged is in the log once, one that was refused is not, one that is undecided is
there once or not at all; whatever a follower is handed is the log, from where it began, in order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from cluster.actor.clock import SystemClock
from cluster.rpc.etcd import Alarm, EtcdClient
from cluster.store.etcd.journal import EtcdJournal
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.interface import DiskFull, NotLeading, Request, Undecided, Unreachable
from cluster.store.version import Record
from tests.kit.chaos_proxy import ChaosProxy
from tests.kit.etcd import (
    CLIENT_PORT,
    PATIENT_CLIENT,
    PATIENT_JOURNAL,
    EtcdCluster,
    etcd,
    etcd3,
    running_etcd,
    shared_etcd,
)
from tests.unit.store.etcd.rig import Book, Following, fold, loaded

__all__ = ["etcd", "etcd3", "shared_etcd"]

pytestmark = pytest.mark.usefixtures("no_leaks")

DEADLINE_S = 60.0


@pytest.fixture(autouse=True, scope="module")
async def _poller(shared_etcd: EtcdCluster) -> AsyncIterator[None]:
    """gRPC has a pair of sockets for as long as it has a channel: one that lives on, so that they are no leak."""
    client = EtcdClient(shared_etcd.endpoints, settings=PATIENT_CLIENT)
    await client.status()
    yield
    await client.close()


@pytest.fixture
def prefix() -> str:
    return f"/podium/{random.SystemRandom().getrandbits(64):x}/"


@asynccontextmanager
async def member(
    endpoints: Sequence[str], prefix: str, settings: EtcdSettings | None = None
) -> AsyncIterator[EtcdJournal]:
    journal = EtcdJournal(
        EtcdClient(endpoints), prefix, settings or PATIENT_JOURNAL, SystemClock(), random.Random(), lambda: "a-store"
    )
    try:
        await journal.open()
        yield journal
    finally:
        await journal.close()


async def the_log(endpoints: Sequence[str], prefix: str) -> list[Record]:
    async with member(endpoints, prefix) as journal:
        return await loaded(journal)


async def hears(following: Following, records: Sequence[Record]) -> None:
    """Waits until it has heard of the last of them, and checks that it has heard of all, once, in order."""
    async with asyncio.timeout(DEADLINE_S):
        await following.until(records[-1].revision)
    assert following.records == list(records)


async def test_a_follower_hears_what_a_leader_appends(shared_etcd: EtcdCluster, prefix: str) -> None:
    book = Book()
    async with member(shared_etcd.endpoints, prefix) as leader, member(shared_etcd.endpoints, prefix) as follower:
        await leader.campaign("a:1")
        following = Following(follower)
        for number in range(50):
            await leader.append(book.more(1 + number % 5), [Request(f"r{number}", book.revision, 1.0, b"x")])
        await leader.append(book.more(4000, names=500, size=1000))
        await hears(following, book.records)
        assert len(following.requests) == 50
        assert await follower.leader() == "a:1"
        assert not await leader.compact(book.revision - 100, 500)
        while not await leader.compact(book.revision - 100, 500):
            pass
        await leader.append(book.more(1))
        await hears(following, book.records)
        assert following.compacted == book.revision - 101
        await following.close()
    assert fold(await the_log(shared_etcd.endpoints, prefix)) == book.live


async def test_a_follower_gets_over_compactions_of_etcd(shared_etcd: EtcdCluster, prefix: str) -> None:
    """Somebody else lets etcd forget everything, again and again, while the follower is cut off half of the time."""
    book = Book()
    host = shared_etcd.members[0].host
    async with (
        ChaosProxy((host, CLIENT_PORT)) as proxy,
        member(shared_etcd.endpoints, prefix) as leader,
        member([proxy.address], prefix, EtcdSettings()) as follower,
    ):
        admin = EtcdClient(shared_etcd.endpoints, settings=PATIENT_CLIENT)
        await leader.campaign("a:1")
        following = Following(follower)
        for number in range(30):
            await leader.append(book.more(3))
            if number % 6 == 2:
                proxy.down.hold()
                proxy.cut()
            if number % 6 == 5:
                await admin.compact(await _newest(admin), physical=True)
                proxy.down.release()
                await asyncio.sleep(0.05)
        await hears(following, book.records)
        await following.close()
        await admin.close()


async def _newest(client: EtcdClient) -> int:
    return (await client.range(b"none")).header.revision


@pytest.mark.parametrize("way", ["up", "down"])
async def test_an_append_whose_answer_does_not_come_is_settled(shared_etcd: EtcdCluster, prefix: str, way: str) -> None:
    """The question, or the answer, of an append is stuck in the network for a while: once in the log, and known."""
    book = Book()
    settings = EtcdSettings(lease_ttl_s=20, call_timeout_s=0.5, append_timeout_s=20.0)
    async with (
        ChaosProxy((shared_etcd.members[0].host, CLIENT_PORT)) as proxy,
        member([proxy.address], prefix, settings) as leader,
    ):
        await leader.campaign("a:1")
        await leader.append(book.more(1))
        direction = getattr(proxy, way)
        for cut in (False, True):
            direction.hold()
            appending = asyncio.create_task(leader.append(book.more(1)))
            await asyncio.sleep(1.2)  # more than one asking
            assert not appending.done()
            if cut:
                proxy.reset()
            direction.release()
            async with asyncio.timeout(DEADLINE_S):
                await appending
            assert await the_log(shared_etcd.endpoints, prefix) == book.records
    assert await the_log(shared_etcd.endpoints, prefix) == book.records


async def test_a_leader_that_is_cut_off_writes_nothing_more(shared_etcd: EtcdCluster, prefix: str) -> None:
    """It appends, its network stands still, another leads and appends; then everything that was stuck arrives."""
    book = Book()
    async with (
        ChaosProxy((shared_etcd.members[0].host, CLIENT_PORT)) as proxy,
        member([proxy.address], prefix, EtcdSettings(lease_ttl_s=2)) as old,
        member(shared_etcd.endpoints, prefix, EtcdSettings(lease_ttl_s=2)) as new,
    ):
        term = await old.campaign("old:1")
        await old.append(book.more(1))
        following = Following(new)
        await hears(following, book.records)
        proxy.up.hold()
        appending = asyncio.create_task(old.append(book.copy().more(1)))
        async with asyncio.timeout(DEADLINE_S):
            assert "no renewal" in await term.ended()
            await new.campaign("new:1")
        await new.append(book.more(2))
        proxy.up.release()
        with pytest.raises((NotLeading, Undecided)):
            await appending
        with pytest.raises(NotLeading):
            await old.append(book.copy().more(1))
        await asyncio.sleep(0.5)
        assert await the_log(shared_etcd.endpoints, prefix) == book.records
        await following.close()


class Writing:
    """Members that stand for leader and append, one after the other; what each append came to is kept."""

    def __init__(self) -> None:
        self.acknowledged: list[Record] = []
        self.undecided: list[Record] = []
        self.refused: list[Record] = []
        self.terms = 0
        self.stopped = False

    async def run(self, journal: EtcdJournal, name: str) -> None:
        serial = 0
        while not self.stopped:
            term = await journal.campaign(name)
            self.terms += 1
            records = await loaded(journal)
            revision = records[-1].revision if records else 0
            while not self.stopped and not term.reason:
                serial += 1
                made = [
                    Record(revision + n + 1, 0, "Pod", "d", f"{name}-{serial}-{n}", 0, False, "", 1.0, b"x")
                    for n in range(serial % 3 + 1)
                ]
                try:
                    await journal.append(made)
                    self.acknowledged += made
                    revision = made[-1].revision
                except Undecided:
                    self.undecided += made
                    break
                except NotLeading:
                    self.refused += made
                    break
            await term.resign()

    async def end(self, writers: Sequence[asyncio.Task[None]]) -> None:
        """One ends after its append and gives its term back; the other ends when it has got it. Nobody is cut off: an
        append under way could still come true after the log was read."""
        self.stopped = True
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*writers)

    def check(self, log: Sequence[Record]) -> None:
        """No acknowledged append is lost, none is there twice, none that was refused is there."""
        assert [record.revision for record in log] == list(range(1, len(log) + 1))
        names = [record.name for record in log]
        assert len(names) == len(set(names)), "twice"
        assert {record.name for record in self.acknowledged} <= set(names), "lost"
        assert not {record.name for record in self.refused} & set(names), "refused, and there"
        assert set(names) <= {record.name for record in self.acknowledged + self.undecided}, "from nowhere"


@pytest.mark.parametrize("fault", ["kill", "suspend"])
async def test_appends_outlive_the_leader_of_etcd(etcd3: EtcdCluster, prefix: str, fault: str) -> None:
    writing = Writing()
    settings = EtcdSettings(lease_ttl_s=3)
    async with (
        member(etcd3.endpoints, prefix, settings) as first,
        member(etcd3.endpoints[1:] + etcd3.endpoints[:1], prefix, settings) as second,
        member(etcd3.endpoints, prefix, settings) as watching,
    ):
        following = Following(watching)
        writers = [asyncio.create_task(writing.run(first, "first")), asyncio.create_task(writing.run(second, "second"))]

        async def until_more() -> None:
            target = len(writing.acknowledged) + 50
            async with asyncio.timeout(DEADLINE_S):
                while len(writing.acknowledged) < target:
                    for writer in writers:
                        if writer.done():
                            writer.result()
                    await asyncio.sleep(0.02)

        await until_more()
        for _ in range(2):
            leader = await etcd3.leader()
            if fault == "kill":
                leader.kill()
            else:
                leader.suspend()
            await until_more()
            if fault == "kill":
                leader.start()
            else:
                leader.resume()
            await etcd3.ready(leader)
            await until_more()
        await writing.end(writers)
        log = await loaded(watching)
        writing.check([*log])
        await hears(following, log)
        await following.close()


async def test_members_that_fall_over_lose_and_repeat_nothing(shared_etcd: EtcdCluster, prefix: str) -> None:
    """Members in turns lose their network in the middle of appends, for longer than their lease, and come back."""
    writing = Writing()
    settings = EtcdSettings(lease_ttl_s=2, call_timeout_s=0.5, append_timeout_s=1.5)
    target = (shared_etcd.members[0].host, CLIENT_PORT)
    rng = random.Random(7)
    async with (
        ChaosProxy(target) as one,
        ChaosProxy(target) as two,
        member([one.address], prefix, settings) as first,
        member([two.address], prefix, settings) as second,
        member(shared_etcd.endpoints, prefix, settings) as watching,
    ):
        following = Following(watching)
        writers = [asyncio.create_task(writing.run(first, "first")), asyncio.create_task(writing.run(second, "second"))]
        for turn in range(4):
            count = len(writing.acknowledged)
            async with asyncio.timeout(DEADLINE_S):
                while len(writing.acknowledged) < count + 50:
                    await asyncio.sleep(0.01)
            proxy = one if await watching.leader() == "first" else two
            way = rng.choice([proxy.up, proxy.down])
            way.hold()
            terms = writing.terms
            async with asyncio.timeout(DEADLINE_S):
                while writing.terms == terms:
                    await asyncio.sleep(0.01)
            if turn % 2:
                proxy.reset()
            way.release()
        await writing.end(writers)
        log = await loaded(watching)
        writing.check(log)
        await hears(following, log)
        await following.close()


async def test_without_a_quorum_everything_ends_in_time(etcd3: EtcdCluster, prefix: str) -> None:
    book = Book()
    settings = EtcdSettings(call_timeout_s=0.5, read_timeout_s=1.0, append_timeout_s=1.5)
    async with member(etcd3.endpoints, prefix, settings) as leader, member(etcd3.endpoints, prefix, settings) as other:
        term = await leader.campaign("a:1")
        await leader.append(book.more(3))
        following = Following(other)
        await hears(following, book.records)
        for down in etcd3.members[:2]:
            down.suspend()
        pending = book.copy().more(1)
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises((Undecided, NotLeading)) as failure:
                await leader.append(pending)
            with pytest.raises(Unreachable):
                await other.head()
            with pytest.raises(Unreachable):
                await other.leader()
            with pytest.raises(Unreachable):
                await other.read(0, 10)
            assert await term.ended()
        for down in etcd3.members[:2]:
            down.resume()
        await etcd3.ready()
        async with asyncio.timeout(DEADLINE_S):
            await leader.campaign("a:1")
        log = await loaded(leader)
        assert log in ([book.records] if failure.type is NotLeading else [book.records, book.records + pending])
        if log != book.records:
            book.keep(pending)
        await leader.append(book.more(1))
        await hears(following, book.records)
        await following.close()


async def test_a_full_etcd_is_said_so_and_goes_on_when_there_is_room(prefix: str) -> None:
    book = Book()
    async with (
        running_etcd(quota_bytes=16 * 1024 * 1024) as small,
        member(small.endpoints, prefix, EtcdSettings(lease_ttl_s=3)) as leader,
    ):
        term = await leader.campaign("a:1")
        await leader.append(book.more(1))

        async def fill() -> None:
            while True:
                pending = book.copy().more(50, size=10_000)
                await leader.append(pending)
                book.keep(pending)

        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(DiskFull, match="quota"):
                await fill()
        assert [problem.partition(":")[0] for problem in leader.problems] == ["DiskFull"]
        assert await leader.head() == book.revision
        assert [record for record, _ in await leader.read(0, 1)] == book.records[:1]
        assert await the_log(small.endpoints, prefix) == book.records
        assert not term.reason, "it leads on"
        # The operator's part: a larger quota, and the alarm is disarmed.
        (etcd_process,) = small.members
        etcd_process.kill()
        quota = "--quota-backend-bytes="
        etcd_process.arguments = [word for word in etcd_process.arguments if not word.startswith(quota)]
        etcd_process.start()
        admin = EtcdClient(small.endpoints)
        for member_id, alarm in await admin.alarms(timeout_s=DEADLINE_S):
            assert alarm is Alarm.NOSPACE
            await admin.disarm(member_id, alarm)
        await admin.close()
        await small.ready()
        async with asyncio.timeout(DEADLINE_S):
            while leader.problems:
                await asyncio.sleep(0.05)
            await term.resign()
            await leader.campaign("a:1")
        await leader.append(book.more(1))
        assert await the_log(small.endpoints, prefix) == book.records


async def test_two_that_open_a_new_store_at_once_agree(shared_etcd: EtcdCluster, prefix: str) -> None:
    async def open_it(number: int) -> str:
        journal = EtcdJournal(
            EtcdClient(shared_etcd.endpoints, settings=PATIENT_CLIENT),
            prefix,
            PATIENT_JOURNAL,
            SystemClock(),
            random.Random(number),
            lambda: f"store-{number}",
        )
        try:
            return (await journal.open()).store_id
        finally:
            await journal.close()

    assert len(set(await asyncio.gather(*map(open_it, range(5))))) == 1
