"""What a node reads of ConfigMaps and Secrets: once for all pods, and anew for each start."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.api.errors import ApiError, NotFound, Unavailable
from cluster.pb.v1 import core_pb2 as core
from node_agent.configuration import FORGET_S, ConfigurationReader
from tests.kit.clock import VirtualClock


class Master:
    """Answers reads, when the test lets it."""

    def __init__(self) -> None:
        self.reads = 0
        self.value = "1"
        self.error: ApiError | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def get(self, message: type[Any], name: str, namespace: str, *, timeout_s: float) -> Any:
        self.reads += 1
        value, error = self.value, self.error
        await self.open.wait()
        if error is not None:
            raise error
        found = message()
        found.metadata.name, found.metadata.namespace = name, namespace
        found.data["key"] = value.encode() if message is core.Secret else value
        return found


def reader(master: Master, clock: VirtualClock) -> ConfigurationReader:
    return ConfigurationReader(master, clock)  # type: ignore[arg-type]


async def value(configuration: ConfigurationReader, max_age_s: float, kind: str = "ConfigMap") -> Any:
    return (await configuration.get(kind, "default", "web", max_age_s=max_age_s)).data["key"]


async def test_looks_share_an_answer_and_starts_do_not() -> None:
    master, clock = Master(), VirtualClock()
    configuration = reader(master, clock)
    assert await value(configuration, 2.0) == "1"
    master.value = "2"
    assert [await value(configuration, 2.0) for _ in range(100)] == ["1"] * 100
    assert master.reads == 1
    assert await value(configuration, 0.0) == "2", "a container that starts asks"
    assert await value(configuration, 2.0) == "2", "and what it heard is good for all"
    clock.advance(2.5)
    master.value = "3"
    assert await value(configuration, 2.0) == "3", "an answer that is too old is not taken"
    assert master.reads == 3
    assert await value(configuration, 2.0, "Secret") == b"3", "another kind is another object"


async def test_those_who_come_while_the_master_is_asked_wait_for_its_answer() -> None:
    master, clock = Master(), VirtualClock()
    configuration = reader(master, clock)
    master.open.clear()
    asking = [asyncio.ensure_future(value(configuration, 2.0)) for _ in range(10)]
    await clock.settle()
    assert master.reads == 1
    asking[0].cancel()
    await clock.settle()
    master.open.set()
    assert await asyncio.gather(*asking[1:]) == ["1"] * 9
    assert master.reads == 2, "who was cancelled is followed by one other, for all"


async def test_an_earlier_question_never_replaces_a_later_answer() -> None:
    master, clock = Master(), VirtualClock()
    configuration = reader(master, clock)
    master.open.clear()
    early = asyncio.ensure_future(value(configuration, 2.0))
    await clock.settle()
    clock.advance(1.0)
    master.value = "2"
    late = asyncio.ensure_future(value(configuration, 0.0))
    await clock.settle()
    master.open.set()
    assert (await early, await late) == ("1", "2")
    assert await value(configuration, 2.0) == "2"
    assert master.reads == 2


async def test_errors_are_shared_too_and_what_nobody_uses_is_forgotten() -> None:
    master, clock = Master(), VirtualClock()
    configuration = reader(master, clock)
    for error in (NotFound("no"), Unavailable("away")):
        master.error, master.reads = error, 0
        for _ in range(3):
            with pytest.raises(type(error)):
                await value(configuration, 2.0)
        assert master.reads == 1
        clock.advance(2.5)
    assert len(configuration) == 1
    clock.advance(FORGET_S + 1)
    master.error = None
    await configuration.get("ConfigMap", "default", "other", max_age_s=2.0)
    assert len(configuration) == 1
