"""`podium hollow`: nodes that are only played, for a cluster that runs.

The command forks the processes that play them from itself, once it has imported what they need, and stays in the
foreground. Ctrl-C has them remove their nodes, a second one ends them at once; when the command dies they end, and
their nodes fall silent, as they do when a process of them is killed.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from cluster.actor.clock import SystemClock
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import chosen_cluster, cluster_option
from cluster.up import hollow

if TYPE_CHECKING:
    from cluster.up.layout import ClusterDir, ClusterState

_CLOCK = SystemClock()
LOOK_S = 1.0
"""How often it is looked at whether the cluster is still there."""
START_S, START_PER_NODE_S = 30.0, 0.02
"""For the nodes to be registered."""
STOP_S = 70.0


@click.command(
    "hollow",
    epilog="\b\nExamples:\n"
    "  podium hollow --nodes 5000 --zones 3\n"
    "  podium hollow --nodes 100 --prefix gpu --node-resource gpu=8 --taint gpu:NoSchedule\n"
    "  podium hollow --nodes 500 --start-delay 0.5-3 --seed 1",
)
@click.option("--nodes", required=True, type=click.IntRange(1), metavar="N", help="How many.")
@click.option("--prefix", default=hollow.PREFIX, show_default=True, help="They are named PREFIX-1, PREFIX-2 ...")
@click.option("--processes", type=click.IntRange(1), metavar="N", help="That play them; default: one for each 2,500.")
@click.option("--node-cpu", default="", metavar="QTY", help="CPU of each node; default: 8.")
@click.option("--node-memory", default="", metavar="QTY", help="Memory of each node; default: 32Gi.")
@click.option("--node-pods", default=110, show_default=True, type=click.IntRange(1, 125), help="Pods of each node.")
@click.option("--node-resource", multiple=True, metavar="NAME=QTY", help="A further resource of each node: gpu=2.")
@click.option("--zones", default=0, metavar="N", help="Spread them over zone-1 to zone-N.")
@click.option("--racks", default=0, metavar="N", help="Spread them over rack-1 to rack-N, each in one zone.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Of each node.")
@click.option("--taint", multiple=True, metavar="KEY[=VALUE]:EFFECT", help="Of each node.")
@click.option(
    "--start-delay", default="0", metavar="S[-S]", help="Seconds that a container takes to start, or a range."
)
@click.option("--seed", default=0, metavar="N", help="Of the start delays.")
@click.option("--events", is_flag=True, help="Tell all events of real agents, not warnings alone.")
@click.option("--keep", is_flag=True, help="Leave the nodes behind at the end.")
@cluster_option
@click.pass_context
def hollow_command(
    ctx: click.Context,
    nodes: int,
    prefix: str,
    processes: int | None,
    node_cpu: str,
    node_memory: str,
    node_pods: int,
    node_resource: tuple[str, ...],
    zones: int,
    racks: int,
    label: tuple[str, ...],
    taint: tuple[str, ...],
    start_delay: str,
    seed: int,
    events: bool,
    keep: bool,
) -> int:
    """Play nodes: they register, beat and report their pods Running, and nothing runs.

    Pods with the annotation podium.dev/hollow-run-seconds end after so long, with podium.dev/hollow-exit-code."""
    from cluster.up.layout import find_cluster

    further = [
        *([f"--cpu={node_cpu}"] if node_cpu else []),
        *([f"--memory={node_memory}"] if node_memory else []),
        f"--pods={node_pods}",
        *(f"--resource={each}" for each in node_resource),
        *(f"--zones={zones}", f"--racks={racks}", f"--start-delay={start_delay}", f"--seed={seed}"),
        *(f"--label={each}" for each in label),
        *(f"--taint={each}" for each in taint),
        *(["--events"] if events else []),
    ]
    _check(nodes, prefix, further)
    directory, state = find_cluster(chosen_cluster(ctx))
    if prefix == hollow.PREFIX and state.hollow:
        raise CommandError(f'cluster "{directory.name}" plays nodes of this prefix itself; choose another --prefix')
    with _alone(directory, prefix):
        parts = hollow.parts(nodes, processes or hollow.processes_for(nodes))
        playing = _Playing(directory, state, prefix, keep)
        return playing.run(parts, [*further, *(["--keep"] if keep else [])], nodes)


def _check(nodes: int, prefix: str, further: list[str]) -> None:
    from node_agent.hollow.flags import FlagError, check_further_flags

    try:
        check_further_flags(nodes, further, prefix=prefix)
    except FlagError as error:
        words = str(error)
        for name in ("cpu", "memory", "pods", "resource"):
            words = words.replace(f"--{name} ", f"--node-{name} ")
        raise click.UsageError(words.replace("--count", "--nodes")) from error


@contextmanager
def _alone(directory: ClusterDir, prefix: str) -> Iterator[None]:
    """Nobody else plays nodes of this prefix meanwhile. Raises CommandError if somebody does."""
    path = directory.path / "run" / f"hollow-{prefix}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f'another `podium hollow` plays nodes of the prefix "{prefix}"; choose another --prefix'
            ) from None
        yield
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _Player:
    """A process that plays a part."""

    name: str
    pid: int
    stdout: int
    """-1 once it has ended."""
    nodes: int
    output: bytes = b""
    ready: bool = False
    left: dict[str, int] = field(default_factory=dict)
    """What it has said, at its end, that it leaves."""

    @property
    def is_alive(self) -> bool:
        return self.stdout >= 0


class _Playing:
    """The processes, from their start to their end."""

    def __init__(self, directory: ClusterDir, state: ClusterState, prefix: str, keep: bool) -> None:
        self._directory, self._state, self._prefix, self._keep = directory, state, prefix, keep
        self._players: list[_Player] = []
        self._selector = selectors.DefaultSelector()
        self._interrupts = 0
        self._stop_at_s: float | None = None

    def run(self, parts: list[tuple[int, int]], further: list[str], nodes: int) -> int:
        """Returns the exit code, when all is over."""
        lifeline, self._life = os.pipe2(os.O_CLOEXEC)
        with self._signals():
            try:
                self._start(parts, further, lifeline, nodes)
                if self._until_ready(nodes):
                    names = f"{self._prefix}-1" + (f" to {self._prefix}-{nodes}" if nodes > 1 else "")
                    many = f"{len(parts)} processes" if len(parts) > 1 else "1 process"
                    click.echo(f"READY {nodes:,} hollow nodes ({names}) in {many}; Ctrl-C removes them")
                    self._until_over()
                return self._end(nodes)
            finally:
                os.close(self._life)
                os.close(lifeline)

    # --- start

    def _start(self, parts: list[tuple[int, int]], further: list[str], lifeline: int, nodes: int) -> None:
        from cluster.rpc.identity import Identity, issue
        from cluster.up.addresses import hollow_host
        from cluster.up.launcher import fork_daemon, preload

        identity, host = f"hollow:{self._prefix}", hollow_host(self._state.block)
        credentials = self._directory.credentials(identity)
        issue(self._directory.credentials("ca"), credentials, Identity.parse(identity), hosts=[host])
        preload(["node_agent.hollow.__main__"])
        names = hollow.names(nodes, len(parts), self._prefix)
        for name, part in zip(names, parts, strict=True):
            arguments = hollow.arguments(
                part,
                prefix=self._prefix,
                master=self._state.master,
                host=host,
                credentials=str(credentials),
                profile=self._state.profile,
                further=further,
            )
            log = self._directory.log(name)
            started = fork_daemon(self._directory.name, name, "node_agent.hollow.__main__", arguments, log, lifeline)
            player = _Player(name, started.pid, started.stdout, part[1])
            self._players.append(player)
            self._selector.register(started.stdout, selectors.EVENT_READ, player)

    def _until_ready(self, nodes: int) -> bool:
        """Whether all play; False: the user does not want it any more. Raises CommandError."""
        deadline_s = _CLOCK.monotonic() + START_S + START_PER_NODE_S * nodes
        while not all(player.ready for player in self._players):
            if self._interrupts:
                return False
            self._wait(0.2)
            ended = [player for player in self._players if not player.is_alive]
            if ended or _CLOCK.monotonic() > deadline_s:
                self._tell_all(signal.SIGTERM)
                self._end(nodes, quietly=True)
                raise CommandError(self._why(ended), ExitCode.ERROR if ended else ExitCode.TIMEOUT)
        return True

    def _why(self, ended: list[_Player]) -> str:
        from cluster.up.child import tail_of

        if not ended:
            return "the nodes were not registered in time: does the master answer? See: podium cluster-info"
        log = self._directory.log(ended[0].name)
        return f"the nodes cannot be played:\n{tail_of(log)}\nlog: {log}"

    # --- playing

    def _until_over(self) -> None:
        """Until the user, the cluster, or the last process ends it."""
        look_at_s = _CLOCK.monotonic() + LOOK_S
        while not self._interrupts and any(player.is_alive for player in self._players):
            self._wait(LOOK_S)
            if _CLOCK.monotonic() >= look_at_s:
                look_at_s = _CLOCK.monotonic() + LOOK_S
                state = self._directory.read_state()
                if state is None or not state.is_running():
                    say("the cluster has been stopped")
                    self._tell_all(signal.SIGHUP)  # they leave their nodes: there is nobody to remove them
                    return

    def _wait(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, _Player):
                self._read(key.data)
            else:
                self._on_signal(key.data)

    def _read(self, player: _Player) -> None:
        data = os.read(player.stdout, 65536)
        if data:
            player.output = (player.output + data)[-4096:]
            for line in player.output.decode(errors="replace").splitlines():
                player.ready = player.ready or line.startswith("READY")
                if line.startswith("LEFT "):
                    pairs = (word.partition("=") for word in line.split()[1:])
                    player.left = {what: int(count) for what, _, count in pairs}
            return
        self._selector.unregister(player.stdout)
        os.close(player.stdout)
        player.stdout = -1
        _, status = os.waitpid(player.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if player.ready and not self._stop_at_s and code:
            how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}"
            say(f"{player.name} {how}: its {player.nodes:,} nodes have fallen silent")

    # --- the end

    def _end(self, nodes: int, *, quietly: bool = False) -> int:
        """Has the processes end, and says what they leave."""
        self._stop_at_s = _CLOCK.monotonic() + STOP_S
        if self._interrupts and not quietly:
            say("leaving the nodes behind" if self._keep else "removing the nodes; Ctrl-C again ends at once")
            self._tell_all(signal.SIGTERM)
        said = self._interrupts
        while any(player.is_alive for player in self._players):
            self._wait(0.2)
            if self._interrupts > max(said, 1) or _CLOCK.monotonic() > self._stop_at_s:
                self._tell_all(signal.SIGKILL)
        if quietly:
            return ExitCode.ERROR
        left = sum(player.left.get("nodes", player.nodes) for player in self._players)
        pods = sum(player.left.get("pods", 0) for player in self._players)
        removed = nodes - left
        words = [f"{removed:,} hollow nodes removed"] if removed else []
        words += [f"{left:,} left"] if left else []
        if pods and removed:
            words.append(f"{pods:,} pods were bound to them, which the controllers remove")
        elif pods:
            words.append(f"with {pods:,} pods")
        say(" · ".join(words))
        died = not self._interrupts and self._is_cluster_there()
        return ExitCode.ERROR if died or (left and not self._keep and self._is_cluster_there()) else ExitCode.OK

    def _is_cluster_there(self) -> bool:
        state = self._directory.read_state()
        return state is not None and state.is_running()

    def _tell_all(self, number: signal.Signals) -> None:
        for player in self._players:
            if player.is_alive:
                try:
                    os.kill(player.pid, number)
                except ProcessLookupError:
                    pass

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Within it, Ctrl-C, SIGTERM and SIGHUP wake whoever waits, and are counted."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, lambda *_: None) for number in numbers}
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ, reader)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.unregister(reader)
            reader.close()
            writer.close()

    def _on_signal(self, reader: socket.socket) -> None:
        self._interrupts += len(reader.recv(4096))
