"""The ambassador of Redis between real clients and real servers."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.ambassadors.redis import READS, RedisPolicy
from tests.contract.ambassadors.servers import Server, redis, run, until
from tests.unit.proxy.ambassadors.rig import AmbassadorRig, ambassador_rig

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed (.ci/run installs it)"
)
MASTER, REPLICA = {"role": "master"}, {"role": "replica"}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """A master and its replica, in step."""
    with ExitStack() as stack:
        master = stack.enter_context(redis(tmp_path / "one"))
        replica = stack.enter_context(redis(tmp_path / "two", replica_of=master))
        until(lambda: "link_status:up" in _info(replica), "the replica follows")
        yield master, replica


def _info(server: Server) -> str:
    command = ["redis-cli", "-p", str(server.port), "info", "replication"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


async def cli(it: AmbassadorRig, *words: str, said: str = "") -> str:
    return (await run("redis-cli", "-h", it.address.ip, "-p", str(it.address.port), *words, said=said)).strip()


async def at(server: Server, *words: str) -> str:
    return (await run("redis-cli", "-p", str(server.port), *words)).strip()


async def calls(server: Server, command: str) -> int:
    """How often a server was asked this, by its own count."""
    stats = await at(server, "info", "commandstats")
    line = next((line for line in stats.splitlines() if line.startswith(f"cmdstat_{command}:")), "calls=0,")
    return int(line.partition("calls=")[2].partition(",")[0])


def labelled(it: AmbassadorRig, *servers: tuple[Server, dict[str, str]]) -> None:
    it.serve("redis")
    it.label(*servers)  # type: ignore[arg-type]


async def test_writes_at_the_master_reads_at_the_replica(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    async with ambassador_rig({"redis": RedisPolicy}) as it:
        labelled(it, (master, MASTER), (replica, REPLICA))
        assert await cli(it, "set", "k", "v") == "OK"
        async with asyncio.timeout(20):
            while await cli(it, "get", "k") != "v":  # a replica may lag behind
                await asyncio.sleep(0.01)
        assert await calls(master, "get") == 0
        assert await calls(replica, "get") >= 1
        script = "multi\nincr n\nget n\nexec\nget n\nselect 1\nset k other\nselect 0\nget k\n"
        out = (await cli(it, said=script)).splitlines()
        assert out[:7] == ["OK", "QUEUED", "QUEUED", "1", "1", out[5], "OK"]
        assert out[-1] == "v", "the replica is in the database that was selected"
        assert await calls(master, "get") == 1, "within the transaction"


async def test_nothing_is_lost_or_mixed_up_under_pipelined_load(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    async with ambassador_rig({"redis": RedisPolicy}) as it:
        labelled(it, (master, MASTER), (replica, REPLICA))
        await run(
            *("redis-benchmark", "-h", it.address.ip, "-p", str(it.address.port), "-c", "20", "-n", "4000", "-P", "16"),
            *("-d", "2000", "-r", "100", "-t", "set,get,incr,lpush,lrange_100,mset", "-q"),
        )
        assert await calls(master, "set") >= 4000
        assert await calls(master, "get") == 0
        assert await calls(replica, "get") >= 4000
        assert it.events == []


async def test_one_client_sees_its_own_counter_in_order(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    async with ambassador_rig({"redis": RedisPolicy}) as it:
        labelled(it, (master, MASTER), (replica, REPLICA))
        script = "".join(f"incr n\nstrlen missing\nset k{number} x\n" for number in range(300))
        out = (await cli(it, said=script)).split()
        assert out == [word for number in range(300) for word in (str(number + 1), "0", "OK")]


async def test_a_failover_by_labels(pair: tuple[Server, Server]) -> None:
    one, two = pair
    async with ambassador_rig({"redis": RedisPolicy}) as it:
        labelled(it, (one, MASTER), (two, REPLICA))
        reader, writer = await asyncio.open_connection(*it.address)

        async def say(line: str) -> str:
            writer.write(line.encode() + b"\r\n")
            async with asyncio.timeout(20):
                answer = (await reader.readline()).decode().strip()
                return (await reader.readline()).decode().strip() if answer[:1] == "$" and answer != "$-1" else answer

        assert await say("SET k before") == "+OK"
        async with asyncio.timeout(20):
            while await say("GET k") != "before":
                await asyncio.sleep(0.01)
        # First nobody is the master: who writes, waits.
        it.label((one, REPLICA), (two, REPLICA))  # type: ignore[arg-type]
        waiting = asyncio.ensure_future(say("SET k after"))
        await it.until(lambda: it.stats.held >= 1)
        await at(two, "replicaof", "no", "one")
        await at(one, "replicaof", "127.0.0.1", str(two.port))
        it.label((one, REPLICA), (two, MASTER))  # type: ignore[arg-type]
        assert await waiting == "+OK"
        assert await at(two, "get", "k") == "after"
        async with asyncio.timeout(20):
            while await say("GET k") != "after":
                await asyncio.sleep(0.01)
        assert await calls(one, "get") >= 1, "the old master is a replica now, and is read"
        writer.close()


async def test_publish_and_subscribe_pass(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    async with ambassador_rig({"redis": RedisPolicy}) as it:
        labelled(it, (master, MASTER), (replica, REPLICA))
        reader, writer = await asyncio.open_connection(*it.address)
        writer.write(b"GET nothing\r\nSUBSCRIBE news\r\n")
        async with asyncio.timeout(20):
            assert await reader.readexactly(5) == b"$-1\r\n"
            assert (await reader.readuntil(b":1\r\n")).startswith(b"*3\r\n$9\r\nsubscribe")
            assert await cli(it, "publish", "news", "hello") == "1"
            assert b"hello" in await reader.readuntil(b"hello\r\n")
        writer.close()


async def test_passwords(tmp_path: Path) -> None:
    with (
        redis(tmp_path / "one", password="secret") as one,
        redis(tmp_path / "two", replica_of=one, password="secret") as two,
    ):
        async with ambassador_rig({"redis": RedisPolicy}) as it:
            labelled(it, (one, MASTER), (two, REPLICA))
            assert "NOAUTH" in await cli(it, "get", "k")
            assert await cli(it, "--no-auth-warning", "-a", "secret", "-3", "get", "k") in ("", "(nil)")
            assert await run("redis-cli", "--no-auth-warning", "-a", "secret", "-p", str(two.port), "dbsize") == "0\n"


async def test_what_is_called_a_read_here_is_one_to_redis(pair: tuple[Server, Server]) -> None:
    """By its own word: every command that goes to replicas has the flag `readonly`."""
    for name in sorted(READS):
        info = await at(pair[0], "command", "info", name.decode())
        assert "readonly" in info or not info or name == b"LOLWUT", f"{name.decode()}: {info}"
