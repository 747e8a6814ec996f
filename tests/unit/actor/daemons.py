"""A small daemon that misbehaves in one way: `python -m tests.unit.actor.daemons KIND [--lifeline-fd N] [--port N]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from cluster.actor import daemon
from cluster.actor.supervisor import ChildSpec, Supervisor
from cluster.actor.tasks import Tasks


class Part:
    """A child that says what happens to it."""

    def __init__(self, kind: str, port: int) -> None:
        self.kind, self._port = kind, port
        self._tasks = Tasks("part")

    async def start(self) -> None:
        print("start", flush=True)
        if self.kind == "slow-start":
            await asyncio.Event().wait()
        if self.kind == "server":
            await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", self._port)
        if self.kind == "bug":
            raise KeyError("missing")
        if self.kind == "leftovers":
            self._tasks.spawn(asyncio.Event().wait(), name="forgotten")
        if self.kind == "stubborn":
            self._tasks.spawn(_stubborn(), name="mule")

    async def run(self) -> None:
        if self.kind == "crash":
            raise ValueError("broken")
        await asyncio.Event().wait()

    async def stop(self) -> None:
        print("stop", flush=True)
        if self.kind == "slow-stop":
            await asyncio.Event().wait()
        print("stopped", flush=True)


async def _stubborn() -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


def main() -> int:
    """Runs it, and says whether descriptors are left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("--lifeline-fd", type=int)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--grace", type=float, default=60.0)
    flags = parser.parse_args()

    async def make() -> Supervisor:
        if flags.kind == "no-settings":
            raise ValueError("no directory:\n say --dir")
        return Supervisor("test", [ChildSpec("part", lambda: Part(flags.kind, flags.port))], max_restarts=1)

    before = set(os.listdir("/proc/self/fd"))
    if flags.kind == "one-service":
        code = daemon.run_service(
            lambda: Part(flags.kind, flags.port),
            name="test",
            ready=lambda part: {"kind": part.kind},
            lifeline_fd=flags.lifeline_fd,
            stop_grace_s=flags.grace,
        )
    else:
        code = daemon.run(
            make,
            name="test",
            ready=lambda: {"kind": flags.kind},
            lifeline_fd=flags.lifeline_fd,
            stop_grace_s=flags.grace,
        )
    left = set(os.listdir("/proc/self/fd")) - before
    print(f"descriptors left: {len(left)}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
