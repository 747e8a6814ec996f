"""`podium describe`: an object with its story: what it is, how it is, and the events about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.at import AsOf, Moment, moment_option
from cluster.cli.exits import ExitCode, say
from cluster.cli.rows import conditions, pairs, row, rows, when
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import Wanted, names_or, narrowed

if TYPE_CHECKING:
    from cluster.api.kinds import AnyObject, Kind
    from cluster.client.interface import ClusterClient
    from cluster.pb.v1 import core_pb2 as core

    Source = ClusterClient | AsOf


@click.command(
    "describe",
    epilog="\b\nExamples:\n"
    "  podium describe pod web-x2k4p\n"
    "  podium describe node node-1\n"
    "  podium describe rc,svc\n"
    "  podium describe pods -l app=web\n"
    "  podium describe pod web-x2k4p --at 10m",
)
@click.argument("what", nargs=-1, required=True, metavar="KIND [NAME...] | KIND/NAME...")
@click.option("-l", "--selector", default="", metavar="SEL", help="All that match.")
@moment_option("--at", "at", "As it was then: a revision, a time, or how long ago.")
@namespace_option
@cluster_option
@click.pass_context
def describe_command(
    ctx: click.Context, what: tuple[str, ...], selector: str, at: Moment | None, namespace: str
) -> int:
    """Show objects in detail, with their events. A name may be the beginning of one."""
    wanted = Wanted(what, names_or(selector))

    async def body(session: Session) -> int:
        source = AsOf(session.client, at) if at is not None else session.client
        texts = []
        for kind, name in await wanted.targets(source):
            for obj in await _find(source, kind, name, namespace if kind.namespaced else "", selector):
                texts.append(await _describe(source, kind, obj))
        if not texts:
            say("No resources found.")
            return ExitCode.OK
        click.echo("\n\n\n".join(texts))
        return ExitCode.OK

    return run(ctx, body)


async def _find(source: Source, kind: Kind, name: str, namespace: str, selector: str) -> list[AnyObject]:
    """The named object, those whose names begin so, or all."""
    from cluster.api.errors import NotFound
    from cluster.api.meta import key_of

    if not name:
        fields = narrowed(kind, "")
        return list((await source.list(kind.message, namespace, label_selector=selector, field_selector=fields)).items)
    try:
        return [await source.get(kind.message, name, namespace)]
    except NotFound:
        listed = (await source.list(kind.message, namespace, field_selector=narrowed(kind, ""))).items
        matching = [obj for obj in listed if key_of(obj).name.startswith(name)]
        if not matching:
            raise
        return matching


async def _describe(source: Source, kind: Kind, obj: AnyObject) -> str:
    from cluster.cli import describe_custom, describe_service
    from cluster.cli.describe_placement import disruption_budget, priority_class
    from cluster.pb.v1 import core_pb2 as core

    lines = list(_head(kind, obj))
    writers: dict[str, Callable[[Any], Iterable[str]]] = {
        "Pod": _pod,
        "Node": _node,
        "ReplicationController": _controller,
        "Endpoints": describe_service.endpoints,
        "Lease": _lease,
        "ConfigMap": _config_map,
        "Secret": _secret,
        "PriorityClass": priority_class,
        "PodDisruptionBudget": disruption_budget,
        "Fault": _fault,
        "CustomResourceDefinition": describe_custom.definition,
        "CustomObject": describe_custom.custom_object,
    }
    if kind.name in writers:
        lines += writers[kind.name](obj)
    elif kind.name == "Namespace":
        lines.append(row("Status", obj.status.phase))  # type: ignore[union-attr]
    elif kind.name == "Event":
        lines += [row("Reason", obj.reason), row("Message", obj.message)]  # type: ignore[union-attr]
    if kind.name == "Node":
        pods = (await source.list(core.Pod, field_selector=f"spec.nodeName={obj.metadata.name}")).items
        lines += _pods_of_node(obj, list(pods))  # type: ignore[arg-type]
        if not isinstance(source, AsOf):  # heartbeats are not kept
            lines += await _usage(source, obj.metadata.name)
    if isinstance(obj, core.Service):
        lines += await _service(source, obj)
    if kind.name != "Event":
        lines += await _events(source, kind, obj)
    return "\n".join(lines)


def _head(kind: Kind, obj: AnyObject) -> Iterable[str]:
    meta = obj.metadata
    yield row("Name", meta.name)
    if kind.namespaced:
        yield row("Namespace", meta.namespace)
    yield from rows("Labels", pairs(meta.labels))
    yield from rows("Annotations", pairs(meta.annotations))
    yield row("Created", when(meta.creationTimestamp))
    if meta.HasField("deletionTimestamp"):
        yield row("Terminating", f"since a delete, to be gone by {when(meta.deletionTimestamp)}")
    cause = f" ({meta.cause.reason})" if meta.cause.reason else ""
    if meta.cause.object:
        cause += f", because of {meta.cause.object} at revision {meta.cause.revision}"
    yield row("Last write", f"by {meta.actor or 'unknown'} at revision {meta.resourceVersion}{cause}")
    for owner in meta.ownerReferences:
        yield row("Controlled By" if owner.controller else "Owned By", f"{owner.kind}/{owner.name}")


def _pod(pod: core.Pod) -> Iterable[str]:
    from cluster.api.columns import pod_status
    from cluster.api.pods import security_profile
    from cluster.cli.describe_placement import standing, wishes

    yield row("Node", f"{pod.spec.nodeName}/{pod.status.hostIP}" if pod.spec.nodeName else "")
    yield from standing(pod)
    yield row("Status", pod_status(pod))
    if pod.status.message:
        yield row("Message", pod.status.message)
    yield row("IP", pod.status.podIP)
    yield row("Depends On", ", ".join(pod.spec.dependsOn))
    if pod.spec.HasField("activeDeadlineSeconds"):
        yield row("Active Deadline", f"{pod.spec.activeDeadlineSeconds}s after the start")
    if pod.spec.HasField("stopAfterDisconnectSeconds"):
        yield row("Stop When Cut Off", f"for {pod.spec.stopAfterDisconnectSeconds}s")
    if pod.spec.initContainers:
        yield "Init Containers:"
        yield from _containers(pod.spec.initContainers, pod.status.initContainerStatuses)
    yield "Containers:"
    yield from _containers(pod.spec.containers, pod.status.containerStatuses)
    yield from conditions(pod.status.conditions)
    if pod.spec.volumes:
        yield from rows("Volumes", map(_volume, pod.spec.volumes))
    yield row("QoS Class", pod.status.qosClass)
    yield row("Security", f"{security_profile(pod.spec)} {_security(pod.spec.securityContext)}".rstrip())
    yield from rows("Node-Selectors", pairs(pod.spec.nodeSelector))
    yield from wishes(pod.spec)
    yield from rows("Tolerations", (_toleration(toleration) for toleration in pod.spec.tolerations))


def _containers(
    containers: Iterable[core.Container], container_statuses: Iterable[core.ContainerStatus]
) -> Iterable[str]:
    statuses = {status.name: status for status in container_statuses}
    for container in containers:
        yield f"  {container.name}:{' (sidecar)' if container.restartPolicy == 'Always' else ''}"
        yield row("Image", container.image or "host (the machine's own files)", 4)
        if container.command:
            yield row("Command", " ".join(container.command), 4)
        if container.args:
            yield row("Args", " ".join(container.args), 4)
        if container.workingDir:
            yield row("Working Dir", container.workingDir, 4)
        ports = [
            f"{port.name + ' ' if port.name else ''}{port.containerPort}/{port.protocol}" for port in container.ports
        ]
        yield row("Ports", ", ".join(ports), 4)
        if container.name in statuses:
            yield from _container_status(statuses[container.name])
        for title, amounts in (("Limits", container.resources.limits), ("Requests", container.resources.requests)):
            if amounts:
                yield row(title, ", ".join(f"{name} {amounts[name].string}" for name in sorted(amounts)), 4)
        yield row("Depends On", ", ".join(container.dependsOn), 4)
        probes = (container.livenessProbe, container.readinessProbe, container.startupProbe)
        for title, probe in zip(("Liveness", "Readiness", "Startup"), probes, strict=True):
            if probe.ByteSize():
                yield row(title, _probe(probe), 4)
        for title, hook in (("Post-Start", container.lifecycle.postStart), ("Pre-Stop", container.lifecycle.preStop)):
            if hook.ByteSize():
                yield row(title, _action(hook), 4)
        if container.envFrom:
            yield from rows("Env From", map(_env_from, container.envFrom), 4)
        yield from rows("Environment", (_env(variable) for variable in container.env), 4)
        yield from rows("Mounts", map(_mount, container.volumeMounts), 4)
        if container.HasField("securityContext"):
            yield row("Security", _security(container.securityContext), 4)


def _container_status(status: core.ContainerStatus) -> Iterable[str]:
    for title, state in (("State", status.state), ("Last State", status.lastState)):
        if state.HasField("running"):
            yield row(title, f"Running since {when(state.running.startedAt)}", 4)
        elif state.HasField("terminated"):
            ended = state.terminated
            killed = f" (signal {ended.signal})" if ended.signal else ""
            what = f"Terminated: {ended.reason}, exit code {ended.exitCode}{killed}, {when(ended.finishedAt)}"
            yield row(title, what, 4)
            if ended.HasField("usage"):
                used = ended.usage
                cpu = f"cpu {used.cpuUserMilliseconds / 1000:g}s user {used.cpuSystemMilliseconds / 1000:g}s system"
                yield row("Used", f"{cpu}, at most {used.maxRssBytes / 2**20:.1f} MiB of memory", 6)
            for line in ended.message.splitlines()[-20:]:
                yield row("", line, 6).replace(":", " ", 1)
        elif state.HasField("waiting"):
            waiting = state.waiting
            yield row(title, f"Waiting: {waiting.reason}{f' ({waiting.message})' if waiting.message else ''}", 4)
    yield row("Ready", status.ready, 4)
    yield row("Restart Count", status.restartCount, 4)


def _action(handler: core.Handler | core.LifecycleHandler) -> str:
    """What a probe or hook does, in a few words."""
    from cluster.pb.v1 import core_pb2

    if isinstance(handler, core_pb2.LifecycleHandler) and handler.HasField("sleep"):
        return f"sleep {handler.sleep.seconds}s"
    if isinstance(handler, core_pb2.Handler) and handler.HasField("grpc"):
        return f"grpc {handler.grpc.port} {handler.grpc.service}".rstrip()
    if handler.HasField("exec"):
        return f"exec {' '.join(handler.exec.command)}"
    elif handler.HasField("httpGet"):
        port = handler.httpGet.port.strVal or handler.httpGet.port.intVal
        return f"http-get {port}{handler.httpGet.path}"
    return f"tcp-socket {handler.tcpSocket.port.strVal or handler.tcpSocket.port.intVal}"


def _probe(probe: core.Probe) -> str:
    return (
        f"{_action(probe.handler)} delay={probe.initialDelaySeconds}s timeout={probe.timeoutSeconds}s"
        f" period={probe.periodSeconds}s #success={probe.successThreshold} #failure={probe.failureThreshold}"
    )


def _env(variable: core.EnvVar) -> str:
    if not variable.HasField("valueFrom"):
        return f"{variable.name}: {variable.value}"
    source = variable.valueFrom
    if source.HasField("configMapKeyRef"):
        what = _key_of(source.configMapKeyRef, "config map")
    elif source.HasField("secretKeyRef"):
        what = _key_of(source.secretKeyRef, "secret")
    elif source.HasField("resourceFieldRef"):
        reference = source.resourceFieldRef
        what = f"{reference.resource}{f' of container {reference.containerName}' if reference.containerName else ''}"
    else:
        what = f"field {source.fieldRef.fieldPath}"
    return f"{variable.name}: ({what})"


def _key_of(reference: core.ConfigMapKeySelector | core.SecretKeySelector, kind: str) -> str:
    optional = ", optional" if reference.optional else ""
    return f'key "{reference.key}" of {kind} {reference.localObjectReference.name}{optional}'


def _env_from(source: core.EnvFromSource) -> str:
    if source.HasField("configMapRef"):
        kind, name = "config map", source.configMapRef.localObjectReference.name
        optional = source.configMapRef.optional
    else:
        kind, name, optional = "secret", source.secretRef.localObjectReference.name, source.secretRef.optional
    prefix = f', as "{source.prefix}..."' if source.prefix else ""
    return f"{kind} {name}{prefix}{', optional' if optional else ''}"


def _mount(mount: core.VolumeMount) -> str:
    part = f", {mount.subPath} of it" if mount.subPath else ""
    return f"{mount.mountPath} from {mount.name} ({'ro' if mount.readOnly else 'rw'}{part})"


def _volume(volume: core.Volume) -> str:
    """What a volume is made of, in a few words."""
    source = volume.volumeSource
    if source.HasField("hostPath"):
        what = f"host path {source.hostPath.path}{f' ({source.hostPath.type})' if source.hostPath.type else ''}"
    elif source.HasField("emptyDir"):
        limit = f", at most {source.emptyDir.sizeLimit.string}" if source.emptyDir.HasField("sizeLimit") else ""
        what = f"empty directory{' in memory' if source.emptyDir.medium == 'Memory' else ''}{limit}"
    elif source.HasField("secret"):
        what = f"secret {source.secret.secretName}{', optional' if source.secret.optional else ''}"
    elif source.HasField("configMap"):
        optional = ", optional" if source.configMap.optional else ""
        what = f"config map {source.configMap.localObjectReference.name}{optional}"
    elif source.HasField("dataDirectory"):
        what = f"data directory {source.dataDirectory.name}"
    else:
        what = f"fields of the pod: {', '.join(item.path for item in source.downwardAPI.items)}"
    return f"{volume.name}: {what}"


def _security(context: core.SecurityContext | core.PodSecurityContext) -> str:
    """What a security context says, field by field."""
    from cluster.pb.v1 import core_pb2

    said = [f"{field.name}={str(value).lower()}" for field, value in context.ListFields() if field.message_type is None]
    if isinstance(context, core_pb2.SecurityContext) and context.capabilities.drop:
        said.append(f"drop={','.join(context.capabilities.drop)}")
    return " ".join(said)


def _toleration(toleration: core.Toleration) -> str:
    value = f"={toleration.value}" if toleration.value else ""
    seconds = f" for {toleration.tolerationSeconds}s" if toleration.HasField("tolerationSeconds") else ""
    return f"{toleration.key or '*'}{value}:{toleration.effect or '*'} op={toleration.operator}{seconds}"


def _node(node: core.Node) -> Iterable[str]:
    yield from rows("Taints", (f"{t.key}{'=' + t.value if t.value else ''}:{t.effect}" for t in node.spec.taints))
    yield row("Unschedulable", str(node.spec.unschedulable).lower())
    yield row("PodCIDR", node.spec.podCIDR)
    yield from conditions(node.status.conditions)
    yield from rows("Addresses", (f"{a.type} {a.address}" for a in node.status.addresses))
    isolation, info = node.status.isolation, node.status.nodeInfo
    yield row("Security profiles", ", ".join(isolation.profiles))
    yield row("Limits kept by", isolation.enforcement)
    yield row("Volumes in", f"a {isolation.volumes} of the container's own" if isolation.volumes else "")
    yield from rows("Missing here", isolation.missing)
    yield from rows("Data Directories", node.status.dataDirectories)
    yield row(
        "System",
        f"{info.osImage}, kernel {info.kernelVersion}, agent {info.kubeletVersion}, {info.containerRuntimeVersion}",
    )


def _pods_of_node(node: core.Node, pods: list[core.Pod]) -> list[str]:
    from cluster.api.pods import amount, is_active, requests_of
    from cluster.cli.printers import align

    totals: dict[str, int] = {}
    rows = [["  Namespace", "Name", "CPU (m)", "Memory"]]
    for pod in pods:
        requests = requests_of(pod)
        rows.append(
            [
                f"  {pod.metadata.namespace}",
                pod.metadata.name,
                str(requests.get("cpu", 0)),
                str(requests.get("memory", 0)),
            ]
        )
        if is_active(pod):
            for name, value in requests.items():
                totals[name] = totals.get(name, 0) + value
    lines = [f"Pods:             {len(pods)}"] + ([align(rows)] if pods else [])
    lines.append("Allocated resources (requests of allocatable; cpu in thousandths):")
    for name in sorted(node.status.allocatable):
        total = amount(name, node.status.allocatable[name])
        used = totals.get(name, len(pods) if name == "pods" else 0)
        share = f" ({100 * used // total}%)" if total else ""
        lines.append(f"  {name:<20}{used} of {total}{share}")
    return lines


async def _usage(client: ClusterClient, node: str) -> list[str]:
    """What the node's last heartbeat said is in use on its machine."""
    async with client.watch_heartbeats() as batches:
        async for batch in batches:  # the first one holds every node ever heard of
            for beat in batch.heartbeats:
                if beat.node == node:
                    amounts = [f"{name} {beat.usage[name].string}" for name in sorted(beat.usage)]
                    return [row("Usage", f"{', '.join(amounts)} (of the machine, at heartbeat {beat.sequence})")]
            break
    return [row("Usage", "")]


