"""Fetches a backup from a master: bytes, of which nothing is known here but that they come in order.

Whether they are whole, they say themselves (docs/backup.md): what breaks off has no end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from cluster.api.errors import Unavailable
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials
from cluster.rpc.stub import ClusterStub

SILENCE_S = 30.0
"""A backup of which nothing comes for so long is given up."""


async def fetch_backup(addresses: Sequence[str], credentials: Credentials) -> AsyncGenerator[bytes, None]:
    """A backup of the cluster as of now, in pieces; from the first of these masters that can be reached.

    Raises Unavailable, Overloaded, Expired (it was too slow), Forbidden (only the admin may).
    """
    error = Unavailable("there is no master to ask")
    for address in addresses:
        channels = Channels(address, credentials)
        stream = ClusterStub(channels).backup(wire.BackupRequest())
        begun = False
        try:
            while (chunk := await stream.next(SILENCE_S)) is not None:
                begun = True
                yield chunk.data
            return
        except Unavailable as failure:
            if begun:
                raise
            error = failure
        finally:
            await stream.close()
            await channels.close()
    raise error
