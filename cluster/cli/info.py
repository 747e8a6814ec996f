"""`podium cluster-info` and `podium version`."""

from __future__ import annotations

import json
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.session import chosen_cluster, cluster_option

if TYPE_CHECKING:
    from cluster.api.errors import ApiError
    from cluster.pb.v1.cluster_pb2 import StoreStatusResponse
    from cluster.up.layout import ClusterDir, ClusterState

_LIFETIMES = {"dev": "pods end with the cluster", "service": "pods outlive every daemon, and end with podium down"}


@click.command(
    "cluster-info",
    epilog="\b\nExamples:\n  podium cluster-info\n  podium cluster-info -o json\n  podium --cluster demo cluster-info",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format.")
@cluster_option
@click.pass_context
def cluster_info_command(ctx: click.Context, output: str) -> int:
    """Name every process of the cluster, with role, pid and address, and where the cluster keeps its things."""
    from cluster.cli.printers import align
    from cluster.up.layout import find_cluster
    from cluster.up.spawners import spawners_of

    directory, state = find_cluster(chosen_cluster(ctx))
    processes: list[dict[str, Any]] = [
        {
            "name": process.name,
            "role": process.role,
            "pid": process.pid,
            "address": process.address,
            "state": process.state if process.is_alive() else "stopped",
            "restarts": process.restarts,
            "log": str(directory.log(process.name.removesuffix("-spawner").removesuffix("-trusted"))),
        }
        for process in (*state.processes, *spawners_of(directory))
    ]
    masters = _masters(directory, state)
    if output == "json":
        document = {
            "name": state.name,
            "directory": str(directory.path),
            "master": state.master,
            "masters": masters,
            "store": state.store or str(directory.path / "master"),
            "credentials": str(directory.credentials("admin")),
            "profile": state.profile,
            "lifetime": state.lifetime,
            "detached": state.detached,
            "addresses": f"127.{state.block}.0.0/16",
            "dns": state.dns,
            "cluster_domain": state.cluster_domain,
            "nodes": state.nodes,
            "processes": processes,
        }
        click.echo(json.dumps(document, indent=2))
        return 0
    click.echo(
        f"cluster      {state.name}  (profile {state.profile}, lifetime {state.lifetime}: {_LIFETIMES[state.lifetime]})"
    )
    for number, each in enumerate(masters):
        label = "" if number else "master" if len(masters) == 1 else "masters"
        click.echo(f"{label:<12} {each['address']}  ({each['says']})")
    click.echo(f"store        {state.store or directory.path / 'master'}")
    click.echo(f"addresses    127.{state.block}.0.0/16")
    if state.dns:
        click.echo(f"dns          {state.dns}  (UDP and TCP; {_how_to_ask(state)})")
    click.echo(f"directory    {directory.path}")
    click.echo(f"credentials  {directory.credentials('admin')}\n")
    rows = [["PROCESS", "ROLE", "PID", "ADDRESS", "STATE", "RESTARTS"]]
    rows += [[str(p[key]) or "-" for key in ("name", "role", "pid", "address", "state", "restarts")] for p in processes]
    click.echo(align(rows))
    return 0


def _how_to_ask(state: ClusterState) -> str:
    """A command that asks for a name that every cluster has."""
    host, _, port = state.dns.rpartition(":")
    return f"dig @{host}{'' if port == '53' else f' -p {port}'} dns-version.{state.cluster_domain} TXT"


def _masters(directory: ClusterDir, state: ClusterState) -> list[dict[str, Any]]:
    """What each of several masters says of itself. A single one leads, and is not asked."""
    if len(state.masters) == 1:
        return [{"address": state.master, "leader": True, "says": "gRPC, mTLS; health and reflection are on"}]
    import asyncio

    from cluster.client.store_status import ask_masters
    from cluster.rpc.identity import Credentials

    answers = asyncio.run(ask_masters(state.masters, Credentials.load(directory.credentials("admin"))))
    return [_said(address, answers[address]) for address in state.masters]


def _said(address: str, answer: StoreStatusResponse | ApiError) -> dict[str, Any]:
    from cluster.api.errors import ApiError

    if isinstance(answer, ApiError):
        return {"address": address, "leader": False, "says": f"does not answer: {answer}"}
    role = "leads" if answer.leader else "follows"
    problems = "".join(f"; {problem}" for problem in answer.problems)
    return {
        "address": address,
        "leader": answer.leader,
        "revision": answer.revision,
        "engine": f"{answer.engine} {answer.engine_version}",
        "problems": list(answer.problems),
        "says": f"{role}; at revision {answer.revision} of {answer.engine} {answer.engine_version}{problems}",
    }


@click.command(
    "version", epilog="\b\nExamples:\n  podium version\n  podium version -o json\n  podium version | head -1"
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format.")
@click.pass_context
def version_command(ctx: click.Context, output: str) -> int:
    """Print the versions of podium and of what it stands on."""
    import platform

    versions = {"podium": installed_version("podium"), "python": platform.python_version()}
    versions |= {name: installed_version(name) for name in ("grpcio", "protobuf", "numpy")}
    if output == "json":
        click.echo(json.dumps(versions, indent=2))
    else:
        click.echo("\n".join(f"{name:<10}{number}" for name, number in versions.items()))
    return 0
