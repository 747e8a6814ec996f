"""`podium cp`: files and directories to and from a container, as tar over exec."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path, PurePosixPath

import click

from cluster.cli.exits import CommandError, ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, run

MOST_BYTES = 256 << 20
"""Of one copy, which is held in memory."""


@click.command(
    "cp",
    epilog="\b\nExamples:\n  podium cp web-x2k4p:data/out.csv .\n  podium cp ./conf web-x2k4p:conf\n"
    "  podium cp web-x2k4p:logs ./logs -c main",
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container; default: the first.")
@namespace_option
@cluster_option
@click.pass_context
def cp_command(ctx: click.Context, source: str, target: str, container: str, namespace: str) -> int:
    """Copy a file or directory to or from a container. One of the two is POD:PATH.

    A path that is not absolute begins in the container's working directory. It needs `tar` on the machine."""
    source_pod, source_path = _split(source)
    target_pod, target_path = _split(target)
    if bool(source_pod) == bool(target_pod):
        raise click.UsageError("one of the two must be POD:PATH, and only one")

    async def body(session: Session) -> int:
        if source_pod:
            await _fetch(session, source_pod, namespace, container, source_path, Path(target))
        else:
            await _send(session, target_pod, namespace, container, Path(source), target_path)
        return ExitCode.OK

    return run(ctx, body)


def _split(text: str) -> tuple[str, str]:
    pod, colon, path = text.partition(":")
    if not colon or "/" in pod.removeprefix("pod/") or text.startswith((".", "/")):
        return "", text
    return pod.removeprefix("pod/"), path


async def _fetch(session: Session, pod: str, namespace: str, container: str, path: str, target: Path) -> None:
    inside = PurePosixPath(path.rstrip("/") or ".")
    command = ["tar", "cf", "-", "-C", str(inside.parent), "--", inside.name or "."]
    data = await _run(session, pod, namespace, container, command, None)
    _unpack(data, inside, target, f"{pod}:{path}")


def _unpack(data: bytes, inside: PurePosixPath, target: Path, what: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        if not members:
            raise CommandError(f"{what}: there is nothing to copy")
        root = members[0].name
        into = target / inside.name if target.is_dir() else target
        for member in members:
            rest = PurePosixPath(member.name).relative_to(root)
            member.name = str(PurePosixPath(into.name) / rest) if str(rest) != "." else into.name
        into.parent.mkdir(parents=True, exist_ok=True)
        _extract(archive, into.parent, members)


def _extract(archive: tarfile.TarFile, directory: Path, members: list[tarfile.TarInfo]) -> None:
    """Refuses what would be written outside, and links that lead there: a pod is not trusted."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(directory, members=members, filter="data")
        return
    for member in members:  # an older Python: then there are no links at all
        if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
            raise CommandError(f"{member.name} would be written outside; nothing of it was copied")
        if not (member.isfile() or member.isdir()):
            raise CommandError(f"{member.name} is neither a file nor a directory; this Python cannot copy it safely")
    for member in members:
        member.mode = 0o755 if member.isdir() else 0o644 | (member.mode & 0o100)
        archive.extract(member, directory, set_attrs=True)


async def _send(session: Session, pod: str, namespace: str, container: str, source: Path, path: str) -> None:
    inside = PurePosixPath(path.rstrip("/") or ".")
    name = source.name if path.endswith("/") or str(inside) == "." else inside.name
    directory = str(inside if path.endswith("/") or str(inside) == "." else inside.parent)
    script = 'mkdir -p "$0" && tar xf - -C "$0"'
    await _run(session, pod, namespace, container, ["sh", "-c", script, directory], _pack(source, name))


def _pack(source: Path, name: str) -> bytes:
    if not source.exists():
        raise CommandError(f"{source}: there is no such file or directory")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(source, arcname=name)
    return buffer.getvalue()


async def _run(
    session: Session, pod: str, namespace: str, container: str, command: list[str], data: bytes | None
) -> bytes:
    """What the command writes. Raises CommandError with what it says if it fails."""
    from cluster.cli.logs import agent_of
    from cluster.client.agent_client import NodeAgentClient
    from cluster.pb.v1 import core_pb2 as core

    live = await session.client.get(core.Pod, pod, namespace)
    agents: dict[str, NodeAgentClient] = {}
    agent = await agent_of(session, live.spec.nodeName, agents)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data or b""), 65536):
            yield (data or b"")[start : start + 65536]

    out, problems, code = bytearray(), b"", -1
    try:
        outputs = agent.exec(
            namespace,
            pod,
            command,
            container=container or live.spec.containers[0].name,
            stdin=pieces() if data is not None else None,
        )
        async with aclosing(outputs):
            async for output in outputs:
                if output.HasField("exit_code"):
                    code = output.exit_code
                elif output.HasField("stdout"):
                    out += output.stdout
                    if len(out) > MOST_BYTES:
                        raise CommandError(f"more than {MOST_BYTES >> 20} MiB: use podium exec POD -- tar cf - PATH")
                else:
                    problems = (problems + output.stderr)[-4096:]
    finally:
        await agent.close()
    if code != 0:
        raise CommandError(f"{command[0]} in {pod} ended with {code}: {problems.decode(errors='replace').strip()}")
    return bytes(out)
