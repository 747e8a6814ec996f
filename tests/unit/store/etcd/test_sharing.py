"""Several members of one cluster: who leads, until when, and what the others hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.rpc.etcd import Put
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.etcd.values import Head
from cluster.store.interface import Compacted, JournalFailed, NotLeading, Request, Unreachable
from tests.unit.store.etcd.fake import Weather
from tests.unit.store.etcd.rig import PREFIX, Book, Following, Members, loaded

KEYS = Keys(PREFIX)


@pytest.fixture
async def members() -> AsyncIterator[Members]:
    members = Members()
    yield members
    await members.close()


# --- leading


async def test_a_leader_leads_for_as_long_as_it_renews(members: Members) -> None:
    journal, book = await members.join(), Book()
    term = await members.lead(journal)
    ended = asyncio.create_task(term.ended())
    await members.wait(100)
    assert not ended.done()
    await journal.append(book.more(1))
    ended.cancel()


async def test_a_leader_that_cannot_renew_steps_down_before_another_leads(members: Members) -> None:
    old, new = await members.join(), await members.join()
    term = await members.lead(old, "old:1")
    campaign = asyncio.create_task(new.campaign("new:1"))
    await members.wait(2)
    members.clients[old].cut_off = True
    while not term.reason:
        await members.wait(0.05)
        assert not campaign.done(), "two lead"
    assert "no renewal of the lease was confirmed" in await term.ended()
    await members.run(asyncio.wait_for(campaign, None))
    assert await new.leader() == "new:1"


async def test_a_leader_that_was_suspended_appends_nothing_when_it_wakes(members: Members) -> None:
    old, new, book = await members.join(), await members.join(), Book()
    term = await members.lead(old, "old:1")
    await old.append(book.more(1))
    members.clock.advance(10.0)  # nobody of this process had a turn meanwhile
    with pytest.raises(NotLeading, match="no renewal"):
        await old.append(book.next("late"))
    assert await term.ended()
    await members.lead(new, "new:1")
    assert await loaded(new) == book.records


async def test_a_lease_that_is_gone_ends_the_term(members: Members) -> None:
    journal = await members.join()
    term = await members.lead(journal)
    members.etcd.revoke(term.tenure.lease)
    await members.wait(1.1)
    assert await term.ended() == "the lease is gone"


async def test_a_renewal_that_is_confirmed_wrongly_is_not_believed(members: Members) -> None:
    """As by etcd before 3.4.38: the lease is gone, and renewing it succeeds."""
    journal, other = await members.join(), await members.join()
    term = await members.lead(journal)
    members.etcd.revoke(term.tenure.lease)
    members.etcd._leases[term.tenure.lease] = (1e9, 3)
    await members.lead(other, "other:1")
    await members.wait(1.1)
    assert await term.ended() == "another leads: other:1"


async def test_who_resigns_is_followed_at_once(members: Members) -> None:
    old, new = await members.join(), await members.join()
    term = await members.lead(old, "old:1")
    campaign = asyncio.create_task(new.campaign("new:1"))
    await members.wait(1)
    assert not campaign.done()
    await term.resign()
    await term.resign()
    assert await term.ended() == "resigned"
    await members.clock.settle(100)
    assert campaign.done(), "without waiting for the lease"
    assert await new.leader() == "new:1"
    with pytest.raises(NotLeading):
        await old.append(Book().next("a"))


async def test_closing_resigns(members: Members) -> None:
    old, new = await members.join(), await members.join()
    await members.lead(old, "old:1")
    await old.close()
    await old.close()
    assert await new.leader() == ""


async def test_a_candidate_whose_watch_says_nothing_looks_for_itself(members: Members) -> None:
    old, new = await members.join(), await members.join()
    await members.lead(old, "old:1")
    members.clients[new].deaf = True
    campaign = asyncio.create_task(new.campaign("new:1"))
    await members.wait(1)
    await old.close()
    await members.wait(EtcdSettings().poll_s + 1)
    assert campaign.done()
    await campaign


@pytest.mark.parametrize("mood", [Weather.LOST, Weather.UNANSWERED, Weather.LATE, Weather.DOWN])
async def test_a_claim_whose_answer_is_lost_comes_to_an_end(members: Members, mood: Weather) -> None:
    moods = iter([Weather.FINE, mood])
    journal, book = await members.join(lambda: next(moods, Weather.FINE)), Book()
    await members.lead(journal)
    members.etcd.deliver()
    await journal.append(book.more(1))
    assert await loaded(await members.join()) == book.records


async def test_one_of_many_leads(members: Members) -> None:
    journals = [await members.join() for _ in range(5)]
    campaigns = [asyncio.create_task(journal.campaign(f"m{n}")) for n, journal in enumerate(journals)]
    book = Book()
    for turn in range(5):
        await members.wait(8)
        done = [n for n, campaign in enumerate(campaigns) if campaign.done() and not campaign.result().reason]
        assert len(done) == 1, f"turn {turn}: {done} lead"
        leader = journals[done[0]]
        assert await leader.leader() == f"m{done[0]}"
        await leader.append(book.more(1))
        await members.crash(leader)
    assert await loaded(await members.join()) == book.records


async def test_an_etcd_that_went_back_is_noticed(members: Members) -> None:
    journal, book = await members.join(), Book()
    await members.lead(journal)
    await journal.append(book.more(3))
    follower = await members.join()
    following = Following(follower)
    await members.run(following.until(3))
    await members.crash(journal)
    members.etcd.txn([], [Put(KEYS.head, Head(1).encode())], [])
    with pytest.raises(JournalFailed, match="was at 3 before"):
        await members.lead(follower)
    await following.close()


# --- following


async def test_a_follower_hears_of_everything_once_and_in_order(members: Members) -> None:
    leader, follower, book = await members.join(), await members.join(), Book()
    await members.lead(leader)
    await leader.append(book.more(3))
    following = Following(follower, after=1)
    for size in (1, 2, 3):
        await leader.append(book.more(size), [Request(f"r{size}", book.revision, 1.0, b"x")])
    await leader.append(book.more(3000, size=1000))
    await members.run(following.until(book.revision))
    assert following.records == book.records[1:]
    assert [request.request_id for request in following.requests] == ["r1", "r2", "r3"]
    for appended in following.batches:
        assert len({record.revision for record in appended.records}) == len(appended.records)
    await following.close()


@pytest.mark.parametrize("after", range(8))
async def test_a_follower_begins_anywhere_also_within_an_append(members: Members, after: int) -> None:
    leader, follower, book = await members.join(), await members.join(), Book()
    await members.lead(leader)
    for _ in range(2):
        await leader.append(book.more(3))
    following = Following(follower, after=min(after, 6))
    await leader.append(book.more(2))
    await members.run(following.until(8))
    assert following.records == [record for record in book.records if record.revision > min(after, 6)]
    await following.close()


async def test_a_follower_hears_the_next_leader_too(members: Members) -> None:
    first, second, follower, book = await members.join(), await members.join(), await members.join(), Book()
    await members.lead(first)
    following = Following(follower)
    await first.append(book.more(5))
    await members.crash(first)
    await members.lead(second)
    await second.append(book.more(5))
    await members.run(following.until(10))
    assert following.records == book.records
    await following.close()


async def test_what_a_member_appends_itself_it_does_not_hear_of(members: Members) -> None:
    first, second, book = await members.join(), await members.join(), Book()
    hears_first, hears_second = Following(first), Following(second)
    term = await members.lead(first)
    await first.append(book.more(3))
    await members.run(hears_second.until(3))
    await term.resign()
    await members.lead(second)
    await second.append(book.more(3))
    await members.run(hears_first.until(6))
    await members.wait(20)
    assert hears_first.records == book.records[3:]
    assert hears_second.records == book.records[:3]
    await hears_first.close()
    await hears_second.close()


async def test_what_a_member_appends_itself_it_does_not_hear_of_before_it_knows(members: Members) -> None:
    """The watch tells of it while the append still asks what became of it."""
    moods: list[Weather] = []
    journal, book = await members.join(lambda: moods.pop() if moods else Weather.FINE), Book()
    following = Following(journal)
    await members.lead(journal)
    for _ in range(5):
        moods.append(Weather.UNANSWERED)
        await members.run(journal.append(book.more(2)))
    await members.wait(10)
    assert following.records == []
    assert await loaded(await members.join()) == book.records
    await following.close()


@pytest.mark.parametrize("how", ["drops", "deaf", "compacted", "all"])
async def test_no_watch_is_believed(members: Members, how: str) -> None:
    leader, follower, book = await members.join(), await members.join(), Book()
    await members.lead(leader)
    client = members.clients[follower]
    following = Following(follower)
    await leader.append(book.more(1))
    await members.run(following.until(1))
    if how in ("drops", "all"):
        client.drops = lambda revision: revision % 3 != 0
    for _ in range(20):
        await leader.append(book.more(2))
        await members.clock.settle(3)
        if how in ("deaf", "all"):
            client.deaf = not client.deaf
    if how in ("compacted", "all"):
        client.deaf = True
        await leader.append(book.more(2))
        members.etcd.compact(members.etcd.revision)
        client.deaf = False
    client.deaf = how == "deaf"
    await leader.append(book.more(1))
    await members.run(following.until(book.revision))
    assert following.records == book.records
    await following.close()


async def test_a_deaf_follower_is_woken_by_who_reads(members: Members) -> None:
    leader, follower, book = await members.join(), await members.join(), Book()
    await members.lead(leader)
    following = Following(follower)
    await members.wait(1)
    members.clients[follower].deaf = True
    await leader.append(book.more(1))
    assert await follower.head() == 1
    before_s = members.clock.monotonic()
    await members.run(following.until(1))
    assert members.clock.monotonic() - before_s < EtcdSettings().poll_s + 1
    await following.close()


async def test_a_follower_that_is_cut_off_goes_on_later(members: Members) -> None:
    leader, follower, book = await members.join(), await members.join(), Book()
    await members.lead(leader)
    following = Following(follower)
    await leader.append(book.more(1))
    await members.run(following.until(1))
    members.clients[follower].cut_off = True
    await leader.append(book.more(4))
    await members.wait(30)
    with pytest.raises(Unreachable, match="did not answer within 3 s"):
        await members.run(follower.head())
    assert following.revision == 1
    members.clients[follower].cut_off = False
    await members.run(following.until(5))
    assert following.records == book.records
    await following.close()


async def test_a_follower_hears_of_compactions(members: Members) -> None:
    leader, follower, book = await members.join(), await members.join(), Book()
    await members.lead(leader)
    following = Following(follower)
    for _ in range(6):
        await leader.append(book.more(1, names=2))
    await members.run(following.until(6))
    assert await leader.compact(4, 100)
    await members.clock.settle(50)
    assert following.compacted == 4
    assert following.records == book.records, "what is rewritten is no news"
    await leader.append(book.more(1))
    await members.run(following.until(7))
    assert following.records == book.records
    late = Following(follower, after=3)
    assert isinstance(await members.run(late.ended()), Compacted)
    await following.close()


async def test_a_follower_that_missed_what_was_compacted_is_told(members: Members) -> None:
    leader, follower, book = await members.join(), await members.join(), Book()
    await members.lead(leader)
    following = Following(follower)
    await leader.append(book.more(2))
    await members.run(following.until(2))
    client = members.clients[follower]
    client.cut_off = True
    for _ in range(6):
        await leader.append(book.more(1, names=2))
    await leader.compact(7, 100)
    members.etcd.compact(members.etcd.revision)
    client.cut_off = False
    assert isinstance(await members.run(following.ended()), Compacted)
    assert (await follower.open()).compacted == 7, "opening again shows where it is"
    assert [record.revision for record in await loaded(follower)][-1] == 8
    again = Following(follower, after=8)
    await leader.append(book.more(1))
    await members.run(again.until(9))
    await again.close()
