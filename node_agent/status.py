"""What a pod's status says: from the lifecycle's state to Kubernetes' words. Pure.

The phase follows pkg/kubelet/kubelet_pods.go: any container that waits and never ran: Pending; any that runs: Running;
all stopped: by restart policy and exit codes. A container in a crash loop counts as stopped, not as waiting. Succeeded
and Failed are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cluster.api.conditions import set_condition
from cluster.api.fit import Rejection
from cluster.api.meta import from_time, to_time
from cluster.api.pods import FAILED, PENDING, RUNNING, SUCCEEDED, qos_class, runs_on_host
from cluster.pb.v1 import core_pb2 as core
from node_agent.pod_order import is_initialized, is_through
from node_agent.pod_state import ALIVE, ContainerState, Phase, PodState, Role, Termination
from node_agent.restart_policy import ALWAYS, NEVER, CrashBackoff
from node_agent.runtime.interface import Used

MESSAGE_BYTES, MESSAGE_LINES = 2048, 80
"""How much of a failed container's output its status keeps."""


def initial_state(
    pod: core.Pod, backoff: CrashBackoff, *, readiness_by_port: bool = False, has_images: bool = False
) -> PodState:
    """The lifecycle's state of a pod that this agent sees for the first time.

    For a pod that ran under an earlier life of this agent, its containers are where they were last reported: what is
    said to run, or to have ended, is RUNNING (`node_agent.adoption` sees whether it does). `readiness_by_port`: without
    a readiness probe a container is ready as soon as the first port that it declares listens. `has_images`: the node
    can start what needs an image.
    """
    known = {status.name: status for status in (*pod.status.initContainerStatuses, *pod.status.containerStatuses)}
    return PodState(
        uid=pod.metadata.uid,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        policy=pod.spec.restartPolicy or ALWAYS,
        grace_s=float(pod.spec.terminationGracePeriodSeconds)
        if pod.spec.HasField("terminationGracePeriodSeconds")
        else 30.0,
        backoff=backoff,
        containers=tuple(
            _initial(
                container, role_of(container, is_init=index < len(pod.spec.initContainers)), known, by_port, has_images
            )
            for index, container in enumerate([*pod.spec.initContainers, *pod.spec.containers])
            for by_port in [readiness_by_port and index >= len(pod.spec.initContainers)]
        ),
    )


def role_of(container: core.Container, *, is_init: bool) -> Role:
    """What a container is to its pod."""
    if not is_init:
        return Role.MAIN
    return Role.SIDECAR if container.restartPolicy == ALWAYS else Role.INIT


def port_to_be_ready(container: core.Container) -> int:
    """The port whose listening makes a container ready, where no probe says it; 0 if it declares none."""
    return next((port.containerPort for port in container.ports if port.protocol in ("", "TCP")), 0)


def _initial(
    container: core.Container,
    role: Role,
    statuses: Mapping[str, core.ContainerStatus],
    by_port: bool,
    has_images: bool,
) -> ContainerState:
    known = statuses.get(container.name)
    state = ContainerState(
        container.name,
        role=role,
        probes_readiness=container.HasField("readinessProbe") or (by_port and port_to_be_ready(container) > 0),
        probes_startup=container.HasField("startupProbe"),
        post_start=container.lifecycle.HasField("postStart"),
        pre_stop=container.lifecycle.HasField("preStop"),
        depends_on=tuple(container.dependsOn),
    )
    if not (has_images or runs_on_host(container)):
        message = (
            f'image "{container.image}" needs a runtime for images, which this node does not have; leave "image" out,'
            ' or set it to "host", to run the command from the machine\'s own files'
        )
        return replace(state, waiting=("ErrImageNeverPull", message), blocked=True)
    if known is None:
        return state
    last = _termination(known.lastState.terminated) if known.lastState.HasField("terminated") else None
    run, phase, started_at_s = known.restartCount, Phase.WAITING, 0.0
    ended: Termination | None = None
    if known.state.HasField("running"):
        phase, started_at_s = Phase.RUNNING, from_time(known.state.running.startedAt)
    elif known.state.HasField("terminated"):
        phase, ended = Phase.RUNNING, _termination(known.state.terminated)
        started_at_s = ended.started_at_s
    elif last is not None:
        run += 1  # it was waiting to run again
    return replace(
        state,
        run=run,
        phase=phase,
        started=phase is Phase.RUNNING and known.started,
        started_at_s=started_at_s,
        container_id=known.containerID if phase is Phase.RUNNING else "",
        last=last,
        ended=ended,
    )


def phase_of(state: PodState) -> str:
    """The pod's phase."""
    mains = [c for c in state.containers if c.role is Role.MAIN]
    if state.failed is not None and all(c.phase is Phase.ENDED for c in state.containers):
        return FAILED
    if any(c.role is Role.INIT and c.phase is Phase.ENDED and c.ended and not is_through(c) for c in state.containers):
        return FAILED
    if not is_initialized(state) and all(c.last is None and c.phase not in ALIVE for c in mains):
        return PENDING
    if any(_waits(c) for c in mains):
        return PENDING
    if any(c.phase in ALIVE for c in mains):
        return RUNNING
    if state.policy == ALWAYS or any(c.phase is not Phase.ENDED for c in mains):
        return RUNNING
    if all(c.ended is not None and c.ended.exit_code == 0 for c in mains):
        return SUCCEEDED
    return FAILED if state.policy == NEVER else RUNNING


