"""The environment and the command line of a container. Pure.

What a container finds, later entries winning over earlier ones:

1. a clean base: PATH, LANG, HOME, HOSTNAME, PYTHONUNBUFFERED, and with a terminal TERM; nothing else of the agent's own
   environment;
2. one set of variables per service of the pod's namespace that exists when the container starts (Kubernetes,
   pkg/kubelet/envvars): WEB_SERVICE_HOST, WEB_SERVICE_PORT, WEB_SERVICE_PORT_HTTP and Docker's WEB_PORT_80_TCP...;
3. where it is: POD_NAME, POD_NAMESPACE, POD_IP, NODE_NAME, and PORT, PORT_<NAME> for its declared ports; whom to ask
   for names: PODIUM_DNS, PODIUM_CLUSTER_DOMAIN;
4. all keys of the ConfigMaps and Secrets that `envFrom` names, in order;
5. its own `env`, in order; $(NAME) in a value stands for a variable set before it, $$ for a $. What is not known stays
   as it is written (Kubernetes, third_party/forked/golang/expansion).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil
from types import MappingProxyType
from typing import TypeAlias

from cluster.api.names import env_name_problems
from cluster.api.pods import CPU
from cluster.api.quantities import parse_quantity
from cluster.pb.v1 import core_pb2 as core

_reference = re.compile(r"\$(?:\$|\(([^()]*)\))")
_subscript = re.compile(r"(metadata\.(?:labels|annotations))\['([^']*)'\]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pod runs."""

    node_name: str
    host_ip: str
    pod_ip: str
    home: str
    """The pod's private directory."""
    path: str
    """PATH for the container."""
    lang: str = "C.UTF-8"
    cpu_milli: int = 0
    """What the node has to give, in thousandths of a processor: a container's limit if it has none of its own."""
    memory_bytes: int = 0
    """The same of memory."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Variables that say whom to ask for names (`node_agent.resolver`)."""


Configuration: TypeAlias = Mapping[tuple[str, str], core.ConfigMap | core.Secret]
"""The ConfigMaps and Secrets that there are, of those that the pod uses, by kind and name."""


class UnknownField(Exception):
    """A fieldRef that names no field."""


class MissingConfiguration(Exception):
    """A ConfigMap, a Secret or a key that a container cannot do without is not there."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """$(NAME) becomes the variable's value, $$ becomes $; a name that is not known stays as it is."""

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else variables.get(name, match.group(0))

    return _reference.sub(replacement, text)


def build_environment(
    pod: core.Pod,
    container: core.Container,
    place: Place,
    services: Iterable[core.Service],
    configuration: Configuration = MappingProxyType({}),
) -> dict[str, str]:
    """All variables of a container. Raises UnknownField, MissingConfiguration."""
    env = {
        "PATH": place.path,
        "LANG": place.lang,
        "HOME": place.home,
        "HOSTNAME": pod.spec.hostname or pod.metadata.name,
        "PYTHONUNBUFFERED": "1",
    }
    if container.tty:
        env = at_terminal(env)
    if not pod.spec.HasField("enableServiceLinks") or pod.spec.enableServiceLinks:
        env |= service_variables(pod.metadata.namespace, services)
    env |= {
        "POD_NAME": pod.metadata.name,
        "POD_NAMESPACE": pod.metadata.namespace,
        "POD_IP": place.pod_ip,
        "NODE_NAME": place.node_name,
        **place.names,
    }
    for index, port in enumerate(container.ports):
        if index == 0:
            env["PORT"] = str(port.containerPort)
        if port.name:
            env["PORT_" + _variable_name(port.name)] = str(port.containerPort)
    for source in container.envFrom:
        env |= _all_keys(source, configuration)
    for variable in container.env:
        if not variable.HasField("valueFrom"):
            env[variable.name] = expand(variable.value, env)
            continue
        value = _value_from(pod, container, variable.valueFrom, place, configuration)
        if value is not None:
            env[variable.name] = value
    return env


def at_terminal(env: Mapping[str, str]) -> dict[str, str]:
    """The same for a program that has a terminal: of which kind, if nobody says, is what containerd says."""
    return {"TERM": "xterm", **env}


def _all_keys(source: core.EnvFromSource, configuration: Configuration) -> dict[str, str]:
    """Those that make variables (see `left_out`). Raises MissingConfiguration."""
    if source.HasField("configMapRef"):
        kind, reference = "ConfigMap", source.configMapRef.localObjectReference
        optional = source.configMapRef.optional
    else:
        kind, reference, optional = "Secret", source.secretRef.localObjectReference, source.secretRef.optional
    found = configuration.get((kind, reference.name))
    if found is None:
        if optional:
            return {}
        raise MissingConfiguration(f'{kind.lower()} "{reference.name}" not found')
    return {source.prefix + key: _text(found, key) for key in sorted(found.data) if not _unfit(source, found, key)}


def left_out(container: core.Container, configuration: Configuration) -> list[str]:
    """What `envFrom` names and no variable can be made of, as sentences for people. Kubernetes leaves it out, too."""
    sentences = []
    for source in container.envFrom:
        is_map = source.HasField("configMapRef")
        kind, reference = ("ConfigMap", source.configMapRef) if is_map else ("Secret", source.secretRef)
        found = configuration.get((kind, reference.localObjectReference.name))
        if found is None:
            continue
        names = [source.prefix + key for key in sorted(found.data) if _unfit(source, found, key)]
        if names:
            where = f"{kind.lower()} {found.metadata.namespace}/{found.metadata.name}"
            why = "since they are considered invalid environment variable names, or hold what is not text"
            sentences.append(f"Keys [{', '.join(names)}] from the EnvFrom {where} were skipped {why}.")
    return sentences


