"""`podium kubeconfig`: what kubectl and other clients of Kubernetes need to talk to a cluster.

The process that serves Kubernetes' API is started if it does not run yet. The output holds the private key of the
cluster's admin, or a token that is as good as it: it is for you alone.
"""

from __future__ import annotations

import base64
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.actor.clock import SystemClock
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import chosen_cluster, cluster_option

if TYPE_CHECKING:
    from cluster.up.layout import ClusterDir, ClusterState

_CLOCK = SystemClock()
_START_TIMEOUT_S = 30.0
_LOCK_TIMEOUT_S = 5.0
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


@click.command(
    "kubeconfig",
    epilog="\b\nExamples:\n"
    "  KUBECONFIG=<(podium kubeconfig) kubectl get pods\n"
    "  podium kubeconfig > demo.yaml; kubectl --kubeconfig demo.yaml get nodes\n"
    "  podium kubeconfig --merge      into $KUBECONFIG or ~/.kube/config, and make it the current one",
)
@click.option("--merge", is_flag=True, help="Write it into $KUBECONFIG, or ~/.kube/config, beside what is there.")
@click.option("--token", "with_token", is_flag=True, help="With a bearer token instead of the client certificate.")
@click.option("--lifetime", default="1d", show_default=True, metavar="TIME", help="With --token: 30m, 8h, 90d.")
@cluster_option
@click.pass_context
def kubeconfig_command(ctx: click.Context, merge: bool, with_token: bool, lifetime: str) -> int:
    """Print a kubeconfig for this cluster, and see to it that Kubernetes' API is served."""
    import yaml

    from cluster.up.layout import find_cluster

    if not with_token and ctx.get_parameter_source("lifetime") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--lifetime goes with --token")
    lifetime_s = _seconds(lifetime)
    directory, state = find_cluster(chosen_cluster(ctx))
    server = serve(directory, state)
    config = kubeconfig(directory, server, lifetime_s if with_token else None)
    if not merge:
        click.echo(yaml.safe_dump(config, sort_keys=False).rstrip("\n"))
        return ExitCode.OK
    path = _merge_path()
    with _locked(path):
        _write(path, yaml.safe_dump(merged(_read(path), config), sort_keys=False))
    say(f'{path}: the context "{config["current-context"]}" is the current one now. Next: kubectl get pods')
    return ExitCode.OK


def serve(directory: ClusterDir, state: ClusterState) -> str:
    """Where Kubernetes' API of this cluster is served, host:port; it is started if need be. Raises CommandError."""
    from cluster.up import control
    from cluster.up.plan import KUBERNETES

    answer = control.ask(directory.control_socket, {"op": "start", "name": KUBERNETES})
    deadline_s = _CLOCK.monotonic() + _START_TIMEOUT_S
    while True:
        child = next((each for each in answer["children"] if each["name"] == KUBERNETES), None)
        if child is not None and child["state"] == "running":
            break
        if child is None or child["hopeless"] or _CLOCK.monotonic() > deadline_s:
            log = child["log"] if child is not None else str(directory.log("supervisor"))
            raise CommandError(f"Kubernetes' API does not start; {log} tells more", ExitCode.TIMEOUT)
        time.sleep(0.02)
        answer = control.ask(directory.control_socket, {"op": "status"})
    current = directory.read_state() or state
    return next(process.address for process in current.processes if process.name == KUBERNETES)


def kubeconfig(directory: ClusterDir, server: str, token_lifetime_s: float | None) -> dict[str, Any]:
    """The content of a kubeconfig: with the admin's certificate, or with a token that lives for so long."""
    from cluster.rpc.identity import Credentials, Identity
    from cluster.rpc.tokens import issue_token

    credentials = Credentials.load(directory.credentials("admin"))
    if token_lifetime_s is None:
        user = {
            "client-certificate-data": _base64(credentials.certificate),
            "client-key-data": _base64(credentials.key),
        }
    else:
        user = {"token": issue_token(directory.credentials("ca"), Identity("admin"), lifetime_s=token_lifetime_s)}
    name = f"podium-{directory.name}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {"server": f"https://{server}", "certificate-authority-data": _base64(credentials.ca)},
            }
        ],
        "users": [{"name": f"{name}-admin", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin", "namespace": "default"}}],
        "current-context": name,
    }


def merged(existing: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """A kubeconfig with the entries of another one: those of the same names are replaced, all others stay."""
    result = {"apiVersion": "v1", "kind": "Config", **existing}
    for section in ("clusters", "users", "contexts"):
        names = {entry["name"] for entry in config[section]}
        kept = [entry for entry in existing.get(section) or [] if entry.get("name") not in names]
        result[section] = [*kept, *config[section]]
    result["current-context"] = config["current-context"]
    return result


def _merge_path() -> Path:
    """The file that kubectl would write to."""
    paths = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return Path(paths[0]) if paths else Path.home() / ".kube" / "config"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps others from writing the file, as kubectl does: while there is a file beside it that is called so with
    `.lock`, it is not written. Raises CommandError."""
    lock = path.with_name(f"{path.name}.lock")
    deadline_s = _CLOCK.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            break
        except FileExistsError as error:
            if error.filename != str(lock):
                raise CommandError(f"{path} cannot be written: {error.filename} is no directory") from error
            if _CLOCK.monotonic() > deadline_s:
                raise CommandError(
                    f"{path} is locked by somebody who writes it; if nobody does any more, remove {lock}"
                ) from None
            time.sleep(0.02)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """What is in a kubeconfig; nothing if there is none. Raises CommandError for a file that is something else."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Leaves times as they are written: of a plugin's `expiry`, YAML would make another text."""

        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
            for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        found = yaml.load(path.read_text(), Loader) if path.exists() else None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CommandError(f"{path} cannot be read, and is left as it is: {error}") from error
    if found is None:
        return {}
    sections = ("clusters", "users", "contexts")
    if not isinstance(found, dict) or not all(
        isinstance(entry, dict) for section in sections for entry in found.get(section) or []
    ):
        raise CommandError(f"{path} is no kubeconfig, and is left as it is")
    return found


def _write(path: Path, text: str) -> None:
    """Replaces the file at once, readable by its owner only."""
    path = path.resolve()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".kubeconfig-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _seconds(text: str) -> float:
    """Of 30m, 8h, 90d. Raises UsageError."""
    from cluster.rpc.tokens import MAX_LIFETIME_S

    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS or not 0 < int(number) * _UNITS[unit] <= MAX_LIFETIME_S:
        raise click.UsageError(f'--lifetime "{text}": write a number and m, h or d, such as 8h; at most 365d')
    return int(number) * _UNITS[unit]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
