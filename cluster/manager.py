"""`python -m cluster manager`: the controllers and the scheduler, in one process by default.

They are clients of the master like any other, each with a connection and an identity of its own, so that they can
as well run apart: `--run scheduler` in one process, `--run controllers` in another.

One manager runs them at once, and no lease is taken. Several of them, on one machine or more, take turns
(`--leader-elect`): each part has a lease of its own, and whoever holds it runs that part; the others stand by.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.actor import daemon
from cluster.actor.clock import SystemClock, new_uid
from cluster.actor.supervisor import ChildSpec, Supervisor
from cluster.api.leases import COMPONENT_LEASES
from cluster.client.elected import Elected
from cluster.client.election import ElectionTimers
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.interface import ClusterClient
from cluster.config import flags as common
from cluster.config.errors import ConfigError
from cluster.config.profiles import PROFILES, Profile
from cluster.rpc.identity import Credentials
from cluster.telemetry import log

if TYPE_CHECKING:
    from cluster.scheduler.service import Desk

PARTS = ("controllers", "scheduler")
_GARBAGE_OBJECTS = 20_000
"""Made since the last look for garbage that goes in circles: 700, Python's own, is one batch of news."""

Build = Callable[[ClusterClient], list[ChildSpec]]


def main(argv: Sequence[str]) -> int:
    """Runs the parts until a signal, or the end of the lifeline, stops them. Returns the exit code."""
    parser = argparse.ArgumentParser("python -m cluster manager", description="Runs the controllers and the scheduler.")
    common.add_master(parser)
    parser.add_argument("--credentials", type=Path, metavar="DIR", help="of the controllers: ca.crt, tls.crt, tls.key")
    parser.add_argument("--scheduler-credentials", type=Path, metavar="DIR", help="of the scheduler")
    parser.add_argument("--run", default=",".join(PARTS), metavar="PARTS", help="controllers,scheduler (default: both)")
    parser.add_argument(
        "--scheduler-config", type=Path, metavar="FILE", help="profiles and settings of the scheduler, as TOML"
    )
    common.add_profile(parser)
    parser.add_argument(
        "--leader-elect",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="take turns with other managers by leases: needed when there is more than one, on every one of them. "
        "Default: off, as there is mostly one (Kubernetes' components: on)",
    )
    parser.add_argument(
        "--identity",
        metavar="NAME",
        help="the name that stands in the leases, of no other process (default: HOSTNAME_UUID)",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="where to answer for the scheduler (default: nowhere); its certificate must name the host",
    )
    common.add_lifeline(parser)
    common.add_log_level(parser)
    flags = parser.parse_args(argv)
    parts: list[str] = flags.run.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--run {flags.run}: the parts are {' and '.join(PARTS)}")
    credentials = {"controllers": flags.credentials, "scheduler": flags.scheduler_credentials}
    for part in parts:
        if credentials[part] is None:
            parser.error(f"the {part} needs {'--scheduler-' if part == 'scheduler' else '--'}credentials")
    if flags.listen and "scheduler" not in parts:
        parser.error("--listen is for asking the scheduler, which does not run here")
    if flags.identity is not None and not (flags.leader_elect and flags.identity):
        parser.error("--identity NAME goes with --leader-elect")
    log.setup("manager", flags.log_level)
    profile = PROFILES[flags.profile]
    try:
        builds, desk = _builds(parts, profile, flags.scheduler_config)
    except ConfigError as error:
        print(f"manager: {error}", file=sys.stderr)
        return 2
    said = {"run": ",".join(parts)}
    identity = ""
    if flags.leader_elect:
        identity = said["identity"] = flags.identity or f"{socket.gethostname()}_{new_uid()}"

    async def make() -> Supervisor:
        def connect(part: str) -> GrpcClusterClient:
            return GrpcClusterClient(flags.master, Credentials.load(credentials[part]))

        clients = {part: connect(part) for part in parts}
        desks = []
        if flags.listen and desk is not None:
            shown = Credentials.load(credentials["scheduler"])
            desks.append(ChildSpec("service of the scheduler", lambda: _Service(flags.listen, shown, clients, desk)))
        if not identity:
            specs = [spec for part in parts for spec in builds[part](clients[part])]
            return Supervisor("manager", [*_connections(clients), *desks, *specs])
        election_clients = {part: connect(part) for part in parts}
        specs = [
            _elected(part, clients[part], election_clients[part], identity, profile, builds[part]) for part in parts
        ]
        renewing = {f"{part}, for its lease": client for part, client in election_clients.items()}
        return Supervisor("manager", [*_connections({**clients, **renewing}), *desks, *specs])

    def ready() -> dict[str, str]:
        # The copies of all objects are no garbage: to look through those of a large cluster would stop it for a moment,
        # again and again.
        gc.freeze()
        return said

    gc.set_threshold(_GARBAGE_OBJECTS)
    return daemon.run(make, name="manager", ready=ready, lifeline_fd=flags.lifeline_fd, stop_grace_s=5.0)


def _builds(
    parts: Sequence[str], profile: Profile, scheduler_config: Path | None
) -> tuple[dict[str, Build], Desk | None]:
    """How each part becomes children, and where the scheduler is to be found. Raises ConfigError."""
    clock, rng = SystemClock(), random.Random()
    builds: dict[str, Build] = {}
    desk = None
    if "controllers" in parts:
        from cluster.controllers.manager import build_controllers

        builds["controllers"] = partial(build_controllers, profile=profile, clock=clock, rng=rng)
    if "scheduler" in parts:
        from cluster.scheduler.actor import build_scheduler
        from cluster.scheduler.configuration import load_settings
        from cluster.scheduler.service import Desk

        desk = Desk()
        settings = load_settings(profile, scheduler_config)
        builds["scheduler"] = partial(
            build_scheduler, profile=profile, clock=clock, rng=rng, settings=settings, desk=desk
        )
    return builds, desk


def _elected(
    part: str,
    client: GrpcClusterClient,
    election_client: GrpcClusterClient,
    identity: str,
    profile: Profile,
    build: Build,
) -> ChildSpec:
    """A part that runs while this process holds its lease."""

    def make() -> Elected:
        return Elected(
            client,
            COMPONENT_LEASES[part],
            identity,
            ElectionTimers.of(profile),
            build,
            clock=SystemClock(),
            rng=random.Random(),
            election_client=election_client,
        )

    return ChildSpec(f"{part} by lease", make)


class _Service:
    """Answers for the scheduler, as a child: whether it works here at the moment or not."""

    def __init__(
        self, address: str, credentials: Credentials, clients: dict[str, GrpcClusterClient], desk: Desk
    ) -> None:
        from cluster.rpc.server import RpcServer
        from cluster.rpc.servicer import scheduler_service
        from cluster.scheduler.service import SchedulerService, authorize

        service = scheduler_service(SchedulerService(clients["scheduler"], desk))
        self._server = RpcServer(address, credentials, [service], authorize)
        self._over = asyncio.Event()

    async def start(self) -> None:
        """Binds and serves. Raises OSError."""
        await self._server.start()

    async def run(self) -> None:
        """Nothing to wait for but the end."""
        await self._over.wait()

    async def stop(self) -> None:
        self._over.set()
        await self._server.stop()


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
