"""The volumes of a container: made in their places on the node, and where each of them is to appear.

A volume is made once for all containers of a pod that mount it, and again is fine. A subPath lies within its volume,
wherever the links lead that a pod has put there. Files that are the machine's may be on a server that does not answer:
they are looked at with patience, and not for ever (`node_agent.patience`).
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from cluster.api.pods import mount_target
from cluster.pb.v1 import core_pb2 as core
from node_agent.environment import Place
from node_agent.host import Home, Host, group_name, owner_of
from node_agent.ownership import Owner, open_beneath
from node_agent.runtime.interface import Mount
from node_agent.volumes import UnfitPath, data_directory, make_volume


class NoAnswer(Exception):
    """The file system of a volume does not answer (yet)."""


async def mounts_of(host: Host, home: Home, container: core.Container, place: Place) -> list[tuple[str, Mount]]:
    """The volumes that a container mounts, outer ones first, each by its name. They are there.

    It does not wait for ever for what is not ours (`hostPath`), and tells the host of data directories that were not
    there before. Raises MissingConfiguration, UnfitPath, UnknownField; NoAnswer.
    """
    kept = [data_directory(volume, home.pod, home.shelves(host)) for volume in home.pod.spec.volumes]
    absent = [path for path in kept if path is not None and not path.is_dir()]
    try:
        return await _made_volumes(host, home, container, place)
    finally:
        if any(path.is_dir() for path in absent):
            host.on_new_data()


async def _made_volumes(host: Host, home: Home, container: core.Container, place: Place) -> list[tuple[str, Mount]]:
    wanted = {mount.name for mount in container.volumeMounts}
    foreign = [each.name for each in home.pod.spec.volumes if each.volumeSource.HasField("hostPath")]
    foreign = [name for name in foreign if name in wanted]
    if not foreign:
        return _volumes(host, home, container, place)
    try:
        body = functools.partial(_volumes, host, home, container, place)
        return await host.patience.call(f"volumes of {group_name(home, container.name)}", body)
    except TimeoutError:
        names = ", ".join(f'"{name}"' for name in foreign)
        raise NoAnswer(f"hostPath of volume {names} does not answer") from None


def _volumes(host: Host, home: Home, container: core.Container, place: Place) -> list[tuple[str, Mount]]:
    """The volumes that a container mounts, outer ones first. Raises MissingConfiguration, UnfitPath, UnknownField."""
    wanted = {mount.name for mount in container.volumeMounts}
    shelves, made = home.shelves(host), {}
    for volume in home.pod.spec.volumes:
        if volume.name in wanted:
            try:
                made[volume.name] = make_volume(volume, home.pod, shelves, place, home.configuration)
            except OSError as error:
                raise UnfitPath(f'volume "{volume.name}": {error.strerror}: {error.filename or "?"}') from error
    mounts = []
    for mount in sorted(container.volumeMounts, key=lambda mount: mount_target(mount.mountPath).count("/")):
        source = made[mount.name]
        if mount.subPath:
            try:
                source = within_volume(source, mount.subPath, owner_of(host, home.pod) or (host.uid, host.gid))
            except OSError as error:
                raise UnfitPath(f'subPath "{mount.subPath}" of volume "{mount.name}": {error.strerror}') from error
        source = Path(os.path.realpath(source))
        mounts.append((mount.name, Mount(str(source), mount_target(mount.mountPath), mount.readOnly)))
    return mounts


def within_volume(volume: Path, sub_path: str, owner: Owner) -> Path:
    """A path within a volume, made if it is not there. Raises UnfitPath if a link leads out of the volume."""
    inside = Path(os.path.realpath(volume / sub_path))
    root = Path(os.path.realpath(volume))
    if not inside.is_relative_to(root):
        raise UnfitPath(f'subPath "{sub_path}" leads out of its volume')
    if not inside.exists():
        os.close(open_beneath(root, str(inside.relative_to(root)), owner))
    return inside
