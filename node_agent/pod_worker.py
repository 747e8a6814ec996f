"""One actor per pod: it feeds the lifecycle with what happens, and does what the lifecycle says.

The lifecycle (`node_agent.pod_lifecycle`) decides, this file acts: it sends signals, keeps the one timer, and has
programs started (`container_runs`), hooks and probes carried out (`container_probes`) and commands run
(`pod_commands`). Whatever is started comes back into the mailbox as an event. It never changes the lifecycle's state
itself and never talks to the master: statuses go to a `StatusSink`, events to a recorder.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cluster.actor.actor import Actor
from cluster.actor.mailbox import Full
from cluster.api.fit import Claim, Rejection
from cluster.api.meta import is_terminating
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent import status
from node_agent.active_limit import active_deadline, limited
from node_agent.adoption import adopt, those_of
from node_agent.checkpoint import Checkpoint
from node_agent.container_probes import ContainerProbes
from node_agent.container_runs import ContainerRuns
from node_agent.host import Home, group_name
from node_agent.pod_commands import PodCommands
from node_agent.pod_lifecycle import next_deadline, step
from node_agent.pod_state import (
    ALIVE,
    NEVER,
    POST_START,
    PRE_STOP,
    WARNING,
    Admitted,
    Command,
    DependenciesChanged,
    FailAsked,
    Finish,
    Kill,
    KillStandIn,
    Limited,
    Note,
    Phase,
    PodEvent,
    PodState,
    RunHook,
    Signal,
    Start,
    StartProbes,
    StopProbes,
    Ticked,
)
from node_agent.run_ids import CommandId, RunId
from node_agent.runtime.interface import Adopted, ExecProcess
from node_agent.runtime.logs import log_path
from node_agent.surroundings import PodHands, Surroundings
from node_agent.volume_keeper import keep_volumes, needs_keeping
from node_agent.volumes import remove_volumes
from node_agent.wishes import stop_of

MAILBOX_LIMIT = 200
"""Events of one pod that wait; when it is full whoever has news waits."""

log = get_logger("node_agent.pod")


class PodWorker(Actor[PodEvent]):
    """Runs one pod. `on_finished(worker)` is called once nothing of it is left on this node."""

    def __init__(
        self,
        pod: core.Pod,
        *,
        around: Surroundings,
        pod_ip: str,
        pod_dir: Path,
        rejection: Rejection | None,
        on_finished: Callable[[PodWorker], None],
        incarnation: int = 0,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`incarnation` counts the workers of this pod that crashed before: ids of runs are never used twice. With a
        checkpoint, or with runs of the pod that the runtime has adopted, the worker goes on where an earlier one was.
        """
        same_boot = checkpoint is not None and checkpoint.boot_id == around.boot_id
        self._active_until = checkpoint.state.active_deadline if checkpoint is not None and same_boot else NEVER
        stop = checkpoint.state.stop if checkpoint is not None and checkpoint.state.failed is None else None
        if stop is not None and not stop.remove:
            checkpoint = None  # the agent was stopping: what was interrupted goes on, from where the status says it was
        super().__init__(f"pod {pod.metadata.namespace}/{pod.metadata.name}", limit=MAILBOX_LIMIT, full=Full.WAIT)
        self.pod = core.Pod()  # our copy: its status is the one that we made last
        self.pod.CopyFrom(pod)
        self._specs = {each.name: each for each in (*self.pod.spec.initContainers, *self.pod.spec.containers)}
        self.pod_ip, self.pod_dir = pod_ip, pod_dir
        self.claim = Claim.of(pod)
        self.rejection = rejection
        self.state: PodState = (
            checkpoint.state
            if checkpoint
            else status.initial_state(pod, around.backoff, readiness_by_port=around.readiness_by_port)
        )
        self.gone = False
        """The object was removed while the pod ran here: nobody is to be told about it any more."""
        self.incarnation = incarnation
        self._around = around
        self._on_finished = on_finished
        self._home = Home(self.pod, pod_ip, pod_dir)
        self._timer: asyncio.Task[object] | None = None
        self._timer_at = NEVER
        now_s = around.clock.wall()
        self._start_time_s = checkpoint.start_time_s if checkpoint else status.start_time_of(pod) or now_s
        self._checkpoint = checkpoint
        self._ended_runs: list[str] = []  # whose end the next checkpoint knows
        hands = PodHands(
            around,
            self._home,
            self._specs,
            state=lambda: self.state,
            run_id=self._run_id,
            step=self._step,
            tell=self.ref.tell,
            note=self._note,
            spawn=self.spawn,
        )
        self._runs = ContainerRuns(hands, self._ended_runs.append)
        self._commands = PodCommands(hands, self._runs, rejected=rejection is not None)
        self._probes = ContainerProbes(hands, self._commands.exec)

    # --- what others ask

    @property
    def uid(self) -> str:
        return self.pod.metadata.uid

    @property
    def group_names(self) -> list[str]:
        """Names of the control groups of its containers, and of what runs in their place."""
        return [*(group_name(self._home, each.name) for each in self.state.containers), *self.state.stand_ins]

    @property
    def holds_resources(self) -> bool:
        """It counts when another pod is admitted."""
        return self.rejection is None and not self.is_over

    @property
    def is_over(self) -> bool:
        """Every container has ended for good, or none will ever run."""
        return self.rejection is not None or all(c.phase is Phase.ENDED for c in self.state.containers)

    @property
    def runs_nothing(self) -> bool:
        """It is over, and nothing runs in the place of a container either."""
        return self.is_over and not self.state.stand_ins

    @property
    def current_status(self) -> core.PodStatus:
        """The status that was last made; not to be modified."""
        return self.pod.status

    def log_file(self, container: str, *, previous: bool) -> Path | None:
        """The newest part of the log of the run that is on, or was last; or of that before the one that is on or is to
        come, whose end `lastState` tells. None if there was none."""
        c = self.state[container]
        run = c.run - 1 if previous else c.newest_run
        path = log_path(self.pod_dir, container, run)
        return path if run >= 0 and path.parent.exists() else None

    def is_running(self, container: str) -> bool:
        """Whether a run of the container is on (or being started)."""
        return self.state[container].phase in (Phase.STARTING, *ALIVE)

    def kill_everything(self) -> None:
        """Kills whatever runs of the pod, without a word: for a worker that has crashed."""
        runs = [self._run_id(container.name, container.run) for container in self.state.containers]
        for run_id in (*runs, *self.state.stand_ins):
            self._around.runtime.kill(run_id)

    async def exec(
        self, container: str, command: Sequence[str], *, tty: bool = False, detached: bool = False
    ) -> ExecProcess:
        """Runs a command beside the container, or if `detached` and it does not run, in its place; see
        `node_agent.pod_commands`. Raises StartFailure."""
        return await self._commands.exec(container, command, tty=tty, detached=detached)

    def processes(self) -> list[tuple[str, list[int]]]:
        """The processes of each container that runs, with those in its place."""
        found = {
            c.name: self._runs.processes_of(group_name(self._home, c.name), self._run_id(c.name, c.run))
            for c in self.state.containers
            if c.phase in ALIVE
        }
        for text in self.state.stand_ins:
            if (command_id := CommandId.parse(text)) is not None:
                found.setdefault(command_id.container, []).extend(self._runs.processes_of(text, text))
        return list(found.items())

    async def write_stdin(self, container: str, data: bytes) -> None:
        """What its program reads, if its spec says `stdin`. Returns when it was taken."""
        await self._around.runtime.write_stdin(self._run_id(container, self.state[container].run), data)

    def detach_stdin(self, container: str) -> None:
        """Whoever wrote has gone."""
        if self._specs[container].stdinOnce:
            self._around.runtime.close_stdin(self._run_id(container, self.state[container].run))

    def resize(self, container: str, rows: int, columns: int) -> None:
        """Its terminal has this size now."""
        self._around.runtime.resize(self._run_id(container, self.state[container].run), rows, columns)

    def signal(self, container: str, number: int) -> None:
        """Signals its program."""
        self._around.runtime.signal(self._run_id(container, self.state[container].run), number)

    # --- the actor

    async def on_start(self) -> None:
        """Takes the pod up: from nothing, or from where an earlier life of this agent left it."""
        if self.rejection is None:
            self._go_on(*those_of(self.uid, self._around.runtime.adopted))
            self._wait_for_dependencies()
            self._step(Admitted(self._active_deadline()))
            if needs_keeping(self.pod):
                keeping = keep_volumes(self._around.host, self._home, self._around.clock, self._evict)
                self.spawn(keeping, name="keep volumes")
        self._report()

    def _go_on(self, runs: Mapping[RunId, Adopted], commands: Sequence[CommandId]) -> None:
        """From the last checkpoint, and the runs and commands that there are."""
        clock = self._around.clock
        same_boot = self._checkpoint is not None and self._checkpoint.boot_id == self._around.boot_id
        now, now_s = clock.monotonic(), clock.wall()
        self.state, adoptions = adopt(self.state, runs, commands, same_boot=same_boot, now=now, now_s=now_s)
        followed = {adoption.run_id for adoption in adoptions}
        self._ended_runs += [str(run_id) for run_id in runs if run_id not in followed]
        if is_terminating(self.pod):
            self._stop_before_start(bool(commands) or any(found.ended is None for found in runs.values()))
        for command_id in commands:
            self._around.runtime.kill(str(command_id))  # whom it ran for has gone with the earlier agent
            self.spawn(self._runs.stay_with(command_id), name=f"stay with {command_id}")
        for adoption in adoptions:
            c = self.state[adoption.container]
            for event in adoption.events:
                self._step(event)
            if adoption.restart:
                self._perform(Start(c.name, c.run))
            elif adoption.run_id is not None:
                self.incarnation = max(self.incarnation, adoption.run_id.incarnation)
                if c.phase is Phase.RUNNING:
                    self._probes.start(c.name, c.run, startup=not c.started, healthy=c.ready, adopted=True)
                elif c.phase in (Phase.HOOKED, Phase.PRESTOP):  # cut short with the agent: at least once, then
                    self._perform(RunHook(c.name, c.run, POST_START if c.phase is Phase.HOOKED else PRE_STOP))
                self.spawn(self._runs.follow(c.name, c.run, str(adoption.run_id)), name=f"follow {c.name}")

    async def _evict(self, message: str) -> None:
        await self.ref.tell(FailAsked("Evicted", message, self.state.grace_s))

    def _active_deadline(self) -> float:
        spec, clock = self.pod.spec, self._around.clock
        if self._active_until < NEVER:  # set by an earlier life of this agent; the calendar may have been since then
            return self._active_until
        return active_deadline(spec, self._start_time_s, now=clock.monotonic(), now_s=clock.wall())

    def limited_to(self, spec: core.PodSpec) -> Limited | None:
        """The pod has this specification now: what is to be told to the worker because of that, if anything."""
        clock, mine = self._around.clock, self.pod.spec
        if self.rejection is not None:
            return None
        said = limited(self.state, mine, spec, self._start_time_s, now=clock.monotonic(), now_s=clock.wall())
        if said is not None:
            mine.activeDeadlineSeconds = spec.activeDeadlineSeconds
        return said

    def _wait_for_dependencies(self) -> None:
        names = tuple(self.pod.spec.dependsOn)
        if names and all(c.phase is Phase.WAITING for c in self.state.containers):
            self._step(DependenciesChanged(names))

            async def on_change(missing: tuple[str, ...]) -> None:
                await self.ref.tell(DependenciesChanged(missing))

            waiting = self._around.dependencies(self.pod.metadata.namespace, names, on_change)
            self.spawn(waiting, name="wait for dependencies")

    def checkpoint(self) -> Checkpoint:
        """The pod as it is now."""
        pod = self.pod.SerializeToString()
        return Checkpoint(self._around.boot_id, pod, self.pod_ip, self._start_time_s, self.incarnation, self.state)

    def _stop_before_start(self, alive: bool) -> None:
        """A pod that was deleted while no agent was here starts nothing. If nothing of it is alive, nobody is told."""
        if alive:
            self._step(stop_of(self.pod))
            return
        self.state, commands = step(self.state, stop_of(self.pod), self._around.clock.monotonic())
        for command in commands:
            if isinstance(command, Finish):
                self._perform(command)

    async def on_stop(self) -> None:
        self._cancel_timer()

    async def receive(self, message: PodEvent) -> None:
        self._step(message)
        self._report()

    def _step(self, event: PodEvent) -> None:
        self.state, commands = step(self.state, event, self._around.clock.monotonic())
        for command in commands:
            self._perform(command)
        self._arm_timer()
        self._save()

    def _save(self) -> None:
        if self.gone and self.state.finished:
            return  # nothing of it is left, here or at the master
        self._around.checkpoints.put(self.uid, self.checkpoint, tuple(self._ended_runs))
        self._ended_runs.clear()

    def _perform(self, command: Command) -> None:
        runtime = self._around.runtime
        match command:
            case Start(container, run):
                self.spawn(self._runs.start(container, run), name=f"run {container}")
            case Signal(container, run, number):
                runtime.signal(self._run_id(container, run), number)
            case Kill(container, run):
                log.warning("killing a container that does not end", pod=self.name, container=container)
                runtime.kill(self._run_id(container, run))
            case KillStandIn(run_id):
                runtime.kill(run_id)
            case RunHook(container, run, hook):
                self.spawn(self._probes.run_hook(container, run, hook), name=f"{hook} of {container}")
            case StartProbes(container, run, startup):
                self._probes.start(container, run, startup=startup)
            case StopProbes(container, _):
                self._probes.stop(container)
            case Note(type, reason, message):
                self._note("Warning" if type == WARNING else "Normal", reason, message)
            case Finish(remove):
                self._finish(remove)

    def _finish(self, remove: bool) -> None:
        if remove:
            remove_volumes(self._home.shelves(self._around.host))
            shutil.rmtree(self.pod_dir, ignore_errors=True)
        self._report()
        if remove and not self.gone:
            self._around.statuses.remove(self.pod)
        self._on_finished(self)

    def _report(self) -> None:
        around = self._around
        made = status.make_status(
            self.pod,
            self.state,
            pod_ip=self.pod_ip,
            host_ip=around.host.host_ip,
            start_time_s=self._start_time_s,
            now_s=around.clock.wall(),
            rejection=self.rejection,
        )
        if made != self.pod.status:
            self.pod.status.CopyFrom(made)
            self._save()
            if not self.gone:
                around.statuses.put(self.pod, made)

    def _note(self, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        if not self.gone:
            self._around.recorder.event(self.pod, type, reason, message)

    # --- the timer

    def _arm_timer(self) -> None:
        deadline = next_deadline(self.state)
        if deadline == self._timer_at:
            return
        self._cancel_timer()
        self._timer_at = deadline
        if deadline < NEVER:
            self._timer = self.spawn(self._ring(deadline), name="timer")

    async def _ring(self, deadline: float) -> None:
        clock = self._around.clock
        while (left := deadline - clock.monotonic()) > 0:
            await clock.sleep(left)
        self._timer, self._timer_at = None, NEVER
        await self.ref.tell(Ticked())

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, NEVER

    def _run_id(self, container: str, run: int) -> str:
        return str(RunId(self.uid, container, run, self.incarnation))
