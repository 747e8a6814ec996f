"""`podium describe pod`: where it is and why, its containers, what they are given and how they fare. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cluster.cli.rows import conditions, pairs, row, rows, when

if TYPE_CHECKING:
    from cluster.pb.v1 import core_pb2 as core


def pod(pod: core.Pod) -> Iterable[str]:
    """All of it but its metadata and its events."""
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
