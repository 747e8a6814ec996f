"""The node agent: registers its node, takes up the pods that are bound to it, and lets nothing of them outlive it.

It is level-triggered: whatever is heard of a pod marks its uid as dirty, and `_reconcile` compares what the master
says about it with what runs here:

    master says                 runs here    what happens
    bound to us                 nothing      admit it (fit), give it an address, start a worker
    bound to us, being deleted  a worker     the worker stops it and removes the object
    another status than ours    a worker     ours is written again: someone else spoke for us while we were away
    nothing                     a worker     it was removed by force: ended at once, silently

Its own Node is watched in the same way: if it is gone, it is registered again; if it says anything but Ready, Ready is
said again. Without the master everything goes on; statuses wait in the writer. What a pod does is decided in
`node_agent.pod_lifecycle`; this file only sees to it that each pod has its worker.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from cluster.actor.actor import ActorStopped
from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.conditions import is_node_ready
from cluster.api.errors import AlreadyExists, ApiError
from cluster.api.fit import Claim, Held, Rejection, admit
from cluster.api.meta import Key, from_time, is_terminating, key_of
from cluster.api.pod_addresses import PodAddresses
from cluster.api.pods import (
    BASELINE,
    MEMORY,
    RESTRICTED,
    SANDBOX,
    SECURITY_PROFILES,
    is_finished,
    profile_label,
    security_profile,
)
from cluster.client import operations
from cluster.client.events import EventRecorder
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.config.dirs import make_private_dir
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent import node_object
from node_agent.checkpoint import Checkpoint, Checkpoints
from node_agent.configuration import ConfigurationReader
from node_agent.confine import NOBODY, can_become
from node_agent.cut_off import LastHeard, is_cut_off
from node_agent.dependencies import wait_for_dependencies
from node_agent.eviction import parse_thresholds, refuses
from node_agent.heartbeat import Heart, Usage, make_heartbeat
from node_agent.memory_dir import LINK, memory_dir, remove_memory_dir
from node_agent.node_object import Machine
from node_agent.partition import Partition
from node_agent.pod_lifecycle import MIN_GRACE_S
from node_agent.pod_state import FailAsked, StopAsked
from node_agent.pod_worker import PodWorker, stop_of
from node_agent.preparation import Host
from node_agent.pressure import hands_of, watch_pressure
from node_agent.resolver import Names
from node_agent.resolver_file import LOOK_S, ResolverFile
from node_agent.restart_policy import CrashBackoff
from node_agent.run_ids import RunId, pod_of
from node_agent.runtime.cgroups import Cgroups
from node_agent.runtime.interface import Runtime
from node_agent.runtime.logs import log_path
from node_agent.security import find_profiles, try_profile, without
from node_agent.settings import AgentSettings
from node_agent.spawner import boot_id
from node_agent.standstill import stand_still
from node_agent.status_writer import StatusWriter
from node_agent.surroundings import Surroundings
from node_agent.volumes import Shelves, data_directories, remove_volumes

COMPONENT = "node-agent"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REPAIR_PAUSE_S = 0.2
"""Shortest time between two writes of the node's own status."""
CRASH_PAUSE_S = 1.0
"""Before the pod of a worker that crashed is taken up anew."""
STOP_MARGIN_S = MIN_GRACE_S + 1.0
"""How much longer than the grace period the stop of all pods may take before the rest is killed: sidecars that waited
for the others all that time are told only then."""
FLUSH_TIMEOUT_S = 1.0
DISCONNECT_LOOK_S = 0.5
DISCONNECT_FIRST_S = 1.0
"""How long an agent that begins has to reach the master, before it counts how long nobody did."""
ALONE_S = 5.0
"""How long an agent that begins waits for the master before it starts again, on its own, what of its pods had ended."""

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
        self._partition = partition
        self._known_faults: set[str] = set()  # uids; bounded by the faults that there are
        self.port = int(settings.listen.rpartition(":")[2])
        """Where the service NodeAgent is served; set it before `start` if the system chose it."""
        self.workers: dict[str, PodWorker] = {}
        """By pod uid, one per pod that this node has taken up; admission bounds their number."""
        self._ending: set[PodWorker] = set()  # of pods that are gone; each is being stopped
        self._clock, self._rng = clock, rng
        self._tasks = Tasks("node agent")
        self._machine: Machine | None = None
        self._has_memory = False
        self._cgroups = Cgroups.none("control groups: switched off (--no-cgroups)")
        self._resources: dict[str, core.Quantity] = {}
        self._addresses: PodAddresses | None = None
        self._address_of: dict[str, PodAddresses] = {}
        self._told_stop: dict[str, tuple[str, float]] = {}
        self._dirty: dict[str, Key] = {}  # uid -> key; at most one entry per pod that changed and is not yet looked at
        self._work, self._repair, self._worker_over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._ended = asyncio.Event()
        self._left: dict[str, Checkpoint] = {}  # by uid: pods of an earlier life that are not taken up yet
        self._stopping = self._leaving = False
        self._node_status = core.NodeStatus()
        self._pressures: tuple[str, ...] = ()
        self._profiles = find_profiles(environ.get("PATH") or DEFAULT_PATH, allow_trusted=settings.allow_trusted)
        self.writer = StatusWriter(client, clock=clock, rng=rng, tick_s=settings.status_tick_s)
        self._recorder = EventRecorder(client, COMPONENT, settings.name, clock=clock, rng=rng)
        by_name = f"metadata.name={settings.name}"
        self._node = Informer(client, core.Node, field_selector=by_name, clock=clock, rng=rng)
        self._pods = Informer(client, core.Pod, field_selector=f"spec.nodeName={settings.name}", clock=clock, rng=rng)
        self._services = Informer(client, core.Service, clock=clock, rng=rng)
        names = Names(settings.dns, settings.cluster_domain, settings.dns_forwards)
        self._resolver = ResolverFile(settings.dir, names, settings.resolv_conf)
        self._faults = Informer(client, core.Fault, clock=clock, rng=rng)
        boot = boot_id()
        self._last_heard = LastHeard(settings.dir, boot)
        usage = Usage(clock, settings.dir.parent if settings.dir.parent.exists() else Path("/"))
        self._heart = Heart(
            client,
            clock=clock,
            interval_s=settings.profile.heartbeat_interval_s,
            beats=lambda sequence: [
                make_heartbeat(
                    settings.name, sequence, usage.sample(sum(not worker.is_over for worker in self.workers.values()))
                )
            ],
            on_unknown=self._on_unknown,
            heard_at_s=self._last_heard.load(clock.monotonic()),
        )
        profile = settings.profile
        self._checkpoints = Checkpoints(
            settings.dir / "state", clock=clock, tick_s=settings.checkpoint_tick_s, forget=runtime.forget
        )
        self._around = Surroundings(
            runtime=runtime,
            recorder=self._recorder,
            statuses=self.writer,
            clock=clock,
            rng=rng,
            checkpoints=self._checkpoints,
            boot_id=boot,
            host=Host(
                node_name=settings.name,
                host_ip=settings.host,
                path=environ.get("PATH") or DEFAULT_PATH,
                lang=environ.get("LANG") or "C.UTF-8",
                services=self._services.indexer.list,
                read_configuration=ConfigurationReader(client, clock).get,
                allocatable=lambda: node_object.amounts(self._resources),
                data=settings.dir / "data",
                on_new_data=self._repair.set,
                memory=settings.dir / LINK,
                can_mount=lambda: runtime.can_mount,
                cgroups=lambda: self._cgroups,
                profiles=lambda: self._profiles,
                uid=os.geteuid(),
                gid=os.getegid(),
                allow_root=settings.allow_root,
                ordinary=(NOBODY, NOBODY) if can_become(NOBODY) else None,
                names=names,
                machine_names=self._resolver.machine,
                shares_names=lambda: runtime.names,
            ),
            backoff=CrashBackoff(
                profile.crash_backoff_initial_s, profile.crash_backoff_max_s, profile.crash_backoff_reset_s
            ),
            dependencies=functools.partial(wait_for_dependencies, client, clock),
            eager_readiness=settings.eager_readiness,
            readiness_by_port=settings.readiness_by_port,
            listener_check_s=settings.listener_check_s,
        )

    # --- birth and death

    async def start(self) -> None:
        """Registers, synchronizes, takes pods up. Waits for the master as long as it takes."""
        for directory in (self._pods_dir, self.settings.dir / "data"):
            make_private_dir(directory)
        _, self._has_memory = memory_dir(self.settings.dir)
        if self.settings.cgroups:
            self._cgroups = Cgroups.find(cgroup_name(self.settings))
            self._cgroups.remember(self.settings.dir)
        self._machine = Machine.read(self.settings.dir)
        settings = self.settings
        self._resources = node_object.capacity(
            self._machine, settings.cpu, settings.memory, settings.pods, settings.resources
        )
        self._resolver.refresh()
        try:
            await self.runtime.start()
        except BaseException:
            self._leaving = True  # what there is belongs to another agent, or is not understood: none of it is ended
            raise
        if not self.runtime.hides:
            log.error("pods can read the cluster's keys", missing=list(self.runtime.missing))
        await self._try_profiles()
        await self._checkpoints.start()
        await self._adopt_living()
        self._tasks.spawn(self._watch_disconnect(), name="stop pods that must not be cut off for long")
        alone = self._tasks.spawn(self._adopt_the_rest(), name="adopt what does not run, if the master stays away")
        self._node.add_handler(self._on_node)
        self._pods.add_handler(self._on_pod)
        await self._register_until_done()
        await self._heart.start()
        await self.writer.start()
        await self._recorder.start()
        for informer in (self._node, self._services, self._pods):
            await informer.start()
        self._faults.add_handler(self._on_fault)
        await self._faults.start()
        await self._wait_synced()
        alone.cancel()
        self._remove_leftovers()
        self._tasks.spawn(self._reconcile_forever(), name="reconcile pods")
        self._tasks.spawn(self._repair_forever(), name="keep the node's status")
        self._tasks.spawn(self._refresh_names_forever(), name="keep the node's resolv.conf")
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
        for informer in (self._faults, self._pods, self._services, self._node):
            await informer.stop()
        if self._leaving:
            await self.writer.flush(FLUSH_TIMEOUT_S)
        else:
            await self._stop_pods()
            if self._machine is not None:
                await self._say_goodbye()
        await self.writer.stop()
        for worker in [*self.workers.values(), *self._ending]:
            await worker.stop()
        await self._checkpoints.stop()
        await (self.runtime.leave() if self._leaving else self.runtime.stop())
        if not self._leaving:
            remove_memory_dir(self.settings.dir)
            self._cgroups.close()
        await self._recorder.stop()
        await self._heart.stop()
        self._ended.set()

    async def _stop_pods(self) -> None:
        grace_s = self.settings.profile.stop_grace_s
        for worker in self.workers.values():
            if not worker.is_over:
                await _tell(worker, StopAsked(min(grace_s, worker.state.grace_s), remove=False))
        try:
            async with asyncio.timeout(grace_s + STOP_MARGIN_S):
                while any(not worker.is_over for worker in self.workers.values()):
                    self._worker_over.clear()
                    await self._worker_over.wait()
        except TimeoutError:
            left = [worker.name for worker in self.workers.values() if not worker.is_over]
            log.error("pods did not end in time; killing what is left of them", pods=left)

    async def _say_goodbye(self) -> None:
        try:
            node = core.Node(metadata=core.ObjectMeta(name=self.settings.name), status=self._make_status(stopping=True))
            cause = core.Cause(reason="stopping")
            await self.client.write([operations.update_status(node)], cause=cause, timeout_s=FLUSH_TIMEOUT_S)
        except ApiError as error:
            log.info("the master does not hear that this node stops", error=str(error))
        await self.writer.flush(FLUSH_TIMEOUT_S)

    async def _wait_synced(self) -> None:
        while True:
            try:
                for informer in (self._node, self._services, self._pods):
                    await informer.wait_synced(30.0)
                return
            except ApiError as error:
                log.warning("still waiting for the master", error=str(error))

    # --- the node

    @property
    def node(self) -> core.Node | None:
        """The Node as the master has it; not to be modified."""
        return self._node.indexer.get(Key("Node", "", self.settings.name))

    async def _register_until_done(self) -> None:
        backoff = Backoff(0.1, 2.0, jitter=0.2, rng=self._rng)
        while True:
            try:
                await self._register()
                return
            except ApiError as error:
                log.warning("cannot register yet", node=self.settings.name, error=str(error))
            await self._clock.sleep(backoff.next())

    async def _register(self) -> None:
        """Creates the Node, or brings its labels and its status up to date."""
        assert self._machine is not None
        offered = {profile_label(each): "true" for each in self._profiles.offered if each != BASELINE}
        labels = node_object.node_labels(self.settings.name, self._machine, {**self.settings.labels, **offered})
        gone: dict[str, str | None] = {profile_label(each): None for each in SECURITY_PROFILES}
        node = node_object.make_node(self.settings.name, labels)
        status = core.Node(metadata=core.ObjectMeta(name=self.settings.name), status=self._make_status())
        written = await self.client.write(
            [
                operations.create(node),
                operations.patch(key_of(node), {"metadata": {"labels": gone | labels}}),
                operations.update_status(status),
            ],
            cause=core.Cause(reason="register"),
        )
        created, *others = written.outcomes
        if created.error is not None and not isinstance(created.error, AlreadyExists):
            raise created.error
        node_now = [outcome.unwrap() for outcome in others][-1]
        assert isinstance(node_now, core.Node)
        self._set_addresses(node_now)
        log.info("registered", node=self.settings.name, pod_cidr=node_now.spec.podCIDR)

    def _make_status(self, *, stopping: bool = False) -> core.NodeStatus:
        assert self._machine is not None
        known = self.node
        status = node_object.make_node_status(
            known.status if known is not None else self._node_status,
            name=self.settings.name,
            host=self.settings.host,
            port=self.port,
            machine=self._machine,
            resources=self._resources,
            isolation=self._isolation(),
            pressures=self._pressures,
            data_directories=data_directories(self.settings.dir / "data"),
            now_s=self._clock.wall(),
            stopping=stopping,
        )
        self._node_status.CopyFrom(status)
        return status

    def _isolation(self) -> core.Isolation:
        """How far this node can contain the processes of pods."""
        missing = [*self.runtime.missing, *self._cgroups.missing, *self._profiles.missing]
        if not self._has_memory:
            missing.append("secrets lie on the disk: there is no /dev/shm")
        if self.settings.dns and not self._resolver.names.nameserver:
            where = f"a resolv.conf cannot say {self.settings.dns}; programs find that in PODIUM_DNS"
            missing.append(f"pods do not ask the cluster's DNS server by themselves: {where}")
        volumes = "namespace" if self.runtime.can_mount else "directory"
        enforcement = "cgroup" if self._cgroups.enforces else "rlimit"
        return core.Isolation(
            enforcement=enforcement, volumes=volumes, profiles=self._profiles.offered, missing=missing
        )

    def _set_addresses(self, node: core.Node) -> None:
        if node.spec.podCIDR and (self._addresses is None or self._addresses.cidr != node.spec.podCIDR):
            self._addresses = PodAddresses(node.spec.podCIDR)
            self._keep_addresses()
            self._dirty.update({pod.metadata.uid: key_of(pod) for pod in self._pods.indexer.list()})
            self._work.set()

    def _keep_addresses(self) -> None:
        """Pods that were adopted have theirs already."""
        for worker in self.workers.values():
            if worker.pod_ip and worker.uid not in self._address_of and self._addresses is not None:
                self._addresses.allocate(worker.uid, worker.pod_ip)
                self._address_of[worker.uid] = self._addresses

    def _on_node(self, old: core.Node | None, new: core.Node | None) -> None:
        if new is not None:
            self._set_addresses(new)
        if new is None or not is_node_ready(new):
            self._repair.set()

    def _on_fault(self, old: core.Fault | None, new: core.Fault | None) -> None:
        """Something goes wrong with this node on purpose. It ends by the time that was set when it began: nothing can
        be heard meanwhile, or nobody is awake to hear it."""
        fault = new if new is not None else old
        assert fault is not None
        if fault.spec.target.node != self.settings.name:
            return
        if new is None:
            self._known_faults.discard(fault.metadata.uid)
            return
        left_s = from_time(new.status.endsAt) - self._clock.wall()
        if new.metadata.uid in self._known_faults or left_s <= 0:
            return
        self._known_faults.add(new.metadata.uid)
        if new.spec.pause:
            log.warning("stands still on purpose", fault=new.metadata.name, seconds=round(left_s, 1))
            try:
                stand_still(left_s, self._all_processes)
            except OSError as error:
                log.error("cannot stand still", error=str(error))
            left_s = from_time(new.status.endsAt) - self._clock.wall()
        if new.spec.partition and self._partition is not None and left_s > 0:
            log.warning("is cut off on purpose", fault=new.metadata.name, seconds=round(left_s, 1))
            self._partition.begin(left_s)

    def _all_processes(self) -> list[int]:
        """Of all pods."""
        return [pid for worker in self.workers.values() for _, pids in worker.processes() for pid in pids]

    async def _on_unknown(self, nodes: Sequence[str]) -> None:
        self._repair.set()

    async def _repair_forever(self) -> None:
        """Says again what somebody else took away (the Node itself, or that it is ready), and says what is new."""
        while True:
            await self._repair.wait()
            self._repair.clear()
            await self._register_until_done()
            await self._clock.sleep(REPAIR_PAUSE_S)
            if self.node is not None and not is_node_ready(self.node):
                self._repair.set()

    # --- pods

    @property
    def _pods_dir(self) -> Path:
        return self.settings.dir / "pods"

    def find_pod(self, namespace: str, name: str) -> core.Pod | None:
        """The pod of that name that is bound to this node, as the master has it."""
        return self._pods.indexer.get(Key("Pod", namespace or "default", name))

    def log_file(self, pod: core.Pod, container: str, *, previous: bool) -> Path | None:
        """Where the log of a container is; None if there is none."""
        worker = self.workers.get(pod.metadata.uid)
        if worker is not None:
            return worker.log_file(container, previous=previous)
        runs = next((status.restartCount for status in pod.status.containerStatuses if status.name == container), 0)
        path = log_path(self._pods_dir / pod.metadata.uid, container, runs - previous)
        return path if path.exists() else None

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        pod = new or old
        assert pod is not None
        self._dirty[pod.metadata.uid] = key_of(pod)
        self._work.set()

    async def _reconcile_forever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._dirty:
                uid = next(iter(self._dirty))
                key = self._dirty.pop(uid)
                pod = self._pods.indexer.get(key)
                await self._reconcile(uid, pod if pod is not None and pod.metadata.uid == uid else None)

    async def _reconcile(self, uid: str, pod: core.Pod | None) -> None:
        worker = self.workers.get(uid)
        if pod is None:
            if worker is not None:
                await self._end_by_force(worker)
            else:  # one that was over before this agent began
                self._left.pop(uid, None)
                self._checkpoints.remove(uid)
                shutil.rmtree(self._pods_dir / uid, ignore_errors=True)
        elif worker is None:
            if not is_finished(pod):
                await self._take_up(pod)
        else:
            worker.pod.metadata.CopyFrom(pod.metadata)
            if is_terminating(pod):
                await self._ask_to_stop(worker, pod)
            elif pod.status != worker.current_status and not self.writer.is_pending(uid):
                self.writer.put(worker.pod, worker.current_status)

    async def _adopt_living(self) -> None:
        """Takes up the pods that an earlier life of this agent left and that run, whether the master answers or not.

        Of the others it is asked first, for a while: what was deleted meanwhile is not to be started again.
        """
        self._left = {checkpoint.uid: checkpoint for checkpoint in self._checkpoints.load()}
        living = {
            run_id.uid
            for text, found in self.runtime.adopted.items()
            if found.ended is None and (run_id := RunId.parse(text)) is not None
        }
        for uid in living & set(self._left):
            await self._adopt(self._left.pop(uid))
        if self.workers:
            log.info("pods adopted", pods=len(self.workers), runs=len(self.runtime.adopted))

    async def _adopt_the_rest(self) -> None:
        await self._clock.sleep(ALONE_S)
        for uid, checkpoint in list(self._left.items()):
            if uid in self._left and not is_cut_off(core.Pod.FromString(checkpoint.pod).spec, self._silent_s):
                await self._adopt(self._left.pop(uid))

    async def _adopt(self, checkpoint: Checkpoint, pod: core.Pod | None = None) -> None:
        """`pod`: as the master has it, if that is known."""
        mine = core.Pod.FromString(checkpoint.pod)
        if pod is not None:
            mine.metadata.CopyFrom(pod.metadata)
        await self._start_worker(mine, checkpoint.pod_ip, None, checkpoint.incarnation, checkpoint)

    async def _start_worker(
        self,
        pod: core.Pod,
        pod_ip: str,
        rejection: Rejection | None,
        incarnation: int,
        checkpoint: Checkpoint | None,
    ) -> None:
        uid = pod.metadata.uid
        worker = PodWorker(
            pod,
            around=self._around,
            pod_ip=pod_ip,
            pod_dir=self._pods_dir / uid,
            rejection=rejection,
            on_finished=self._on_finished,
            incarnation=incarnation,
            checkpoint=checkpoint,
        )
        self.workers[uid] = worker
        if rejection is None:
            worker.pod_dir.mkdir(mode=0o700, exist_ok=True)
        await worker.start()
        self._tasks.spawn(self._guard(worker), name=f"guard the worker of {worker.name}")
        if is_terminating(pod):
            await self._ask_to_stop(worker, pod)

    async def _take_up(self, pod: core.Pod, incarnation: int = 0) -> None:
        uid = pod.metadata.uid
        if checkpoint := self._left.pop(uid, None):
            await self._adopt(checkpoint, pod)
            self._keep_addresses()
            return
        if self._addresses is None:
            log.warning("node has no podCIDR yet; pod waits", pod=str(key_of(pod)))
            return  # _set_addresses marks it dirty again
        rejection = self._admit(pod)
        pod_ip = "" if rejection else self._addresses.allocate(uid, pod.status.podIP)
        if not rejection and not pod_ip:
            rejection = Rejection("OutOfpods", f"Pod was rejected: no address is left in {self._addresses.cidr}")
        if pod_ip:
            self._address_of[uid] = self._addresses
        if rejection is not None:
            log.warning("pod rejected", pod=str(key_of(pod)), reason=rejection.reason)
            self._recorder.event(pod, "Warning", rejection.reason, rejection.message)
        await self._start_worker(pod, pod_ip, rejection, incarnation, None)

    async def _try_profiles(self) -> None:
        """Offers those that work."""
        host = self._around.host
        # For others than root, what restricted needs was found already.
        for profile in (SANDBOX, *([RESTRICTED] if host.ordinary else [])):
            if profile not in self._profiles.offered:
                continue
            problem = "switched off (--no-sandbox)"
            if profile != SANDBOX or self.settings.sandbox:
                problem = await try_profile(self.runtime, profile, self._profiles, self.settings.dir, host.ordinary)
            if problem:
                self._profiles = without(self._profiles, profile, problem)

    async def _refresh_names_forever(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            try:
                self._resolver.refresh()
            except OSError as error:
                log.warning("the node's resolv.conf cannot be written", error=str(error))

    async def _watch_pressure(self) -> None:
        profile, memory = self.settings.profile, node_object.amounts(self._resources)[MEMORY]

        def on_conditions(conditions: tuple[str, ...]) -> None:
            self._pressures = conditions
            self._repair.set()

        await watch_pressure(
            parse_thresholds(self.settings.eviction_hard or profile.eviction_hard),
            hands_of(self.settings.dir, memory, self.workers, on_conditions),
            clock=self._clock,
            period_s=profile.eviction_period_s,
            transition_s=profile.eviction_pressure_s,
        )

    @property
    def _silent_s(self) -> float:
        """How long the master has not been heard of."""
        return self._clock.monotonic() - self._heart.heard_at_s

    async def _watch_disconnect(self) -> None:
        """Ends pods whose spec says that they must not run when the master was not heard of for so long."""
        await self._clock.sleep(DISCONNECT_FIRST_S)
        while True:
            workers = [worker for worker in self.workers.values() if worker.pod.spec.stopAfterDisconnectSeconds]
            if workers:
                self._last_heard.note(self._heart.heard_at_s)
            for worker in workers:
                spec = worker.pod.spec
                if is_cut_off(spec, self._silent_s) and worker.state.stop is None and not worker.is_over:
                    limit_s = spec.stopAfterDisconnectSeconds
                    why = f"The node agent has not reached the master for more than {limit_s} seconds"
                    await _tell(worker, FailAsked("StoppedAfterDisconnect", why, worker.state.grace_s))
            await self._clock.sleep(DISCONNECT_LOOK_S)

    async def _guard(self, worker: PodWorker) -> None:
        """A worker that crashes, which is a bug, loses its pod: it is killed and taken up anew, as after a restart."""
        try:
            await worker.run()
        except Exception as error:
            log.error("a pod's worker crashed; starting the pod anew", pod=worker.name, error=repr(error))
            worker.kill_everything()
            await self._clock.sleep(CRASH_PAUSE_S)
            if self.workers.get(worker.uid) is worker:
                del self.workers[worker.uid]
                self._told_stop.pop(worker.uid, None)
                pod = self._pods.indexer.get(key_of(worker.pod))
                if pod is not None and pod.metadata.uid == worker.uid:
                    await self._take_up(pod, worker.incarnation + 1)
                else:
                    self._forget_traces(worker)

    def _admit(self, pod: core.Pod) -> Rejection | None:
        if refusal := refuses(self._pressures, pod):
            return refusal
        held = Held(worker.claim for worker in self.workers.values() if worker.holds_resources)
        labels = self.node.metadata.labels if self.node is not None else self.settings.labels
        profile = security_profile(pod.spec)
        if profile not in self._profiles.offered:
            return Rejection("UnsupportedSecurityProfile", f"Pod was rejected: {self._profiles.why_not(profile)}")
        return admit(Claim.of(pod), held, node_object.amounts(self._resources), self.settings.name, labels)

    async def _ask_to_stop(self, worker: PodWorker, pod: core.Pod) -> None:
        stop = stop_of(pod)
        wish = ("delete", stop.grace_s)
        if self._told_stop.get(worker.uid) != wish:
            self._told_stop[worker.uid] = wish
            await _tell(worker, stop)

    async def _end_by_force(self, worker: PodWorker) -> None:
        worker.gone = True
        self.writer.drop(worker.uid)
        if worker.is_over and worker.state.finished:
            self._forget(worker)
        else:
            await _tell(worker, StopAsked(0.0, remove=True))

    def _on_finished(self, worker: PodWorker) -> None:
        self._worker_over.set()
        if worker.gone:
            self._forget(worker)

    def _forget(self, worker: PodWorker) -> None:
        """Nothing of the pod is left, here or at the master."""
        if self.workers.pop(worker.uid, None) is None:
            return
        self._forget_traces(worker)
        if not self._stopping:
            self._ending.add(worker)
            self._tasks.spawn(self._end_worker(worker), name=f"end the worker of {worker.name}")

    async def _end_worker(self, worker: PodWorker) -> None:
        await worker.stop()
        self._ending.discard(worker)

    def _forget_traces(self, worker: PodWorker) -> None:
        self._told_stop.pop(worker.uid, None)
        self._checkpoints.remove(worker.uid)
        if addresses := self._address_of.pop(worker.uid, None):
            addresses.release(worker.uid)
        remove_volumes(Shelves(worker.pod_dir, self.settings.dir / LINK / worker.uid, self.settings.dir / "data"))
        shutil.rmtree(worker.pod_dir, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """What is left of pods that were removed while no agent was here: workers end theirs, the rest goes now."""
        pods = self._pods.indexer.list()
        known = {pod.metadata.uid for pod in pods}
        for uid in [uid for uid in self._left if uid not in known]:
            del self._left[uid]
            self._checkpoints.remove(uid)
        for uid, worker in self.workers.items():
            self._dirty[uid] = key_of(worker.pod)
        self._work.set()
        looked_after = {pod.metadata.uid for pod in pods if not is_finished(pod)} | set(self.workers)
        for text in list(self.runtime.adopted):
            if pod_of(text) not in looked_after:
                self.runtime.kill(text)
                self.runtime.forget(text)
        running = [name for worker in self.workers.values() for name in worker.group_names]
        self._cgroups.remove_all_but(running)
        for directory in self._pods_dir.iterdir():
            if directory.name not in known and directory.name not in self.workers:
                shutil.rmtree(directory, ignore_errors=True)


def cgroup_name(settings: AgentSettings) -> str:
    """The node's own groups: nodes of several clusters have the same names."""
    return f"{settings.name}-{blake2b(str(settings.dir.absolute()).encode(), digest_size=4).hexdigest()}"


async def _tell(worker: PodWorker, stop: StopAsked | FailAsked) -> None:
    try:
        await worker.ref.tell(stop)
    except ActorStopped:
        pass  # it has just crashed: its guard takes the pod up anew, and sees by itself that it is to go
