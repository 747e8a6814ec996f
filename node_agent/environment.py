"""The environment and the command line of a container. Pure.

What a container finds, later entries winning over earlier ones:

1. a clean base: PATH, LANG, HOME, HOSTNAME, PYTHONUNBUFFERED; nothing else of the agent's own environment;
2. one set of variables per service of the pod's namespace that exists when the container starts (Kubernetes,
   pkg/kubelet/envvars): WEB_SERVICE_HOST, WEB_SERVICE_PORT, WEB_SERVICE_PORT_HTTP and Docker's WEB_PORT_80_TCP...;
3. where it is: POD_NAME, POD_NAMESPACE, POD_IP, NODE_NAME, and PORT, PORT_<NAME> for its declared ports;
4. its own `env`, in order; $(NAME) in a value stands for a variable set before it, $$ for a $. What is not known stays
   as it is written (Kubernetes, third_party/forked/golang/expansion).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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


class UnknownField(Exception):
    """A fieldRef that names no field."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """$(NAME) becomes the variable's value, $$ becomes $; a name that is not known stays as it is."""

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else variables.get(name, match.group(0))

    return _reference.sub(replacement, text)


def build_environment(
    pod: core.Pod, container: core.Container, place: Place, services: Iterable[core.Service]
) -> dict[str, str]:
    """All variables of a container. Raises UnknownField."""
    env = {
        "PATH": place.path,
        "LANG": place.lang,
        "HOME": place.home,
        "HOSTNAME": pod.metadata.name,
        "PYTHONUNBUFFERED": "1",
    }
    if not pod.spec.HasField("enableServiceLinks") or pod.spec.enableServiceLinks:
        env |= service_variables(pod.metadata.namespace, services)
    env |= {
        "POD_NAME": pod.metadata.name,
        "POD_NAMESPACE": pod.metadata.namespace,
        "POD_IP": place.pod_ip,
        "NODE_NAME": place.node_name,
    }
    for index, port in enumerate(container.ports):
        if index == 0:
            env["PORT"] = str(port.containerPort)
        if port.name:
            env["PORT_" + _variable_name(port.name)] = str(port.containerPort)
    for variable in container.env:
        if variable.HasField("valueFrom"):
            env[variable.name] = field_value(pod, variable.valueFrom.fieldRef.fieldPath, place)
        else:
            env[variable.name] = expand(variable.value, env)
    return env


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
