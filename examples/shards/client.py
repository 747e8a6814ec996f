"""A client that knows the shards: it asks the cluster who serves which, and goes there without a proxy between.

    python examples/shards/client.py put color green        the shard of a key is always the same
    python examples/shards/client.py get color
    python examples/shards/client.py watch                  who serves which shard, and each change; Ctrl-C ends it

Needs Podium's Python package, and a cluster that runs: which one, `podium cluster-info` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from zlib import crc32

from cluster.client import ClusterClient, Credentials, GrpcClusterClient, ServiceEndpoints

SERVICE, SHARDS = "shards", 2


def shard_of(key: str) -> str:
    return str(crc32(key.encode()) % SHARDS)


async def ask(client: ClusterClient, method: str, key: str, value: str = "") -> int:
    async with ServiceEndpoints(client, SERVICE, port="http") as shards:
        await shards.wait_ready(timeout_s=10)
        with shards.use(shard=shard_of(key)) as endpoint:
            request = urllib.request.Request(f"http://{endpoint.target('http')}/{key}", value.encode(), method=method)
            try:
                answer = await asyncio.to_thread(urllib.request.urlopen, request, timeout=5)
            except urllib.error.HTTPError as error:
                answer = error
    print(
        f"{key} is of shard {shard_of(key)}, pod {answer.headers['X-Pod']}: {answer.read().decode() or answer.reason}"
    )
    return 0 if answer.status == 200 else 1


async def watch(client: ClusterClient) -> int:
    async with client.watch_service(SERVICE) as views:
        async for view in views:
            served = ", ".join(f"{each.shard}: {each.pod} {each.target('http')}" for each in view.ready)
            print(f"revision {view.revision}: {served or 'nobody'}", flush=True)
    return 0


async def main(words: list[str], info: dict[str, str]) -> int:
    credentials = Credentials.load(info["credentials"])
    async with contextlib.aclosing(GrpcClusterClient(info["master"], credentials)) as client:
        match words:
            case ["put", key, value]:
                return await ask(client, "PUT", key, value)
            case ["get", key]:
                return await ask(client, "GET", key)
            case ["watch"]:
                return await watch(client)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    told = subprocess.check_output([sys.executable, "-m", "cluster.cli.main", "cluster-info", "-o", "json"])
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main(sys.argv[1:], json.loads(told))))
