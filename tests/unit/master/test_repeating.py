"""Writes that are sent again: they happen once, and are answered as they were."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import BadRequest, NotFound
from cluster.api.kinds import KINDS
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.master import replay
from cluster.master.operations import Outcome
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.identity import Identity
from cluster.store.interface import DiskFull
from cluster.store.memory import MemoryJournal
from cluster.store.version import Version
from tests.unit.master.rig import Rig, pod, running
from tests.unit.master.test_actor import Disk, settle


def request(
    *operations: wire.Operation, request_id: str = "r-1", atomic: bool = False, dry_run: bool = False
) -> wire.WriteRequest:
    return wire.WriteRequest(operations=operations, request_id=request_id, atomic=atomic, dry_run=dry_run)


def content(response: wire.WriteResponse) -> list[tuple[str, str]]:
    return [(result.status.reason, result.object.pod.metadata.resourceVersion) for result in response.results]


async def test_it_happens_once_and_is_answered_as_it_was(rig: Rig) -> None:
    sent = request(ops.create(pod("a")), ops.create(pod("a")), ops.create(pod("b")))
    first = await rig.request(sent)
    again = await rig.request(sent)
    assert (first.replayed, again.replayed) == (False, True)
    again.replayed = False
    again.ClearField("replayed")
    assert again == first, "contents and all"
    assert content(first) == [("", "2"), ("AlreadyExists", ""), ("", "3")]
    assert rig.revision == 3


@pytest.mark.parametrize("atomic", [False, True])
async def test_what_has_changed_since_is_answered_as_it_was_then(rig: Rig, atomic: bool) -> None:
    sent = request(ops.create(pod("a")), ops.create(pod("b")), atomic=atomic)
    first = await rig.request(sent)
    await rig.write(ops.patch(Key("Pod", "default", "a"), {"metadata": {"labels": {"app": "other"}}}))
    await rig.write(ops.delete(Key("Pod", "default", "b")))
    again = await rig.request(sent)
    assert again.results == first.results
    assert again.results[0].object.pod.metadata.labels["app"] == "web"


async def test_deletions_are_answered_with_the_last_content(rig: Rig) -> None:
    await rig.pod("a", grace_s=0)
    sent = request(ops.delete(Key("Pod", "default", "a"), grace_period_s=0))
    first = await rig.request(sent)
    again = await rig.request(sent)
    assert again.results == first.results
    assert first.results[0].object.pod.metadata.uid


async def test_contents_that_are_forgotten_leave_name_and_version() -> None:
    journal = MemoryJournal("store")
    async with running(journal) as rig:
        sent = request(ops.create(pod("a")))
        await rig.request(sent)
        for number in range(5):
            await rig.write(ops.patch(Key("Pod", "default", "a"), {"metadata": {"labels": {"n": str(number)}}}))
        await journal.compact(rig.revision, 10)
        again = await rig.request(sent)
        meta = again.results[0].object.pod.metadata
        assert (meta.name, meta.namespace, meta.resourceVersion, meta.uid) == ("a", "default", "2", "")


async def test_another_identity_means_another_request(rig: Rig) -> None:
    sent = request(ops.create(pod("a")))
    await rig.request(sent)
    theirs = await rig.request(sent, who="controllers")
    assert not theirs.replayed
    assert content(theirs)[0][0] == "AlreadyExists"


async def test_an_id_that_was_used_for_something_else_is_refused(rig: Rig) -> None:
    await rig.request(request(ops.create(pod("a"))))
    with pytest.raises(BadRequest, match="another request was sent with this id"):
        await rig.request(request(ops.create(pod("b"))))
    assert rig.find("Pod", "b") is None


async def test_what_changed_nothing_is_not_kept(rig: Rig) -> None:
    made = request(ops.create(pod("a")))
    missing = request(ops.delete(Key("Pod", "default", "a")))
    assert content(await rig.request(missing))[0][0] == "NotFound"
    assert not (await rig.request(made)).replayed, "the id is free"


async def test_a_dry_run_neither_keeps_nor_asks(rig: Rig) -> None:
    for _ in range(2):
        answer = await rig.request(request(ops.create(pod("a")), dry_run=True))
        assert (answer.replayed, content(answer)[0][0]) == (False, "")
    await rig.request(request(ops.create(pod("a"))))
    dry = await rig.request(request(ops.create(pod("a")), dry_run=True))
    assert (dry.replayed, content(dry)[0][0]) == (False, "AlreadyExists")


async def test_twice_in_one_group_and_while_the_first_is_on_its_way() -> None:
    disk = Disk()
    async with running(disk) as rig:
        disk.ready.clear()
        sent = request(ops.create(pod("a")))
        writes = [asyncio.create_task(rig.request(sent))]
        await settle()  # on its way to the disk
        writes += [asyncio.create_task(rig.request(sent)) for _ in range(3)]
        other = request(ops.create(pod("b")), request_id="r-2")
        writes += [asyncio.create_task(rig.request(other)) for _ in range(3)]  # in one group
        misused = asyncio.create_task(rig.request(request(ops.create(pod("c")), request_id="r-2")))
        await settle()
        disk.ready.set()
        answers = await asyncio.gather(*writes)
        assert [answer.replayed for answer in answers] == [False, True, True, True, False, True, True]
        assert {answer.results[0].object.pod.metadata.uid for answer in answers[:4]} == {
            answers[0].results[0].object.pod.metadata.uid
        }
        assert [answer.revision for answer in answers] == [2, 2, 2, 2, 3, 3, 3]
        with pytest.raises(BadRequest):
            await misused
        assert rig.revision == 3


async def test_what_was_not_written_may_be_tried_again() -> None:
    disk = Disk()
    async with running(disk) as rig:
        sent = request(ops.create(pod("a")))
        disk.error = DiskFull("store.db: the disk is full")
        failed = await asyncio.gather(*(rig.request(sent) for _ in range(3)), return_exceptions=True)
        assert all("nothing was written" in str(error) for error in failed)
        disk.error = None
        assert not (await rig.request(sent)).replayed


async def test_it_is_remembered_over_a_restart_and_forgotten_after_ten_minutes() -> None:
    journal = MemoryJournal("store")
    sent = request(ops.create(pod("a")))
    async with running(journal) as rig:
        first = await rig.request(sent)
    async with running(journal) as rig:
        assert (await rig.request(sent)).results == first.results
        await rig.clock.run_for(601.0)
        assert content(await rig.request(sent))[0][0] == "AlreadyExists"


@pytest.mark.parametrize("request_id", ["x" * 65, "tab\there", "line\n", "\x00"])
async def test_ids_that_are_none(rig: Rig, request_id: str) -> None:
    with pytest.raises(BadRequest, match="at most 64 printable characters"):
        await rig.request(request(ops.create(pod("a")), request_id=request_id))
    assert rig.find("Pod", "a") is None


# --- what is kept


@given(st.sampled_from([kind.name for kind in KINDS]), st.booleans(), st.integers(1, 2**50))
def test_what_is_kept_is_the_name_and_the_version(kind: str, unchanged: bool, revision: int) -> None:
    namespace = "" if kind in ("Node", "Namespace") else "team"
    name = "widgets.example.com/näme" if kind == "CustomObject" else "näme"
    version = Version(Key(kind, namespace, name), revision, b"x" * 1000)
    kept = replay.outcome_of(b"f" * 16, [Outcome(version=version, unchanged=unchanged)], revision)
    assert len(kept) < 150
    response = replay.answer_again(kept, "s-1")
    assert (response.revision, response.store_id, response.replayed) == (revision, "s-1", True)
    assert response.results[0].status.status == "Success"
    assert response.results[0].unchanged is unchanged
    ((place, key, at),) = replay.missing(response)
    assert (key, at) == (version.key, revision)
    assert place is response.results[0].object or place == response.results[0].object


def test_a_very_long_answer_is_kept_in_brief() -> None:
    outcomes = [Outcome(NotFound("x" * 5000)) for _ in range(2000)]
    kept = replay.outcome_of(b"f" * 16, outcomes, 7)
    assert len(kept) < 512 * 1024
    response = replay.answer_again(kept, "s")
    assert {(r.status.reason, len(r.status.message)) for r in response.results} == {("NotFound", 100)}


def test_the_same_request_has_the_same_fingerprint() -> None:
    one, other = (request(ops.create(pod("a"))) for _ in range(2))
    for labels in (one, other):
        made = labels.operations[0].create.object.pod.metadata.labels
        for number in range(20):
            made[f"l{number if labels is one else 19 - number}"] = "x"
    assert replay.fingerprint(one) == replay.fingerprint(other)
    other.atomic = True
    assert replay.fingerprint(one) != replay.fingerprint(other)


def test_who_asks_is_part_of_the_name() -> None:
    assert replay.request_key(Identity("node", "n1"), "x") == "node:n1/x"
