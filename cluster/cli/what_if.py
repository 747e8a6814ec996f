"""`podium plan` and `podium what-if`: what would come of a change, found out in memory; nothing is written.

The cluster is read once, as of one revision, by a client that can do nothing else; then its connection is closed, and
the simulation runs in this process.

    podium what-if node/n2 --down node/n3 node/n4 --cordon

A word for what befalls nodes (--down, --cordon, --uncordon) means the nodes that stand before it; if none do, those
that stand after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.cli.durations import Duration
from cluster.cli.session import Session, cluster_option, namespace_option, run

if TYPE_CHECKING:
    from cluster.scheduler.settings import SchedulerSettings
    from cluster.simulation import Change, Snapshot
    from cluster.up.layout import ClusterState

F = TypeVar("F", bound=Callable[..., Any])
FATES = ("--down", "--cordon", "--uncordon")


def rearranged(args: Sequence[str], valued: frozenset[str]) -> list[str]:
    """The arguments with each fate before each of the nodes that it means: n2 n3 --down becomes --down n2 --down n3.

    `valued` are the options that are followed by a value. Raises click.UsageError for a fate that means no node.
    """
    result: list[str] = []
    nodes: list[str] = []
    place = 0
    while place < len(args):
        word = args[place]
        place += 1
        if word in FATES:
            if not nodes:
                while place < len(args) and not args[place].startswith("-"):
                    nodes.append(args[place])
                    place += 1
            if not nodes:
                raise click.UsageError(f"{word}: name the nodes: node/NAME {word}")
            result += [part for node in nodes for part in (word, node)]
            nodes = []
        elif word.startswith("-") and word != "-":
            result.append(word)
            if word in valued and place < len(args):
                result.append(args[place])
                place += 1
        else:
            nodes.append(word)
    return result + nodes


class _WhatIf(click.Command):
    """See the head of this file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [param for param in self.params if isinstance(param, click.Option)]
        valued = frozenset(name for option in options if not option.is_flag for name in option.opts)
        return super().parse_args(ctx, rearranged(args, valued))


_LEAST_S = 0.01
"""What the simulation takes for a time; it is asked when it is imported, which takes a while."""


@dataclass(frozen=True, slots=True)
class _Manner:
    """What both commands can be told about the simulation."""

    seed: int
    pod_start_s: float
    pod_stop_s: float
    limit_s: float
    timeout_s: float
    output: str


