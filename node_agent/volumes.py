"""The volumes of a pod on its node: making them, keeping their contents up to date, taking them away.

Each volume is a directory (or, of hostPath, a file) of the node:

    emptyDir        DIR/pods/<uid>/volumes/<name>; of medium Memory in the node's memory directory
    hostPath        the path itself; its type says what must be there, or is made
    configMap, downwardAPI                 below DIR/pods/<uid>/volumes
    secret          in the node's memory directory: its values never reach a disk
    dataDirectory   DIR/data/<namespace>/<name>; it outlives its pods

How a container finds it is the business of `node_agent.preparation`: at its mountPath where the kernel lets us mount,
and in any case by the variable PODIUM_VOLUME_<NAME>.

What is written from keys changes as a whole, as in Kubernetes: the files lie in a directory of their own, `..data` is a
link to it, the visible names are links through that, and an update replaces the one link.

    ..2f1c/user    ..data -> ..2f1c    user -> ..data/user
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.api.names import dns1123_label_problems
from cluster.api.quantities import whole
from cluster.config.dirs import make_private_dir
from cluster.pb.v1 import core_pb2 as core
from node_agent.environment import Configuration, MissingConfiguration, Place, field_value, resource_value

DATA = "..data"
MAX_DATA_DIRECTORIES = 5000
"""So many are told of: with more, the node's object would grow too large."""


@dataclass(frozen=True, slots=True)
class Shelves:
    """Where volumes lie."""

    pod: Path
    """The pod's own directory."""
    memory: Path
    """The pod's own directory in memory."""
    data: Path
    """The node's named directories."""


class UnfitPath(Exception):
    """A hostPath that is not what the volume says it is."""


def make_volume(
    volume: core.Volume, pod: core.Pod, shelves: Shelves, place: Place, configuration: Configuration
) -> Path:
    """The volume's directory or file, with its contents. Again is fine: then what has changed is brought up to date.

    Raises MissingConfiguration, UnfitPath, UnknownField, OSError.
    """
    source = volume.volumeSource
    if source.HasField("hostPath"):
        return _host_path(source.hostPath)
    if kept := data_directory(volume, pod, shelves):
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        return kept
    in_memory = source.HasField("secret") or source.emptyDir.medium == "Memory"
    parent = (shelves.memory if in_memory else shelves.pod) / "volumes"
    if not parent.is_dir():
        make_private_dir(parent.parent)
        make_private_dir(parent)
    directory = parent / volume.name
    directory.mkdir(mode=0o700, exist_ok=True)
    if not source.HasField("emptyDir"):
        write_files(directory, files_of(source, pod, place, configuration))
    return directory


def data_directory(volume: core.Volume, pod: core.Pod, shelves: Shelves) -> Path | None:
    """Where the volume's named data directory lies, or will; None if it is of another kind."""
    if not volume.volumeSource.HasField("dataDirectory"):
        return None
    return shelves.data / pod.metadata.namespace / volume.volumeSource.dataDirectory.name


def data_directories(data: Path) -> list[str]:
    """The named data directories that lie on this node, as NAMESPACE/NAME, sorted: what its status says."""
    found = [f"{space.name}/{directory.name}" for space in _directories(data) for directory in _directories(space)]
    return sorted(found)[:MAX_DATA_DIRECTORIES]


def _directories(parent: Path) -> list[Path]:
    """Those that a volume could have made; nothing else that somebody left there."""
    try:
        entries = list(parent.iterdir())
    except OSError:
        return []
    return [
        each for each in entries if each.is_dir() and not each.is_symlink() and not dns1123_label_problems(each.name)
    ]


def remove_volumes(shelves: Shelves) -> None:
    """Takes away what is the pod's own; data directories and paths of the machine stay."""
    shutil.rmtree(shelves.memory, ignore_errors=True)
    shutil.rmtree(shelves.pod / "volumes", ignore_errors=True)


def bytes_in(directory: Path) -> int:
    """How much the files below a directory take, hard links once; what vanishes meanwhile counts nothing."""
    total, seen = 0, set()
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                found = os.lstat(os.path.join(parent, name))
            except OSError:
                continue
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
    return total


