"""Importing must be harmless: daemons are forked from a parent that has imported everything."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import os, pkgutil, importlib
import cluster.rpc, cluster.client
for package in (cluster.rpc, cluster.client):
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
import grpc, threading
assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"
print(len(os.listdir("/proc/self/task")), threading.active_count(), sorted(os.listdir("/proc/self/fd")))
child = os.fork()
if child == 0:
    # A client made in the forked child works: it fails as it should, and in time.
    import asyncio
    from cluster.api.errors import Unavailable
    from cluster.rpc.channel import Channels
    from cluster.rpc.identity import Credentials, Identity, issue, make_ca
    from cluster.rpc.stub import ClusterStub
    from cluster.pb.v1 import cluster_pb2 as wire
    import tempfile
    async def main():
        with tempfile.TemporaryDirectory() as d:
            make_ca(d + "/ca", "demo")
            channels = Channels("127.0.0.1:1", issue(d + "/ca", d + "/admin", Identity("admin")))
            try:
                await ClusterStub(channels).get(wire.GetRequest(), 10.0)
            except Unavailable:
                os.write(1, b"unavailable\\n")
            await channels.close()
    asyncio.run(main())
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
"""


def test_importing_starts_no_thread_and_opens_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    tasks, threads, descriptors = first.split(" ", 2)
    assert (tasks, threads) == ("1", "1")
    # Standard input, output, error, and the directory that was being listed.
    assert descriptors == "['0', '1', '2', '3']"
    assert second == "unavailable"
