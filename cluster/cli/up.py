"""`podium up`: a whole cluster. What ends it is in `down.py`.

`up` forks the supervisor before anything heavy is imported, so that both import gRPC side by side on two cores. In the
foreground it then shows what happens and owns the cluster: when it ends, however it ends, the cluster ends. With -d it
returns when every node is Ready.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cluster.actor.clock import SystemClock
from cluster.cli import up_checks
from cluster.cli.down import end_what_remains, stop_cluster
from cluster.cli.durations import timeout_option
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.interrupts import Interrupts
from cluster.cli.session import chosen_cluster, cluster_option
from cluster.up.addresses import FIRST_BLOCK, LAST_BLOCK, is_free, taken

if TYPE_CHECKING:
    from cluster.up.layout import ClusterDir, ClusterState
    from cluster.up.start import Handle

_CLOCK = SystemClock()
_HOLLOW_START_S = 0.02
"""What the time for nodes to become Ready grows by with each hollow one."""
_LIFETIMES = {
    "dev": "pods end with the cluster, however it ends",
    "service": "pods outlive every daemon, until podium down",
}


class Steps:
    """Prints each step with the time since the start."""

    def __init__(self) -> None:
        self._start_s = _CLOCK.monotonic()

    def done(self, what: str, detail: str = "") -> None:
        say(f"{what:<12} {detail:<58} {_CLOCK.monotonic() - self._start_s:5.2f}s")


@click.command(
    "up",
    epilog="\b\nExamples:\n"
    "  podium up                                  three nodes, in the foreground; Ctrl-C stops all\n"
    "  podium up --nodes 5 -d                     in the background; stop it with: podium down\n"
    "  podium up --cluster demo --apply examples/guestbook",
)
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(0, 200), help="How many node agents.")
@click.option("--hollow", default=0, type=click.IntRange(0), metavar="N", help="And nodes that are only played.")
@click.option("--hollow-arg", multiple=True, metavar="ARG", help="Option of hollow nodes: zones=3.")
@click.option("-d", "--detach", is_flag=True, help="Return when every node is Ready; the cluster goes on.")
@click.option("--apply", "manifests", multiple=True, metavar="PATH", help="Apply this file or directory, then go on.")
@click.option(
    "--profile",
    default="laptop",
    show_default=True,
    type=click.Choice(["laptop", "kubernetes", "test"]),
    help="Timers: how fast a dead node is noticed, and so on.",
)
@click.option("--node-cpu", default="", metavar="QTY", help="CPU of each node; default: the machine's.")
@click.option("--node-memory", default="", metavar="QTY", help="Memory of each node; default: all of it.")
@click.option(
    "--node-pods", default=110, show_default=True, type=click.IntRange(1, 110), help="Pods that each node takes."
)
@click.option("--node-resource", multiple=True, metavar="NAME=QTY", help="A further resource of each node: gpu=2.")
@click.option("--agent-arg", multiple=True, metavar="ARG", help="Option of each node agent: no-cgroups.")
@click.option("--proxy-arg", multiple=True, metavar="ARG", help="Option of the proxy: workers=2.")
@click.option(
    "--store",
    default="",
    metavar="URL",
    help="Keep the state at etcd://HOST:PORT,.../PREFIX; default: in the cluster's directory (SQLite).",
)
@click.option(
    "--etcd-credentials",
    default="",
    metavar="DIR",
    help="For --store: ca.crt, tls.crt, tls.key.",
)
@click.option(
    "--masters",
    default=1,
    show_default=True,
    type=click.IntRange(1, 9),
    help="Several need --store.",
)
@click.option("--rest", is_flag=True, help="Serve Kubernetes' API from the start.")
@click.option("--scheduler-config", default="", metavar="FILE", help="Profiles of the scheduler, as TOML.")
@click.option("--policies", default="", metavar="DIR", help="Python files with policies for ambassadors.")
@click.option(
    "--block",
    type=click.IntRange(FIRST_BLOCK, LAST_BLOCK),
    metavar="N",
    help="Own the addresses 127.N.0.0/16; default: any that are free.",
)
@click.option(
    "--dns",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of the DNS server: port=1053.",
)
@timeout_option("For nodes to be Ready.", default="30s")
@click.option("--keep", is_flag=True, help="Keep the state for the next `up`.")
@click.option(
    "--lifetime",
    default="dev",
    show_default=True,
    type=click.Choice(["dev", "service"]),
    help="service: pods outlive the death of all daemons.",
)
@click.option("--lifeline-fd", type=int, hidden=True, help="With -d: the cluster stops at the end of this file.")
@cluster_option
@click.pass_context
def up_command(
    ctx: click.Context,
    nodes: int,
    detach: bool,
    manifests: tuple[str, ...],
    profile: str,
    node_cpu: str,
    node_memory: str,
    node_pods: int,
    node_resource: tuple[str, ...],
    agent_arg: tuple[str, ...],
    proxy_arg: tuple[str, ...],
    hollow: int,
    hollow_arg: tuple[str, ...],
    store: str,
    etcd_credentials: str,
    masters: int,
    rest: bool,
    scheduler_config: str,
    policies: str,
    block: int | None,
    dns: tuple[str, ...],
    timeout: float,
    keep: bool,
    lifetime: str,
    lifeline_fd: int | None,
) -> int:
    """Start a cluster: master, controllers and scheduler, node agents, proxy and DNS.

    On a cluster that runs already, starts what of it is down (a node agent that was killed, for example)."""
    from cluster.up.layout import cluster_dir
    from cluster.up.plan import UpOptions

    up_checks.check_quantities(node_cpu, node_memory, node_resource)
    up_checks.check_agent_args(agent_arg)
    up_checks.check_proxy_args(proxy_arg)
    up_checks.check_hollow(nodes, hollow, hollow_arg)
    up_checks.check_dns(dns)
    if not _given(ctx, "timeout"):
        timeout += hollow * _HOLLOW_START_S
    etcd_credentials = up_checks.check_store(store, etcd_credentials)
    scheduler_config = up_checks.check_scheduler_config(scheduler_config, profile)
    policies = up_checks.check_policies(policies)
    directory = cluster_dir(chosen_cluster(ctx) or "default")
    for path in manifests:
        if not Path(path).exists():
            raise click.UsageError(f"--apply {path}: there is no such file or directory")
    state = directory.read_state()
    if state is not None and state.is_running():
        running = {"nodes": len(state.nodes), "profile": state.profile, "masters": len(state.masters)}
        running["hollow"] = state.hollow
        running |= {"store": state.store, "etcd_credentials": state.etcd_credentials, "block": state.block}
        running |= {"lifetime": state.lifetime, "scheduler_config": state.scheduler_config}
        running["policies"] = state.policies
        running["rest"] = any(process.role == "kubernetes" for process in state.processes)
        _tell_what_is_ignored(ctx, running)
        return _start_stopped(directory, state, timeout)

    steps = Steps()
    if lifetime == "service" and lifeline_fd is not None:
        raise click.UsageError("--lifeline-fd is for --lifetime dev")
    if state is not None:
        if not _given(ctx, "lifetime"):
            lifetime = state.lifetime
        if not _given(ctx, "scheduler_config"):
            scheduler_config = up_checks.check_scheduler_config(state.scheduler_config, profile)
        if not _given(ctx, "policies"):
            policies = up_checks.check_policies(state.policies)
        # Of a cluster that died a moment ago: it holds the addresses and the store.
        end_what_remains(directory, state, now=False, pods=lifetime == "dev")
        store, etcd_credentials, masters = _as_kept(ctx, directory, state)
    elif block is not None and not is_free(block):
        raise CommandError(f"another cluster has the addresses 127.{block}.0.0/16")
    if masters > 1 and not store:
        raise click.UsageError("--masters: more than one need a store that they share: --store etcd://HOST:PORT,...")
    from cluster.up.start import start_supervisor

    options = UpOptions(
        nodes,
        profile,
        node_cpu,
        node_memory,
        node_pods,
        node_resource,
        masters,
        store,
        etcd_credentials,
        lifetime,
        tuple(argument.lstrip("-") for argument in agent_arg),
        scheduler_config,
        policies,
        block or 0,
        hollow,
        tuple(argument.lstrip("-") for argument in hollow_arg),
        dns,
        proxy_args=tuple(argument.lstrip("-") for argument in proxy_arg),
        rest=rest,
    )
    with Interrupts(directory, patience=1) as interrupted:
        handle = start_supervisor(directory, options, detached=detach, clock=_CLOCK, lifeline_fd=lifeline_fd)
        try:
            from cluster.cli.upview import View

            with View(directory, handle, interrupted) as view:
                ready = view.bring_up(nodes, hollow, manifests, timeout, steps, rest=rest)
                if ready:
                    steps.done(f"lifetime {lifetime}", _LIFETIMES[lifetime])
                if ready and not detach:
                    view.show_live_status()
            if ready and detach:
                say(f"\nNext: podium apply -f FILE; podium get pods -o wide; podium down --cluster {directory.name}")
                return ExitCode.OK
        except BaseException as error:
            kept = state is not None  # a start that fails does not take away what was there before
            if not isinstance(error, BrokenPipeError):  # then there is nobody left to tell
                say("stopping what was started" + ("; the state is kept" if kept else ""))
            _finish(directory, handle, keep or kept, now=False, failed=True)
            raise
        if interrupted.count == 1:
            say("stopping; Ctrl-C again kills at once")
        return _finish(directory, handle, keep, now=interrupted.count > 1)


def _tell_what_is_ignored(ctx: click.Context, running: dict[str, object]) -> None:
    """A cluster that runs has the shape that it was started with: says so, for options that ask for another one."""
    ignored = [
        option.opts[0]
        for option in ctx.command.params
        if option.name is not None
        and option.name not in ("detach", "timeout", "lifeline_fd")
        and option.expose_value
        and ctx.get_parameter_source(option.name) is click.core.ParameterSource.COMMANDLINE
        and ctx.params[option.name] != running.get(option.name)
    ]
    if ignored:
        say(f"warning: the cluster runs already, so this is ignored: {', '.join(ignored)}")
    if "--apply" in ignored:
        say("to apply manifests to it: podium apply -f FILE")


def _as_kept(ctx: click.Context, directory: ClusterDir, state: ClusterState) -> tuple[str, str, int]:
    """Store, credentials and number of masters of a cluster that comes back: it goes on where its state is.

    Raises UsageError if another store is asked for, CommandError if somebody else has its addresses.
    """

    if _given(ctx, "store") and ctx.params["store"] != state.store:
        raise click.UsageError(
            f'--store: cluster "{directory.name}" was kept, and its state is in {state.store or directory.path}. To '
            f"begin another: podium down --cluster {directory.name}, or another name"
        )
    if _given(ctx, "block") and ctx.params["block"] != state.block:
        raise click.UsageError(
            f'--block: cluster "{directory.name}" was kept, and its objects have addresses of 127.{state.block}.0.0/16'
        )
    if not is_free(state.block):
        raise CommandError(taken(state.block))
    if _given(ctx, "etcd_credentials"):
        credentials = str(Path(ctx.params["etcd_credentials"]).absolute())
    else:
        credentials = state.etcd_credentials
    return state.store, credentials, ctx.params["masters"] if _given(ctx, "masters") else len(state.masters)


def _given(ctx: click.Context, name: str) -> bool:
    """The user said so, on the command line."""
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _start_stopped(directory: ClusterDir, state: ClusterState, timeout: float) -> int:
    """Starts what of a running cluster is down; returns when every node is Ready."""
    from cluster.up import control

    answer = control.ask(directory.control_socket, {"op": "start"})
    deadline = _CLOCK.monotonic() + timeout
    while any(child["state"] != "running" for child in answer["children"]):
        if _CLOCK.monotonic() > deadline:
            raise CommandError(f'cluster "{directory.name}" runs, but not all of it', ExitCode.TIMEOUT)
        time.sleep(0.05)
        answer = control.ask(directory.control_socket, {"op": "status"})
    from cluster.cli.upview import wait_for_nodes

    wait_for_nodes(directory, state, deadline - _CLOCK.monotonic())
    say(f'cluster "{directory.name}" runs: {len(answer["children"])} processes, every node Ready')
    return ExitCode.OK


def _finish(directory: ClusterDir, handle: Handle, keep: bool, *, now: bool, failed: bool = False) -> int:
    """Stops the cluster that this process owns, and waits for its supervisor's end."""
    _await_supervisor(directory, handle)
    code = stop_cluster(directory, now=now, keep=keep, failed=failed)
    try:
        os.waitpid(handle.pid, 0)
    except ChildProcessError:
        pass
    return code


def _await_supervisor(directory: ClusterDir, handle: Handle) -> None:
    """Interrupted early, the supervisor may not listen yet: returns when it does, or when it has ended."""
    deadline = _CLOCK.monotonic() + 10.0
    while _CLOCK.monotonic() < deadline:
        state = directory.read_state()
        if state is None or state.supervisor is None or state.supervisor.pid != handle.pid:
            try:
                if os.waitpid(handle.pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return
        elif directory.control_socket.exists() or not state.is_running():
            return
        time.sleep(0.005)