def _controller(rc: core.ReplicationController) -> Iterable[str]:
    yield from rows("Selector", pairs(rc.spec.selector))
    status = rc.status
    yield row("Replicas", f"{status.replicas} current / {rc.spec.replicas} desired")
    yield row(
        "Pods",
        f"{status.readyReplicas} ready, {status.availableReplicas} available, {status.createdReplicas} ever created",
    )
    yield from rows("Template Labels", pairs(rc.spec.template.metadata.labels))
    for container in rc.spec.template.spec.containers:
        yield row(f"Container {container.name}", " ".join([*container.command, *container.args]) or container.image)
    yield from conditions(status.conditions)


def _fault(fault: core.Fault) -> Iterable[str]:
    from cluster.api.faults import fault_target, fault_words

    yield row("Target", fault_target(fault))
    yield row("What", fault_words(fault))
    yield row("Seed", str(fault.spec.seed))
    yield row("Status", fault.status.phase)
    yield row("Started At", when(fault.status.startedAt))
    yield row("Ends At", when(fault.status.endsAt))


async def _service(source: Source, service: core.Service) -> list[str]:
    from cluster.api.errors import NotFound
    from cluster.cli import describe_service
    from cluster.pb.v1 import core_pb2 as core

    endpoints: core.Endpoints | None = None
    try:
        endpoints = await source.get(core.Endpoints, service.metadata.name, service.metadata.namespace)
    except NotFound:
        pass
    return list(describe_service.service(service, endpoints))


