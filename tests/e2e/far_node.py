"""A node whose agent reaches its master over a wire that a test can cut, as between two machines.

    with FarNode(cluster, "node-1", tmp_path / "agent.log") as node:
        node.cut()       silence in both directions: neither side is told, new connections hear nothing
        node.unplug()    connections are reset, new ones refused
        node.mend()      it is as before; what was said into the silence arrives

The agent that `podium up` started is killed, with all its pods, and another one is started for the same node. It ends
with the test.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from cluster.api.conditions import is_node_ready
from cluster.testing import Cluster
from tests.kit.chaos_proxy import ChaosProxy

R = TypeVar("R")
_LIMIT_S = 20.0


class FarNode:
    """The agent, and the wire."""

    def __init__(self, cluster: Cluster, name: str, log: Path) -> None:
        self.cluster, self.name, self._log = cluster, name, log
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._agent: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FarNode:
        self._thread.start()
        host, port = self.cluster.master.split(":")
        # At the master's own host, whose name its certificate has.
        self._proxy = self._in_loop(lambda: ChaosProxy((host, int(port)), host))
        self._do(self._proxy.accept())
        try:
            self._replace_agent()
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _replace_agent(self) -> None:
        cluster, directory = self.cluster, self.cluster.directory
        cluster.kill_node(self.name)
        cluster.wait_until(lambda: not is_node_ready(cluster.get("node", self.name)), f"{self.name} is dead")
        address = next(each.address for each in cluster.get("node", self.name).status.addresses)
        options = {
            "name": self.name,
            "master": self._proxy.address,
            "listen": f"{address}:10250",
            "credentials": directory / "pki" / f"node-{self.name}",
            "dir": directory / "nodes" / self.name,
            "hide": directory,
            "profile": "test",
        }
        with self._log.open("wb") as log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "node_agent", *(f"--{key}={value}" for key, value in options.items())],
                env={key: value for key, value in os.environ.items() if not key.startswith("PODIUM_")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __exit__(self, *_: object) -> None:
        self.mend()
        if self._agent is not None:
            self._agent.terminate()
            try:
                self._agent.wait(_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._agent.kill()
                self._agent.wait()
                raise
        self._do(self._proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT_S)
        self._loop.close()

    def wait_ready(self) -> None:
        """Returns when the master says that the node is Ready."""
        cluster = self.cluster
        what = f"{self.name} Ready; its agent's log is {self._log}"
        cluster.wait_until(lambda: is_node_ready(cluster.get("node", self.name)), what)

    def cut(self) -> None:
        for way in (self._proxy.up, self._proxy.down):
            self._in_loop(way.hold)

    def unplug(self) -> None:
        self._do(self._proxy.refuse())
        self._in_loop(self._proxy.reset)

    def mend(self) -> None:
        for way in (self._proxy.up, self._proxy.down):
            self._in_loop(way.release)
        self._do(self._proxy.accept())

    def _in_loop(self, body: Callable[[], R]) -> R:
        async def call() -> R:
            return body()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(_LIMIT_S)

    def _do(self, body: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(body, self._loop).result(_LIMIT_S)
