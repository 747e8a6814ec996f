"""Who may speak to a spawner: its owner, and nobody else, whatever the socket's mode says."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from node_agent.runtime.interface import Program
from node_agent.runtime.process import ProcessRuntime
from node_agent.spawner_line import SOCKET, packed

NOBODY = 65534
LIMIT_S = 20.0
CALL = """
import os, socket, sys
path, uid, words = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
if uid != os.getuid():
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
line = socket.socket(socket.AF_UNIX)
line.settimeout(20)
try:
    line.connect(path)
except PermissionError:
    print("not let in")
    sys.exit()
try:
    if words:
        line.sendall(words)
except ConnectionError:
    pass  # hung up on already; but something may have been said before
try:
    print(line.recv(10000))
except ConnectionError:
    print(b"")
"""

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="nobody but root can call as somebody else")


@pytest.fixture
async def node() -> AsyncIterator[Path]:
    """The directory of a node, which everybody can reach. What is left of its spawner ends with the test."""
    directory = Path(tempfile.mkdtemp(prefix="podium-line-"))
    directory.chmod(0o755)
    yield directory
    runtime = make_runtime(directory)
    await runtime.start()
    await runtime.stop()
    shutil.rmtree(directory)


@asynccontextmanager
async def agent_of(directory: Path) -> AsyncIterator[ProcessRuntime]:
    """On the line; when it leaves, what it runs runs on."""
    runtime = make_runtime(directory)
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.leave()


def make_runtime(directory: Path) -> ProcessRuntime:
    return ProcessRuntime(directory, clock=SystemClock(), log_max_bytes=100_000, log_files=2, lifetime="service")


async def call(directory: Path, uid: int, words: bytes = b"") -> str:
    """What a process of that user hears when it calls and says these words."""
    caller = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", CALL, str(directory / SOCKET), str(uid), words.hex()),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(2 * LIMIT_S):
        out, _ = await caller.communicate()
    return out.decode().strip()


async def test_the_socket_is_its_owners_alone(node: Path) -> None:
    async with agent_of(node):
        assert stat.S_IMODE((node / SOCKET).stat().st_mode) == 0o600
    assert await call(node, NOBODY) == "not let in"
    assert '"event": "hello"' in await call(node, os.getuid())


async def test_a_stranger_who_gets_to_the_socket_is_hung_up_on_without_a_word(node: Path) -> None:
    """With an agent on the line and without; what it says is not carried out, and it does not become the agent."""
    sleeper = Program("one", ("sleep", "1000"), {"PATH": os.environ["PATH"]}, str(node), str(node / "log"))
    async with agent_of(node) as first:
        (node / SOCKET).chmod(0o666)
        started = await first.run(sleeper)
        assert await call(node, NOBODY, packed({"op": "end"})) == "b''"
        assert '"event": "busy"' in await call(node, os.getuid()), "the owner is told more"
    assert await call(node, NOBODY, packed({"op": "end"})) == "b''"
    assert await call(node, NOBODY, packed({"op": "kill", "id": "one"})) == "b''"
    async with agent_of(node) as second:
        assert second.spawner_pid == first.spawner_pid
        assert (second.adopted["one"].started, second.adopted["one"].ended) == (started, None)
