"""The node agent: its parts, put together, and the order in which they begin and end.

    facilities     what the machine has for pods
    own_node       the Node object, and that it says what is true
    node_pods      a worker for each pod that is bound to the node
    heartbeat, status_writer, checkpoint    what is said of all that, to the master and to the agent's next life
    pressure, cut_off, node_faults          what else befalls pods: shortage, a silent master, faults on purpose

Without the master everything goes on; statuses wait in the writer.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Mapping
from pathlib import Path

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError
from cluster.api.meta import Key
from cluster.api.pods import MEMORY
from cluster.client.events import EventRecorder
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent.checkpoint import Checkpoints
from node_agent.configuration import ConfigurationReader
from node_agent.cut_off import LastHeard, stop_when_cut_off
from node_agent.dependencies import wait_for_dependencies
from node_agent.eviction import parse_thresholds
from node_agent.facilities import Facilities
from node_agent.heartbeat import Heart, Usage, make_heartbeat
from node_agent.node_faults import NodeFaults
from node_agent.node_pods import NodePods
from node_agent.own_node import OwnNode
from node_agent.partition import Partition
from node_agent.pod_worker import PodWorker
from node_agent.pressure import hands_of, watch_pressure
from node_agent.restart_policy import CrashBackoff
from node_agent.runtime.interface import Runtime
from node_agent.settings import AgentSettings
from node_agent.spawner import boot_id
from node_agent.status_writer import StatusWriter
from node_agent.surroundings import Surroundings

COMPONENT = "node-agent"
FLUSH_TIMEOUT_S = 1.0
SYNC_LIMIT_S = 30.0
"""How long the master is waited for before it is said that it is."""

log = get_logger("node_agent")


class NodeAgent:
    """One node. `start` returns when the node is registered and its pods are known; `stop` when nothing is left."""

    def __init__(
        self,
        settings: AgentSettings,
        client: ClusterClient,
        runtime: Runtime,
        *,
        clock: Clock,
        rng: random.Random,
        environ: Mapping[str, str],
        partition: Partition | None = None,
    ) -> None:
        """`partition` cuts the client off, if a fault says so; None: such faults are not carried out."""
        self.settings, self.client, self.runtime = settings, client, runtime
        self._clock = clock
        self._tasks = Tasks("node agent")
        self._ended = asyncio.Event()
        self._stopping = self._leaving = False
        profile = settings.profile
        bound_here = f"spec.nodeName={settings.name}"
        self._known_pods = Informer(client, core.Pod, field_selector=bound_here, clock=clock, rng=rng)
        self._services = Informer(client, core.Service, clock=clock, rng=rng)
        self.writer = StatusWriter(client, clock=clock, rng=rng, tick_s=settings.status_tick_s)
        self._recorder = EventRecorder(client, COMPONENT, settings.name, clock=clock, rng=rng)
        self._checkpoints = Checkpoints(
            settings.dir / "state", clock=clock, tick_s=settings.checkpoint_tick_s, forget=runtime.forget
        )
        self._facilities = Facilities(
            settings,
            runtime,
            environ,
            services=self._services.indexer.list,
            read_configuration=ConfigurationReader(client, clock).get,
            on_new_data=lambda: self._node.say_again(),
        )
        boot = boot_id()
        around = Surroundings(
            runtime=runtime,
            recorder=self._recorder,
            statuses=self.writer,
            clock=clock,
            rng=rng,
            checkpoints=self._checkpoints,
            boot_id=boot,
            host=self._facilities.host,
            backoff=CrashBackoff(
                profile.crash_backoff_initial_s, profile.crash_backoff_max_s, profile.crash_backoff_reset_s
            ),
            dependencies=functools.partial(wait_for_dependencies, client, clock),
            eager_readiness=settings.eager_readiness,
            readiness_by_port=settings.readiness_by_port,
            listener_check_s=settings.listener_check_s,
        )
        self._pods = NodePods(
            settings,
            self._facilities,
            around,
            self._known_pods,
            writer=self.writer,
            checkpoints=self._checkpoints,
            pressures=lambda: self._node.pressures,
            labels=lambda: self._node.labels,
        )
        self._node = OwnNode(settings, client, self._facilities, self._pods.on_block, clock=clock, rng=rng)
        self._faults = NodeFaults(
            settings.name, client, partition=partition, processes=self._pods.processes, clock=clock, rng=rng
        )
        self._last_heard = LastHeard(settings.dir, boot)
        usage = Usage(clock, settings.dir.parent if settings.dir.parent.exists() else Path("/"))
        self._heart = Heart(
            client,
            clock=clock,
            interval_s=profile.heartbeat_interval_s,
            beats=lambda sequence: [make_heartbeat(settings.name, sequence, usage.sample(self.pods_alive))],
            on_unknown=self._node.on_unknown,
            heard_at_s=self._last_heard.load(clock.monotonic()),
        )

    # --- what others ask

    @property
    def workers(self) -> Mapping[str, PodWorker]:
        """By pod uid, one per pod that this node has taken up."""
        return self._pods.workers

    @property
    def pods_alive(self) -> int:
        """Pods of which something may still run."""
        return sum(not worker.is_over for worker in self.workers.values())

    def find_pod(self, namespace: str, name: str) -> core.Pod | None:
        """The pod of that name that is bound to this node, as the master has it."""
        return self._known_pods.indexer.get(Key("Pod", namespace or "default", name))

    def log_file(self, pod: core.Pod, container: str, *, previous: bool) -> Path | None:
        """Where the log of a container is; None if there is none."""
        return self._pods.log_file(pod, container, previous=previous)

    # --- birth and death

    def serves_at(self, port: int) -> None:
        """The service NodeAgent is served there; to be said before `start` if the system chose the port."""
        self._node.port = port

    async def start(self) -> None:
        """Registers, synchronizes, takes pods up. Waits for the master as long as it takes."""
        self._facilities.find()
        try:
            await self.runtime.start()
        except BaseException:
            self._leaving = True  # what there is belongs to another agent, or is not understood: none of it is ended
            raise
        await self._facilities.try_profiles()
        await self._checkpoints.start()
        await self._pods.adopt_living()
        self._tasks.spawn(
            stop_when_cut_off(self.workers, lambda: self._heart.heard_at_s, self._last_heard, self._clock),
            name="stop pods that must not be cut off for long",
        )
        alone = self._tasks.spawn(
            self._pods.adopt_the_rest(lambda: self._clock.monotonic() - self._heart.heard_at_s),
            name="adopt what does not run, if the master stays away",
        )
        await self._node.register()
        await self._heart.start()
        await self.writer.start()
        await self._recorder.start()
        for informer in self._informers:
            await informer.start()
        await self._faults.start()
        await self._wait_synced()
        alone.cancel()
        self._pods.remove_leftovers()
        self._pods.start_reconciling()
        self._tasks.spawn(self._node.repair_forever(), name="keep the node's status")
        self._tasks.spawn(self._facilities.refresh_names_forever(self._clock), name="keep the node's resolv.conf")
        self._tasks.spawn(self._watch_pressure(), name="watch what the node has left")

    async def run(self) -> None:
        """Returns when the agent was stopped."""
        await self._ended.wait()

    def leave_pods(self) -> None:
        """From now on `stop` leaves all pods as they are: they run on, for the next life of this agent to adopt."""
        self._leaving = True

    async def stop(self) -> None:
        """Ends all pods gracefully, reports, ends everything; or leaves them. Twice is fine."""
        if self._stopping:
            return
        self._stopping = True
        await self._tasks.cancel_all()
        await self._pods.stop_reconciling()
        await self._faults.stop()
        for informer in reversed(self._informers):
            await informer.stop()
        if not self._leaving:
            await self._pods.stop_all()
            await self._node.say_goodbye(FLUSH_TIMEOUT_S)
        await self.writer.flush(FLUSH_TIMEOUT_S)
        await self.writer.stop()
        await self._pods.end_workers()
        await self._checkpoints.stop()
        await (self.runtime.leave() if self._leaving else self.runtime.stop())
        if not self._leaving:
            self._facilities.give_back()
        await self._recorder.stop()
        await self._heart.stop()
        self._ended.set()

    @property
    def _informers(self) -> tuple[Informer[core.Node], Informer[core.Service], Informer[core.Pod]]:
        return self._node.informer, self._services, self._known_pods

    async def _wait_synced(self) -> None:
        while True:
            try:
                for informer in self._informers:
                    await informer.wait_synced(SYNC_LIMIT_S)
                return
            except ApiError as error:
                log.warning("still waiting for the master", error=str(error))

    async def _watch_pressure(self) -> None:
        profile, memory = self.settings.profile, self._facilities.amounts()[MEMORY]

        def on_conditions(conditions: tuple[str, ...]) -> None:
            self._node.pressures = conditions
            self._node.say_again()

        await watch_pressure(
            parse_thresholds(self.settings.eviction_hard or profile.eviction_hard),
            hands_of(self.settings.dir, memory, self.workers, on_conditions),
            clock=self._clock,
            period_s=profile.eviction_period_s,
            transition_s=profile.eviction_pressure_s,
        )
