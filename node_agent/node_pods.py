"""The pods of this node: each that is bound to it has a worker, and none outlives what the master says of it.

It is level-triggered: whatever is heard of a pod marks its uid as dirty, and `_reconcile` compares what the master
says about it with what runs here:

    master says                 runs here    what happens
    bound to us                 nothing      admit it (fit), give it an address, start a worker
    bound to us, being deleted  a worker     the worker stops it and removes the object
    another status than ours    a worker     ours is written again: someone else spoke for us while we were away
    nothing                     a worker     it was removed by force: ended at once, silently

What a pod does is decided in `node_agent.pod_lifecycle`, and where one of an earlier life of the agent goes on in
`node_agent.adoption`; this file only sees to it that each pod has its worker.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.actor.tasks import Tasks
from cluster.api.fit import Claim, Held, Rejection, admit
from cluster.api.meta import Key, is_terminating, key_of
from cluster.api.pods import is_finished, security_profile
from cluster.client.informer import Informer
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent.address_book import AddressBook
from node_agent.checkpoint import Checkpoint, Checkpoints
from node_agent.container_lifecycle import MIN_GRACE_S
from node_agent.cut_off import is_cut_off
from node_agent.eviction import refuses
from node_agent.facilities import Facilities
from node_agent.pod_state import StopAsked
from node_agent.pod_worker import PodWorker
from node_agent.run_ids import RunId, pod_of
from node_agent.runtime.logs import log_path
from node_agent.settings import AgentSettings
from node_agent.status_writer import StatusWriter
from node_agent.surroundings import Surroundings
from node_agent.volumes import Shelves, remove_volumes
from node_agent.wishes import stop_of, tell

CRASH_PAUSE_S = 1.0
"""Before the pod of a worker that crashed is taken up anew."""
STOP_MARGIN_S = MIN_GRACE_S + 1.0
"""How much longer than the grace period the stop of all pods may take before the rest is killed: sidecars that waited
for the others all that time are told only then."""
ALONE_S = 5.0
"""How long an agent that begins waits for the master before it starts again, on its own, what of its pods had ended."""

log = get_logger("node_agent")


class NodePods:
    """Of one agent."""

    def __init__(
        self,
        settings: AgentSettings,
        facilities: Facilities,
        around: Surroundings,
        known: Informer[core.Pod],
        *,
        writer: StatusWriter,
        checkpoints: Checkpoints,
        pressures: Callable[[], tuple[str, ...]],
        labels: Callable[[], Mapping[str, str]],
    ) -> None:
        """`known`: the pods that are bound to this node, as the master has them. `pressures` and `labels` are what the
        node says of itself: what it is short of, and what is to be had on it."""
        self._settings, self._facilities, self._around, self._known = settings, facilities, around, known
        self._writer, self._checkpoints, self._pressures, self._labels = writer, checkpoints, pressures, labels
        self._runtime, self._clock = around.runtime, around.clock
        self.workers: dict[str, PodWorker] = {}
        """By pod uid, one per pod that this node has taken up; admission bounds their number."""
        self._ending: set[PodWorker] = set()  # of pods that are gone; each is being stopped
        self._addresses = AddressBook()
        self._told_stop: dict[str, tuple[str, float]] = {}
        self._dirty: dict[str, Key] = {}  # uid -> key; at most one entry per pod that changed and is not yet looked at
        self._work, self._worker_over = asyncio.Event(), asyncio.Event()
        self._left: dict[str, Checkpoint] = {}  # by uid: pods of an earlier life that are not taken up yet
        self._tasks = Tasks("pods of the node")
        self._stopping = False
        known.add_handler(self._on_pod)

    # --- what others ask

    def log_file(self, pod: core.Pod, container: str, *, previous: bool) -> Path | None:
        """Where the log of a container is; None if there is none."""
        worker = self.workers.get(pod.metadata.uid)
        if worker is not None:
            return worker.log_file(container, previous=previous)
        statuses = (*pod.status.initContainerStatuses, *pod.status.containerStatuses)
        runs = next((status.restartCount for status in statuses if status.name == container), 0)
        path = log_path(self._facilities.pods_dir / pod.metadata.uid, container, runs - previous)
        return path if path.exists() else None

    def processes(self) -> list[int]:
        """Of all pods."""
        return [pid for worker in self.workers.values() for _, pids in worker.processes() for pid in pids]

    def on_block(self, cidr: str) -> None:
        """Pods get their addresses from this block from now on."""
        if self._addresses.open(cidr):
            self._note_addresses()
            self._dirty.update({pod.metadata.uid: key_of(pod) for pod in self._known.indexer.list()})
            self._work.set()

    def _note_addresses(self) -> None:
        """Pods that were adopted have theirs already."""
        for worker in self.workers.values():
            self._addresses.note(worker.uid, worker.pod_ip)

    # --- comparing

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        pod = new or old
        assert pod is not None
        self._dirty[pod.metadata.uid] = key_of(pod)
        self._work.set()

    def start_reconciling(self) -> None:
        """From now on what runs here is made what the master says."""
        self._tasks.spawn(self._reconcile_forever(), name="reconcile pods")

    async def stop_reconciling(self) -> None:
        """What runs here goes on; its workers, too. Twice is fine."""
        self._stopping = True
        await self._tasks.cancel_all()

    async def _reconcile_forever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._dirty:
                uid = next(iter(self._dirty))
                key = self._dirty.pop(uid)
                pod = self._known.indexer.get(key)
                await self._reconcile(uid, pod if pod is not None and pod.metadata.uid == uid else None)

    async def _reconcile(self, uid: str, pod: core.Pod | None) -> None:
        worker = self.workers.get(uid)
        if pod is None:
            if worker is not None:
                await self._end_by_force(worker)
            else:  # one that was over before this agent began
                self._left.pop(uid, None)
                self._checkpoints.remove(uid)
                shutil.rmtree(self._facilities.pods_dir / uid, ignore_errors=True)
        elif worker is None:
            if not is_finished(pod):
                await self._take_up(pod)
        else:
            worker.pod.metadata.CopyFrom(pod.metadata)
            await self._limit(worker, pod)
            if is_terminating(pod):
                await self._ask_to_stop(worker, pod)
            elif pod.status != worker.current_status and not self._writer.is_pending(uid):
                self._writer.put(worker.pod, worker.current_status)

    # --- taking up

    async def adopt_living(self) -> None:
        """Takes up the pods that an earlier life of this agent left and that run, whether the master answers or not.

        Of the others it is asked first, for a while: what was deleted meanwhile is not to be started again.
        """
        self._left = {checkpoint.uid: checkpoint for checkpoint in self._checkpoints.load()}
        living = {
            run_id.uid
            for text, found in self._runtime.adopted.items()
            if found.ended is None and (run_id := RunId.parse(text)) is not None
        }
        for uid in living & set(self._left):
            await self._adopt(self._left.pop(uid))
        if self.workers:
            log.info("pods adopted", pods=len(self.workers), runs=len(self._runtime.adopted))

    async def adopt_the_rest(self, silent_s: Callable[[], float]) -> None:
        """After a while, if the master stays away; `silent_s()` says for how long it has not been heard of."""
        await self._clock.sleep(ALONE_S)
        for uid, checkpoint in list(self._left.items()):
            if uid in self._left and not is_cut_off(core.Pod.FromString(checkpoint.pod).spec, silent_s()):
                await self._adopt(self._left.pop(uid))

    async def _adopt(self, checkpoint: Checkpoint, pod: core.Pod | None = None) -> None:
        """`pod`: as the master has it, if that is known."""
        mine = core.Pod.FromString(checkpoint.pod)
        if pod is not None:
            mine.metadata.CopyFrom(pod.metadata)
        await self._start_worker(mine, checkpoint.pod_ip, None, checkpoint.incarnation, checkpoint)

    async def _take_up(self, pod: core.Pod, incarnation: int = 0) -> None:
        uid = pod.metadata.uid
        if checkpoint := self._left.pop(uid, None):
            await self._adopt(checkpoint, pod)
            await self._limit(self.workers[uid], pod)  # it may have changed while no agent was here
            self._note_addresses()
            return
        if not self._addresses.block:
            log.warning("node has no podCIDR yet; pod waits", pod=str(key_of(pod)))
            return  # on_block marks it dirty again
        rejection = self._admit(pod)
        pod_ip = "" if rejection else self._addresses.allocate(uid, pod.status.podIP)
        if not rejection and not pod_ip:
            why = f"Pod was rejected: no address is left in {self._addresses.block}"
            rejection = Rejection("OutOfpods", why)
        if rejection is not None:
            log.warning("pod rejected", pod=str(key_of(pod)), reason=rejection.reason)
            self._around.recorder.event(pod, "Warning", rejection.reason, rejection.message)
        await self._start_worker(pod, pod_ip, rejection, incarnation, None)

    def _admit(self, pod: core.Pod) -> Rejection | None:
        profiles = self._facilities.profiles
        if refusal := refuses(self._pressures(), pod):
            return refusal
        held = Held(worker.claim for worker in self.workers.values() if worker.holds_resources)
        profile = security_profile(pod.spec)
        if profile not in profiles.offered:
            return Rejection("UnsupportedSecurityProfile", f"Pod was rejected: {profiles.why_not(profile)}")
        return admit(Claim.of(pod), held, self._facilities.amounts(), self._settings.name, self._labels())

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
            pod_dir=self._facilities.pods_dir / uid,
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
                pod = self._known.indexer.get(key_of(worker.pod))
                if pod is not None and pod.metadata.uid == worker.uid:
                    await self._take_up(pod, worker.incarnation + 1)
                else:
                    self._forget_traces(worker)

    # --- ending

    async def _limit(self, worker: PodWorker, pod: core.Pod) -> None:
        if (limited := worker.limited_to(pod.spec)) is not None:
            await tell(worker.ref, limited)

    async def _ask_to_stop(self, worker: PodWorker, pod: core.Pod) -> None:
        stop = stop_of(pod)
        wish = ("delete", stop.grace_s)
        if self._told_stop.get(worker.uid) != wish:
            self._told_stop[worker.uid] = wish
            await tell(worker.ref, stop)

    async def _end_by_force(self, worker: PodWorker) -> None:
        worker.gone = True
        self._writer.drop(worker.uid)
        if worker.is_over and worker.state.finished:
            self._forget(worker)
        else:
            await tell(worker.ref, StopAsked(0.0, remove=True))

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
        self._addresses.release(worker.uid)
        memory = self._around.host.memory / worker.uid
        remove_volumes(Shelves(worker.pod_dir, memory, self._facilities.data_dir))
        shutil.rmtree(worker.pod_dir, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """What is left of pods that were removed while no agent was here: workers end theirs, the rest goes now."""
        pods = self._known.indexer.list()
        known = {pod.metadata.uid for pod in pods}
        for uid in [uid for uid in self._left if uid not in known]:
            del self._left[uid]
            self._checkpoints.remove(uid)
        for uid, worker in self.workers.items():
            self._dirty[uid] = key_of(worker.pod)
        self._work.set()
        looked_after = {pod.metadata.uid for pod in pods if not is_finished(pod)} | set(self.workers)
        for text in list(self._runtime.adopted):
            if pod_of(text) not in looked_after:
                self._runtime.kill(text)
                self._runtime.forget(text)
        running = [name for worker in self.workers.values() for name in worker.group_names]
        self._facilities.cgroups.remove_all_but(running)
        for directory in self._facilities.pods_dir.iterdir():
            if directory.name not in known and directory.name not in self.workers:
                shutil.rmtree(directory, ignore_errors=True)

    async def stop_all(self) -> None:
        """The node stops: pods end with grace, and stay the master's; what does not end in time is named."""
        grace_s = self._settings.profile.stop_grace_s
        for worker in self.workers.values():
            if not worker.is_over:
                await tell(worker.ref, StopAsked(min(grace_s, worker.state.grace_s), remove=False))
        try:
            async with asyncio.timeout(grace_s + STOP_MARGIN_S):
                while any(not worker.is_over for worker in self.workers.values()):
                    self._worker_over.clear()
                    await self._worker_over.wait()
        except TimeoutError:
            left = [worker.name for worker in self.workers.values() if not worker.is_over]
            log.error("pods did not end in time; killing what is left of them", pods=left)

    async def end_workers(self) -> None:
        """Whatever their pods do goes on without them."""
        for worker in [*self.workers.values(), *self._ending]:
            await worker.stop()
