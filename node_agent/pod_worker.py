"""One actor per pod: it feeds the lifecycle with what happens, and does what the lifecycle says.

The lifecycle (`node_agent.pod_lifecycle`) decides, this file acts: starts programs, sends signals, runs probes, keeps
the one timer. Whatever it starts comes back into the mailbox as an event. It never changes the lifecycle's state itself
and never talks to the master: statuses go to a `StatusSink`, events to a recorder.
"""

from __future__ import annotations

import asyncio
import functools
import random
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from cluster.actor.actor import Actor
from cluster.actor.clock import Clock
from cluster.actor.mailbox import Full
from cluster.api.fit import Claim, Rejection
from cluster.api.kinds import AnyObject
from cluster.api.meta import is_terminating
from cluster.api.pods import TRUSTED, security_profile
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent import hooks, listeners, prober, status
from node_agent.adoption import RunId, adopt, container_id
from node_agent.cgroup_files import pids_in
from node_agent.checkpoint import Checkpoint
from node_agent.environment import UnknownField, at_terminal
from node_agent.ownership import take_text
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
    Exited,
    FailAsked,
    Finish,
    HookDone,
    Kill,
    Note,
    Phase,
    PodEvent,
    PodState,
    ProbeChanged,
    RunHook,
    Signal,
    Start,
    Started,
    StartFailed,
    StartProbes,
    StopAsked,
    StopProbes,
    Ticked,
    Unprepared,
)
from node_agent.preparation import (
    Home,
    Host,
    NotPrepared,
    Prepared,
    contained,
    cpu_request_of,
    group_name,
    limits_of,
    owner_of,
    prepare,
    termination_log,
)
from node_agent.probe_state import LIVENESS, READINESS, STARTUP, ProbeTimes, first_delay_s
from node_agent.process_tree import proportional_bytes, resident_bytes
from node_agent.restart_policy import CrashBackoff
from node_agent.runtime.cgroups import Limits
from node_agent.runtime.interface import Adopted, Ended, ExecProcess, Runtime, StartFailure
from node_agent.runtime.logs import log_path
from node_agent.volume_keeper import keep_volumes, needs_keeping
from node_agent.volumes import remove_volumes

MAILBOX_LIMIT = 200
"""Events of one pod that wait; when it is full whoever has news waits."""

KILLED = 137
"""Exit code of what SIGKILL has ended; also of a shell whose command it was."""
MEMORY_LOOK_S = 0.5
TERMINATION_MESSAGE_BYTES = 4096
"""As much of a termination log is read, as in Kubernetes."""

log = get_logger("node_agent.pod")