def over_limit(volumes: Iterable[core.Volume], shelves: Shelves) -> str:
    """Which emptyDir holds more than it may, in Kubernetes' words; empty if none does."""
    for volume in volumes:
        empty = volume.volumeSource.emptyDir
        if not volume.volumeSource.HasField("emptyDir") or not empty.HasField("sizeLimit"):
            continue
        parent = shelves.memory if empty.medium == "Memory" else shelves.pod
        if bytes_in(parent / "volumes" / volume.name) > whole(empty.sizeLimit) > 0:
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{empty.sizeLimit.string}".'
    return ""


def files_of(
    source: core.VolumeSource, pod: core.Pod, place: Place, configuration: Configuration
) -> dict[str, tuple[bytes, int]]:
    """Path within the volume -> content and mode. Raises MissingConfiguration, UnknownField."""
    if source.HasField("downwardAPI"):
        files = {}
        for item in source.downwardAPI.items:
            if item.HasField("fieldRef"):
                text = field_value(pod, item.fieldRef.fieldPath, place)
            else:
                text = resource_value(pod, item.resourceFieldRef, place)
            mode = item.mode if item.HasField("mode") else source.downwardAPI.defaultMode
            files[item.path] = (text.encode(), mode)
        return files
    wanted: core.SecretVolumeSource | core.ConfigMapVolumeSource = source.configMap
    kind, name = "ConfigMap", source.configMap.localObjectReference.name
    if source.HasField("secret"):
        wanted, kind, name = source.secret, "Secret", source.secret.secretName
    found = configuration.get((kind, name))
    if found is None:
        if wanted.optional:
            return {}
        raise MissingConfiguration(f'{kind.lower()} "{name}" not found')
    contents = {key: value if isinstance(value, bytes) else value.encode() for key, value in found.data.items()}
    if isinstance(found, core.ConfigMap):
        contents |= dict(found.binaryData)
    if not wanted.items:
        return {key: (content, wanted.defaultMode) for key, content in contents.items()}
    files = {}
    for each in wanted.items:
        if each.key in contents:
            files[each.path] = (contents[each.key], each.mode if each.HasField("mode") else wanted.defaultMode)
        elif not wanted.optional:
            raise MissingConfiguration(f'references non-existent config key: {each.key} of {kind.lower()} "{name}"')
    return files


def write_files(directory: Path, files: dict[str, tuple[bytes, int]]) -> bool:
    """Brings the volume to this content, all at once; False if it has it already. Raises OSError."""
    current = directory / DATA
    if current.is_symlink() and _read_files(current.resolve()) == files:
        return False
    fresh = directory / f"..{secrets.token_hex(8)}"
    try:
        _fill(fresh, files)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)  # on a full disk it would be tried, and left, again and again
        raise
    before = current.resolve() if current.is_symlink() else None
    _point(directory / DATA, fresh.name)
    names = {path.partition("/")[0] for path in files}
    for name in names:
        if not (directory / name).is_symlink():
            _point(directory / name, f"{DATA}/{name}")
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)
    return True


def _fill(directory: Path, files: dict[str, tuple[bytes, int]]) -> None:
    directory.mkdir(mode=0o755)
    for path, (content, mode) in files.items():
        file = directory / path
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(content)
        file.chmod(mode)


def _point(link: Path, target: str) -> None:
    temporary = link.with_name(f"..new-{link.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def _read_files(directory: Path) -> dict[str, tuple[bytes, int]]:
    found = {}
    for file in directory.rglob("*"):
        if file.is_file():
            try:
                found[str(file.relative_to(directory))] = (file.read_bytes(), stat.S_IMODE(file.stat().st_mode))
            except PermissionError:  # a mode that not even its owner may read: written anew
                return {}
    return found


def _host_path(source: core.HostPathVolumeSource) -> Path:
    path = Path(source.path)
    match source.type:
        case "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        case "FileOrCreate":
            path.touch(mode=0o644, exist_ok=True)
        case "Directory" if not path.is_dir():
            raise UnfitPath(f"hostPath type check failed: {path} is not a directory")
        case "File" if not path.is_file():
            raise UnfitPath(f"hostPath type check failed: {path} is not a file")
        case "Socket" if not path.is_socket():
            raise UnfitPath(f"hostPath type check failed: {path} is not a socket file")
    if not path.exists():
        raise UnfitPath(f"hostPath {path} does not exist")
    return path
