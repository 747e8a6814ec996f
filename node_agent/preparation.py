"""From a container's specification to a program that can be started: files, volumes, environment, command line.

What the lifecycle calls "start" is two things: everything that must be there before (this file) and the start itself
(the runtime). Whatever is missing is an error with a name, and the container waits for it or fails by it; nothing is
started half prepared.

A volume appears at its mountPath, in a mount namespace of the container's own, where the kernel lets us make one; in
any case the variable PODIUM_VOLUME_<NAME> says where it lies.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from cluster.api.errors import ApiError, NotFound
from cluster.api.pods import (
    BASELINE,
    RESTRICTED,
    SANDBOX,
    TRUSTED,
    config_references,
    oom_score_adjustment,
    security_profile,
)
from cluster.pb.v1 import core_pb2 as core
from node_agent.environment import MissingConfiguration, build_environment, command_line, left_out
from node_agent.host import Home, Host, group_name, limits_of, owner_of, place_of, termination_log
from node_agent.ownership import TEMPORARY, furnish, make_file
from node_agent.resolver import DEFAULT, conf_of, is_common, why_not
from node_agent.resolver_file import write_own
from node_agent.runtime.interface import Confinement, Mount, Program
from node_agent.runtime.logs import log_path, remove_old_logs
from node_agent.security import SYSTEM, Belongings, contain
from node_agent.shared_names import RESOLV_CONF
from node_agent.volume_mounts import NoAnswer, mounts_of
from node_agent.volumes import UnfitPath

DATA_FACTOR = 4
"""Without control groups, memory is looked at now and then: a process that grows faster fails at this multiple of the
container's limit (RLIMIT_DATA, which counts what is reserved and not only what is used)."""


class NotPrepared(Exception):
    """Something that the container needs is not there (yet): it waits, and is tried again."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


async def read_configuration(host: Host, home: Home, max_age_s: float = 0.0) -> None:
    """Brings `home.configuration` up to date, as far as the master answers; with what was read at most so long ago.

    Raises NotPrepared if the master does not answer, and never did.
    """
    for kind, name in sorted(config_references(home.pod.spec)):
        try:
            home.configuration[kind, name] = await host.read_configuration(
                kind, home.pod.metadata.namespace, name, max_age_s=max_age_s
            )
        except NotFound:
            home.configuration.pop((kind, name), None)
        except ApiError as error:
            if (kind, name) not in home.configuration:
                raise NotPrepared("CreateContainerConfigError", f'{kind.lower()} "{name}": {error}') from error


@dataclass(frozen=True, slots=True)
class Prepared:
    """A program whose files are there, before its security profile has its say (`contained`)."""

    program: Program
    mounts: tuple[Mount, ...]
    """The volumes that the container mounts, whether they can be mounted or not; and its resolv.conf."""
    left_out: tuple[str, ...] = ()
    """What its variables do without, for people."""


async def prepare(host: Host, home: Home, container: core.Container, run: int, run_id: str) -> Prepared:
    """The program of this run, with its control groups and its log; its files are there.

    Raises UnknownField, NotPrepared, OSError.
    """
    prepared = await prepare_command(host, home, container, run_id)
    if run > 1:
        remove_old_logs(home.dir, container.name, run)
    log = str(log_path(home.dir, container.name, run))
    prepared = replace(prepared, program=replace(prepared.program, log_path=log))
    return within(prepared, host.cgroups().make(group_name(home, container.name), limits_of(container)))


def within(prepared: Prepared, groups: tuple[str, ...]) -> Prepared:
    """The same program in these control groups."""
    confinement = replace(prepared.program.confinement, cgroups=groups)
    return replace(prepared, program=replace(prepared.program, confinement=confinement))


async def prepare_command(host: Host, home: Home, container: core.Container, run_id: str) -> Prepared:
    """The container's program without what a run of the container has of its own: for what runs beside it too, or in
    its place. Its files are there. Raises UnknownField, NotPrepared, OSError.
    """
    pod, directory = home.pod, home.dir
    _check(host, home, container)
    await read_configuration(host, home)
    place, owner = place_of(host, home), owner_of(host, pod)
    if owner is not None:
        furnish(directory, owner)
    try:
        env = build_environment(pod, container, place, host.services(), home.configuration)
        mounts = await mounts_of(host, home, container, place)
    except MissingConfiguration as error:
        raise NotPrepared("CreateContainerConfigError", str(error)) from error
    except (UnfitPath, NoAnswer) as error:
        raise NotPrepared("FailedMount", str(error)) from error
    last_words = termination_log(home, container)
    env |= {"PODIUM_POD_UID": pod.metadata.uid, "PODIUM_CONTAINER": container.name}
    env["PODIUM_TERMINATION_LOG"] = str(last_words)
    for name, mount in mounts:
        env.setdefault("PODIUM_VOLUME_" + name.upper().replace("-", "_"), mount.source)
    logs = log_path(directory, container.name, 0).parent
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    if owner is None:
        last_words.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        logs.chmod(0o711)
        make_file(directory, last_words, owner)
    limits = limits_of(container)
    rlimits = {} if host.cgroups().enforces or not limits.memory_bytes else {"DATA": DATA_FACTOR * limits.memory_bytes}
    # The pod's directory stays its own where nothing else can be written.
    own = [Mount(str(directory), str(directory))] if container.securityContext.readOnlyRootFilesystem else []
    # First: a volume that is mounted over it was meant to be.
    placed = (*_own_names(host, home, container), *(mount for _, mount in mounts))
    confinement = Confinement(
        mounts=(*own, *placed) if host.can_mount() else (),
        read_only_root=container.securityContext.readOnlyRootFilesystem,
        rlimits=rlimits,
        oom_score_adj=oom_score_adjustment(pod, container, place.memory_bytes),
    )
    program = Program(
        run_id,
        command_line(container, env),
        env,
        str(directory / container.workingDir),
        confinement=confinement,
        stdin=container.stdin,
        tty=container.tty,
    )
    return Prepared(program, placed, tuple(left_out(container, home.configuration)))


def may_mount(host: Host, pod: core.Pod) -> bool:
    """Containers of this pod can have files where they are not."""
    profile = security_profile(pod.spec)
    return profile != TRUSTED and (profile == SANDBOX or host.can_mount())


def needs_own_names(host: Host, pod: core.Pod, container: core.Container) -> bool:
    """Whether the container is to have a resolv.conf of its own: what is there for all is not right for it; or it has
    mounts of its own anyway, and then one more, which is exact, costs nothing."""
    if not is_common(pod.spec):
        return pod.spec.dnsPolicy != DEFAULT or pod.spec.HasField("dnsConfig") or host.shares_names()
    if not host.names.nameserver:
        return False
    has_mounts = container.volumeMounts or container.securityContext.readOnlyRootFilesystem
    return bool(has_mounts) or security_profile(pod.spec) != BASELINE or not host.shares_names()


def _own_names(host: Host, home: Home, container: core.Container) -> list[Mount]:
    """The container's own resolv.conf, if it is to have one. Raises OSError."""
    if not may_mount(host, home.pod) or not needs_own_names(host, home.pod, container):
        return []
    conf = conf_of(home.pod.spec, home.pod.metadata.namespace, host.names, host.machine_names())
    return [Mount(str(write_own(home.dir, conf)), os.path.realpath(RESOLV_CONF), True)]