class Recorder(Protocol):
    """Where events for people go (`cluster.client.events.EventRecorder`)."""

    def event(
        self, about: AnyObject | core.ObjectReference, type: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None: ...


class StatusSink(Protocol):
    """Where statuses go (`node_agent.status_writer.StatusWriter`)."""

    def put(self, pod: core.Pod, status: core.PodStatus) -> None:
        """This is the pod's status now."""
        ...

    def remove(self, pod: core.Pod) -> None:
        """All is over on this node: the object can go."""
        ...


class WaitForDependencies(Protocol):
    """`node_agent.dependencies.wait_for_dependencies`, given a client and a clock."""

    async def __call__(
        self, namespace: str, names: Sequence[str], on_change: Callable[[tuple[str, ...]], Awaitable[None]]
    ) -> None: ...


class CheckpointSink(Protocol):
    """Where the next life of this agent learns of pods (`node_agent.checkpoint.Checkpoints`)."""

    def put(self, uid: str, make: Callable[[], Checkpoint], ended_runs: Iterable[str] = ()) -> None:
        """The pod has changed; `ended_runs` need not be remembered once that is written."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the workers of one node share."""

    runtime: Runtime
    recorder: Recorder
    statuses: StatusSink
    clock: Clock
    rng: random.Random
    checkpoints: CheckpointSink
    host: Host
    boot_id: str
    backoff: CrashBackoff
    dependencies: WaitForDependencies
    eager_readiness: bool
    readiness_by_port: bool
    listener_check_s: float


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
        self._programs: dict[str, Prepared] = {}  # by container: what it was started as last
        self._probes: dict[str, list[asyncio.Task[object]]] = {}
        self._timer: asyncio.Task[object] | None = None
        self._timer_at = NEVER
        self._exec_count = 0
        now_s = around.clock.wall()
        self._start_time_s = checkpoint.start_time_s if checkpoint else status.start_time_of(pod) or now_s
        self._checkpoint = checkpoint
        self._over_memory: set[str] = set()  # runs that were ended because they held too much
        self._ended_runs: list[str] = []  # whose end the next checkpoint knows

    # --- what others ask

    @property
    def uid(self) -> str:
        return self.pod.metadata.uid

    @property
    def group_names(self) -> list[str]:
        """Names of the control groups of its containers."""
        return [group_name(self._home, container.name) for container in self.state.containers]

    @property
    def holds_resources(self) -> bool:
        """It counts when another pod is admitted."""
        return self.rejection is None and not self.is_over

    @property
    def is_over(self) -> bool:
        """Every container has ended for good, or none will ever run."""
        return self.rejection is not None or all(c.phase is Phase.ENDED for c in self.state.containers)

    @property
    def current_status(self) -> core.PodStatus:
        """The status that was last made; not to be modified."""
        return self.pod.status

    def log_file(self, container: str, *, previous: bool) -> Path | None:
        """The newest part of the log of the run that is on, or of the one before; None if there was none."""
        c = self.state[container]
        run = c.run - 1 if c.phase is Phase.BACKOFF else c.run
        path = log_path(self.pod_dir, container, run - 1 if previous else run)
        return path if run - previous >= 0 and path.parent.exists() else None

    def is_running(self, container: str) -> bool:
        """Whether a run of the container is on (or being started)."""
        return self.state[container].phase in (Phase.STARTING, *ALIVE)

    def kill_everything(self) -> None:
        """Kills whatever runs of the pod, without a word: for a worker that has crashed."""
        for container in self.state.containers:
            self._around.runtime.kill(self._run_id(container.name, container.run))

    async def exec(
        self, container: str, command: Sequence[str], *, tty: bool = False, detached: bool = False
    ) -> ExecProcess:
        """Runs a command with the container's environment and directory, and what confines it. Raises StartFailure.

        `detached`: whether the container runs or not; it is prepared as for a start.
        """
        run = self.state[container].run
        running = self.state[container].phase in ALIVE
        if not running and not detached:
            raise StartFailure(126, f"container {container} is not running")
        prepared = self._programs.get(container) if running else None
        run_id, host, spec = self._run_id(container, run), self._around.host, self._spec_of(container)
        try:
            if prepared is None:  # it was started by an earlier life of this agent: as it would be started now
                prepared = await prepare(host, self._home, spec, run, run_id)
                if running:
                    self._programs[container] = prepared
            self._exec_count += 1
            name = f"{run_id}.exec{self._exec_count}"
            env = at_terminal(prepared.program.env) if tty else prepared.program.env
            beside = replace(prepared.program, run_id=name, argv=tuple(command), env=env, log_path="", tty=tty)
            program = contained(host, self._home, spec, replace(prepared, program=beside))
        except (UnknownField, NotPrepared, OSError) as error:
            raise StartFailure(126, str(error)) from error
        return await self._around.runtime.exec(program, beside=run_id)

    def processes(self) -> list[tuple[str, list[int]]]:
        """The processes of each container that runs."""
        found = []
        for c in self.state.containers:
            if c.phase in ALIVE:
                found.append((c.name, self._processes_of(c.name, self._run_id(c.name, c.run))))
        return found

    def _processes_of(self, container: str, run_id: str) -> list[int]:
        groups = self._around.host.cgroups().groups_of(group_name(self._home, container))
        return list(dict.fromkeys([*pids_in(groups), *self._around.runtime.pids_of(run_id)]))

    async def write_stdin(self, container: str, data: bytes) -> None:
        """What its program reads, if its spec says `stdin`. Returns when it was taken."""
        await self._around.runtime.write_stdin(self._run_id(container, self.state[container].run), data)

    def detach_stdin(self, container: str) -> None:
        """Whoever wrote has gone."""
        if self._spec_of(container).stdinOnce:
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
            self._go_on(self._adopted_runs())
            self._wait_for_dependencies()
            self._step(Admitted(self._active_deadline()))
            if needs_keeping(self.pod):
                keeping = keep_volumes(self._around.host, self._home, self._around.clock, self._evict)
                self.spawn(keeping, name="keep volumes")
        self._report()

    def _adopted_runs(self) -> dict[RunId, Adopted]:
        runs = {}
        for text, found in self._around.runtime.adopted.items():
            run_id = RunId.parse(text)
            if run_id is not None and run_id.uid == self.uid:
                runs[run_id] = found
        return runs

    def _go_on(self, runs: Mapping[RunId, Adopted]) -> None:
        """From the last checkpoint and the runs that there are."""
        clock = self._around.clock
        same_boot = self._checkpoint is not None and self._checkpoint.boot_id == self._around.boot_id
        self.state, adoptions = adopt(self.state, runs, same_boot=same_boot, now=clock.monotonic(), now_s=clock.wall())
        followed = {adoption.run_id for adoption in adoptions}
        self._ended_runs += [str(run_id) for run_id in runs if run_id not in followed]
        if is_terminating(self.pod):
            self._stop_before_start(any(found.ended is None for found in runs.values()))
        for adoption in adoptions:
            c = self.state[adoption.container]
            for event in adoption.events:
                self._step(event)
            if adoption.restart:
                self._perform(Start(c.name, c.run))
            elif adoption.run_id is not None:
                self.incarnation = max(self.incarnation, adoption.run_id.incarnation)
                if c.phase is Phase.RUNNING:
                    self._start_probes(c.name, c.run, startup=not c.started, healthy=c.ready, adopted=True)
                elif c.phase in (Phase.HOOKED, Phase.PRESTOP):  # cut short with the agent: at least once, then
                    self._perform(RunHook(c.name, c.run, POST_START if c.phase is Phase.HOOKED else PRE_STOP))
                self.spawn(self._follow(c.name, c.run, str(adoption.run_id)), name=f"follow {c.name}")

    async def _evict(self, message: str) -> None:
        await self.ref.tell(FailAsked("Evicted", message, self.state.grace_s))

    def _active_deadline(self) -> float:
        spec, clock = self.pod.spec, self._around.clock
        if not spec.HasField("activeDeadlineSeconds"):
            return NEVER
        if self._active_until < NEVER:  # set by an earlier life of this agent; the calendar may have been since then
            return self._active_until
        return clock.monotonic() + self._start_time_s + spec.activeDeadlineSeconds - clock.wall()

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
        ended, self._ended_runs = self._ended_runs, []
        self._around.checkpoints.put(self.uid, self.checkpoint, ended)

    def _perform(self, command: Command) -> None:
        runtime = self._around.runtime
        match command:
            case Start(container, run):
                self.spawn(self._run_container(container, run), name=f"run {container}")
            case Signal(container, run, number):
                runtime.signal(self._run_id(container, run), number)
            case Kill(container, run):
                log.warning("killing a container that does not end", pod=self.name, container=container)
                runtime.kill(self._run_id(container, run))
            case RunHook(container, run, hook):
                self.spawn(self._run_hook(container, run, hook), name=f"{hook} of {container}")
            case StartProbes(container, run, startup):
                self._start_probes(container, run, startup=startup)
            case StopProbes(container, _):
                for task in self._probes.pop(container, []):
                    task.cancel()
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

    # --- running containers

    def _run_id(self, container: str, run: int) -> str:
        return str(RunId(self.uid, container, run, self.incarnation))

    def _spec_of(self, name: str) -> core.Container:
        return self._specs[name]

    async def _run_container(self, container: str, run: int) -> None:
        """Starts a run and stays with it to its end."""
        around, run_id = self._around, self._run_id(container, run)
        runtime, clock = around.runtime, around.clock
        try:
            spec = self._spec_of(container)
            prepared = self._programs[container] = await prepare(around.host, self._home, spec, run, run_id)
            for sentence in prepared.left_out:
                self._note("Warning", "InvalidEnvironmentVariableNames", sentence)
            started = await runtime.run(contained(around.host, self._home, spec, prepared))
        except NotPrepared as error:
            await self.ref.tell(Unprepared(container, run, error.reason, error.message))
            return
        except (StartFailure, UnknownField, OSError) as error:
            code = error.exit_code if isinstance(error, StartFailure) else 128
            message = error.message if isinstance(error, StartFailure) else str(error)
            await self.ref.tell(StartFailed(container, run, clock.wall(), code, message))
            return
        name = container_id(Adopted(started, None))
        await self.ref.tell(Started(container, run, started.at_s, name, started.at_mono_s))
        if run == 0 and not runtime.hides and security_profile(self.pod.spec) != TRUSTED:
            why = "it can read the cluster's keys: this node has neither mount namespaces nor Landlock"
            self._note("Warning", "NotContained", f"Container {container} is not contained as its profile says: {why}")
        await self._follow(container, run, run_id)

    async def _follow(self, container: str, run: int, run_id: str) -> None:
        """Stays with a run to its end."""
        runtime, spec = self._around.runtime, self._spec_of(container)
        cgroups, name = self._around.host.cgroups(), group_name(self._home, container)
        cgroups.divide_cpu(name, limits_of(spec), cpu_request_of(spec))
        check = self.spawn(self._check_listeners(container, run_id), name=f"check listeners of {container}")
        watch = self.spawn(self._watch_memory(container, run_id), name=f"watch the memory of {container}")
        ended = await runtime.wait(run_id, functools.partial(self._say_survivors, container))
        check.cancel()
        watch.cancel()
        self._ended_runs.append(run_id)
        tail = status.last_lines(ended.tail)
        if ended.exit_code and listeners.looks_like_a_clash(tail):
            declared = [port.containerPort for port in self._spec_of(container).ports]
            holder = listeners.holder_of(self.pod_ip, [*declared, *listeners.ports_in(tail)])
            self._note("Warning", "PortInUse", listeners.clash_message(container, self.pod_ip, holder))
        message = self._last_words(container) or (tail if self._falls_back(container, ended) else "")
        await self.ref.tell(
            Exited(
                *(container, run, ended.at_s, ended.exit_code, ended.signal, message, ended.lost),
                reason=self._why(container, run_id, ended),
                used=ended.used,
                at_mono_s=ended.at_mono_s,
            )
        )

    def _say_survivors(self, container: str, pids: Sequence[int]) -> None:
        which = ", ".join(map(str, pids))
        message = (
            f"Container {container} was killed, but of its processes {which} did not die yet (uninterruptible wait)"
        )
        self._note("Warning", "FailedKillPod", message)

    def _why(self, container: str, run_id: str, ended: Ended) -> str:
        """OOMKilled, if that is how it ended; its control groups are of no use any more."""
        cgroups, name = self._around.host.cgroups(), group_name(self._home, container)
        out_of_memory = run_id in self._over_memory or (ended.exit_code == KILLED and cgroups.was_out_of_memory(name))
        self._over_memory.discard(run_id)
        cgroups.remove(name)
        return "OOMKilled" if out_of_memory else ""

    async def _watch_memory(self, container: str, run_id: str) -> None:
        """Where no control group does it: ends a container that holds more memory than it may."""
        limits = limits_of(self._spec_of(container))
        if self._around.host.cgroups().enforces or limits == Limits():
            return
        if limits.cpu_milli and self.state[container].run == 0:
            what = "the limit of cpu is not kept, and memory is looked at every half second"
            self._note(
                "Warning", "LimitsNotEnforced", f"Container {container}: {what}: this node has no control groups"
            )
        while limits.memory_bytes:
            await self._around.clock.sleep(MEMORY_LOOK_S)
            pids = self._processes_of(container, run_id)
            # The first sum is cheap and counts what forked processes share once for each of them: it only acquits.
            if resident_bytes(pids) > limits.memory_bytes and proportional_bytes(pids) > limits.memory_bytes:
                self._over_memory.add(run_id)
                self._around.runtime.kill(run_id)
                return

    def _last_words(self, container: str) -> str:
        """What the container left in its termination log; taken away, so that the next run begins with none."""
        host, file = self._around.host, termination_log(self._home, self._spec_of(container))
        uid, _ = owner_of(host, self.pod) or (host.uid, host.gid)
        return take_text(self.pod_dir, file, uid, TERMINATION_MESSAGE_BYTES).decode(errors="replace")

    def _falls_back(self, container: str, ended: Ended) -> bool:
        return ended.exit_code != 0 and self._spec_of(container).terminationMessagePolicy != "File"

    async def _check_listeners(self, container: str, run_id: str) -> None:
        await self._around.clock.sleep(self._around.listener_check_s)
        pid = self._around.runtime.pid_of(run_id)
        declared = [port.containerPort for port in self._spec_of(container).ports]
        if pid:
            found = listeners.listeners_of(pid)
            for warning in listeners.warnings_about(found, declared, container, self.pod_ip):
                self._note("Warning", "ListensElsewhere", warning)

    # --- hooks and probes

    def _target(self, name: str) -> prober.Target:
        return prober.Target(self.pod_ip, self._spec_of(name), lambda command: self.exec(name, command))

    async def _run_hook(self, container: str, run: int, hook: str) -> None:
        lifecycle = self._spec_of(container).lifecycle
        handler = lifecycle.postStart if hook == POST_START else lifecycle.preStop
        error = await hooks.run_hook(handler, self._target(container), self._around.clock)
        await self.ref.tell(HookDone(container, run, hook, error))

    def _start_probes(
        self, name: str, run: int, *, startup: bool, healthy: bool | None = None, adopted: bool = False
    ) -> None:
        """`healthy`: what the readiness probe has said to an earlier life of this agent, which had the container."""
        container, clock = self._spec_of(name), self._around.clock
        started_mono_s = self.state[name].started_mono_s
        ran_s = 0.0 if started_mono_s is None else clock.monotonic() - started_mono_s
        probes = [(STARTUP, container.startupProbe)] if startup else []
        if not startup and container.HasField("readinessProbe"):
            probes.append((READINESS, container.readinessProbe))
        elif not startup and self.state[name].probes_readiness and not healthy:
            by_port = core.Probe(periodSeconds=1)
            by_port.handler.tcpSocket.port.intVal = status.port_to_be_ready(container)
            probes.append((READINESS, by_port))
        if not startup and container.HasField("livenessProbe"):
            probes.append((LIVENESS, container.livenessProbe))
        tasks = self._probes.setdefault(name, [])
        for kind, probe in probes:
            known = healthy if kind == READINESS else None
            is_well = adopted and (kind == LIVENESS or bool(known))
            spread = self._around.rng.random() if is_well else 0.0
            delay_s = first_delay_s(ProbeTimes.of(probe), ran_s=ran_s, spread=spread)
            watching = self._watch_probe(name, run, kind, probe, delay_s, known)
            tasks.append(self.spawn(watching, name=f"{kind} probe of {name}"))

    async def _watch_probe(
        self, container: str, run: int, kind: str, probe: core.Probe, delay_s: float, healthy: bool | None
    ) -> None:
        by_port = kind == READINESS and not self._spec_of(container).HasField("readinessProbe")
        grace_s = (
            float(probe.terminationGracePeriodSeconds) if probe.HasField("terminationGracePeriodSeconds") else None
        )
        done = asyncio.Event()
        hint_at = self._around.clock.monotonic() + self._around.listener_check_s

        async def on_finding(finding: prober.Finding) -> None:
            nonlocal hint_at
            if by_port and not finding.healthy and self._around.clock.monotonic() >= hint_at:
                hint_at = NEVER
                port = status.port_to_be_ready(self._spec_of(container))
                hint = "it declares this port and has no readiness probe, so it is ready when the port listens"
                self._note("Warning", "Unhealthy", f"Container {container}: {finding.result.message}; {hint}")
                log.info("a container does not listen yet", pod=self.name, container=container, port=port)
            if finding.result.outcome is prober.Outcome.FAILURE and not by_port:
                title = kind.capitalize()
                self._note("Warning", "Unhealthy", f"{title} probe failed: {finding.result.message}")
            if finding.changed:
                await self.ref.tell(ProbeChanged(container, run, kind, finding.healthy, grace_s))
                if by_port and finding.healthy:
                    done.set()  # it listens: that is all that was to be known

        around = self._around
        await prober.watch(
            kind,
            probe,
            self._target(container),
            on_finding,
            clock=around.clock,
            rng=around.rng,
            eager=around.eager_readiness or by_port,
            delay_s=delay_s,
            healthy=healthy,
            done=done,
        )


def stop_of(pod: core.Pod) -> StopAsked:
    """The wish that a deleted pod expresses."""
    return StopAsked(float(pod.metadata.deletionGracePeriodSeconds), remove=True)
