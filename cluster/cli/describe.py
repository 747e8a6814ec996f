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
    from cluster.cli import describe_custom, describe_node, describe_pod, describe_service
    from cluster.cli.describe_placement import disruption_budget, priority_class
    from cluster.pb.v1 import core_pb2 as core

    lines = list(_head(kind, obj))
    writers: dict[str, Callable[[Any], Iterable[str]]] = {
        "Pod": describe_pod.pod,
        "Node": describe_node.node,
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
        lines += describe_node.pods_of(obj, list(pods))  # type: ignore[arg-type]
        if not isinstance(source, AsOf):  # heartbeats are not kept
            lines += await describe_node.usage(source, obj.metadata.name)
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