def _simulation_options(command: F) -> F:
    """Adds the options of `_Manner`, under its names."""
    options = (
        _duration("--pod-start", "1s", "How long a pod takes to start."),
        _duration("--pod-stop", "1s", "How long it takes to stop, at most its grace period."),
        _duration("--limit", "30m", "Gives up after this time of the simulation."),
        _duration("--timeout", "2m", "Gives up after this time of your own."),
        click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Decides where chance does."),
        click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", help="Format."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _duration(name: str, default: str, help: str) -> Callable[[F], F]:
    return click.option(name, type=Duration(_LEAST_S), default=default, show_default=True, metavar="TIME", help=help)


@click.command(
    "plan",
    epilog="\b\nExamples:\n  podium plan -f web.yaml                   what apply would do, and what would follow\n"
    "  podium plan -f examples/guestbook -o json\n  cat web.yaml | podium plan -f - -n shop",
)
@click.option("-f", "--filename", "paths", multiple=True, required=True, metavar="FILE|DIR|-", help="Manifests.")
@_simulation_options
@namespace_option
@cluster_option
@click.pass_context
def plan_command(
    ctx: click.Context,
    paths: tuple[str, ...],
    namespace: str,
    seed: int,
    pod_start: float,
    pod_stop: float,
    limit: float,
    timeout: float,
    output: str,
) -> int:
    """Show what `apply` would change, and what would come of it: where pods go, which go away, which stay pending.

    Exit code 1 if anything would be refused, 5 if a pod stays pending, 4 if it does not become quiet."""
    from cluster.cli.apply import read
    from cluster.simulation import Apply

    manner = _Manner(seed, pod_start, pod_stop, limit, timeout, output)
    return _forecast(ctx, [Apply(read(paths), namespace)], manner)


@click.command(
    "what-if",
    cls=_WhatIf,
    epilog="\b\nExamples:\n  podium what-if node/n2 --down\n"
    "  podium what-if node/n2 --down node/n3 node/n4 --cordon --scale rc/web=10\n"
    "  podium what-if --add-nodes 3 --like n1 -f web.yaml",
)
@click.argument("rest", nargs=-1, metavar="[node/NAME...]")
@click.option("--down", multiple=True, metavar="", help="These nodes fail, without a word.")
@click.option("--cordon", multiple=True, metavar="", help="These nodes take no new pods.")
@click.option("--uncordon", multiple=True, metavar="", help="These nodes take pods again.")
@click.option("--scale", multiple=True, metavar="rc/NAME=N", help="Set a number of replicas.")
@click.option("--add-nodes", "counts", multiple=True, type=click.IntRange(1), metavar="N", help="Nodes join ...")
@click.option("--like", "models", multiple=True, metavar="NODE", help="... with labels and resources of this one.")
@click.option("-f", "--filename", "paths", multiple=True, metavar="FILE|DIR|-", help="Manifests are applied.")
@_simulation_options
@namespace_option
@cluster_option
@click.pass_context
def what_if_command(
    ctx: click.Context,
    rest: tuple[str, ...],
    down: tuple[str, ...],
    cordon: tuple[str, ...],
    uncordon: tuple[str, ...],
    scale: tuple[str, ...],
    counts: tuple[int, ...],
    models: tuple[str, ...],
    paths: tuple[str, ...],
    namespace: str,
    seed: int,
    pod_start: float,
    pod_stop: float,
    limit: float,
    timeout: float,
    output: str,
) -> int:
    """Show what would happen if nodes failed, joined, or were cordoned, controllers scaled, manifests applied.

    All at once, in memory: controllers and scheduler act as they would, until nothing happens any more. Exit code 5
    if a pod stays pending, 4 if it does not become quiet."""
    from cluster.cli.apply import read
    from cluster.simulation import AddNodes, Apply, Cordon, NodeDown

    if rest:
        raise click.UsageError(f"{' '.join(rest)}: say what befalls it: {', '.join(FATES)}")
    if len(counts) != len(models):
        raise click.UsageError("--add-nodes N and --like NODE go together")
    changes: list[Change] = [AddNodes(count, _node(model)) for count, model in zip(counts, models, strict=True)]
    changes += [NodeDown(_node(word)) for word in down]
    changes += [Cordon(_node(word)) for word in cordon]
    changes += [Cordon(_node(word), on=False) for word in uncordon]
    changes += [_scale(word, namespace) for word in scale]
    if paths:
        changes.append(Apply(read(paths), namespace))
    if not changes:
        raise click.UsageError("if what? For example: podium what-if node/NAME --down")
    return _forecast(ctx, changes, _Manner(seed, pod_start, pod_stop, limit, timeout, output))


def _forecast(ctx: click.Context, changes: Sequence[Change], manner: _Manner) -> int:
    """Reads the cluster, simulates, prints; returns the exit code."""
    from cluster.cli import forecast
    from cluster.cli.past import as_document
    from cluster.simulation import Pace, SimulationSettings, document, simulate

    snapshot, state = run(ctx, _read)
    settings = SimulationSettings(
        profile=state.profile,
        scheduler=_scheduler_of(state),
        pace=Pace(manner.pod_start_s, manner.pod_stop_s),
        limit_s=manner.limit_s,
        deadline_s=manner.timeout_s,
    )
    report = simulate(snapshot, changes, manner.seed, settings=settings)
    click.echo(forecast.text(report) if manner.output == "text" else as_document(document(report), manner.output))
    return forecast.exit_code(report)


async def _read(session: Session) -> tuple[Snapshot, ClusterState]:
    """The cluster's objects, and how it runs."""
    from cluster.simulation import take_snapshot

    return await take_snapshot(session.client), session.state


def _scheduler_of(state: ClusterState) -> SchedulerSettings | None:
    """The settings of the cluster's scheduler, if it was given a file. Raises ConfigError."""
    if not state.scheduler_config:
        return None
    from cluster.config.profiles import PROFILES
    from cluster.scheduler.configuration import load_settings

    return load_settings(PROFILES[state.profile], Path(state.scheduler_config))


def _node(word: str) -> str:
    """The name in "node/n2" or "n2". Raises click.UsageError, Invalid."""
    from cluster.api.kinds import kind_from_word

    kind, slash, name = word.rpartition("/")
    if not name or (slash and kind_from_word(kind).name != "Node"):
        raise click.UsageError(f'"{word}" is no node: give node/NAME')
    return name


def _scale(word: str, namespace: str) -> Change:
    """Of "rc/web=10". Raises click.UsageError, Invalid."""
    from cluster.api.kinds import kind_from_word
    from cluster.simulation import Scale

    target, equals, number = word.rpartition("=")
    kind, slash, name = target.partition("/")
    if not (equals and slash and name and number.isascii() and number.isdigit()):
        raise click.UsageError(f'"{word}": give --scale rc/NAME=NUMBER')
    if kind_from_word(kind).name != "ReplicationController":
        raise click.UsageError(f'"{word}": only replication controllers can be scaled: --scale rc/NAME=NUMBER')
    return Scale(name, int(number), namespace)
