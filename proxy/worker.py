"""`python -m proxy.worker`: carries connections, and does what the proxy that started it says.

It has an engine and a wire, and no client of the master: gRPC is nowhere near, so it is small and quick to start. It
ends when the wire does, or at a signal; then what is left is reset.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.actor.clock import SystemClock
from cluster.actor.open_files import raise_file_limit
from cluster.actor.tasks import Tasks
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry import log
from proxy.access_log import AccessLog
from proxy.engine import Engine
from proxy.orders import Close, Counted, Fault, Node, Open, Order, Report, StopAccepting, Told, Update
from proxy.settings import HOLD_S, DataPathSettings
from proxy.stats import Stats
from proxy.wire import Wire

COUNT_EVERY_S = 0.5


class Worker:
    """From the first message to the end of the wire."""

    def __init__(self, sock: socket.socket, settings: DataPathSettings, access_log: Path | None) -> None:
        self._clock = SystemClock()
        self._access_log = None if access_log is None else AccessLog(access_log, self._clock)
        self._engine = Engine(
            settings,
            clock=self._clock,
            rng=random.Random(),
            stats=Stats(),
            file_limit=raise_file_limit(),
            access_log=None if self._access_log is None else self._access_log.write,
            is_one_of_several=True,
        )
        self._engine.tell = lambda *words: self._wire.send(Told(*words))
        self._accepts = True
        self._ended = asyncio.Event()
        self._tasks = Tasks("worker")
        self._wire = Wire(sock, self._obey, self._ended.set)

    async def run(self) -> None:
        """Returns when it was stopped, or is not needed any more."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ended.set)
        self._tasks.spawn(self._count(), name="count")
        await self._ended.wait()
        await self._tasks.cancel_all()
        await self._engine.stop()
        self._wire.close()
        if self._access_log is not None:
            self._access_log.close()

    def _obey(self, order: Order, sockets: Sequence[socket.socket]) -> None:
        match order:
            case Open(route):
                self._engine.open(route, sockets)
            case Update(route):
                self._engine.update(route)
            case Close(key):
                self._engine.close(key)
            case Node(name, None):
                self._engine.set_node(name, None)
            case Node(name, bytes(data)):
                self._engine.set_node(name, core.Node.FromString(data))
            case Fault(key, None, ips):
                self._engine.set_fault(key, None, ips)
            case Fault(key, bytes(data), ips):
                self._engine.set_fault(key, core.Fault.FromString(data), ips)
            case StopAccepting():
                self._accepts = False
                self._engine.stop_accepting()
                self._report(was_asked=True)
            case Report():
                self._report(was_asked=True)

    async def _count(self) -> None:
        while True:
            self._report()
            await self._clock.sleep(COUNT_EVERY_S)

    def _report(self, *, was_asked: bool = False) -> None:
        self._wire.send(Counted(self._engine.observe(), len(self._engine), self._accepts, was_asked))


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until the wire ends; the exit code."""
    parser = argparse.ArgumentParser("proxy.worker")
    parser.add_argument("--wire", type=int, required=True, help="descriptor of a Unix socket")
    parser.add_argument("--name", required=True)
    parser.add_argument("--hold-s", type=float, default=HOLD_S)
    parser.add_argument("--max-connections", type=int, default=0)
    parser.add_argument("--access-log", type=Path)
    parser.add_argument("--policies", type=Path)
    parser.add_argument("--log-level", default="info")
    flags = parser.parse_args(argv)
    log.setup(flags.name, flags.log_level)
    settings = DataPathSettings(hold_s=flags.hold_s, max_connections=flags.max_connections, policies=flags.policies)

    async def live() -> None:
        await Worker(socket.socket(fileno=flags.wire), settings, flags.access_log).run()

    gc.freeze()
    asyncio.run(live())
    return 0


if __name__ == "__main__":
    sys.exit(main())
