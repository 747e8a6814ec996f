"""What most commands share: which cluster, a client of it, the namespace, the words KIND, KIND/NAME and NAME.

A command is a click function that calls `run(ctx, body)`, where `body(session)` is a coroutine. The client's connection
is made and closed around it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.cli.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from cluster.api.kinds import Kind
    from cluster.client.interface import ClusterClient
    from cluster.up.layout import ClusterDir, ClusterState

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """A command's connection to its cluster."""

    client: ClusterClient
    directory: ClusterDir
    state: ClusterState

    def check_running(self) -> None:
        """Raises CommandError if the cluster was stopped meanwhile: then there is nothing to wait for."""
        state = self.directory.read_state()
        if state is None or not state.is_running():
            raise CommandError(f'cluster "{self.directory.name}" has been stopped', ExitCode.UNREACHABLE)


def cluster_option(command: F) -> F:
    """Adds --cluster, so that it may stand behind the verb as well."""
    return click.option(
        "--cluster", "cluster", metavar="NAME", expose_value=False, callback=_keep_cluster, help="Which cluster."
    )(command)


def _keep_cluster(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(dict)["cluster"] = value


def namespace_options(command: F) -> F:
    """Adds -n and -A as the parameters `namespace` and `all_namespaces`."""
    command = click.option("-A", "--all-namespaces", is_flag=True, help="In all namespaces.")(command)
    return namespace_option(command)


def namespace_option(command: F) -> F:
    """Adds -n as the parameter `namespace`."""
    return click.option("-n", "--namespace", default="default", show_default=True, metavar="NAME", help="Namespace.")(
        command
    )


def chosen_cluster(ctx: click.Context) -> str | None:
    """The cluster that the user named, if any."""
    name: str | None = (ctx.find_object(dict) or {}).get("cluster") or os.environ.get("PODIUM_CLUSTER")
    return name or None


def run(ctx: click.Context, body: Callable[[Session], Awaitable[R]]) -> R:
    """Connects to the chosen cluster as admin and runs the body."""
    from cluster.client.grpc_client import GrpcClusterClient
    from cluster.rpc.identity import Credentials
    from cluster.up.layout import find_cluster

    directory, state = find_cluster(chosen_cluster(ctx))

    async def connected() -> R:
        client = GrpcClusterClient(state.master, Credentials.load(directory.credentials("admin")))
        try:
            return await body(Session(client, directory, state))
        finally:
            await client.close()

    return asyncio.run(connected())


def kinds_of(words: str) -> list[Kind]:
    """The kinds of "rc,svc,pods"; "all" is what a user's application consists of."""
    from cluster.api.kinds import kind_from_word

    if words == "all":
        words = "pods,rc,svc"
    return [kind_from_word(word) for word in words.split(",") if word]


def targets(words: Sequence[str]) -> list[tuple[Kind, str]]:
    """(kind, name) pairs of "pod web-1 web-2" or "pod/web-1 rc/web". A name of "" means: all of the kind."""
    if not words:
        raise click.UsageError("name what you mean: KIND, KIND NAME or KIND/NAME")
    if any("/" in word for word in words):
        pairs: list[tuple[Kind, str]] = []
        for word in words:
            kind_word, slash, name = word.partition("/")
            if not slash or not name or not kind_word:
                raise click.UsageError(f'"{word}": give all arguments as KIND/NAME, or KIND NAME NAME')
            pairs += [(kind, name) for kind in kinds_of(kind_word)]
        return pairs
    kinds = kinds_of(words[0])
    if len(words) == 1:
        return [(kind, "") for kind in kinds]
    return [(kind, name) for kind in kinds for name in words[1:]]


def known_targets(words: Sequence[str]) -> list[tuple[Kind, str]] | None:
    """The same; None if a word means none of our own kinds: perhaps users have defined it (`defined_targets`)."""
    from cluster.api.errors import Invalid

    try:
        return targets(words)
    except Invalid:
        return None


async def defined_targets(client: ClusterClient, words: Sequence[str]) -> list[tuple[Kind, str]]:
    """The same, where words may mean kinds that users have defined; the name of such an object is RESOURCE/NAME.

    Raises Invalid.
    """
    from cluster.api.errors import Invalid
    from cluster.client.definitions import kinds_of_words

    if any("/" in word for word in words):
        asked = [(kinds, name) for kinds, _, name in (word.partition("/") for word in words)]
    else:
        asked = [(words[0], name) for name in words[1:] or [""]]
    found: list[tuple[Kind, str]] = []
    defined: dict[str, Kind] | None = None
    for kinds, name in asked:
        for word in kinds.split(","):
            try:
                found += [(kind, name) for kind in kinds_of(word)]
            except Invalid:
                if defined is None:
                    every = [one for each, _ in asked for one in each.split(",")]
                    defined = await kinds_of_words(client, every)
                if word not in defined:
                    raise
                kind = defined[word]
                found.append((kind, f"{kind.plural}/{name}" if name else ""))
    return found


def narrowed(kind: Kind, field_selector: str) -> str:
    """The field selector for objects of a kind, of which users may have defined it."""
    from cluster.api.kinds import BY_NAME

    if kind is BY_NAME[kind.name]:
        return field_selector
    return f"resource={kind.plural}" + (f",{field_selector}" if field_selector else "")


def named(kind: Kind, name: str) -> str:
    """An object as it is told: pod/web, widget.example.com/blue."""
    from cluster.api.kinds import BY_NAME

    return f"{kind.field}/{name if kind is BY_NAME[kind.name] else name.rpartition('/')[2]}"


def one_known(word: str) -> tuple[Kind, str] | None:
    """The (kind, name) of a single KIND/NAME; None: it may be of a kind that users have defined (`one_defined`)."""
    pairs = known_targets([word])
    return None if pairs is None else _one(pairs, word)


async def one_defined(client: ClusterClient, word: str) -> tuple[Kind, str]:
    """The same, of such a kind. Raises Invalid."""
    return _one(await defined_targets(client, [word]), word)


def one_target(word: str) -> tuple[Kind, str]:
    """The (kind, name) of a single KIND/NAME, of one of our own kinds."""
    return _one(targets([word]), word)


def _one(pairs: list[tuple[Kind, str]], word: str) -> tuple[Kind, str]:
    if len(pairs) != 1 or not pairs[0][1]:
        raise click.UsageError(f'"{word}": give one KIND/NAME')
    return pairs[0]