def _config_map(config: core.ConfigMap) -> Iterable[str]:
    from cluster.cli.printers import clean

    yield "Data:"
    for key in sorted(config.data):
        yield f"  {key}:"
        for line in config.data[key].splitlines() or [""]:
            yield f"    {clean(line)}"
    for key in sorted(config.binaryData):
        yield f"  {key}: {len(config.binaryData[key])} bytes"


def _secret(secret: core.Secret) -> Iterable[str]:
    """Sizes, and no values."""
    yield row("Type", secret.type)
    yield from rows("Data", (f"{key}: {len(secret.data[key])} bytes" for key in sorted(secret.data)))


def _lease(lease: core.Lease) -> Iterable[str]:
    from cluster.api.times import format_micro_time

    spec = lease.spec
    yield row("Holder", spec.holderIdentity)
    yield row("Lease Duration", f"{spec.leaseDurationSeconds}s" if spec.HasField("leaseDurationSeconds") else "")
    for title, time in (("Acquire Time", spec.acquireTime), ("Renew Time", spec.renewTime)):
        yield row(title, format_micro_time(time.seconds, time.nanos) if time.ListFields() else "")
    yield row("Lease Transitions", spec.leaseTransitions)


async def _events(source: Source, kind: Kind, obj: AnyObject) -> list[str]:
    from cluster.actor.clock import SystemClock
    from cluster.api.columns import age
    from cluster.api.events import last_seen, times
    from cluster.cli.printers import align, clean
    from cluster.pb.v1 import core_pb2 as core

    about = obj.kind if isinstance(obj, core.CustomObject) else kind.name
    selector = f"involvedObject.kind={about},involvedObject.name={obj.metadata.name}"
    events = (await source.list(core.Event, obj.metadata.namespace, field_selector=selector)).items
    mine = [e for e in events if e.involvedObject.uid in ("", obj.metadata.uid) or kind.name == "Node"]
    if not mine:
        return ["Events:           <none>"]
    now = SystemClock().wall()
    rows = [["  Type", "Reason", "Age", "From", "Message"]]
    for event in sorted(mine, key=last_seen):
        when = age(now - last_seen(event)) + (f" (x{times(event)})" if times(event) > 1 else "")
        origin = ", ".join(part for part in (event.source.component, event.source.host) if part)
        rows.append([f"  {event.type}", event.reason, when, origin, clean(event.message)])
    return ["Events:", align(rows)]
