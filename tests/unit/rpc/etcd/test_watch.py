"""What a watch makes of the answer when it asks an etcd that has been silent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.pb.etcd import etcd_pb2 as pb
from cluster.rpc.etcd.client import EtcdClient, EtcdSettings
from cluster.rpc.etcd.endpoint import WatchStream
from cluster.rpc.etcd.watch import Watch
from tests.kit.clock import VirtualClock

QUIET_S = EtcdSettings().quiet_s


class Scene:
    """A watch that is confirmed, and an etcd that answers with `answered`, after `meanwhile` has happened."""

    def __init__(self, answered: int) -> None:
        self.clock = VirtualClock()
        self.answered = answered
        self.asked = 0
        self.cancelled: list[str] = []
        endpoint = SimpleNamespace(call=self._call)
        client = SimpleNamespace(
            clock=self.clock,
            settings=EtcdSettings(),
            endpoint=lambda address: endpoint,
            check_cluster=lambda cluster, address: None,
        )
        self.watch = Watch(cast(EtcdClient, client), b"key", b"", 1)
        self.watch._created = True
        self.watch._heard_s = self.clock.monotonic()
        self.meanwhile = 0

    async def _call(self, *_: Any, **__: Any) -> pb.RangeResponse:
        self.asked += 1
        if self.meanwhile:
            self.watch._newest = self.meanwhile
        return pb.RangeResponse(header=pb.ResponseHeader(revision=self.answered))

    async def ask(self) -> None:
        stream = SimpleNamespace(cancel=self.cancelled.append)
        checks = asyncio.ensure_future(self.watch._check("a:1", cast(WatchStream, stream)))
        await self.clock.run_for(QUIET_S * 1.5)
        checks.cancel()
        await asyncio.wait([checks])
        assert self.asked == 1


async def test_an_etcd_that_says_less_than_was_heard_before_it_was_asked_has_changed() -> None:
    scene = Scene(answered=4)
    scene.watch._newest = 5
    await scene.ask()
    assert "says that its newest revision is 4, but 5 was heard of before" in scene.cancelled[0]
    assert scene.watch._take_fatal() is not None


@pytest.mark.parametrize("answered", [4, 5, 6])
async def test_what_is_heard_while_the_answer_is_on_its_way_may_be_newer(answered: int) -> None:
    scene = Scene(answered)
    scene.watch._newest = 4
    scene.meanwhile = 5
    await scene.ask()
    assert scene.cancelled == []
    assert scene.watch._take_fatal() is None
