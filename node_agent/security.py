"""Security profiles: what each of them does to the programs of a pod.

    baseline     what the spawner did to itself at its start (`node_agent.confine`), and so to all pods
    restricted   and: files only of the system (read) and of the pod, listening only on declared ports (Landlock); no
                 system calls that programs of a cluster have no use for (seccomp); a /tmp of its own
    sandbox      in namespaces of its own, made by bubblewrap: sees no processes but its own, no files but the system's
                 and its own, and no network interfaces more or less than all others; the same filter of system calls
    trusted      nothing of all that, as the node agent itself: only where the agent was told --allow-trusted

A node offers what it can do, which it has tried. Pods go to nodes that offer their profile.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.api.pods import BASELINE, RESTRICTED, SANDBOX, TRUSTED
from node_agent.mounts import FOREIGN
from node_agent.ownership import TEMPORARY, Owner, furnish
from node_agent.restrict import landlock_version
from node_agent.runtime.interface import Mount, Program, Runtime, StartFailure
from node_agent.seccomp import NoFilter, make_filter

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store")
"""Where programs, libraries and settings of a machine lie."""
NAMES = ("/run/systemd/resolve", "/run/resolvconf")
"""Where /etc/resolv.conf may lead to."""
DEVICES = (
    *("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts", "/dev/ptmx"),
)
MACHINE = ("/proc", "/sys/devices/system/cpu")
"""What programs ask for to know where they are."""
BUBBLEWRAP = "bwrap"
TRIAL_LIMIT_S = 10.0
STAGE = "/tmp"
"""Where bubblewrap finds what belongs to the pod, in the mount namespace that it is started in."""
FILTER_FD = 3
"""Where bubblewrap finds the filter."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """What a node carries out."""

    offered: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """What it does not, each with its reason."""
    bubblewrap: str = ""
    """Its path."""

    def why_not(self, profile: str) -> str:
        """Why the profile is not offered."""
        return next((each for each in self.missing if each.startswith(f"profile {profile}")), f"no profile {profile}")


def find_profiles(path: str, *, allow_trusted: bool) -> Profiles:
    """What this machine can do; that bubblewrap works within the spawner is to be tried by whoever has one."""
    offered, missing = [BASELINE], []
    problem = ""
    try:
        make_filter()
    except NoFilter as error:
        problem = str(error)
    bubblewrap = shutil.which(BUBBLEWRAP, path=path) or ""
    if landlock_version() and not problem:
        offered.append(RESTRICTED)
    else:
        missing.append(f"profile {RESTRICTED}: {problem or 'this kernel has no Landlock'}")
    if bubblewrap and not problem:
        offered.append(SANDBOX)
    else:
        missing.append(f"profile {SANDBOX}: {problem or 'bubblewrap is not installed (apt-get install bubblewrap)'}")
    if allow_trusted:
        offered.append(TRUSTED)
    else:
        missing.append(f"profile {TRUSTED}: not allowed here (--allow-trusted of the node agent)")
    return Profiles(tuple(offered), tuple(missing), bubblewrap)


def without(profiles: Profiles, profile: str, why: str) -> Profiles:
    """The same, but for one that turned out not to work."""
    offered = tuple(each for each in profiles.offered if each != profile)
    return replace(profiles, offered=offered, missing=(*profiles.missing, f"profile {profile}: {why}"))


async def try_profile(runtime: Runtime, profile: str, profiles: Profiles, directory: Path, owner: Owner | None) -> str:
    """Runs a program that does nothing as pods of this profile run, in the node's directory, as `owner` where that is
    not the agent; why it did not work, or nothing."""
    name = f"trial-{secrets.token_hex(4)}"
    own = directory / "pods" / name
    its = Belongings(own, own / TEMPORARY, (), (), owner, owner or (os.geteuid(), os.getegid()))
    bare = Program(name, ("true",), {"PATH": "/usr/bin:/bin"}, str(own), str(own / "log"))
    what = "bubblewrap" if profile == SANDBOX else "it"
    try:
        own.mkdir(mode=0o700)
        if owner is not None:
            furnish(own, owner)
        else:
            its.temporary.mkdir(mode=0o700)
        await runtime.run(contain(bare, profile, profiles, its, can_mount=runtime.can_mount))
        async with asyncio.timeout(TRIAL_LIMIT_S):
            ended = await runtime.wait(name)
    except TimeoutError:
        runtime.kill(name)
        return f"{what} does not end within {TRIAL_LIMIT_S:g} s"
    except (StartFailure, OSError) as error:
        return str(error)
    finally:
        runtime.forget(name)
        shutil.rmtree(own, ignore_errors=True)
    return "" if ended.exit_code == 0 else f"{what}: {ended.tail.strip() or f'exit code {ended.exit_code}'}"


@dataclass(frozen=True, slots=True)
class Belongings:
    """What a container has on its node."""

    own: Path
    """The pod's directory."""
    temporary: Path
    """Its own /tmp."""
    mounts: tuple[Mount, ...]
    """Its volumes, whether they can be mounted or not."""
    ports: tuple[int, ...]
    owner: Owner | None
    """Who it runs as and whose its files are; None: the agent."""
    user: tuple[int, int]
    """User and group that it wants to be in a sandbox."""

    def places(self) -> tuple[str, ...]:
        """Where all this lies."""
        return tuple(dict.fromkeys((str(self.own), *(each.source for each in self.mounts))))

    def foreign(self, cwd: str) -> str:
        """The working directory, if the pod's author chose one of the machine: it may be read."""
        is_mine = any(
            Path(cwd).is_relative_to(each) for each in (str(self.own), *(mount.target for mount in self.mounts))
        )
        return "" if is_mine or self.own.is_relative_to(cwd) else cwd