def contained(host: Host, home: Home, container: core.Container, prepared: Prepared) -> Program:
    """The program with all that its pod's security profile does to it. Raises OSError."""
    profile, temporary = security_profile(home.pod.spec), home.dir / TEMPORARY
    if _may_hang(container, prepared.program):
        apart = replace(prepared.program.confinement, apart=True)
        prepared = replace(prepared, program=replace(prepared.program, confinement=apart))
    if profile == BASELINE:
        return prepared.program
    owner = owner_of(host, home.pod)
    if profile == RESTRICTED and owner is None:
        temporary.mkdir(mode=0o700, exist_ok=True)
    ports = tuple(port.containerPort for port in container.ports if port.protocol in ("", "TCP"))
    its = Belongings(home.dir, temporary, prepared.mounts, ports, owner, _user(host, home, container))
    return contain(prepared.program, profile, host.profiles(), its, can_mount=host.can_mount())


def _may_hang(container: core.Container, program: Program) -> bool:
    """Whether the program lies, or works, in a place that its author chose: not in the pod's directory, and not where
    the machine has its programs."""
    name = program.argv[0] if program.argv else ""
    return bool(container.workingDir) or ("/" in name and not name.startswith(tuple(f"{each}/" for each in SYSTEM)))


def _user(host: Host, home: Home, container: core.Container) -> tuple[int, int]:
    """User and group that the container asks for; if it does not, those that it has."""
    contexts = (container.securityContext, home.pod.spec.securityContext)
    own = owner_of(host, home.pod) or (host.uid, host.gid)
    return (
        next((each.runAsUser for each in contexts if each.HasField("runAsUser")), own[0]),
        next((each.runAsGroup for each in contexts if each.HasField("runAsGroup")), own[1]),
    )


def _check(host: Host, home: Home, container: core.Container) -> None:
    """Whether the container may run as who it would run as, and ask whom it would ask. Raises NotPrepared."""
    spec, where, problem = container.securityContext, home.pod.spec.securityContext, ""
    user, group = _user(host, home, container)
    in_sandbox = security_profile(home.pod.spec) == SANDBOX
    wants_no_root = spec.runAsNonRoot if spec.HasField("runAsNonRoot") else where.runAsNonRoot
    own = owner_of(host, home.pod)
    if not in_sandbox and (user, group) != (own or (host.uid, host.gid)):
        whose = f"{own[0]}, {own[1]}" if own else f"the node agent: {host.uid}, {host.gid}"
        problem = f"it asks for user {user}, group {group}, but pods of its profile run here as {whose}"
    elif user == 0 and wants_no_root:
        problem = "container has runAsNonRoot and would run as root"
    elif user == 0 and not in_sandbox and not host.allow_root:
        problem = "pods may not run as root here (--no-allow-root of the node agent)"
    if problem and not in_sandbox:
        problem += "; with securityProfile: sandbox it could be anybody"
        problem += ", with restricted it would be nobody" if host.ordinary and own is None else ""
    if spec.readOnlyRootFilesystem and not host.can_mount() and not in_sandbox:
        problem = "readOnlyRootFilesystem cannot be kept: this kernel lets the node agent mount nothing"
    problem = problem or why_not(home.pod.spec, host.names, can_mount=may_mount(host, home.pod))
    if problem:
        raise NotPrepared("CreateContainerConfigError", f"container {container.name}: {problem}")
