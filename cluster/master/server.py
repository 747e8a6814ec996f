"""A master, put together: store, writer, heartbeats, and the gRPC server in front of them.

`Master` is the whole without the wire, for tests and simulation; `build` adds the wire and the disk and gives a
supervisor that starts them in order and stops them in reverse.

    open     the store is read, and followed from now on: reads can be answered
    serve    the wire (MasterService only)
    lead     campaign for the right to write; whoever has it sees to it that the namespaces "default" and "kube-system"
             and the system's priority classes exist, everyone else hands writes on

A disk that fails in the middle of a commit (or a bug in the one writer) ends the process at once, with exit code
EXIT_FAILURE: what is on the disk is known only to a new start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable
from functools import partial
from importlib.metadata import version as installed_version

from google.protobuf.message import Message

from cluster.actor.clock import Clock, SystemClock, new_uid
from cluster.actor.supervisor import ChildSpec, Restart, Supervisor
from cluster.api import hollow
from cluster.api.errors import AlreadyExists
from cluster.api.kinds import AnyObject, wrap
from cluster.api.leases import SYSTEM_NAMESPACE
from cluster.api.meta import key_of
from cluster.api.priorities import SYSTEM_CLASSES, system_class
from cluster.master.actor import WriterActor
from cluster.master.admission import DEFAULT_NAMESPACE, Admission
from cluster.master.apiserver import ApiServer
from cluster.master.authorization import authorize_call
from cluster.master.commands import Commands
from cluster.master.engines import journal_of
from cluster.master.forwarding import Forwarding, Peer
from cluster.master.heartbeats import Heartbeats
from cluster.master.leadership import Leadership
from cluster.master.operations import Writer
from cluster.master.peer import GrpcPeer
from cluster.master.pools import NodePorts, PodBlocks, ServiceAddresses
from cluster.master.service_admission import ServiceAdmission
from cluster.master.settings import MasterSettings
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials, Identity
from cluster.rpc.outcome import from_status
from cluster.rpc.server import RpcServer
from cluster.rpc.servicer import cluster_service
from cluster.store.backup import Backups, Origin
from cluster.store.interface import Journal
from cluster.store.store import Store

EXIT_FAILURE = 74
"""EX_IOERR of sysexits.h."""

HEARTBEAT_BATCH_S = 0.25
"""Nodes are not looked at more often, so heartbeats need not be handed on one by one."""

_log = logging.getLogger("podium.master")


class Master:
    """A master without a wire: call `api`. Start and stop it from one event loop."""

    def __init__(
        self,
        settings: MasterSettings,
        journal: Journal,
        *,
        clock: Clock,
        rng: random.Random,
        on_failure: Callable[[BaseException], None],
        connect: Callable[[str], Peer] | None = None,
        cluster: str = "",
    ) -> None:
        """`connect` makes a way to another master out of its address; without, writes that this master may not do are
        refused. `cluster` is its name, for backups."""
        self.store = Store(journal, settings.store, clock, on_failure)
        self._admission = Admission(
            round(settings.timers.eviction_toleration_s),
            ServiceAdmission(
                ServiceAddresses(settings.service_network),
                NodePorts(settings.service_network.network_address.packed[1]),
            ),
            PodBlocks(settings.pod_base),
            PodBlocks(hollow.NETWORK.network_address, hollow.NETWORK.prefixlen),
        )
        commands = Commands(self._admission, lambda: new_uid(rng), rng, _report_bug)
        self.writer = WriterActor(self.store, commands, clock, on_failure)
        # Readers judge nodes by their silence only while they hear us, so we must be heard well within the grace.
        timers = settings.timers
        sign_of_life_s = min(timers.bookmark_interval_s, timers.node_monitor_grace_s / 4)
        self.heartbeats = Heartbeats(
            clock,
            batch_s=min(HEARTBEAT_BATCH_S, timers.node_monitor_period_s),
            sign_of_life_s=sign_of_life_s,
            store_id=lambda: self.store.store_id,
        )
        self.leadership = Leadership(
            self.store,
            self.writer,
            clock,
            take_over=self._take_over,
            make_home=self._make_home,
            on_failure=on_failure,
        )
        self._forwarding = Forwarding(journal, self.leadership, connect, clock)
        origin = Origin(cluster, installed_version("podium"), settings.service_cidr, settings.pod_cidr_base)
        backups = Backups(self.store, clock, origin)
        self.api = ApiServer(self.store, self.writer, self.heartbeats, self.leadership, self._forwarding, backups)
        self.leadership.on_end = self.api.end_term

    async def start(self, address: str = "") -> None:
        """`open`, then `lead`."""
        await self.open()
        await self.lead(address)

    async def open(self) -> None:
        """Reads the store. Raises StoreRefused, Unreachable, JournalFailed."""
        await self.store.start()
        await self.heartbeats.start()

    async def lead(self, address: str) -> None:
        """Campaigns from now on; other masters reach this one at `address`. Returns when it is known who leads, or
        that nobody can be elected for the moment."""
        await self.leadership.start(address)

    def _take_over(self) -> None:
        self._admission.rebuild(self.store.state)

    async def _make_home(self) -> None:
        """Makes the namespaces and priority classes that every cluster has, as one revision. Raises ApiError."""
        names = (DEFAULT_NAMESPACE, SYSTEM_NAMESPACE)
        home: list[AnyObject] = [core.Namespace(metadata=core.ObjectMeta(name=name)) for name in names]
        home += [system_class(name) for name in SYSTEM_CLASSES]
        missing = [obj for obj in home if self.store.get(key_of(obj)) is None]
        if not missing:
            return
        operations = [wire.Operation(create=wire.CreateOperation(object=wrap(obj))) for obj in missing]
        request = wire.WriteRequest(operations=operations, atomic=True)
        answer = await self.writer.write(request, Writer(Identity("admin")))
        for result in wire.WriteResponse.FromString(answer).results:
            error = from_status(result.status)
            if error is not None and not isinstance(error, AlreadyExists):
                raise error

    def drain(self) -> None:
        """Ends watches, now and from now on, with Unavailable."""
        self.store.drain()

    async def stop(self) -> None:
        """Finishes the writes that wait, lets another lead, ends everything, closes the store. Twice is fine."""
        self.drain()
        await self.leadership.stop()
        await self._forwarding.stop()
        await self.heartbeats.stop()
        await self.store.stop()


class MasterService:
    """A master with its wire, as a child of a supervisor."""

    def __init__(self, settings: MasterSettings, on_bound: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_bound = on_bound
        self._master: Master | None = None
        self._server: RpcServer | None = None
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Opens the store, serves, then campaigns. Raises StoreRefused, Unreachable, CredentialsError, ConfigError,
        OSError."""
        settings = self._settings
        credentials = Credentials.load(settings.credentials)
        cluster, _ = credentials.who()
        clock, rng = SystemClock(), random.Random()
        journal = journal_of(settings, cluster, clock, rng)
        connect = partial(GrpcPeer, credentials=credentials)
        master = self._master = Master(
            settings, journal, clock=clock, rng=rng, on_failure=die, connect=connect, cluster=cluster
        )
        await master.open()
        services = [cluster_service(master.api)]
        self._server = RpcServer(settings.listen, credentials, services, _authorize, master.api.complete)
        address = await self._server.start()
        await master.lead(settings.advertise or address)
        self._on_bound(address)

    async def run(self) -> None:
        """Until stopped: whatever would end it sooner ends the process."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Ends watches, lets calls finish for the grace time, finishes writes, closes the store. Twice is fine."""
        self._stopped.set()
        if self._master is not None:
            self._master.drain()
        if self._server is not None:
            await self._server.stop(self._settings.stop_grace_s)
        if self._master is not None:
            await self._master.stop()


def build(settings: MasterSettings, *, on_bound: Callable[[str], None] = lambda address: None) -> Supervisor:
    """A supervisor of one master; `on_bound` learns the address that it serves at. It is not restarted in place: a
    new process reads the store afresh."""
    make = partial(MasterService, settings, on_bound)
    return Supervisor("master", [ChildSpec("master", make, Restart.NEVER)])


def _authorize(identity: Identity, method: str, request: Message | None) -> None:
    authorize_call(identity, method)


def _report_bug(error: Exception) -> None:
    _log.error("a write failed because of a bug in the master", exc_info=error)


def die(error: BaseException) -> None:
    """Ends the process at once: nothing that it would still do could be trusted."""
    _log.critical(
        "the master cannot go on and ends now; the next start reads what is on the disk: %s", error, exc_info=error
    )
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(EXIT_FAILURE)
