"""What a table of objects shows: Kubernetes' columns, and how each cell is computed.

Pure: an object and the time in, text out. The terminal (`cluster.cli.printers`) and Kubernetes' REST API
(`cluster.kubernetes.tables`) show the same. Text that comes from objects is as it is there: who writes to a terminal
escapes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from cluster.api.conditions import get_condition, is_node_ready, is_pod_ready
from cluster.api.events import first_seen, last_seen, times
from cluster.api.faults import fault_target, fault_words
from cluster.api.hollow import is_hollow
from cluster.api.kinds import AnyObject
from cluster.api.meta import from_time, is_terminating
from cluster.api.pods import SCHEDULING_GATED, is_finished
from cluster.api.times import format_time
from cluster.pb.v1 import core_pb2 as core

Columns: TypeAlias = Sequence[tuple[str, Callable[[Any, float], str]]]
"""Headings, and what gives the cell of an object at a time (seconds since 1970)."""

Cell: TypeAlias = Callable[[Any, float], Any]
"""What gives the cell of an object at a time; any of JSON's values."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column with all that Kubernetes' Table says of one."""

    name: str
    """The heading: Last Seen. A terminal shows it in capitals."""
    cell: Cell
    """Of an object; of a kind that users define, of its JSON."""
    priority: int = 0
    """1 or more: shown only when asked for more (-o wide)."""
    ages: bool = False
    """The cell is another one a while later."""
    type: str = "string"
    format: str = ""
    description: str = ""
    moment: Callable[[Any], Any] | None = None
    """What an age is reckoned from, read from an object once: `cell` is then given that, and not the object."""


NONE = "<none>"
NOT_GIVEN = "N/A"


def age(seconds: float) -> str:
    """A duration as kubectl writes it: 5s, 3m20s, 2h, 4d5h, 3y20d."""
    total = int(max(0.0, seconds))
    if total < 120:
        return f"{total}s"
    minutes, rest = divmod(total, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 2 * 365:
        return f"{days}d"
    years = days // 365
    return f"{years}y{days % 365}d" if years < 8 and days % 365 else f"{years}y"


def pod_status(pod: core.Pod) -> str:
    """The STATUS column: the phase, or what says more than it."""
    if is_terminating(pod):
        return "Terminating"
    told = pod.status
    status = told.reason or told.phase or "Pending"
    scheduled = get_condition(told, "PodScheduled")
    if scheduled is not None and scheduled.reason == SCHEDULING_GATED:
        status = SCHEDULING_GATED
    if told.initContainerStatuses and (initializing := _init_status(pod)):
        return initializing
    runs = False
    for container in told.containerStatuses:
        state = container.state
        if state.HasField("waiting") and state.waiting.reason:
            return state.waiting.reason
        if state.HasField("terminated"):
            status = _how_it_ended(state.terminated)
        runs |= state.HasField("running")
    if status == "Completed" and runs:  # one container has done its work, another goes on
        return "Running" if is_pod_ready(pod) else "NotReady"
    return status


def _how_it_ended(ended: core.ContainerStateTerminated) -> str:
    return ended.reason or (f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exitCode}")


def _init_status(pod: core.Pod) -> str:
    """While init containers are at work: "Init:0/2", or what keeps one of them; empty once they are through."""
    sidecars = _sidecars(pod)
    for done, container in enumerate(pod.status.initContainerStatuses):
        state = container.state
        if state.HasField("terminated") and state.terminated.exitCode == 0:
            continue
        if container.name in sidecars and container.started:
            continue
        if pod.status.reason or (is_finished(pod) and container.name in sidecars):
            return ""
        if state.HasField("terminated"):
            ended = state.terminated
            return (
                f"Init:{ended.reason or (f'Signal:{ended.signal}' if ended.signal else f'ExitCode:{ended.exitCode}')}"
            )
        if state.HasField("waiting") and state.waiting.reason not in ("", "PodInitializing", "ContainerCreating"):
            return f"Init:{state.waiting.reason}"
        if pod.status.phase == "Pending":
            return f"Init:{done}/{len(pod.spec.initContainers)}"
        return ""
    return ""


def pod_reason(pod: core.Pod) -> str:
    """Why the pod is not running, in a sentence; empty if it is."""
    scheduled = get_condition(pod.status, "PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return str(scheduled.message)
    for container in (*pod.status.initContainerStatuses, *pod.status.containerStatuses):
        if container.state.HasField("waiting") and container.state.waiting.message:
            return str(container.state.waiting.message)
    return str(pod.status.message)


def _sidecars(pod: core.Pod) -> set[str]:
    before = pod.spec.initContainers
    return {each.name for each in before if each.restartPolicy == "Always"} if before else set()


def restarts_of(pod: core.Pod, now_s: float) -> str:
    """As kubectl counts, and when the last run ended: "3 (20s ago)"."""
    counted = _counted(pod)
    restarts = sum([c.restartCount for c in counted])
    if not restarts:
        return "0"
    ends = [from_time(c.lastState.terminated.finishedAt) for c in counted if c.lastState.HasField("terminated")]
    last_s = max(ends, default=0.0)
    return f"{restarts} ({age(now_s - last_s)} ago)" if last_s else str(restarts)


def _counted(pod: core.Pod) -> Sequence[core.ContainerStatus]:
    """Whose restarts count: init containers while they are at work, afterwards sidecars and all others."""
    if not pod.spec.initContainers:
        return pod.status.containerStatuses
    initialized = get_condition(pod.status, "Initialized")
    if initialized is None or initialized.status != "True":
        return pod.status.initContainerStatuses
    sidecars = _sidecars(pod)
    return [*pod.status.containerStatuses, *(c for c in pod.status.initContainerStatuses if c.name in sidecars)]


def _ready_count(pod: core.Pod) -> str:
    """Containers and sidecars that are ready, of all of them."""
    ready = sum([c.ready for c in pod.status.containerStatuses])
    sidecars = _sidecars(pod)
    if sidecars:
        ready += sum(c.ready for c in pod.status.initContainerStatuses if c.name in sidecars)
    return f"{ready}/{len(pod.spec.containers) + len(sidecars)}"


def age_of(obj: AnyObject, now_s: float) -> str:
    if not obj.metadata.HasField("creationTimestamp"):
        return "<unknown>"
    return age(now_s - from_time(obj.metadata.creationTimestamp))


def _node_status(node: core.Node) -> str:
    words = ["Ready" if is_node_ready(node) else "NotReady"]
    if node.spec.unschedulable:
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_address(node: core.Node) -> str:
    return next((a.address for a in node.status.addresses if a.type == "InternalIP"), NONE)


def labels_text(labels: Any) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) or NONE


def _service_ports(service: core.Service) -> str:
    """As kubectl: "80/TCP", and with a node port "80:30080/TCP"."""
    numbers = (
        (port, f"{port.port}:{port.nodePort}" if port.nodePort else f"{port.port}") for port in service.spec.ports
    )
    return ",".join(f"{number}/{port.protocol}" for port, number in numbers) or NONE


def endpoints_text(endpoints: core.Endpoints, limit: int = 3) -> str:
    """The first ready addresses with their ports."""
    pairs = [
        f"{address.ip}:{port.port}"
        for subset in endpoints.subsets
        for port in subset.ports
        for address in subset.addresses
    ]
    more = f" + {len(pairs) - limit} more..." if len(pairs) > limit else ""
    return (",".join(pairs[:limit]) + more) if pairs else NONE


def int_or_string(message: Any, field: str) -> str:
    """A field such as maxUnavailable: 1, "25%", or N/A."""
    if not message.HasField(field):
        return NOT_GIVEN
    value = getattr(message, field)
    return value.strVal if value.type == 1 else str(value.intVal)


def _event_object(event: core.Event) -> str:
    return f"{event.involvedObject.kind.lower()}/{event.involvedObject.name}"


def _event_age(event: core.Event, now_s: float) -> str:
    last, count = age(now_s - last_seen(event)), times(event)
    return f"{last} (x{count} over {age(now_s - first_seen(event))})" if count > 1 else last


def _event_source(event: core.Event) -> str:
    component, host = event.source.component or event.reportingComponent, event.source.host or event.reportingInstance
    return ", ".join(part for part in (component, host) if part)


_NAME: tuple[str, Callable[[Any, float], str]] = ("NAME", lambda o, _: o.metadata.name)
_AGE: tuple[str, Callable[[Any, float], str]] = ("AGE", age_of)

COLUMNS: dict[str, Columns] = {
    "Pod": (
        _NAME,
        ("READY", lambda o, _: _ready_count(o)),
        ("STATUS", lambda o, _: pod_status(o)),
        ("RESTARTS", restarts_of),
        _AGE,
    ),
    "Node": (
        _NAME,
        ("STATUS", lambda o, _: _node_status(o)),
        ("ROLES", lambda o, _: "hollow" if is_hollow(o) else NONE),
        _AGE,
        ("VERSION", lambda o, _: o.status.nodeInfo.kubeletVersion),
    ),
    "ReplicationController": (
        _NAME,
        ("DESIRED", lambda o, _: str(o.spec.replicas)),
        ("CURRENT", lambda o, _: str(o.status.replicas)),
        ("READY", lambda o, _: str(o.status.readyReplicas)),
        _AGE,
    ),
    "Service": (
        _NAME,
        ("TYPE", lambda o, _: o.spec.type),
        ("CLUSTER-IP", lambda o, _: o.spec.clusterIP or NONE),
        ("EXTERNAL-IP", lambda o, _: o.spec.externalName or NONE),
        ("PORT(S)", lambda o, _: _service_ports(o)),
        _AGE,
    ),
    "Endpoints": (_NAME, ("ENDPOINTS", lambda o, _: endpoints_text(o)), _AGE),
    "Event": (
        ("LAST SEEN", _event_age),
        ("TYPE", lambda o, _: o.type),
        ("REASON", lambda o, _: o.reason),
        ("OBJECT", lambda o, _: _event_object(o)),
        ("MESSAGE", lambda o, _: o.message),
    ),
    "Namespace": (_NAME, ("STATUS", lambda o, _: o.status.phase), _AGE),
    "ConfigMap": (_NAME, ("DATA", lambda o, _: str(len(o.data) + len(o.binaryData))), _AGE),
    "Secret": (_NAME, ("TYPE", lambda o, _: o.type), ("DATA", lambda o, _: str(len(o.data))), _AGE),
    "ServiceAccount": (_NAME, ("SECRETS", lambda o, _: str(len(o.secrets))), _AGE),
    "Lease": (_NAME, ("HOLDER", lambda o, _: o.spec.holderIdentity or NONE), _AGE),
    "PriorityClass": (
        _NAME,
        ("VALUE", lambda o, _: str(o.value)),
        ("GLOBAL-DEFAULT", lambda o, _: str(o.globalDefault).lower()),
        _AGE,
        ("PREEMPTIONPOLICY", lambda o, _: o.preemptionPolicy),
    ),
    "PodDisruptionBudget": (
        _NAME,
        ("MIN AVAILABLE", lambda o, _: int_or_string(o.spec, "minAvailable")),
        ("MAX UNAVAILABLE", lambda o, _: int_or_string(o.spec, "maxUnavailable")),
        ("ALLOWED DISRUPTIONS", lambda o, _: str(o.status.disruptionsAllowed)),
        _AGE,
    ),
    "CustomResourceDefinition": (
        _NAME,
        ("CREATED AT", lambda o, _: format_time(o.metadata.creationTimestamp.seconds)),
    ),
    "CustomObject": (_NAME, ("RESOURCE", lambda o, _: o.resource), _AGE),
    "Fault": (
        _NAME,
        ("TARGET", lambda o, _: fault_target(o)),
        ("WHAT", lambda o, _: fault_words(o)),
        ("STATUS", lambda o, _: o.status.phase),
        ("ENDS IN", lambda o, now: age(from_time(o.status.endsAt) - now)),
        _AGE,
    ),
}

WIDE: dict[str, Columns] = {
    "Pod": (
        ("IP", lambda o, _: o.status.podIP or NONE),
        ("NODE", lambda o, _: o.spec.nodeName or NONE),
        ("NOMINATED NODE", lambda o, _: o.status.nominatedNodeName or NONE),
        ("REASON", lambda o, _: pod_reason(o) or NONE),
    ),
    "Node": (
        ("INTERNAL-IP", lambda o, _: _node_address(o)),
        ("OS-IMAGE", lambda o, _: o.status.nodeInfo.osImage or "<unknown>"),
        ("KERNEL-VERSION", lambda o, _: o.status.nodeInfo.kernelVersion or "<unknown>"),
        ("ENFORCE", lambda o, _: o.status.isolation.enforcement or NONE),
        ("CONTAINER-RUNTIME", lambda o, _: o.status.nodeInfo.containerRuntimeVersion or "<unknown>"),
    ),
    "ReplicationController": (
        ("CONTAINERS", lambda o, _: ",".join(c.name for c in o.spec.template.spec.containers)),
        ("IMAGES", lambda o, _: ",".join(c.image or "host" for c in o.spec.template.spec.containers)),
        ("SELECTOR", lambda o, _: labels_text(o.spec.selector)),
    ),
    "Service": (("SELECTOR", lambda o, _: labels_text(o.spec.selector)),),
    "Event": (("SOURCE", lambda o, _: _event_source(o)),),
}
