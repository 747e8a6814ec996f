"""From a container's specification to a program that can be started: files, volumes, environment, command line.

What the lifecycle calls "start" is two things: everything that must be there before (this file) and the start itself
(the runtime). Whatever is missing is an error with a name, and the container waits for it or fails by it; nothing is
started half prepared.

A volume appears at its mountPath, in a mount namespace of the container's own, where the kernel lets us make one; in
any case the variable PODIUM_VOLUME_<NAME> says where it lies.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from cluster.api.errors import ApiError, NotFound
from cluster.api.pods import (
    BASELINE,
    CPU,
    MEMORY,
    RESTRICTED,
    SANDBOX,
    TRUSTED,
    amount,
    config_references,
    mount_target,
    oom_score_adjustment,
    security_profile,
)
from cluster.api.resolv_conf import ResolvConf
from cluster.pb.v1 import core_pb2 as core
from node_agent.configuration import Configured
from node_agent.environment import MissingConfiguration, Place, build_environment, command_line, left_out
from node_agent.ownership import TEMPORARY, Owner, furnish, make_file, open_beneath
from node_agent.patience import Patience
from node_agent.resolver import DEFAULT, Names, conf_of, is_common, variables, why_not
from node_agent.resolver_file import write_own
from node_agent.runtime.cgroups import Cgroups, Limits
from node_agent.runtime.interface import Confinement, Mount, Program
from node_agent.runtime.logs import log_path, remove_old_logs
from node_agent.security import SYSTEM, Belongings, Profiles, contain
from node_agent.shared_names import RESOLV_CONF
from node_agent.volumes import Shelves, UnfitPath, data_directory, make_volume

KUBERNETES_TERMINATION_LOG = "/dev/termination-log"
"""Kubernetes' default for terminationMessagePath, which its clients write out: the same as none."""
TERMINATION_LOG = "termination-log"

DATA_FACTOR = 4
"""Without control groups, memory is looked at now and then: a process that grows faster fails at this multiple of the
container's limit (RLIMIT_DATA, which counts what is reserved and not only what is used)."""


class ReadConfiguration(Protocol):
    """Reads a ConfigMap or Secret; see `node_agent.configuration`."""

    def __call__(self, kind: str, namespace: str, name: str, *, max_age_s: float) -> Awaitable[Configured]:
        """Raises ApiError."""
        ...


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
    read_configuration: ReadConfiguration
    allocatable: Callable[[], Mapping[str, int]]
    """What the node has to give, in the units of `cluster.api.pods.amount`."""
    data: Path
    """Where named data directories lie."""
    on_new_data: Callable[[], None]
    """Called when one of them was made."""
    memory: Path
    """A directory in memory, where secrets lie."""
    can_mount: Callable[[], bool]
    """Whether containers can have mounts of their own."""
    cgroups: Callable[[], Cgroups]
    profiles: Callable[[], Profiles]
    """The security profiles that the node carries out."""
    uid: int
    gid: int
    """The agent's user and group, who run all pods."""
    allow_root: bool
    """Pods may run as root, if that is who the agent is."""
    ordinary: Owner | None = None
    """Of an agent that is root: the user and group of restricted and sandboxed pods."""
    names: Names = field(default_factory=Names)
    """Whom pods ask for names."""
    machine_names: Callable[[], ResolvConf] = ResolvConf
    """Whom the machine asks."""
    shares_names: Callable[[], bool] = lambda: False
    """Pods without mounts of their own find the node's resolv.conf."""
    patience: Patience = field(default_factory=Patience)
    """For files that are the machine's."""


@dataclass(frozen=True, slots=True)
class Home:
    """What is a pod's own on its node."""

    pod: core.Pod
    pod_ip: str
    dir: Path
    """The pod's private directory."""
    configuration: dict[tuple[str, str], core.ConfigMap | core.Secret] = field(default_factory=dict)
    """What was read last of what the pod uses: good enough while the master cannot be asked."""

    def shelves(self, host: Host) -> Shelves:
        """Where its volumes lie."""
        # Without links: those lie where programs do not see them.
        memory = Path(os.path.realpath(host.memory)) / self.pod.metadata.uid
        return Shelves(self.dir, memory, host.data, owner_of(host, self.pod))


def owner_of(host: Host, pod: core.Pod) -> Owner | None:
    """Who the pod's programs are and whose its files are, if not the agent's."""
    return host.ordinary if security_profile(pod.spec) in (RESTRICTED, SANDBOX) else None


def place_of(host: Host, home: Home) -> Place:
    """Where the pod runs."""
    room, spec = host.allocatable(), home.pod.spec
    shares = host.shares_names() and security_profile(spec) != TRUSTED and is_common(spec)
    namespace = home.pod.metadata.namespace
    names = variables(spec, namespace, host.names, host.machine_names(), shares=shares)
    return Place(
        host.node_name,
        host.host_ip,
        home.pod_ip,
        str(home.dir),
        host.path,
        host.lang,
        room.get(CPU, 0),
        room.get(MEMORY, 0),
        names,
    )


def limits_of(container: core.Container) -> Limits:
    """What a container may use."""
    limits = container.resources.limits
    return Limits(
        amount(MEMORY, limits[MEMORY]) if MEMORY in limits else 0, amount(CPU, limits[CPU]) if CPU in limits else 0
    )


def cpu_request_of(container: core.Container) -> int:
    """In thousandths of a processor; what has a limit and no request requests its limit."""
    for wanted in (container.resources.requests, container.resources.limits):
        if CPU in wanted:
            return amount(CPU, wanted[CPU])
    return 0


def group_name(home: Home, container: str) -> str:
    """The name of a container's control groups."""
    return f"{home.pod.metadata.uid}.{container}"


def termination_log(home: Home, container: core.Container) -> Path:
    """The file in which a container leaves its last words."""
    if container.terminationMessagePath in ("", KUBERNETES_TERMINATION_LOG):
        return home.dir / "logs" / container.name / TERMINATION_LOG
    return home.dir / container.terminationMessagePath


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
        mounts = await _patient_volumes(host, home, container, place)
    except MissingConfiguration as error:
        raise NotPrepared("CreateContainerConfigError", str(error)) from error
    except UnfitPath as error:
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


async def _patient_volumes(host: Host, home: Home, container: core.Container, place: Place) -> list[tuple[str, Mount]]:
    """As `_volumes`, and without waiting for ever for what is not ours. Raises NotPrepared besides.

    Data directories that were not there before are told of.
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
        raise NotPrepared("FailedMount", f"hostPath of volume {names} does not answer") from None


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
                source = _within(source, mount.subPath, owner_of(host, home.pod) or (host.uid, host.gid))
            except OSError as error:
                raise UnfitPath(f'subPath "{mount.subPath}" of volume "{mount.name}": {error.strerror}') from error
        source = Path(os.path.realpath(source))
        mounts.append((mount.name, Mount(str(source), mount_target(mount.mountPath), mount.readOnly)))
    return mounts


def _within(volume: Path, sub_path: str, owner: Owner) -> Path:
    """A path within a volume, made if it is not there. Raises UnfitPath if a link leads out of the volume."""
    inside = Path(os.path.realpath(volume / sub_path))
    root = Path(os.path.realpath(volume))
    if not inside.is_relative_to(root):
        raise UnfitPath(f'subPath "{sub_path}" leads out of its volume')
    if not inside.exists():
        os.close(open_beneath(root, str(inside.relative_to(root)), owner))
    return inside
