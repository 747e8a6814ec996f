"""`podium up` and `podium down`: a whole cluster, and nothing of it left.

`up` forks the supervisor before anything heavy is imported, so that both import gRPC side by side on two cores. In the
foreground it then shows what happens and owns the cluster: when it ends, however it ends, the cluster ends. With -d it
returns when every node is Ready.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.actor.clock import SystemClock
from cluster.cli.exits import CommandError, ExitCode, say
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
@click.option("--timeout", default=30.0, show_default=True, metavar="SECONDS", help="For nodes to be Ready.")
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

    _check_quantities(node_cpu, node_memory, node_resource)
    _check_agent_args(agent_arg)
    _check_proxy_args(proxy_arg)
    _check_hollow(nodes, hollow, hollow_arg)
    _check_dns(dns)
    if not _given(ctx, "timeout"):
        timeout += hollow * _HOLLOW_START_S
    etcd_credentials = _check_store(store, etcd_credentials)
    scheduler_config = _check_scheduler_config(scheduler_config, profile)
    policies = _check_policies(policies)
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
            scheduler_config = _check_scheduler_config(state.scheduler_config, profile)
        if not _given(ctx, "policies"):
            policies = _check_policies(state.policies)
        # Of a cluster that died a moment ago: it holds the addresses and the store.
        _end_remains(directory, state, now=False, pods=lifetime == "dev")
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
    with _Interrupts(directory, patience=1) as interrupted:
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


def _check_store(store: str, etcd_credentials: str) -> str:
    """The directory of credentials, from wherever the daemons look. Raises UsageError."""
    from cluster.config.etcd_url import parse_etcd_url

    if not store:
        if etcd_credentials:
            raise click.UsageError("--etcd-credentials is for --store")
        return ""
    try:
        parse_etcd_url(store)
    except ValueError as error:
        raise click.UsageError(f"--store: {error}") from error
    if etcd_credentials and not Path(etcd_credentials).is_dir():
        raise click.UsageError(f"--etcd-credentials {etcd_credentials}: there is no such directory")
    return str(Path(etcd_credentials).absolute()) if etcd_credentials else ""


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


def _check_quantities(cpu: str, memory: str, resources: tuple[str, ...]) -> None:
    from cluster.api.quantities import parse_quantity

    pairs = [("--node-cpu", cpu), ("--node-memory", memory)]
    for resource in resources:
        name, equals, amount = resource.partition("=")
        if not name or not equals:
            raise click.UsageError(f'--node-resource "{resource}": write NAME=QUANTITY, such as gpu=2')
        pairs.append((f"--node-resource {name}", amount))
    for option, text in pairs:
        try:
            if text and parse_quantity(text) <= 0:
                raise ValueError("must be greater than 0")
        except ValueError as error:
            raise click.UsageError(f'{option} "{text}": {error}') from error


def _check_agent_args(arguments: tuple[str, ...]) -> None:
    """Refuses what a node agent would refuse, before anything is started."""
    from node_agent.flags import FlagError, check_further_flags

    try:
        check_further_flags([f"--{argument.lstrip('-')}" for argument in arguments])
    except FlagError as error:
        raise click.UsageError(f"--agent-arg: {error}") from error


def _check_dns(options: tuple[str, ...]) -> None:
    """Refuses what the DNS server would refuse, before anything is started."""
    if not options:
        return
    from cluster.config.errors import ConfigError
    from proxy.dns.flags import read_options

    try:
        read_options(options)
    except ConfigError as error:
        raise click.UsageError(f"--dns: {error}") from error


def _check_proxy_args(arguments: tuple[str, ...]) -> None:
    """Refuses what the proxy would refuse, before anything is started."""
    from cluster.config.errors import ConfigError
    from proxy.flags import check_further_flags

    try:
        check_further_flags([f"--{argument.lstrip('-')}" for argument in arguments])
    except ConfigError as error:
        raise click.UsageError(f"--proxy-arg: {error}") from error


def _check_scheduler_config(path: str, profile: str) -> str:
    """The file, from wherever the daemons look. Refuses what the manager would refuse, before anything is started."""
    if not path:
        return ""
    from cluster.config.errors import ConfigError
    from cluster.config.profiles import PROFILES
    from cluster.scheduler.configuration import load_settings

    where = Path(path).absolute()
    try:
        load_settings(PROFILES[profile], where)
    except ConfigError as error:
        raise click.UsageError(f"--scheduler-config: {error}") from error
    return str(where)


def _check_policies(path: str) -> str:
    """The directory, from wherever the proxy looks."""
    if not path:
        return ""
    where = Path(path).absolute()
    if not where.is_dir():
        raise click.UsageError(f"--policies: {where} is not a directory")
    return str(where)


def _check_hollow(nodes: int, hollow: int, arguments: tuple[str, ...]) -> None:
    """Refuses what processes that play nodes would refuse, before anything is started."""
    from node_agent.hollow.flags import FlagError, check_further_flags

    if nodes + hollow == 0:
        raise click.UsageError("--nodes 0: a cluster without nodes runs nothing; add --hollow N to play some")
    if arguments and not hollow:
        raise click.UsageError("--hollow-arg is for --hollow")
    try:
        check_further_flags(hollow, [f"--{argument.lstrip('-')}" for argument in arguments])
    except FlagError as error:
        raise click.UsageError(f"--hollow-arg: {error}") from error


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


class _Interrupts:
    """Within it, Ctrl-C (or SIGTERM, SIGHUP) only counts; whoever waits looks at it and stops the cluster.

    Those that come after the first `patience` ones have it killed at once.
    """

    def __init__(self, directory: ClusterDir, *, patience: int) -> None:
        self._directory = directory
        self._patience = patience
        self.count = 0

    def __enter__(self) -> _Interrupts:
        self._before = {n: signal.signal(n, self._on_signal) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.count > 0

    def _on_signal(self, *_: object) -> None:
        self.count += 1
        if self.count > self._patience:
            _kill_now(self._directory)


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


@click.command(
    "down",
    epilog="\b\nExamples:\n"
    "  podium down\n"
    "  podium down --cluster demo --now\n"
    "  podium down --keep      the next `podium up` goes on from there",
)
@click.option("--now", is_flag=True, help="Kill at once: no grace for pods.")
@click.option("--keep", is_flag=True, help="Keep the cluster's state for the next `up`.")
@cluster_option
@click.pass_context
def down_command(ctx: click.Context, now: bool, keep: bool) -> int:
    """Stop a cluster, count what is left, and remove its directory.

    Exit code 7 if a process is left."""
    from cluster.up.layout import cluster_dir, find_cluster, known_clusters

    name = chosen_cluster(ctx)
    if name is None:
        # The only cluster there is, even if its supervisor died: then there is something to clean up. One that was
        # stopped and kept has no processes; to remove what it kept, it must be named.
        states = [(directory, directory.read_state()) for directory in known_clusters()]
        left = [directory for directory, state in states if state is not None and state.processes]
        directory = left[0] if len(left) == 1 else find_cluster(None)[0]
    else:
        directory = cluster_dir(name)
        if directory.read_state() is None:
            find_cluster(name)  # raises, with the words for it
    with _Interrupts(directory, patience=0):
        return stop_cluster(directory, now=now, keep=keep)


def stop_cluster(directory: ClusterDir, *, now: bool, keep: bool, failed: bool = False) -> int:
    """Stops a cluster and says how long it took and what is left. Removes its directory unless `keep`.

    One that `failed` to start is cleaned up without many words."""
    start_s = _CLOCK.monotonic()
    state = directory.read_state()
    if state is None:
        survivors: list[dict[str, Any]] = []
    elif state.is_running():
        survivors = _stop_through_supervisor(directory, state, now)
    else:
        survivors = _end_remains(directory, state, now)
    took_s = _CLOCK.monotonic() - start_s
    elsewhere = state.store if state is not None else ""
    # What is in etcd is not ours to remove; so the first `down` keeps what belongs to it, its addresses among others.
    keep = keep or bool(elsewhere and state is not None and state.processes and not failed)
    removed = "state kept"
    if not keep and not survivors and directory.path.exists():
        directory.remove()
        removed = "directory removed" if elsewhere else "state removed"
    elif keep and not survivors and (kept := directory.read_state()) is not None:
        kept.processes = []
        directory.write_state(kept)
    if not failed or survivors:
        count = max(len(state.processes) - 1, 0) if state is not None else 0
        left = f"{len(survivors)} process{'' if len(survivors) == 1 else 'es'} left"
        say(f'cluster "{directory.name}" stopped ({count} processes) in {took_s:.1f}s · {left} · {removed}')
        if elsewhere:
            _tell_where_state_is(directory, elsewhere, removed)
    for survivor in survivors:
        say(f"  left: pid {survivor['pid']} {survivor['name']}")
    return ExitCode.SURVIVORS if survivors else ExitCode.OK


def _tell_where_state_is(directory: ClusterDir, store: str, removed: str) -> None:
    from cluster.config.etcd_url import parse_etcd_url

    url = parse_etcd_url(store)
    say(
        f"its state is still in {store}; to remove that: etcdctl --endpoints {','.join(url.endpoints)} del --prefix "
        f"{url.prefix or f'/podium/{directory.name}/'}"
    )
    if removed == "state kept":
        say(f"to remove what is kept here as well: podium down --cluster {directory.name}")


def _stop_through_supervisor(directory: ClusterDir, state: ClusterState, now: bool) -> list[dict[str, Any]]:
    from cluster.api.errors import ApiError, DeadlineExceeded
    from cluster.up import control

    survivors: list[dict[str, Any]] | None = None
    try:
        control.ask(directory.control_socket, {"op": "status"})
        for answer in control.request(directory.control_socket, {"op": "stop", "now": now}, timeout_s=60.0):
            if answer["step"] == "killing":
                say(f"killing what did not stop in time: {', '.join(answer['names'])}")
            if answer.get("done"):
                survivors = answer["processes_left"]
                if answer["swept"]:
                    say(f"{answer['swept']} processes had escaped from their pods; killed")
    except DeadlineExceeded as error:
        say(f"warning: {error}; killing everything")
        return _end_remains(directory, directory.read_state() or state, now=True)
    except ApiError as error:
        say(f"warning: {error}")
    supervisor = state.supervisor
    deadline = _CLOCK.monotonic() + 10.0
    while supervisor is not None and supervisor.is_alive() and _CLOCK.monotonic() < deadline:
        time.sleep(0.005)
    if survivors is None or (supervisor is not None and supervisor.is_alive()):
        return _end_remains(directory, directory.read_state() or state, now)
    return survivors


def _kill_now(directory: ClusterDir) -> None:
    """In a signal handler. A supervisor that gets SIGINT kills everything, in whatever it was."""
    state = directory.read_state()
    if state is not None and state.supervisor is not None and state.supervisor.is_alive():
        os.write(sys.stderr.fileno(), b"killing now\n")
        try:
            os.kill(state.supervisor.pid, signal.SIGINT)
        except ProcessLookupError:
            pass


def _end_remains(directory: ClusterDir, state: ClusterState, now: bool, pods: bool = True) -> list[dict[str, Any]]:
    from cluster.up.remains import end_remains

    left = end_remains(directory, state, _CLOCK, now=now, pods=pods)
    return [{"pid": process.pid, "name": process.name()} for process in left]


def is_terminal() -> bool:
    """Progress may be drawn."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ
