"""`podium run` and `podium restart`: pods without a manifest, and anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from cluster.cli.dashes import CommandWithDashes
from cluster.cli.durations import timeout_option
from cluster.cli.exits import CommandError, ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import targets

if TYPE_CHECKING:
    from cluster.pb.v1 import core_pb2 as core

_LOOK_S = 0.1
_START_LOOK_S = 0.02


@click.command(
    "run",
    cls=CommandWithDashes,
    epilog="\b\nExamples:\n"
    "  podium run job --restart Never -- sh -c 'echo hello'\n"
    "  podium run web --replicas 3 --port 8080 -- python3 server.py\n"
    "  podium run shell -it --rm --restart Never -- bash\n"
    "  podium run --env LEVEL=debug --labels app=web,tier=fe --wait web -- ./serve",
)
@click.option("--replicas", type=click.IntRange(0), help="A replication controller of so many; default: one pod.")
@click.option("--restart", default="Always", type=click.Choice(["Always", "OnFailure", "Never"]), show_default=True)
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port that it listens on.")
@click.option("-l", "--labels", default="", metavar="K=V,...", help="Labels of the pods; default: run=NAME.")
@click.option("--wait", is_flag=True, help="Return when it is ready.")
@timeout_option("With --wait.")
@click.option("-i", "--stdin", "with_stdin", is_flag=True, help="Stay with it, and pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Stay with it, and give it a terminal.")
@click.option("--rm", "remove", is_flag=True, help="Stay with it, and delete it when it has ended.")
@click.option("--dry-run", is_flag=True, help="Print the manifest; write nothing.")
@namespace_option
@cluster_option
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARG...]")
@click.pass_context
def run_command(
    ctx: click.Context,
    name: str,
    command: tuple[str, ...],
    replicas: int | None,
    restart: str,
    variables: tuple[str, ...],
    port: int | None,
    labels: str,
    wait: bool,
    timeout: float,
    with_stdin: bool,
    tty: bool,
    remove: bool,
    dry_run: bool,
    namespace: str,
) -> int:
    """Run a command as a pod, or as several that are kept alive."""
    from cluster.pb.v1 import core_pb2 as core

    if command[0].startswith("-"):
        raise click.UsageError("write -- before the command: podium run NAME --replicas 3 -- COMMAND")
    if (with_stdin or tty or remove) and (replicas is not None or wait or dry_run):
        raise click.UsageError(
            "-i, -t and --rm are for one pod, and stay with it: without --replicas, --wait, --dry-run"
        )
    if replicas is not None and restart != "Always":
        raise click.UsageError("--restart: pods of a replication controller always restart")
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace = name, namespace
    for key, value in _labels(labels, name):
        pod.metadata.labels[key] = value
    pod.spec.restartPolicy = restart
    container = pod.spec.containers.add(name=name, command=command, stdin=with_stdin, stdinOnce=with_stdin, tty=tty)
    for pair in variables:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f'--env "{pair}": write NAME=VALUE')
        container.env.add(name=key, value=value)
    if port:
        container.ports.add(containerPort=port)
    made = pod if replicas is None else _controller(pod, replicas)
    if dry_run:
        from cluster.cli.printers import as_yaml

        click.echo(as_yaml([made], single=True))
        return ExitCode.OK

    async def body(session: Session) -> int:
        from cluster.cli.printers import name_of
        from cluster.cli.waiting import wait_until_ready
        from cluster.client import operations

        cause = core.Cause(reason="run")
        created = (await session.client.write([operations.create(made)], cause=cause)).outcomes[0].unwrap()
        if with_stdin or tty or remove:
            assert isinstance(created, core.Pod)
            return await _stay(session, created, with_stdin=with_stdin, tty=tty, remove=remove, timeout=timeout)
        click.echo(f"{name_of(created)} created")
        if wait:
            slow = await wait_until_ready(session.client, [created], timeout)
            if slow:
                raise CommandError(f"not ready after {timeout:g} s:\n  " + "\n  ".join(slow), ExitCode.TIMEOUT)
        return ExitCode.OK

    return run(ctx, body)


async def _stay(session: Session, pod: core.Pod, *, with_stdin: bool, tty: bool, remove: bool, timeout: float) -> int:
    """Talks to a pod that was just created until its container ends; its exit code."""
    from cluster.api.meta import key_of
    from cluster.cli.exec import converse
    from cluster.cli.logs import print_logs
    from cluster.client import operations

    try:
        live = await _begun(session, pod, timeout)
        status = live.status.containerStatuses[0]
        if status.state.HasField("running"):
            return await converse(session, live, "", (), with_stdin=with_stdin, tty=tty, attach=True)
        ended = status.state.terminated if status.state.HasField("terminated") else status.lastState.terminated
        await print_logs(session, live)
        return int(ended.exitCode)
    finally:
        if remove:
            await session.client.write([operations.delete(key_of(pod), uid=pod.metadata.uid)])


async def _begun(session: Session, pod: core.Pod, timeout: float) -> core.Pod:
    """The pod, as soon as its container runs or has ended. Raises CommandError."""
    from cluster.api.columns import pod_status

    try:
        async with asyncio.timeout(timeout):
            while True:
                live = await session.client.get(type(pod), pod.metadata.name, pod.metadata.namespace)
                for status in live.status.containerStatuses:
                    state = status.state
                    if (
                        state.HasField("running")
                        or state.HasField("terminated")
                        or status.lastState.HasField("terminated")
                    ):
                        return live
                await asyncio.sleep(_START_LOOK_S)
    except TimeoutError:
        name = pod.metadata.name
        why = f"pod/{name} does not run after {timeout:g} s: {pod_status(live)}. See: podium describe pod/{name}"
        raise CommandError(why, ExitCode.TIMEOUT) from None


def _labels(text: str, name: str) -> list[tuple[str, str]]:
    if not text:
        return [("run", name)]
    pairs = []
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f'--labels "{pair}": write KEY=VALUE')
        pairs.append((key, value))
    return pairs


def _controller(pod: core.Pod, replicas: int) -> core.ReplicationController:
    from cluster.pb.v1 import core_pb2

    rc = core_pb2.ReplicationController()
    rc.metadata.name, rc.metadata.namespace = pod.metadata.name, pod.metadata.namespace
    rc.spec.replicas = replicas
    rc.spec.selector.update(pod.metadata.labels)
    rc.spec.template.metadata.labels.update(pod.metadata.labels)
    rc.spec.template.spec.CopyFrom(pod.spec)
    return rc


@click.command(
    "restart",
    epilog="\b\nExamples:\n"
    "  podium restart rc/web\n"
    "  podium restart rc/web --timeout 2m\n"
    "  podium restart pod/web-x2k4p\n"
    "  podium restart proxy",
)
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME...|proxy")
@timeout_option("For each pod's replacement.")
@namespace_option
@cluster_option
@click.pass_context
def restart_command(ctx: click.Context, what: tuple[str, ...], timeout: float, namespace: str) -> int:
    """Replace the pods of controllers, one after the other, each when the one before is ready again.

    A pod that belongs to a controller is replaced by it; one that belongs to nobody cannot be restarted. `proxy`: a new
    one takes the listening sockets over, so that no connection fails; those that are there finish in the old one."""
    if what == ("proxy",):
        from cluster.cli.restart_proxy import restart_proxy

        return restart_proxy(ctx, timeout)
    wanted = targets(what)
    for kind, name in wanted:
        if kind.name not in ("ReplicationController", "Pod") or not name:
            raise click.UsageError("name replication controllers or pods: podium restart rc/NAME")

    async def body(session: Session) -> int:
        from cluster.api.meta import Key
        from cluster.api.owners import controller_of
        from cluster.pb.v1 import core_pb2 as core

        for kind, name in wanted:
            if kind.name == "Pod":
                pod = await session.client.get(core.Pod, name, namespace)
                owner = controller_of(pod)
                if owner is None or owner.kind != "ReplicationController":
                    raise CommandError(f"pod/{name} belongs to no controller that would make another: delete it")
                await _replace(session, [pod], Key("ReplicationController", namespace, owner.name), timeout)
                continue
            rc = await session.client.get(core.ReplicationController, name, namespace)
            listed = (await session.client.list(core.Pod, namespace)).items
            mine = [pod for pod in listed if (owner := controller_of(pod)) is not None and owner.uid == rc.metadata.uid]
            await _replace(session, mine, Key("ReplicationController", namespace, name), timeout)
        return ExitCode.OK

    return run(ctx, body)


async def _replace(session: Session, pods: list[core.Pod], controller: object, timeout: float) -> None:
    """Raises CommandError, with what is done already, when a replacement is not ready in time."""
    from cluster.api.errors import NotFound
    from cluster.api.meta import Key, key_of
    from cluster.client import operations
    from cluster.pb.v1 import core_pb2 as core

    assert isinstance(controller, Key)
    for number, pod in enumerate(pods, 1):
        try:
            deletion = operations.delete(key_of(pod), uid=pod.metadata.uid)
            (await session.client.write([deletion], cause=core.Cause(reason="restart"))).outcomes[0].unwrap()
        except NotFound:
            continue
        try:
            async with asyncio.timeout(timeout):
                while not await _is_replaced(session, pod, controller):  # noqa: ASYNC110  (the master is asked)
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise CommandError(
                f"the replacement of pod/{pod.metadata.name} is not ready after {timeout:g} s; {number - 1} of "
                f"{len(pods)} pods were replaced. See: podium describe rc/{controller.name}",
                ExitCode.TIMEOUT,
            ) from None
        click.echo(f"pod/{pod.metadata.name} replaced ({number} of {len(pods)})")


async def _is_replaced(session: Session, pod: core.Pod, controller: object) -> bool:
    from cluster.api.errors import NotFound
    from cluster.api.meta import Key
    from cluster.pb.v1 import core_pb2 as core

    assert isinstance(controller, Key)
    try:
        found = await session.client.get(core.Pod, pod.metadata.name, pod.metadata.namespace)
        if found.metadata.uid == pod.metadata.uid:
            return False
    except NotFound:
        pass
    rc = await session.client.get(core.ReplicationController, controller.name, controller.namespace)
    return bool(rc.status.readyReplicas >= rc.spec.replicas and rc.status.replicas == rc.spec.replicas)
