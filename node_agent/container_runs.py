"""The runs of a pod's containers: started, and stayed with to their end; and the ends of what runs in their place.

What happens to a run comes back to the lifecycle as an event: Started, or why not; Exited, with all that can be learned
of how it ended. Meanwhile it is watched for what nobody else tells: that it holds more memory than it may, where no
control group sees to that; that it listens where nobody will look for it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence

from cluster.actor.actor import ActorStopped
from cluster.api.pods import TRUSTED, security_profile
from node_agent import listeners, status
from node_agent.adoption import container_id
from node_agent.cgroup_files import pids_in
from node_agent.environment import UnknownField
from node_agent.host import cpu_request_of, group_name, limits_of, owner_of, termination_log
from node_agent.ownership import take_text
from node_agent.pod_state import Exited, StandInEnded, Started, StartFailed, Unprepared
from node_agent.preparation import NotPrepared, Prepared, contained, prepare
from node_agent.process_tree import proportional_bytes, resident_bytes
from node_agent.run_ids import CommandId
from node_agent.runtime.interface import Adopted, Ended, StartFailure
from node_agent.surroundings import PodHands

KILLED = 137
"""Exit code of what SIGKILL has ended; also of a shell whose command it was."""
MEMORY_LOOK_S = 0.5
TERMINATION_MESSAGE_BYTES = 4096
"""As much of a termination log is read, as in Kubernetes."""


class ContainerRuns:
    """Of one pod. `on_ended(run_id)` is called before the lifecycle hears of the end of a container's run."""

    def __init__(self, hands: PodHands, on_ended: Callable[[str], None]) -> None:
        self._hands, self._on_ended = hands, on_ended
        self._around, self._home = hands.around, hands.home
        self.programs: dict[str, Prepared] = {}
        """By container: what it was started as last."""
        self._over_memory: set[str] = set()  # runs that were ended because they held too much

    async def start(self, container: str, run: int) -> None:
        """Starts a run and stays with it to its end."""
        around, run_id = self._around, self._hands.run_id(container, run)
        runtime, clock = around.runtime, around.clock
        try:
            spec = self._hands.specs[container]
            prepared = self.programs[container] = await prepare(around.host, self._home, spec, run, run_id)
            for sentence in prepared.left_out:
                self._hands.note("Warning", "InvalidEnvironmentVariableNames", sentence)
            started = await runtime.run(contained(around.host, self._home, spec, prepared))
        except NotPrepared as error:
            await self._hands.tell(Unprepared(container, run, error.reason, error.message))
            return
        except (StartFailure, UnknownField, OSError) as error:
            code = error.exit_code if isinstance(error, StartFailure) else 128
            message = error.message if isinstance(error, StartFailure) else str(error)
            await self._hands.tell(StartFailed(container, run, clock.wall(), code, message))
            return
        name = container_id(Adopted(started, None))
        await self._hands.tell(Started(container, run, started.at_s, name, started.at_mono_s))
        if run == 0 and limits_of(spec).cpu_milli and not around.host.cgroups().enforces:
            what = "the limit of cpu is not kept, and memory is looked at every half second"
            why = "this node has no control groups"
            self._hands.note("Warning", "LimitsNotEnforced", f"Container {container}: {what}: {why}")
        if run == 0 and not runtime.hides and security_profile(self._home.pod.spec) != TRUSTED:
            why = "it can read the cluster's keys: this node has neither mount namespaces nor Landlock"
            self._hands.note(
                "Warning", "NotContained", f"Container {container} is not contained as its profile says: {why}"
            )
        await self.follow(container, run, run_id)

    async def follow(self, container: str, run: int, run_id: str) -> None:
        """Stays with a run to its end."""
        runtime, spec = self._around.runtime, self._hands.specs[container]
        cgroups, name = self._around.host.cgroups(), group_name(self._home, container)
        cgroups.divide_cpu(name, limits_of(spec), cpu_request_of(spec))
        check = self._hands.spawn(self._check_listeners(container, run_id), name=f"check listeners of {container}")
        watch = self._hands.spawn(self._watch_memory(container, name, run_id), name=f"watch the memory of {container}")
        ended = await runtime.wait(run_id, functools.partial(self._say_survivors, container))
        check.cancel()
        watch.cancel()
        self._on_ended(run_id)
        tail = status.last_lines(ended.tail)
        if ended.exit_code and listeners.looks_like_a_clash(tail):
            declared = [port.containerPort for port in self._hands.specs[container].ports]
            holder = listeners.holder_of(self._home.pod_ip, [*declared, *listeners.ports_in(tail)])
            self._hands.note("Warning", "PortInUse", listeners.clash_message(container, self._home.pod_ip, holder))
        message = self._last_words(container) or (tail if self._falls_back(container, ended) else "")
        await self._hands.tell(
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
        self._hands.note("Warning", "FailedKillPod", message)

    def _why(self, container: str, run_id: str, ended: Ended) -> str:
        """OOMKilled, if that is how it ended; its control groups are of no use any more."""
        cgroups, name = self._around.host.cgroups(), group_name(self._home, container)
        out_of_memory = run_id in self._over_memory or (ended.exit_code == KILLED and cgroups.was_out_of_memory(name))
        self._over_memory.discard(run_id)
        cgroups.remove(name)
        return "OOMKilled" if out_of_memory else ""

    async def _watch_memory(self, container: str, group: str, run_id: str) -> None:
        """Where no control group does it: ends a run that holds more memory than its container may."""
        limits = limits_of(self._hands.specs[container])
        if self._around.host.cgroups().enforces:
            return
        while limits.memory_bytes:
            await self._around.clock.sleep(MEMORY_LOOK_S)
            pids = self.processes_of(group, run_id)
            # The first sum is cheap and counts what forked processes share once for each of them: it only acquits.
            if resident_bytes(pids) > limits.memory_bytes and proportional_bytes(pids) > limits.memory_bytes:
                self._over_memory.add(run_id)
                self._around.runtime.kill(run_id)
                return

    def _last_words(self, container: str) -> str:
        """What the container left in its termination log; taken away, so that the next run begins with none."""
        host, file = self._around.host, termination_log(self._home, self._hands.specs[container])
        uid, _ = owner_of(host, self._home.pod) or (host.uid, host.gid)
        return take_text(self._home.dir, file, uid, TERMINATION_MESSAGE_BYTES).decode(errors="replace")

    def _falls_back(self, container: str, ended: Ended) -> bool:
        return ended.exit_code != 0 and self._hands.specs[container].terminationMessagePolicy != "File"

    async def _check_listeners(self, container: str, run_id: str) -> None:
        await self._around.clock.sleep(self._around.listener_check_s)
        pid = self._around.runtime.pid_of(run_id)
        declared = [port.containerPort for port in self._hands.specs[container].ports]
        if pid:
            found = listeners.listeners_of(pid)
            for warning in listeners.warnings_about(found, declared, container, self._home.pod_ip):
                self._hands.note("Warning", "ListensElsewhere", warning)

    async def stay_with(self, command_id: CommandId) -> None:
        """To the end of what runs in the place of a container; nothing of it is left then."""
        runtime, cgroups = self._around.runtime, self._around.host.cgroups()
        container, run_id = command_id.container, str(command_id)
        spec = self._hands.specs[container]
        cgroups.divide_cpu(run_id, limits_of(spec), cpu_request_of(spec))
        watch = self._hands.spawn(self._watch_memory(container, run_id, run_id), name=f"watch the memory of {run_id}")
        try:
            await runtime.wait(run_id, functools.partial(self._say_survivors, container))
        except KeyError:
            pass  # it never ran
        watch.cancel()
        self._over_memory.discard(run_id)
        cgroups.remove(run_id)
        runtime.forget(run_id)
        with contextlib.suppress(ActorStopped):  # the worker has gone with its agent: the next one asks the runtime
            await self._hands.tell(StandInEnded(run_id))

    def processes_of(self, group: str, run_id: str) -> list[int]:
        """Of a run, with the name of its control groups."""
        groups = self._around.host.cgroups().groups_of(group)
        return list(dict.fromkeys([*pids_in(groups), *self._around.runtime.pids_of(run_id)]))