def _unfit(source: core.EnvFromSource, found: core.ConfigMap | core.Secret, key: str) -> bool:
    """No variable can have this name, or hold this value."""
    return bool(env_name_problems(source.prefix + key)) or _as_text(found.data[key]) is None


def _value_from(
    pod: core.Pod, container: core.Container, source: core.EnvVarSource, place: Place, configuration: Configuration
) -> str | None:
    """The value, or None if it is not there and need not be. Raises UnknownField, MissingConfiguration."""
    if source.HasField("resourceFieldRef"):
        return resource_value(pod, source.resourceFieldRef, place, container)
    if source.HasField("fieldRef"):
        return field_value(pod, source.fieldRef.fieldPath, place)
    if source.HasField("configMapKeyRef"):
        kind, reference = "ConfigMap", source.configMapKeyRef.localObjectReference
        key, optional = source.configMapKeyRef.key, source.configMapKeyRef.optional
    else:
        kind, reference = "Secret", source.secretKeyRef.localObjectReference
        key, optional = source.secretKeyRef.key, source.secretKeyRef.optional
    found = configuration.get((kind, reference.name))
    if found is not None and key in found.data:
        return _text(found, key)
    if optional:
        return None
    if found is None:
        raise MissingConfiguration(f'{kind.lower()} "{reference.name}" not found')
    raise MissingConfiguration(f"couldn't find key {key} in {kind} {pod.metadata.namespace}/{reference.name}")


def _text(found: core.ConfigMap | core.Secret, key: str) -> str:
    """Raises MissingConfiguration for a value that no variable can hold."""
    text = _as_text(found.data[key])
    if text is None:
        raise MissingConfiguration(f'key "{key}" of "{found.metadata.name}" is not text: mount it as a file')
    return text


def _as_text(value: str | bytes) -> str | None:
    """None for what no variable can hold."""
    try:
        text = value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def resource_value(
    pod: core.Pod, reference: core.ResourceFieldSelector, place: Place, container: core.Container | None = None
) -> str:
    """Limits and requests in units of the divisor, rounded up; without a limit, what the node has. Raises
    UnknownField."""
    if reference.containerName:
        every = (*pod.spec.initContainers, *pod.spec.containers)
        container = next((each for each in every if each.name == reference.containerName), None)
    if container is None:
        raise UnknownField(f'resourceFieldRef: the pod has no container "{reference.containerName}"')
    which, _, name = reference.resource.partition(".")
    amounts = container.resources.limits if which == "limits" else container.resources.requests
    if name in amounts:
        value = parse_quantity(amounts[name].string)
    elif which == "limits":
        value = Decimal(place.cpu_milli) / 1000 if name == CPU else Decimal(place.memory_bytes)
    else:
        value = Decimal(0)
    divisor = parse_quantity(reference.divisor.string) if reference.divisor.string else Decimal(1)
    return str(ceil(value / (divisor or Decimal(1))))


def command_line(container: core.Container, env: Mapping[str, str]) -> tuple[str, ...]:
    """Command and arguments, expanded."""
    return tuple(expand(word, env) for word in [*container.command, *container.args])


def service_variables(namespace: str, services: Iterable[core.Service]) -> dict[str, str]:
    """The variables that tell a container where the services of its namespace are."""
    env: dict[str, str] = {}
    for service in sorted(services, key=lambda service: service.metadata.name):
        host, ports = service.spec.clusterIP, service.spec.ports
        if service.metadata.namespace != namespace or host in ("", "None") or not ports:
            continue
        name = _variable_name(service.metadata.name)
        env[f"{name}_SERVICE_HOST"] = host
        env[f"{name}_SERVICE_PORT"] = str(ports[0].port)
        for index, port in enumerate(ports):
            protocol = (port.protocol or "TCP").lower()
            url, prefix = f"{protocol}://{host}:{port.port}", f"{name}_PORT_{port.port}_{protocol.upper()}"
            if port.name:
                env[f"{name}_SERVICE_PORT_{_variable_name(port.name)}"] = str(port.port)
            if index == 0:
                env[f"{name}_PORT"] = url
            env[prefix] = url
            env[f"{prefix}_PROTO"] = protocol
            env[f"{prefix}_PORT"] = str(port.port)
            env[f"{prefix}_ADDR"] = host
    return env


def field_value(pod: core.Pod, path: str, place: Place) -> str:
    """What a fieldRef stands for. Raises UnknownField."""
    meta = pod.metadata
    match path:
        case "metadata.name":
            return meta.name
        case "metadata.namespace":
            return meta.namespace
        case "metadata.uid":
            return meta.uid
        case "metadata.labels":
            return _format_map(meta.labels)
        case "metadata.annotations":
            return _format_map(meta.annotations)
        case "spec.nodeName":
            return place.node_name
        case "status.hostIP":
            return place.host_ip
        case "status.podIP" | "status.podIPs":
            return place.pod_ip
    subscript = _subscript.fullmatch(path)
    if subscript is None:
        raise UnknownField(f'fieldRef: "{path}" is not a field of a pod that a container can ask for')
    values = meta.labels if subscript.group(1) == "metadata.labels" else meta.annotations
    return values.get(subscript.group(2), "")


def _format_map(values: Mapping[str, str]) -> str:
    return "\n".join(f'{key}="{_escape(value)}"' for key, value in sorted(values.items()))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _variable_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name).upper()