def _waits(c: ContainerState) -> bool:
    """It waits and never ran."""
    if c.phase is Phase.ENDED:
        return c.ended is None
    return c.phase in (Phase.WAITING, Phase.STARTING, Phase.UNPREPARED, Phase.HOOKED) and c.last is None


def make_status(
    pod: core.Pod,
    state: PodState,
    *,
    pod_ip: str,
    host_ip: str,
    start_time_s: float,
    now_s: float,
    rejection: Rejection | None = None,
) -> core.PodStatus:
    """The status to report. `pod` is the pod as last reported: its conditions keep their transition times.

    Times are in seconds since 1970.
    """
    status = core.PodStatus()
    status.conditions.extend(pod.status.conditions)
    final = pod.status.phase in (SUCCEEDED, FAILED)
    status.phase = pod.status.phase if final else phase_of(state)
    if rejection is not None:
        status.phase, status.reason, status.message = FAILED, rejection.reason, rejection.message
    elif state.failed is not None:
        status.reason, status.message = state.failed
    status.hostIP = host_ip
    if pod_ip:
        status.podIP = pod_ip
        status.podIPs.add(ip=pod_ip)
    status.startTime.CopyFrom(to_time(start_time_s))
    status.qosClass = qos_class(pod)
    for container, c in zip([*pod.spec.initContainers, *pod.spec.containers], state.containers, strict=True):
        into = status.containerStatuses if c.role is Role.MAIN else status.initContainerStatuses
        _fill(into.add(), container, c)
    _set_conditions(status, state, now_s)
    return status


def waits_for(c: ContainerState) -> tuple[str, str]:
    """The reason why a container that is to run does not run, in Kubernetes' words, and more of it or an empty text."""
    return ("ContainerCreating", "") if c.phase in (Phase.STARTING, Phase.HOOKED) else c.waiting


def _fill(status: core.ContainerStatus, container: core.Container, c: ContainerState) -> None:
    status.name = c.name
    status.image, status.imageID = container.image, ""  # with lastState, never left out in Kubernetes' JSON
    status.lastState.SetInParent()
    ready = is_through(c) if c.role is Role.INIT else c.ready
    status.ready, status.started = ready, c.phase in ALIVE and (c.started or not c.probes_startup)
    status.restartCount = c.newest_run  # the restart that it waits for has not happened
    # Until it runs (again), it is still called what it was called last.
    if name := c.container_id or (c.last.container_id if c.last is not None else ""):
        status.containerID = name
    if c.last is not None:
        _fill_termination(status.lastState.terminated, c.last)
    if c.phase in ALIVE and c.phase is not Phase.HOOKED:
        status.state.running.startedAt.CopyFrom(to_time(c.started_at_s))
    elif c.phase is Phase.ENDED and c.ended is not None:
        _fill_termination(status.state.terminated, c.ended)
    else:
        status.state.waiting.reason, message = waits_for(c)
        if message:
            status.state.waiting.message = message


def _fill_termination(message: core.ContainerStateTerminated, end: Termination) -> None:
    message.exitCode = end.exit_code
    if end.signal:
        message.signal = end.signal
    message.reason = end.reason
    if end.message:
        message.message = end.message
    message.startedAt.CopyFrom(to_time(end.started_at_s))
    message.finishedAt.CopyFrom(to_time(end.finished_at_s))
    if end.container_id:
        message.containerID = end.container_id
    if end.used is not None:
        message.usage.cpuUserMilliseconds = end.used.user_ms
        message.usage.cpuSystemMilliseconds = end.used.system_ms
        message.usage.maxRssBytes = end.used.max_rss_bytes


def _termination(message: core.ContainerStateTerminated) -> Termination:
    usage = message.usage
    return Termination(
        message.exitCode,
        message.signal,
        message.reason,
        message.message,
        from_time(message.startedAt),
        from_time(message.finishedAt),
        message.containerID,
        Used(usage.cpuUserMilliseconds, usage.cpuSystemMilliseconds, usage.maxRssBytes)
        if message.HasField("usage")
        else None,
    )


def _set_conditions(status: core.PodStatus, state: PodState, now_s: float) -> None:
    set_condition(status, "PodScheduled", "True", now_s)
    waiting = [c.name for c in state.containers if c.role is not Role.MAIN and not is_through(c)]
    if waiting:
        message = f"containers with incomplete status: [{' '.join(waiting)}]"
        set_condition(status, "Initialized", "False", now_s, "ContainersNotInitialized", message)
    else:
        set_condition(status, "Initialized", "True", now_s)
    unready = [c.name for c in state.containers if not c.ready and c.role is not Role.INIT]
    if status.phase in (SUCCEEDED, FAILED):
        reason = "PodCompleted" if status.phase == SUCCEEDED else "PodFailed"
        value, message = "False", ""
    elif unready:
        value, reason, message = "False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    else:
        value, reason, message = "True", "", ""
    for type in ("ContainersReady", "Ready"):
        set_condition(status, type, value, now_s, reason, message)


def last_lines(tail: str) -> str:
    """The end of an output, cut to what a status may hold, beginning with a whole line if there is one."""
    lines = tail.rstrip("\n").splitlines(keepends=True)[-MESSAGE_LINES:]
    text = "".join(lines)
    if len(text.encode()) > MESSAGE_BYTES:
        text = text.encode()[-MESSAGE_BYTES:].decode(errors="ignore")
        head, newline, rest = text.partition("\n")
        text = rest if newline else head
    return text


def start_time_of(pod: core.Pod) -> float:
    """When the pod was first taken up by a node agent, in seconds since 1970; 0 if it was not yet."""
    return from_time(pod.status.startTime) if pod.status.HasField("startTime") else 0.0
