"""From a container's specification to a program that can be started: directories, environment, command line.

What the lifecycle calls "start" is two things: everything that must be there before (this file) and the start itself
(the runtime). Whatever is missing is an error with a name, and the container waits for it or fails by it; nothing is
started half prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.pb.v1 import core_pb2 as core
from node_agent.environment import Place, build_environment, command_line
from node_agent.runtime.interface import Program
from node_agent.runtime.logs import log_path, remove_old_logs

KUBERNETES_TERMINATION_LOG = "/dev/termination-log"
"""Kubernetes' default for terminationMessagePath, which its clients write out: the same as none."""


TERMINATION_LOG = "termination-log"


class NotPrepared(Exception):
    """Something that the container needs is not there (yet): it waits, and is tried again."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True, slots=True)
class Host:
    """What the pods of one node have in common."""

    node_name: str
    host_ip: str
    path: str
    """PATH for containers."""
    lang: str
    services: Callable[[], Iterable[core.Service]]
    """All services of the cluster, as far as they are known here."""


@dataclass(frozen=True, slots=True)
class Home:
    """What is a pod's own on its node."""

    pod: core.Pod
    pod_ip: str
    dir: Path
    """The pod's private directory."""


def termination_log(home: Home, container: core.Container) -> Path:
    """The file in which a container leaves its last words."""
    if container.terminationMessagePath in ("", KUBERNETES_TERMINATION_LOG):
        return home.dir / "logs" / container.name / TERMINATION_LOG
    return home.dir / container.terminationMessagePath


async def prepare(host: Host, home: Home, container: core.Container, run: int, run_id: str) -> Program:
    """The program of this run; its directories are there. Raises UnknownField, NotPrepared, OSError."""
    pod, directory = home.pod, home.dir
    place = Place(host.node_name, host.host_ip, home.pod_ip, str(directory), host.path, host.lang)
    env = build_environment(pod, container, place, host.services())
    last_words = termination_log(home, container)
    last_words.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    env |= {"PODIUM_POD_UID": pod.metadata.uid, "PODIUM_CONTAINER": container.name}
    env["PODIUM_TERMINATION_LOG"] = str(last_words)
    file = log_path(directory, container.name, run)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_old_logs(directory, container.name, run)
    return Program(run_id, command_line(container, env), env, str(directory / container.workingDir), str(file))
