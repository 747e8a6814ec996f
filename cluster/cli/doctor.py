"""`podium doctor`: what this machine has for running pods, and what it lacks, with the command that would add it.

Everything is tried, not guessed: a namespace is made, a file is synced, an address is bound. Nothing is left of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from cluster.cli.exits import ExitCode

OK, WARNING, PROBLEM = "ok", "warning", "problem"
SLOW_SYNC_MS = 20.0
"""A disk that takes longer makes every write of the cluster slow."""
MIN_FREE_BYTES = 1 << 30
MIN_DESCRIPTORS = 1024
TRIAL_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    level: str
    """ok, warning (something works less well), problem (podium does not work)."""
    found: str
    cure: str = ""


@click.command(
    "doctor",
    epilog="\b\nExamples:\n  podium doctor\n  podium doctor -o json\n  podium doctor || echo something is missing",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format.")
def doctor_command(output: str) -> int:
    """Say what this machine has for running pods, and how to add what it lacks.

    Exit code 1 if something is missing without which podium does not work."""
    findings = [look() for look in LOOKS]
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        from cluster.cli.printers import align

        rows = [["", finding.what, finding.found] for finding in findings]
        for row, finding in zip(rows, findings, strict=True):
            row[0] = {OK: "ok", WARNING: "warn", PROBLEM: "FAIL"}[finding.level]
        lines = align(rows).splitlines()
        for line, finding in zip(lines, findings, strict=True):
            click.echo(line)
            if finding.cure:
                click.echo(f"       to change that: {finding.cure}")
    return ExitCode.ERROR if any(finding.level == PROBLEM for finding in findings) else ExitCode.OK


def _kernel() -> Finding:
    release = os.uname().release
    if os.uname().sysname != "Linux":
        return Finding("kernel", PROBLEM, f"{os.uname().sysname}: pods need Linux", "use a Linux machine")
    major, _, rest = release.partition(".")
    old = (int(major), int(rest.partition(".")[0])) < (5, 4)
    cure = "upgrade to Linux 5.4 or newer" if old else ""
    return Finding("kernel", PROBLEM if old else OK, f"Linux {release}", cure)


def _loopback() -> Finding:
    import socket

    try:
        with socket.socket() as probe:
            probe.bind(("127.250.250.1", 0))
    except OSError as error:
        return Finding("addresses of 127.0.0.0/8", PROBLEM, f"cannot be used: {error.strerror}", "ip link set lo up")
    return Finding("addresses of 127.0.0.0/8", OK, "every pod and service gets its own")


def _names() -> Finding:
    from cluster.up.addresses import DNS_PORT, free_dns_port

    if free_dns_port("127.250.250.1") == DNS_PORT:
        return Finding("port 53 for names", OK, "pods find services by name")
    found = "may not be bound: names are answered for at another port, and pods ask there only by PODIUM_DNS"
    cure = "sysctl net.ipv4.ip_unprivileged_port_start=53, if no DNS server of this machine has it on all addresses"
    return Finding("port 53 for names", WARNING, found, cure)


def _state() -> Finding:
    from cluster.config.dirs import state_root

    root = state_root()
    directory = next(each for each in (root, *root.parents) if each.is_dir())
    if not os.access(directory, os.W_OK):
        return Finding("state", PROBLEM, f"{root} cannot be written", "set PODIUM_HOME to a directory of yours")
    free = os.statvfs(directory)
    free_bytes = free.f_bavail * free.f_frsize
    took = _sync_ms(directory)
    found = f"{root}: {free_bytes / 2**30:.1f} GiB free, a synced write takes {took:.2f} ms"
    if free_bytes < MIN_FREE_BYTES:
        return Finding("state", WARNING, found, "free some space, or set PODIUM_HOME to another disk")
    slow = took > SLOW_SYNC_MS
    return Finding("state", WARNING if slow else OK, found, "set PODIUM_HOME to a faster disk" if slow else "")


def _sync_ms(directory: Path) -> float:
    """The median of a few."""
    times = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(9):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - start) * 1000)
    return sorted(times)[len(times) // 2]


def _namespaces() -> Finding:
    try:
        done = _confined("print(json.dumps(said))")
    except subprocess.TimeoutExpired:
        return Finding("isolation", WARNING, "cannot be tried: it does not end")
    if done.returncode != 0:
        return Finding("isolation", WARNING, f"cannot be tried: {done.stderr.strip().splitlines()[-1:]}")
    said = json.loads(done.stdout)
    if not said["missing"]:
        return Finding("isolation", OK, "keys hidden, volumes at their paths, no rights to gain, signals kept in")
    cure = _namespace_cure() if not said["mounts"] else ""
    if not cure and any("signals" in each for each in said["missing"]):
        cure = "use Linux 6.12 or newer, with landlock among lsm= of its command line (cat /sys/kernel/security/lsm)"
    return Finding("isolation", WARNING, "; ".join(said["missing"]), cure)


def _namespace_cure(sysctls: Path = Path("/proc/sys")) -> str:
    """The switch that stands in the way: the first one that is not as it has to be."""
    for name, wanted in (
        ("kernel/apparmor_restrict_unprivileged_userns", "0"),
        ("kernel/unprivileged_userns_clone", "1"),
    ):
        file = sysctls / name
        if file.exists() and file.read_text().strip() != wanted:
            return f"sudo sysctl -w {name.replace('/', '.')}={wanted}"
    return "sudo sysctl -w user.max_user_namespaces=10000"


def _limits() -> Finding:
    from node_agent.runtime.cgroups import Cgroups, remove_groups

    cgroups = Cgroups.find(f"doctor-{os.getpid()}")
    remove_groups(cgroups.bases.values())
    if cgroups.enforces:
        return Finding("limits", OK, f"kept by control groups (v{cgroups.version})")
    why = "; ".join(cgroups.missing) or "there are no control groups"
    found = f"memory is watched, limits of cpu are not kept: {why}"
    return Finding("limits", WARNING, found, _limits_cure())


def _limits_cure(mount: Path = Path("/sys/fs/cgroup"), uid: int | None = None) -> str:
    """Root has control groups unless they are mounted read only; others get a part of v2, and nothing of v1."""
    delegated = "systemd-run --user --scope -p Delegate=yes podium up"
    if (os.geteuid() if uid is None else uid) == 0:
        return f"mount -o remount,rw {mount}"
    if (mount / "cgroup.controllers").exists():
        return delegated
    return f"boot with systemd.unified_cgroup_hierarchy=1 (control groups v2), then: {delegated}"


def _profiles() -> Finding:
    from cluster.api.pods import SANDBOX, TRUSTED
    from node_agent.security import find_profiles, without

    found = find_profiles(os.environ.get("PATH", os.defpath), allow_trusted=True)
    if SANDBOX in found.offered and (problem := _sandbox_problem(found.bubblewrap)):
        found = without(found, SANDBOX, f"bubblewrap: {problem}")
    if not found.missing:
        return Finding("profiles", OK, ", ".join(each for each in found.offered if each != TRUSTED))
    return Finding("profiles", WARNING, "; ".join(found.missing), _profiles_cure(found.missing))


def _profiles_cure(missing: Sequence[str]) -> str:
    """By what the findings say."""
    text = " ".join(missing)
    if "apt-get" in text:
        return "sudo apt-get install bubblewrap libseccomp2"
    if "Landlock" in text:
        return "use Linux 5.13 or newer, with landlock among lsm= of its command line (cat /sys/kernel/security/lsm)"
    return _namespace_cure() if "bubblewrap:" in text else ""


def _sandbox_problem(bubblewrap: str) -> str:
    """Runs a sandbox as pods get it, within what the spawner does to itself; why it does not work, or nothing."""
    from node_agent.confine import NOBODY, can_become
    from node_agent.runtime.interface import Confinement

    sandbox = [bubblewrap, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--ro-bind", "/", "/"]
    program = "sys.exit(run([*sys.argv[4:], '--proc', '/proc', '--dev', '/dev', 'true'], json.loads(sys.argv[3])))"
    who = Confinement(uid=NOBODY, gid=NOBODY) if can_become(NOBODY) else Confinement()
    try:
        done = _confined(program, json.dumps(asdict(who)), *sandbox)
    except subprocess.TimeoutExpired:
        return "it does not end"
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""


def _confined(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process that has confined itself as spawners do: what it does cannot be taken back.

    The outcome is in `said`; `run(argv, confinement)` runs a program as they do, and returns its exit code. Raises
    TimeoutExpired.
    """
    before = (
        "import json, os, sys; sys.path.append(sys.argv[1]); from node_agent.launch import confined\n"
        "os.mkdir(sys.argv[2] + '/a'); launch, said = confined(sys.argv[2], [sys.argv[2] + '/a'])\n"
        "def run(argv, confinement):\n"
        "    pid, word = launch(argv, dict(os.environ), '/', (-1, -1, 2), confinement)\n"
        "    if word >= 0:\n"
        "        os.set_blocking(word, True); os.write(2, os.read(word, 4096))\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-I", "-S", "-c", before + program, root, scratch, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_LIMIT_S, check=False)


def _memory_files() -> Finding:
    if os.path.ismount("/dev/shm") and os.access("/dev/shm", os.W_OK):
        return Finding("secrets", OK, "kept in memory (/dev/shm)")
    return Finding("secrets", WARNING, "would lie on the disk", "sudo mount -t tmpfs tmpfs /dev/shm")


def _descriptors() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft < MIN_DESCRIPTORS
    return Finding("open files", WARNING if few else OK, f"{soft} (at most {hard})", "ulimit -n 4096" if few else "")


LOOKS: tuple[Callable[[], Finding], ...] = (
    _kernel,
    _loopback,
    _names,
    _state,
    _namespaces,
    _limits,
    _profiles,
    _memory_files,
    _descriptors,
)
