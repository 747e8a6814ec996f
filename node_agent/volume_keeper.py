"""Keeping volumes as they should be while a pod runs: contents that changed, directories that grew too large.

A look every KEEP_S, and only for pods that have something to be looked after. New values of ConfigMaps and Secrets
appear in the files of running containers within that time (variables are those of the start, as in Kubernetes). A pod
whose emptyDir holds more than its sizeLimit is evicted; so is one that holds more on the disk, logs included, than its
containers may (ephemeral-storage).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from cluster.actor.clock import Clock
from cluster.api.pods import amount
from cluster.api.quantities import format_bytes
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent.environment import MissingConfiguration, UnknownField
from node_agent.host import Home, Host, place_of
from node_agent.node_object import STORAGE
from node_agent.preparation import NotPrepared, read_configuration
from node_agent.volumes import UnfitPath, bytes_in, make_volume, over_limit

KEEP_S = 2.0
_Contents: TypeAlias = tuple[dict[tuple[str, str], tuple[str, str]], dict[str, str], dict[str, str]]

log = get_logger("node_agent.volumes")


def needs_keeping(pod: core.Pod) -> bool:
    """Whether anything of its volumes can change by itself."""
    return bool(_storage_limit(pod)) or any(
        _is_kept(volume) or volume.volumeSource.emptyDir.HasField("sizeLimit") for volume in pod.spec.volumes
    )


def _storage_limit(pod: core.Pod) -> int:
    """What its containers may hold on the disk together; 0 unless each has a limit."""
    limits = [each.resources.limits for each in pod.spec.containers]
    if not all(STORAGE in each for each in limits):
        return 0
    return sum(amount(STORAGE, each[STORAGE]) for each in limits)


def _is_kept(volume: core.Volume) -> bool:
    source = volume.volumeSource
    return source.HasField("configMap") or source.HasField("secret") or source.HasField("downwardAPI")


def _contents(home: Home) -> _Contents:
    """What the files are made of: as long as it is the same, so are they, and need not be looked at."""
    versions = {key: (found.metadata.uid, found.metadata.resourceVersion) for key, found in home.configuration.items()}
    meta = home.pod.metadata
    return versions, dict(meta.labels), dict(meta.annotations)


async def keep_volumes(host: Host, home: Home, clock: Clock, on_too_large: Callable[[str], Awaitable[None]]) -> None:
    """Keeps on until it is cancelled. `on_too_large(message)` is awaited at most once."""
    told = False
    written: _Contents | None = None
    while True:
        await clock.sleep(KEEP_S)
        try:
            await read_configuration(host, home, KEEP_S / 2)
            wanted = _contents(home)
            if wanted != written:
                for volume in home.pod.spec.volumes:
                    if _is_kept(volume):
                        make_volume(volume, home.pod, home.shelves(host), place_of(host, home), home.configuration)
                written = wanted
        except (NotPrepared, MissingConfiguration, UnfitPath, UnknownField, OSError) as error:
            # What was there stays there; a container that starts meanwhile says what is missing.
            log.info("a volume is not up to date", pod=home.pod.metadata.name, error=str(error))
        message = over_limit(home.pod.spec.volumes, home.shelves(host))
        most = _storage_limit(home.pod)
        if not message and most and bytes_in(home.dir) > most:
            message = f"Pod ephemeral local storage usage exceeds the total limit of containers {format_bytes(most)}. "
        if message and not told:
            told = True
            await on_too_large(message)
