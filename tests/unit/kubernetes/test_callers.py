"""Clients of callers: those that come back find theirs, and nobody's is closed while it is in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any, cast

import pytest

from cluster.actor.tasks import Tasks
from cluster.client.interface import ClusterClient
from cluster.kubernetes.callers import Callers
from cluster.rpc.identity import Identity


class Client:
    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


def who(number: int) -> Identity:
    return Identity("serviceaccount", f"default/a{number}")


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test")
    yield tasks
    await tasks.cancel_all()


@pytest.fixture
def made() -> dict[Identity, list[Client]]:
    return {}


@pytest.fixture
def callers(tasks: Tasks, made: dict[Identity, list[Client]]) -> Callers:
    def connect(identity: Identity) -> ClusterClient:
        client = Client()
        made.setdefault(identity, []).append(client)
        return cast(ClusterClient, client)

    return Callers(connect, tasks, most=3)


async def closed(tasks: Tasks, made: dict[Identity, list[Any]]) -> list[Identity]:
    async with asyncio.timeout(20):
        while len(tasks):
            await asyncio.sleep(0)
    return [identity for identity, clients in made.items() if any(client.closed for client in clients)]


async def test_a_caller_that_comes_back_finds_its_client(callers: Callers, made: dict[Identity, list[Client]]) -> None:
    assert callers.client(who(1)) is callers.client(who(1))
    assert len(made[who(1)]) == 1


async def test_of_too_many_the_one_that_was_idle_for_longest_goes(
    callers: Callers, tasks: Tasks, made: dict[Identity, list[Client]]
) -> None:
    for number in (1, 2, 3, 1, 4):
        callers.client(who(number))
    assert await closed(tasks, made) == [who(2)]


async def test_none_goes_that_is_in_use(callers: Callers, tasks: Tasks, made: dict[Identity, list[Client]]) -> None:
    with ExitStack() as watches:
        for number in (1, 1, 2, 3):
            watches.enter_context(callers.working(who(number)))
            callers.client(who(number))
        callers.client(who(4))
        assert await closed(tasks, made) == [], "rather one more than allowed"
        callers.client(who(5))
        assert await closed(tasks, made) == [who(4)]
    callers.client(who(6))
    assert await closed(tasks, made) == [who(1), who(4)], "a watch that has ended holds nothing"
    await callers.close()
    assert all(client.closed == 1 for clients in made.values() for client in clients)