def contain(program: Program, profile: str, profiles: Profiles, its: Belongings, *, can_mount: bool) -> Program:
    """The program as it is to be started so that the profile holds."""
    confinement = replace(program.confinement, profile=profile)
    if its.owner is not None and profile in (RESTRICTED, SANDBOX):
        confinement = replace(confinement, uid=its.owner[0], gid=its.owner[1])
    if profile in (RESTRICTED, SANDBOX):
        confinement = replace(confinement, foreign=its.foreign(program.cwd))
    if profile == RESTRICTED:
        # A state directory below /tmp is not to be covered by it.
        has_tmp = can_mount and not its.own.is_relative_to("/tmp")
        if has_tmp:
            confinement = replace(confinement, mounts=(Mount(str(its.temporary), "/tmp"), *confinement.mounts))
        confinement = replace(
            confinement,
            ways=its.places() if can_mount and its.owner is not None else (),
            read=(
                *_without_links((*SYSTEM, *NAMES, *MACHINE)),
                *(mount.source for mount in its.mounts if mount.read_only),
            ),
            write=(
                *(str(its.own), str(its.temporary), *_without_links(DEVICES)),
                *(mount.source for mount in its.mounts if not mount.read_only),
            ),
            ports=its.ports,
            filter=_filter_text(),
        )
        env = dict(program.env) | {"TMPDIR": "/tmp" if has_tmp else str(its.temporary)}
        return replace(program, env=env, confinement=confinement)
    if profile == SANDBOX:
        # By names, bubblewrap would follow links that the pod has put where its own is.
        staged = {path: f"{STAGE}/{number}" for number, path in enumerate(its.places())} if can_mount else {}
        argv = sandbox_command(profiles.bubblewrap, program, its, staged)
        confinement = replace(
            confinement,
            filter=_filter_text(),
            filter_fd=FILTER_FD,
            depth=2,
            stage=STAGE if staged else "",
            mounts=tuple(Mount(path, place) for path, place in staged.items()),
            read_only_root=False,
        )
        return replace(program, argv=argv, cwd="/", confinement=confinement)
    if profile == TRUSTED:
        confinement = replace(confinement, mounts=())
    return replace(program, confinement=confinement)


def _filter_text() -> str:
    return base64.b64encode(make_filter()).decode()


@functools.cache
def _without_links(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(os.path.realpath(path) for path in paths)


def sandbox_command(bubblewrap: str, program: Program, its: Belongings, staged: Mapping[str, str]) -> tuple[str, ...]:
    """The command line that runs the program in a sandbox. `staged`: where something else is to be found than at its
    own path."""
    (uid, gid), own = map(str, its.user), str(its.own)
    words = [
        *(bubblewrap, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--uid", uid, "--gid", gid, "--die-with-parent", "--cap-drop", "ALL", "--seccomp", str(FILTER_FD)),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--dir", "/var/tmp"),
    ]
    for path in (*SYSTEM, *NAMES):
        if Path(path).is_symlink():
            words += ["--symlink", str(Path(path).readlink()), path]
        else:
            words += ["--ro-bind-try", path, path]
    if foreign := its.foreign(program.cwd):
        words += ["--ro-bind-try", f"{STAGE}/{FOREIGN}" if staged else foreign, foreign]
    words += ["--bind", staged.get(own, own), own]
    for mount in its.mounts:
        bind, source = "--ro-bind" if mount.read_only else "--bind", staged.get(mount.source, mount.source)
        words += [bind, source, mount.target]
        if not Path(mount.source).is_relative_to(own):  # it is also where its variable says
            words += [bind, source, mount.source]
    if program.confinement.read_only_root:
        words += ["--remount-ro", "/"]
    return (*words, "--chdir", program.cwd, "--", *program.argv)
