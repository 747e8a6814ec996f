"""`podium fsck`: reads the whole store of a cluster that does not run, or a backup, and says whether it is what was
written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import chosen_cluster, cluster_option

if TYPE_CHECKING:
    from cluster.store.backup_file import Contents
    from cluster.store.fsck import Report


@click.command(
    "fsck",
    epilog="\b\nExamples:\n"
    "  podium down --keep && podium fsck\n"
    "  podium --cluster demo fsck -o json\n"
    "  podium fsck --dir /backup/copy-of-master      any directory with a store.db\n"
    "  podium fsck demo.backup                       what a backup holds\n"
    "\n\b\nExit codes: 0 sound, 1 damaged, 2 wrong usage or in use.",
)
@click.argument(
    "file", metavar="[BACKUP]", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Where store.db lies.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format.")
@cluster_option
@click.pass_context
def fsck_command(ctx: click.Context, file: Path | None, directory: Path | None, output: str) -> int:
    """Check the store of a cluster that does not run, or a backup: every record, the chain over them, and whether the
    end is there.

    Nothing is changed. A master asks the same questions whenever it starts, and refuses a store that fails; here all
    findings are told.
    """
    from cluster.store import fsck
    from cluster.store.interface import StoreRefused

    if file is not None:
        if directory is not None or chosen_cluster(ctx):
            raise click.UsageError("name a backup, a cluster or a directory, and only one of them")
        return _check_backup(file, output)
    if directory is not None and chosen_cluster(ctx):
        raise click.UsageError("name a cluster or a directory, not both")
    directory = directory or _directory_of(chosen_cluster(ctx))
    try:
        report = fsck.check(directory)
    except fsck.InUse as error:
        raise CommandError(f"{error}. Stop it first: podium down --keep", ExitCode.USAGE) from None
    except (StoreRefused, OSError) as error:
        raise CommandError(str(error), ExitCode.USAGE) from None
    click.echo(json.dumps(_document(report), indent=2) if output == "json" else _text(report))
    if report.sound:
        return ExitCode.OK
    say(f"The store in {directory} is damaged; no master will open it. Nothing was changed.")
    say("Back to a backup: podium restore FILE. Keep a copy of the directory until all is well.")
    return ExitCode.ERROR


def _check_backup(file: Path, output: str) -> int:
    from cluster.store import backup_file

    contents = backup_file.check(file)
    text = json.dumps(_backup_document(contents), indent=2) if output == "json" else _backup_text(contents)
    click.echo(text)
    if not contents.wrong:
        return ExitCode.OK
    say(f"{file} cannot be restored.")
    return ExitCode.ERROR


def _directory_of(name: str | None) -> Path:
    """Where the master of a cluster keeps its store; without a name, of the only one there is. Raises CommandError."""
    from cluster.up.layout import cluster_dir, known_clusters

    if name:
        return cluster_dir(name).path / "master"
    known = known_clusters()
    if not known:
        raise CommandError("no cluster has kept its state here; name a directory: --dir DIR", ExitCode.USAGE)
    if len(known) > 1:
        names = ", ".join(directory.name for directory in known)
        raise CommandError(f"there are several clusters ({names}); name one: --cluster NAME", ExitCode.USAGE)
    return known[0].path / "master"


def _text(report: Report) -> str:
    objects = ", ".join(f"{count} {kind}" for kind, count in report.objects.items()) or "none"
    high_water = "unknown" if report.high_water is None else f"revision {report.high_water}"
    lines = [
        f"store        {report.store_id or 'unknown'}  (schema {report.schema}, {report.size_bytes / 1e6:.1f} MB)",
        f"revision     {report.revision}  (kept from {report.oldest} on)",
        f"records      {report.records}, requests {report.requests}",
        f"objects      {objects}",
        f"chain        {report.chain or 'unknown'}",
        f"high-water   {high_water}",
    ]
    for finding in report.findings:
        lines.append(f"damaged      {finding}")
    if report.more_findings:
        lines.append(f"damaged      and {report.more_findings} findings more")
    lines.append(f"verdict      {'sound' if report.sound else 'damaged'}")
    return "\n".join(lines)


def _document(report: Report) -> dict[str, object]:
    return {
        "directory": str(report.directory),
        "storeId": report.store_id,
        "schema": report.schema,
        "sizeBytes": report.size_bytes,
        "revision": report.revision,
        "oldest": report.oldest,
        "records": report.records,
        "requests": report.requests,
        "objects": dict(report.objects),
        "chain": report.chain,
        "highWater": report.high_water,
        "findings": [{"where": finding.where, "what": finding.what} for finding in report.findings],
        "moreFindings": report.more_findings,
        "verdict": "sound" if report.sound else "damaged",
    }


def _backup_text(contents: Contents) -> str:
    lines = [f"backup       {contents.path}  ({contents.size_bytes / 1e6:.1f} MB)"]
    header = contents.header
    if header is not None:
        made = datetime.fromtimestamp(header.time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        objects = ", ".join(f"{count} {kind}" for kind, count in contents.objects.items()) or "none"
        lines += [
            f"cluster      {header.cluster or 'without a name'}  (services at {header.service_cidr}, {header.engine})",
            f"made         {made} by podium {header.podium}",
            f"store        {header.store_id}",
            f"revision     {header.revision}  (kept from {header.base.compacted} on)",
            f"records      {contents.records}, requests {contents.requests}",
            f"objects      {objects}",
        ]
    if contents.end is not None:
        lines.append(f"chain        {contents.end.chain.hex()}")
    if contents.wrong:
        lines.append(f"damaged      {contents.wrong}")
    lines.append(f"verdict      {'damaged' if contents.wrong else 'sound'}")
    return "\n".join(lines)


def _backup_document(contents: Contents) -> dict[str, object]:
    header, end = contents.header, contents.end
    document: dict[str, object] = {"file": str(contents.path), "sizeBytes": contents.size_bytes}
    if header is not None:
        document |= {
            "cluster": header.cluster,
            "engine": header.engine,
            "podium": header.podium,
            "time": header.time_s,
            "storeId": header.store_id,
            "revision": header.revision,
            "oldest": header.base.compacted,
            "serviceCidr": header.service_cidr,
            "podCidrBase": header.pod_cidr_base,
        }
    return document | {
        "records": contents.records,
        "requests": contents.requests,
        "objects": dict(contents.objects),
        "chain": end.chain.hex() if end is not None else "",
        "findings": [contents.wrong] if contents.wrong else [],
        "verdict": "damaged" if contents.wrong else "sound",
    }
