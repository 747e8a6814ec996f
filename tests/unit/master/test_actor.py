"""The one writer: groups, full queues, full disks, broken disks, stopping."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import pytest

from cluster.api.errors import Internal, Overloaded, Unavailable
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.master import actor
from cluster.master.operations import Operations
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.store.interface import DiskFull, JournalFailed, Request
from cluster.store.memory import MemoryJournal
from cluster.store.version import Record
from tests.unit.master.rig import Rig, pod, running, service


class Disk(MemoryJournal):
    """A disk that can be slow, full or broken."""

    def __init__(self) -> None:
        super().__init__("store")
        self.commits: list[int] = []
        self.ready = asyncio.Event()
        self.ready.set()
        self.error: Exception | None = None

    async def append(self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False) -> None:
        await self.ready.wait()
        if self.error is not None:
            raise self.error
        self.commits.append(len(records))
        await super().append(records, requests)


def request(name: str) -> wire.WriteRequest:
    return wire.WriteRequest(operations=[ops.create(pod(name))])


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_writes_that_wait_share_a_commit() -> None:
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        writes = [asyncio.create_task(rig.request(request("first")))]
        await settle()
        writes += [asyncio.create_task(rig.request(request(f"p{n}"))) for n in range(100)]
        await settle()
        assert not any(write.done() for write in writes)
        assert rig.find("Pod", "first") is None, "not durable, so not there"
        disk.ready.set()
        answers = await asyncio.gather(*writes)
        assert disk.commits[-2:] == [1, 100]
        assert [answer.revision for answer in answers] == list(range(2, 103)), "each learns its own revision"


async def test_writes_of_one_group_see_each_other() -> None:
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        blocker = asyncio.create_task(rig.request(request("blocker")))
        await settle()
        same = [asyncio.create_task(rig.request(request("same"))) for _ in range(3)]
        addresses = [asyncio.create_task(rig.create(service(f"s{n}"))) for n in range(3)]
        await settle()
        disk.ready.set()
        reasons = [answer.results[0].status.reason for answer in await asyncio.gather(*same)]
        assert reasons == ["", "AlreadyExists", "AlreadyExists"]
        ips = {made.spec.clusterIP for made in await asyncio.gather(*addresses)}  # type: ignore[union-attr]
        assert len(ips) == 3
        await blocker


async def test_a_full_queue_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "WAITING_REQUESTS", 5)
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        blocker = asyncio.create_task(rig.request(request("blocker")))
        await settle()
        waiting = [asyncio.create_task(rig.request(request(f"p{n}"))) for n in range(5)]
        await settle()
        with pytest.raises(Overloaded, match="try again later"):
            await rig.request(request("too-many"))
        disk.ready.set()
        await asyncio.gather(blocker, *waiting)
        assert rig.find("Pod", "too-many") is None
        await rig.pod("later")


async def test_a_caller_that_left_before_its_turn_has_written_nothing() -> None:
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        blocker = asyncio.create_task(rig.request(request("blocker")))
        await settle()
        gone = asyncio.create_task(rig.request(request("gone")))
        await settle()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        disk.ready.set()
        await blocker
        await rig.pod("next")
        assert rig.find("Pod", "gone") is None


async def test_a_full_disk_fails_writes_and_reading_goes_on() -> None:
    disk = Disk()
    async with running(disk) as rig:
        await rig.pod("before")
        revision, free = rig.revision, rig.master._admission.services.addresses.pool.free
        disk.error = DiskFull("store.db: the disk is full")
        with pytest.raises(Overloaded, match="the disk is full, nothing was written"):
            await rig.create(service())
        assert (rig.revision, rig.master._admission.services.addresses.pool.free) == (revision, free)
        assert rig.find("Pod", "before") is not None
        disk.error = None
        await rig.create(service())
        assert rig.revision == revision + 1


async def test_nothing_is_refused_because_of_what_was_not_written_after_all() -> None:
    """The second is refused because of the first of its group, and the first fails: then there was no reason."""
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        blocker = asyncio.create_task(rig.request(request("before")))
        await settle()
        twin = wire.WriteRequest(operations=[ops.create(pod("a"))], atomic=True)
        twins = [asyncio.create_task(rig.request(twin)) for _ in range(2)]
        await settle()
        disk.error = DiskFull("store.db: the disk is full")
        disk.ready.set()
        for write in (blocker, *twins):
            with pytest.raises(Overloaded, match="nothing was written"):
                await write
        assert rig.find("Pod", "a") is None


async def test_on_a_full_disk_deletions_of_the_same_group_go_on() -> None:
    class Full(Disk):
        full = False

        async def append(
            self, records: Sequence[Record], requests: Sequence[Request] = (), *, frees: bool = False
        ) -> None:
            if self.full and not frees:
                raise DiskFull("store.db: the disk is full")
            await super().append(records, requests)

    disk = Full()
    async with running(disk) as rig:
        for name in ("a", "b"):
            await rig.pod(name, grace_s=0)
        disk.full = True
        disk.ready.clear()
        blocker = asyncio.create_task(rig.write(ops.delete(Key("Pod", "default", "a"), grace_period_s=0)))
        await settle()
        made = asyncio.create_task(rig.request(request("c")))
        gone = asyncio.create_task(rig.write(ops.delete(Key("Pod", "default", "b"), grace_period_s=0)))
        mixed = asyncio.create_task(rig.try_write(ops.delete(Key("Pod", "default", "b")), ops.create(pod("d"))))
        await settle()
        disk.ready.set()
        await asyncio.gather(blocker, gone)
        for refused in (made, mixed):
            with pytest.raises(Overloaded, match="nothing was written"):
                await refused
        assert [version.key.name for version in rig.master.store.state.list("Pod")] == []


async def test_a_broken_disk_ends_the_master() -> None:
    disk, told = Disk(), list[BaseException]()
    async with running(disk) as rig:
        rig.master.writer._on_failure = told.append
        disk.ready.clear()
        writes = [asyncio.create_task(rig.request(request("first")))]
        await settle()
        writes += [asyncio.create_task(rig.request(request(f"p{n}"))) for n in range(3)]
        await settle()
        disk.error = JournalFailed("fsync: EIO")
        disk.ready.set()
        answers = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Internal] * 4, "everyone who waits is answered"
        assert told == [disk.error]
        disk.error = None
        with pytest.raises(Unavailable):
            await rig.pod("after")


async def test_a_bug_in_the_writer_ends_the_master_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[BaseException] = []
    async with running() as rig:
        rig.master.writer._on_failure = told.append
        monkeypatch.setattr(actor, "write_response", None)
        with pytest.raises(Internal, match="cannot go on"):
            await rig.pod()
        assert [type(error) for error in told] == [TypeError]


def test_the_end_is_loud() -> None:
    code = "from cluster.master.server import die; die(OSError('fsync: EIO'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 74
    assert "fsync: EIO" in done.stderr


async def test_a_bug_in_one_operation_does_not_touch_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Operations._free_name

    def broken(*arguments: object) -> str:
        raise ZeroDivisionError

    async with running() as rig:
        monkeypatch.setattr(Operations, "_free_name", broken)
        unnamed = pod("")
        unnamed.metadata.generateName = "x-"
        found = await rig.try_write(ops.create(pod("a")), ops.create(unnamed), ops.create(pod("b")))
        assert isinstance(found[1], Internal)
        assert rig.find("Pod", "a") is not None
        assert rig.find("Pod", "b") is not None
        monkeypatch.setattr(Operations, "_free_name", original)


async def test_stopping_finishes_what_waits_and_takes_no_more() -> None:
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        writes = [asyncio.create_task(rig.request(request(f"p{n}"))) for n in range(3)]
        await settle()
        stopping = asyncio.create_task(rig.master.stop())
        await settle()
        with pytest.raises(Unavailable, match="stopping"):
            await rig.request(request("late"))
        disk.ready.set()
        await asyncio.gather(*writes)
        await stopping
        await rig.master.stop()


async def test_empty_writes_answer_with_the_revision(rig: Rig) -> None:
    answer = await rig.request(wire.WriteRequest())
    assert (answer.revision, len(answer.results)) == (rig.revision, 0)
