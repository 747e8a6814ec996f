"""Patches of one object, one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.api.errors import DeadlineExceeded
from cluster.kubernetes.turns import Turns
from tests.unit.kubernetes.conftest import Api

MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MAPS = "/api/v1/namespaces/default/configmaps"


async def test_turns_come_in_order_and_only_those_of_one_key_wait() -> None:
    turns, happened = Turns(), []

    async def take(key: str, name: int) -> None:
        async with turns.turn(key, 60.0):
            happened.append(f"{key}{name}")
            await asyncio.sleep(0)
            happened.append(f"{key}{name}")

    await asyncio.gather(*(take("a", number) for number in range(3)), take("b", 0))
    assert [each for each in happened if each.startswith("a")] == ["a0", "a0", "a1", "a1", "a2", "a2"]
    assert happened.index("b0") < happened.index("a1"), "another key waits for nobody"
    assert len(turns) == 0


async def test_who_waits_for_too_long_or_is_gone_leaves_nothing() -> None:
    turns = Turns()
    async with turns.turn("a", 60.0):
        with pytest.raises(DeadlineExceeded):
            async with turns.turn("a", 0.0):
                raise AssertionError("somebody else has it")
        gone = asyncio.ensure_future(turns.turn("a", 60.0).__aenter__())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert len(turns) == 1
    assert len(turns) == 0


@pytest.mark.parametrize("headers", [MERGE, APPLY])
async def test_many_who_patch_one_object_all_get_through(
    api: Api, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    await api.ask("POST", MAPS, {"metadata": {"name": "shared"}})
    client_type = type(api.cluster.client("admin"))
    get = client_type.get

    async def slowly(*args: Any, **options: Any) -> Any:
        found: Any = await get(*args, **options)
        await asyncio.sleep(0)  # as over a wire: others write between a read and what is written over it
        return found

    monkeypatch.setattr(client_type, "get", slowly)

    async def patch(number: int) -> int:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {f"k{number}": "x"}}
        reply = await api.ask("PATCH", f"{MAPS}/shared?fieldManager=m{number}", body, headers=headers)
        return reply.code

    assert await asyncio.gather(*(patch(number) for number in range(40))) == [200] * 40
    assert len((await api.get(f"{MAPS}/shared")).body["data"]) == 40
