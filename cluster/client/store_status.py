"""Asks every master how its store fares: which leads, how far each is, what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from cluster.api.errors import ApiError
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials
from cluster.rpc.stub import ClusterStub

TIMEOUT_S = 2.0


async def ask_masters(
    addresses: Sequence[str], credentials: Credentials
) -> Mapping[str, wire.StoreStatusResponse | ApiError]:
    """What each says, by its address; or why it does not. All are asked at once, so it takes TIMEOUT_S at most."""
    answers = await asyncio.gather(*(_ask(address, credentials) for address in addresses))
    return dict(zip(addresses, answers, strict=True))


async def _ask(address: str, credentials: Credentials) -> wire.StoreStatusResponse | ApiError:
    channels = Channels(address, credentials)
    try:
        return await ClusterStub(channels).store_status(wire.StoreStatusRequest(), TIMEOUT_S)
    except ApiError as error:
        return error
    finally:
        await channels.close()
