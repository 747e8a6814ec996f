"""Keeping volumes as they should be while a pod runs: contents that changed, directories that grew too large.

A look every KEEP_S, and only for pods that have something to be looked after. New values of ConfigMaps and Secrets
appear in the files of running containers within that time (variables are those of the start, as in Kubernetes). A pod
whose emptyDir holds more than its sizeLimit is evicted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cluster.actor.clock import Clock
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent.environment import MissingConfiguration, UnknownField
from node_agent.preparation import Home, Host, NotPrepared, place_of, read_configuration
from node_agent.volumes import UnfitPath, make_volume, over_limit

KEEP_S = 2.0

log = get_logger("node_agent.volumes")


def needs_keeping(pod: core.Pod) -> bool:
    """Whether anything of its volumes can change by itself."""
    return any(_is_kept(volume) or volume.volumeSource.emptyDir.HasField("sizeLimit") for volume in pod.spec.volumes)


def _is_kept(volume: core.Volume) -> bool:
    source = volume.volumeSource
    return source.HasField("configMap") or source.HasField("secret") or source.HasField("downwardAPI")


async def keep_volumes(host: Host, home: Home, clock: Clock, on_too_large: Callable[[str], Awaitable[None]]) -> None:
    """Keeps on until it is cancelled. `on_too_large(message)` is awaited at most once."""
    told = False
    while True:
        await clock.sleep(KEEP_S)
        try:
            await read_configuration(host, home)
            for volume in home.pod.spec.volumes:
                if _is_kept(volume):
                    make_volume(volume, home.pod, home.shelves(host), place_of(host, home), home.configuration)
        except (NotPrepared, MissingConfiguration, UnfitPath, UnknownField, OSError) as error:
            # What was there stays there; a container that starts meanwhile says what is missing.
            log.info("a volume is not up to date", pod=home.pod.metadata.name, error=str(error))
        message = over_limit(home.pod.spec.volumes, home.shelves(host))
        if message and not told:
            told = True
            await on_too_large(message)
