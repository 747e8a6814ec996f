"""What a pod's status says: from the lifecycle's state to Kubernetes' words. Pure.

The phase follows pkg/kubelet/kubelet_pods.go: any container that waits and never ran: Pending; any that runs: Running;
all stopped: by restart policy and exit codes. A container in a crash loop counts as stopped, not as waiting. Succeeded
and Failed are final.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.api.conditions import set_condition
from cluster.api.meta import from_time, to_time
from cluster.api.pods import FAILED, PENDING, RUNNING, SUCCEEDED, qos_class, runs_on_host
from cluster.pb.v1 import core_pb2 as core
from node_agent.fit import Rejection
from node_agent.pod_lifecycle import ContainerState, Phase, PodState, Termination
from node_agent.restart_policy import ALWAYS, NEVER, CrashBackoff

MESSAGE_BYTES, MESSAGE_LINES = 2048, 80
"""How much of a failed container's output its status keeps."""


def initial_state(pod: core.Pod, backoff: CrashBackoff) -> PodState:
    """The lifecycle's state of a pod that this agent sees for the first time.

    For a pod that ran under an earlier life of this agent, its containers are where they were last reported: what is
    said to run, or to have ended, is RUNNING (`node_agent.adoption` sees whether it does).
    """
    known = {status.name: status for status in pod.status.containerStatuses}
    return PodState(
        uid=pod.metadata.uid,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        policy=pod.spec.restartPolicy or ALWAYS,
        grace_s=float(pod.spec.terminationGracePeriodSeconds)
        if pod.spec.HasField("terminationGracePeriodSeconds")
        else 30.0,
        backoff=backoff,
        containers=tuple(_initial(container, known.get(container.name)) for container in pod.spec.containers),
    )


def _initial(container: core.Container, known: core.ContainerStatus | None) -> ContainerState:
    state = ContainerState(container.name, probes_readiness=container.HasField("readinessProbe"))
    if not runs_on_host(container):
        message = (
            f'image "{container.image}" needs a runtime for images, which this node does not have; leave "image" out,'
            ' or set it to "host", to run the command from the machine\'s own files'
        )
        return ContainerState(container.name, waiting=("ErrImageNeverPull", message), blocked=True)
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
    return ContainerState(
        container.name,
        run=run,
        phase=phase,
        probes_readiness=state.probes_readiness,
        started_at_s=started_at_s,
        container_id=known.containerID,
        last=last,
        ended=ended,
    )


def phase_of(policy: str, containers: Iterable[ContainerState]) -> str:
    """The pod's phase."""
    containers = list(containers)
    if any(_waits(c) for c in containers):
        return PENDING
    if any(c.phase in (Phase.RUNNING, Phase.STOPPING) for c in containers):
        return RUNNING
    if policy == ALWAYS or any(c.phase is not Phase.ENDED for c in containers):
        return RUNNING
    if all(c.ended is not None and c.ended.exit_code == 0 for c in containers):
        return SUCCEEDED
    return FAILED if policy == NEVER else RUNNING


def _waits(c: ContainerState) -> bool:
    """It waits and never ran."""
    if c.phase is Phase.ENDED:
        return c.ended is None
    return c.phase in (Phase.WAITING, Phase.STARTING) and c.last is None


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
    status.phase = pod.status.phase if final else phase_of(state.policy, state.containers)
    if rejection is not None:
        status.phase, status.reason, status.message = FAILED, rejection.reason, rejection.message
    status.hostIP = host_ip
    if pod_ip:
        status.podIP = pod_ip
        status.podIPs.add(ip=pod_ip)
    status.startTime.CopyFrom(to_time(start_time_s))
    status.qosClass = qos_class(pod)
    for container, c in zip(pod.spec.containers, state.containers, strict=True):
        _fill(status.containerStatuses.add(), container, c)
    _set_conditions(status, state, now_s)
    return status


def _fill(status: core.ContainerStatus, container: core.Container, c: ContainerState) -> None:
    status.name = c.name
    status.image, status.imageID = container.image, ""  # with lastState, never left out in Kubernetes' JSON
    status.lastState.SetInParent()
    status.ready, status.started = c.ready, c.phase in (Phase.RUNNING, Phase.STOPPING)
    status.restartCount = c.run
    if c.container_id:
        status.containerID = c.container_id
    if c.last is not None:
        _fill_termination(status.lastState.terminated, c.last)
    if c.phase in (Phase.RUNNING, Phase.STOPPING):
        status.state.running.startedAt.CopyFrom(to_time(c.started_at_s))
    elif c.phase is Phase.ENDED and c.ended is not None:
        _fill_termination(status.state.terminated, c.ended)
    elif c.phase is Phase.BACKOFF or c.blocked:
        status.state.waiting.reason, status.state.waiting.message = c.waiting
        if c.phase is Phase.BACKOFF:
            status.restartCount = c.run - 1  # the restart that it waits for has not happened
    else:
        status.state.waiting.reason = "ContainerCreating"


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


def _termination(message: core.ContainerStateTerminated) -> Termination:
    return Termination(
        message.exitCode,
        message.signal,
        message.reason,
        message.message,
        from_time(message.startedAt),
        from_time(message.finishedAt),
        message.containerID,
    )


def _set_conditions(status: core.PodStatus, state: PodState, now_s: float) -> None:
    set_condition(status, "PodScheduled", "True", now_s)
    set_condition(status, "Initialized", "True", now_s)
    unready = [c.name for c in state.containers if not c.ready]
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
