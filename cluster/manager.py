"""`python -m cluster manager`: the controllers and the scheduler, in one process by default.

They are clients of the master like any other, each with a connection and an identity of its own, so that they can
as well run apart: `--run scheduler` in one process, `--run controllers` in another.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from cluster.actor import daemon
from cluster.actor.clock import SystemClock
from cluster.actor.supervisor import ChildSpec, Supervisor
from cluster.client.grpc_client import GrpcClusterClient
from cluster.config.profiles import PROFILES, Profile
from cluster.rpc.identity import Credentials
from cluster.telemetry import log

PARTS = ("controllers", "scheduler")


def main(argv: Sequence[str]) -> int:
    """Runs the parts until a signal, or the end of the lifeline, stops them. Returns the exit code."""
    parser = argparse.ArgumentParser("python -m cluster manager", description="Runs the controllers and the scheduler.")
    parser.add_argument("--master", required=True, metavar="HOST:PORT", help="where the master serves")
    parser.add_argument("--credentials", type=Path, metavar="DIR", help="of the controllers: ca.crt, tls.crt, tls.key")
    parser.add_argument("--scheduler-credentials", type=Path, metavar="DIR", help="of the scheduler")
    parser.add_argument("--run", default=",".join(PARTS), metavar="PARTS", help="controllers,scheduler (default: both)")
    parser.add_argument("--profile", default="laptop", choices=sorted(PROFILES), help="timers (default: laptop)")
    parser.add_argument("--lifeline-fd", type=int, metavar="FD", help="stop when this descriptor ends")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    flags = parser.parse_args(argv)
    parts: list[str] = flags.run.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--run {flags.run}: the parts are {' and '.join(PARTS)}")
    credentials = {"controllers": flags.credentials, "scheduler": flags.scheduler_credentials}
    for part in parts:
        if credentials[part] is None:
            parser.error(f"the {part} needs {'--scheduler-' if part == 'scheduler' else '--'}credentials")
    log.setup("manager", flags.log_level)
    profile = PROFILES[flags.profile]

    async def make() -> Supervisor:
        clients = {part: GrpcClusterClient(flags.master, Credentials.load(credentials[part])) for part in parts}
        return Supervisor("manager", [*_connections(clients), *_parts(clients, profile)])

    return daemon.run(
        make, name="manager", ready=lambda: {"run": ",".join(parts)}, lifeline_fd=flags.lifeline_fd, stop_grace_s=5.0
    )


def _parts(clients: dict[str, GrpcClusterClient], profile: Profile) -> list[ChildSpec]:
    """What runs, as children."""
    clock, rng = SystemClock(), random.Random()
    specs: list[ChildSpec] = []
    if "controllers" in clients:
        from cluster.controllers.manager import build_controllers

        specs += build_controllers(clients["controllers"], profile, clock, rng)
    if "scheduler" in clients:
        from cluster.scheduler.actor import build_scheduler

        specs += build_scheduler(clients["scheduler"], profile, clock, rng)
    return specs


class _Connection:
    """A client as a child: the first to start and the last to stop."""

    def __init__(self, client: GrpcClusterClient) -> None:
        self._client = client

    async def start(self) -> None:
        """Nothing: a client connects when it is used."""

    async def run(self) -> None:
        """Nothing to wait for."""

    async def stop(self) -> None:
        await self._client.close()


def _connections(clients: dict[str, GrpcClusterClient]) -> list[ChildSpec]:
    return [
        ChildSpec(f"connection of the {part}", lambda client=client: _Connection(client))  # type: ignore[misc]
        for part, client in clients.items()
    ]
