"""`podium expose`: a service for pods that run already, from what they say of themselves.

As kubectl: name, labels, selector and ports are those of what is exposed, where nothing else is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import targets

if TYPE_CHECKING:
    from cluster.api.kinds import AnyObject
    from cluster.pb.v1 import core_pb2 as core


@click.command(
    "expose",
    epilog="\b\nExamples:\n"
    "  podium expose rc web --port 80 --target-port 8080\n"
    "  podium expose rc/web --port 80 --target-port http --type NodePort\n"
    "  podium expose pod db --name db --cluster-ip None\n"
    "  podium expose svc web --port 443 --target-port 8443 --name web-https --dry-run",
)
@click.argument("what", nargs=-1, required=True, metavar="(pod|rc|svc) NAME")
@click.option("--port", "ports", default="", metavar="PORT[,PORT]", help="Default: those that it declares.")
@click.option("--target-port", default="", metavar="PORT", help="Of the pods: a number or a name; default: the port.")
@click.option("--name", default="", help="Of the service; default: the name of what is exposed.")
@click.option("--type", "type_", default="ClusterIP", type=click.Choice(["ClusterIP", "NodePort"]), show_default=True)
@click.option(
    "--protocol", default="", type=click.Choice(["", "TCP", "UDP"]), help="Default: what it declares, or TCP."
)
@click.option("--cluster-ip", default="", metavar="IP", help="The address; None: headless; default: one is given.")
@click.option(
    "-l", "--labels", default="", metavar="K=V,...", help="Of the service; default: those of what is exposed."
)
@click.option("--selector", default="", metavar="K=V,...", help="Default: that of what is exposed.")
@click.option("--session-affinity", default="None", type=click.Choice(["None", "ClientIP"]), show_default=True)
@click.option("--dry-run", is_flag=True, help="Print the manifest; write nothing.")
@namespace_option
@cluster_option
@click.pass_context
def expose_command(
    ctx: click.Context,
    what: tuple[str, ...],
    ports: str,
    target_port: str,
    name: str,
    type_: str,
    protocol: str,
    cluster_ip: str,
    labels: str,
    selector: str,
    session_affinity: str,
    dry_run: bool,
    namespace: str,
) -> int:
    """Make a service for a pod, for the pods of a replication controller, or for those of another service."""
    wanted = targets(what)
    if len(wanted) != 1 or not wanted[0][1]:
        raise click.UsageError("name one thing to expose: podium expose rc NAME --port 80")
    kind, object_name = wanted[0]
    if kind.name not in ("Pod", "ReplicationController", "Service"):
        raise click.UsageError(f"cannot expose a {kind.name}: only pods, replication controllers and services")
    own_labels, own_selector = _pairs("--labels", labels), _pairs("--selector", selector)

    async def body(session: Session) -> int:
        from cluster.api.caveats import caveats
        from cluster.client import operations
        from cluster.pb.v1 import core_pb2

        exposed = await session.client.get(kind.message, object_name, namespace)
        service = service_for(
            exposed,
            name=name,
            ports=_numbers(ports),
            target_port=target_port,
            protocol=protocol,
            selector=own_selector,
        )
        service.spec.type, service.spec.sessionAffinity = type_, session_affinity
        if cluster_ip:
            service.spec.clusterIP = cluster_ip
        if own_labels:
            service.metadata.labels.clear()
            service.metadata.labels.update(own_labels)
        if dry_run:
            from cluster.cli.printers import as_yaml

            click.echo(as_yaml([service], single=True))
            return ExitCode.OK
        cause = core_pb2.Cause(reason="expose")
        written = await session.client.write([operations.create(service)], cause=cause)
        made = written.outcomes[0].unwrap()
        click.echo(f"service/{made.metadata.name} exposed")
        for caveat in caveats(made):
            say(f"Warning: service/{made.metadata.name}: {caveat}")
        return ExitCode.OK

    return run(ctx, body)


def service_for(
    exposed: AnyObject,
    *,
    name: str = "",
    ports: list[int] | None = None,
    target_port: str = "",
    protocol: str = "",
    selector: dict[str, str] | None = None,
) -> core.Service:
    """The service that exposes this pod, replication controller or service. Raises CommandError: what is missing."""
    from cluster.cli.printers import name_of
    from cluster.pb.v1 import core_pb2

    shown = name_of(exposed)
    service = core_pb2.Service()
    meta = service.metadata
    meta.name, meta.namespace = name or exposed.metadata.name, exposed.metadata.namespace
    meta.labels.update(exposed.metadata.labels)
    service.spec.selector.update(selector or _selector(exposed))
    if not service.spec.selector:
        raise CommandError(
            f"{shown} has no labels to select by: give --selector, or label it: podium label {shown} K=V"
        )
    declared = _declared(exposed)
    if ports:
        known = {port.port: port for port in declared}
        chosen = [core_pb2.ServicePort(port=n, protocol=known[n].protocol if n in known else "TCP") for n in ports]
    else:
        chosen = declared
    if not chosen:
        raise CommandError(f"{shown} declares no port: name one with --port")
    for number, port in enumerate(chosen, 1):
        port.protocol = protocol or port.protocol
        if len(chosen) > 1 and not port.name:
            port.name = f"port-{number}"
        if target_port:
            port.targetPort.CopyFrom(_target(target_port))
        elif not port.HasField("targetPort"):
            port.targetPort.type, port.targetPort.intVal = 0, port.port
    service.spec.ports.extend(chosen)
    return service


def _selector(exposed: AnyObject) -> dict[str, str]:
    from cluster.pb.v1 import core_pb2

    if isinstance(exposed, core_pb2.Pod):
        return dict(exposed.metadata.labels)
    assert isinstance(exposed, core_pb2.ReplicationController | core_pb2.Service)
    return dict(exposed.spec.selector)


def _declared(exposed: AnyObject) -> list[core.ServicePort]:
    """The ports that it names: its own, if it is a service, else those of its containers, each once."""
    from cluster.pb.v1 import core_pb2

    found: list[core.ServicePort] = []
    if isinstance(exposed, core_pb2.Service):
        for own in exposed.spec.ports:
            port = core_pb2.ServicePort()
            port.CopyFrom(own)
            port.ClearField("nodePort")
            found.append(port)
        return found
    assert isinstance(exposed, core_pb2.Pod | core_pb2.ReplicationController)
    spec = exposed.spec if isinstance(exposed, core_pb2.Pod) else exposed.spec.template.spec
    seen: set[tuple[int, str]] = set()
    for container in spec.containers:
        for declared in container.ports:
            key = (declared.containerPort, declared.protocol or "TCP")
            if key not in seen:
                seen.add(key)
                found.append(core_pb2.ServicePort(port=key[0], protocol=key[1]))
    return found


def _target(text: str) -> core.IntOrString:
    from cluster.pb.v1 import core_pb2

    if text.isdecimal():
        return core_pb2.IntOrString(type=0, intVal=_number("--target-port", text))
    return core_pb2.IntOrString(type=1, strVal=text)


def _numbers(text: str) -> list[int]:
    return [_number("--port", word) for word in text.split(",")] if text else []


def _number(option: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise click.UsageError(f'{option} "{text}": write a number from 1 to 65535')
    return int(text)


def _pairs(option: str, text: str) -> dict[str, str]:
    pairs = {}
    for pair in text.split(",") if text else ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f'{option} "{pair}": write KEY=VALUE')
        pairs[key] = value
    return pairs
