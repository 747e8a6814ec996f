"""Security profiles with real processes: what a restricted, a sandboxed and a trusted program can and cannot do."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from cluster.api.pods import RESTRICTED, SANDBOX, SECURITY_PROFILES, TRUSTED
from node_agent.confine import NOBODY, can_become
from node_agent.ownership import furnish, give
from node_agent.restrict import landlock_version
from node_agent.runtime.interface import Confinement, Ended, Mount, Program, StartFailure
from node_agent.runtime.process import ProcessRuntime
from node_agent.seccomp import make_filter
from node_agent.security import Belongings, Profiles, contain, find_profiles, try_profile, without
from tests.unit.node_agent.kit import until
from tests.unit.node_agent.spawner_scene import Make, pid_in, within

PATH = os.environ["PATH"]
OWNER = (NOBODY, NOBODY) if can_become(NOBODY) else None
"""Who restricted and sandboxed programs are; root's are not root's."""
CALLS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def said(name, *args):
    result = getattr(libc, name)(*args)
    print(name, "denied" if result < 0 and ctypes.get_errno() == 1 else "done")
said("unshare", 0x10000000)
said("ptrace", 16, os.getppid(), 0, 0)
said("mount", b"none", b"/tmp", b"tmpfs", 0, None)
said("personality", 0)
"""


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    node = tmp_path / "cluster" / "nodes" / "n"
    for name in ("pods", "data", "pods/p", *(() if OWNER else ("pods/p/tmp",))):
        (node / name).mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "private").write_text("private\n")
    hidden = tmp_path / "cluster"
    runtime = ProcessRuntime(node, clock=SystemClock(), log_max_bytes=100_000, log_files=3, hidden=hidden)
    await runtime.start()
    yield runtime
    await runtime.stop()


@pytest.fixture
def profiles() -> Profiles:
    return find_profiles(PATH, allow_trusted=True)


def volume_of(tmp_path: Path) -> Path:
    volume = tmp_path / "volume"
    volume.mkdir()
    if OWNER:
        give(volume, OWNER)
    return volume


def belongings(tmp_path: Path, *mounts: Mount, ports: tuple[int, ...] = ()) -> Belongings:
    own = tmp_path / "cluster" / "nodes" / "n" / "pods" / "p"
    if OWNER:
        furnish(own, OWNER)
    return Belongings(own, own / "tmp", mounts, ports, OWNER, (4711, 4712))


Run = Callable[..., "object"]


async def output(runtime: ProcessRuntime, one: Program) -> str:
    await runtime.run(one)
    ended: Ended = await within(runtime.wait(one.run_id))
    return ended.tail


def need(profiles: Profiles, profile: str) -> None:
    if profile not in profiles.offered:
        pytest.skip(profiles.why_not(profile))


def test_what_this_machine_offers(profiles: Profiles) -> None:
    assert set(profiles.offered) <= set(SECURITY_PROFILES)
    assert TRUSTED in profiles.offered
    wary = find_profiles(PATH, allow_trusted=False)
    assert TRUSTED not in wary.offered
    assert "--allow-trusted" in wary.why_not(TRUSTED)
    bare = find_profiles("/nowhere", allow_trusted=False)
    assert "apt-get install bubblewrap" in bare.why_not(SANDBOX)
    broken = without(profiles, SANDBOX, "it does not work")
    assert SANDBOX not in broken.offered
    assert broken.why_not(SANDBOX).endswith("it does not work") or SANDBOX not in profiles.offered


async def test_restricted_files_ports_and_system_calls(
    runtime: ProcessRuntime, program: Make, profiles: Profiles, tmp_path: Path
) -> None:
    need(profiles, RESTRICTED)
    volume = volume_of(tmp_path)
    mounts = (Mount(str(volume), "/data-of-podium-test"), Mount(str(volume), "/read-only-of-podium-test", True))
    its = belongings(tmp_path, *mounts, ports=(8123,))
    script = (
        f"exec 2>&1; cat {tmp_path}/home/private; echo mine > mine; cat mine; head -c 4 /etc/passwd; echo;"
        f" touch /etc/podium-test /var/tmp/podium-test {tmp_path}/home/new; touch /tmp/podium-test;"
        f" echo volume > {volume}/file; cat {volume}/file; env | grep TMPDIR"
    )
    one = contain(program("sh", "-c", script, cwd=its.own), RESTRICTED, profiles, its, can_mount=runtime.can_mount)
    said = await output(runtime, one)
    assert "private\n" not in said
    # What lies where an ordinary user may not pass is not there for root's.
    assert said.count("ermission denied") + said.count("No such file") == 5, said
    assert "mine\nroot\n" in said
    assert "volume\n" in said
    assert (volume / "file").read_text() == "volume\n"
    assert f"TMPDIR={its.temporary}\n" in said, "the state directory is below /tmp, so that is not covered"
    assert not any(Path(file).exists() for file in ("/etc/podium-test", "/tmp/podium-test", "/var/tmp/podium-test"))
    calls = contain(
        program("/usr/bin/python3", "-c", CALLS, cwd=its.own), RESTRICTED, profiles, its, can_mount=runtime.can_mount
    )
    if shutil.which("/usr/bin/python3"):
        said = await output(runtime, calls)
        assert said.count("denied") == 4, said


@pytest.mark.parametrize("profile", [RESTRICTED, SANDBOX])
async def test_of_root_it_is_an_ordinary_user_who_does_it(
    runtime: ProcessRuntime, program: Make, profiles: Profiles, tmp_path: Path, profile: str
) -> None:
    """Not only as it sees itself: what others may not read on this machine, it may not read either."""
    need(profiles, profile)
    if OWNER is None:
        pytest.skip("only root could be somebody else")
    if not runtime.can_mount:
        pytest.skip("this kernel lets nobody mount")
    (tmp_path / "secret").write_text("root's\n")
    (tmp_path / "secret").chmod(0o600)
    its = belongings(tmp_path, Mount(str(tmp_path / "secret"), "/var/secret"), Mount(str(volume_of(tmp_path)), "/data"))
    script = (
        "exec 2>&1; head -c 20 /etc/shadow || echo refused; cat /var/secret || echo refused; echo mine > /data/mine;"
        " echo through a path > /dev/stdout; echo mine > mine; mv logs mine.d || rm -r volumes || echo kept; sleep 1000"
    )
    bare = replace(program("sh", "-c", script, cwd=its.own), confinement=Confinement(mounts=its.mounts))
    one = contain(bare, profile, profiles, its, can_mount=True)
    await runtime.run(one)
    await until(lambda: "kept\n" in Path(one.log_path).read_text())
    said = Path(one.log_path).read_text()
    assert said.count("refused\n") == 2, said
    assert "root's" not in said
    assert "through a path\n" in said
    for file in (its.own / "mine", tmp_path / "volume" / "mine"):
        assert (file.stat().st_uid, file.stat().st_gid) == OWNER
    for pid in runtime.pids_of(one.run_id):
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}\n" in status
        assert f"Gid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}\n" in status
        assert re.search(r"^Groups:\s*$", status, re.MULTILINE), status
    runtime.kill(one.run_id)
    assert (await within(runtime.wait(one.run_id))).signal == 9


ATTACKS = {
    "tmp": "rmdir tmp; ln -s {home} tmp",
    "volume": "mv volumes away; mkdir volumes; ln -s {home} volumes/v",
    "part": "rmdir volumes/v/part; ln -s {home} volumes/v/part",
}


@pytest.mark.parametrize("profile", [RESTRICTED, SANDBOX])
@pytest.mark.parametrize("attack", ATTACKS)
async def test_links_in_place_of_its_own_lead_nowhere_at_the_next_start(
    runtime: ProcessRuntime, program: Make, profiles: Profiles, tmp_path: Path, profile: str, attack: str
) -> None:
    """What a container mounts lies where an earlier run of it, or another container of its pod, may write."""
    need(profiles, profile)
    if not runtime.can_mount:
        pytest.skip("this kernel lets nobody mount")
    own, home = belongings(tmp_path).own, tmp_path / "home"
    for name in ("volumes", "volumes/v", "volumes/v/part"):
        (own / name).mkdir(mode=0o700, exist_ok=True)
        if OWNER and name != "volumes":
            give(own / name, OWNER)
    (home / "part").mkdir()
    for file in (home / "private", home / "part" / "private"):
        file.write_text("it got there\n")
    mounts = Mount(str(own / "volumes" / "v"), "/data"), Mount(str(own / "volumes" / "v" / "part"), "/part")
    its = belongings(tmp_path, *mounts)
    steal = f"cat {home}/private {{tmp,/tmp,/data,/part,volumes/v,volumes/v/part}}/private; echo mine > mine; cat mine"
    said = ""
    for script in (ATTACKS[attack].format(home=home), steal):
        one = program("bash", "-c", f"exec 2>&1; {script}", cwd=own)
        one = contain(replace(one, confinement=Confinement(mounts=mounts)), profile, profiles, its, can_mount=True)
        try:
            said = await output(runtime, one)
        except StartFailure as failure:
            said = failure.message
    assert "it got there" not in said, said
    assert said.endswith("mine\n") or "symbolic links" in said, said


async def test_profiles_are_tried(runtime: ProcessRuntime, profiles: Profiles, tmp_path: Path) -> None:
    node = tmp_path / "cluster" / "nodes" / "n"
    for profile in (RESTRICTED, SANDBOX):
        need(profiles, profile)
        assert await try_profile(runtime, profile, profiles, node, OWNER) == ""
    assert [each.name for each in (node / "pods").iterdir()] == ["p"], "nothing of the trial is left"
    broken = replace(profiles, bubblewrap="/bin/false")
    assert await try_profile(runtime, SANDBOX, broken, node, OWNER) == "bubblewrap: exit code 1"


async def test_restricted_has_a_tmp_of_its_own(
    runtime: ProcessRuntime, program: Make, profiles: Profiles, tmp_path: Path
) -> None:
    need(profiles, RESTRICTED)
    if not runtime.can_mount:
        pytest.skip("this kernel lets nobody mount")
    own = Path("/var/tmp") / f"podium-test-{os.getpid()}"
    own.mkdir()
    try:
        if OWNER:
            furnish(own, OWNER)
        else:
            (own / "tmp").mkdir()
        its = Belongings(own, own / "tmp", (), (), OWNER, (4711, 4712))
        script = "exec 2>&1; echo x > /tmp/kept-to-itself; ls /tmp; echo $TMPDIR; echo mine > mine; cat mine"
        one = contain(program("sh", "-c", script, cwd=own), RESTRICTED, profiles, its, can_mount=True)
        assert await output(runtime, one) == "kept-to-itself\n/tmp\nmine\n"
        assert (own / "tmp" / "kept-to-itself").exists()
        assert not Path("/tmp/kept-to-itself").exists()
    finally:
        shutil.rmtree(own)


async def test_restricted_listens_only_on_its_ports(
    runtime: ProcessRuntime, program: Make, profiles: Profiles, tmp_path: Path
) -> None:
    need(profiles, RESTRICTED)
    if landlock_version() < 4:
        pytest.skip("this kernel's Landlock knows no ports")
    if not shutil.which("/usr/bin/python3"):
        pytest.skip("there is no Python among the system's files")
    with socket.socket() as mine, socket.socket() as foreign:
        mine.bind(("127.0.0.1", 0))
        foreign.bind(("127.0.0.1", 0))
        ports = mine.getsockname()[1], foreign.getsockname()[1]
    its = belongings(tmp_path, ports=(ports[0],))
    script = f"""
import socket
for port in {(*ports, 0)}:
    try:
        socket.create_server(('127.0.0.1', port))
        print('fine')
    except PermissionError:
        print('denied')
"""
    one = contain(
        program("/usr/bin/python3", "-c", script, cwd=its.own), RESTRICTED, profiles, its, can_mount=runtime.can_mount
    )
    assert await output(runtime, one) == "fine\ndenied\nfine\n"


async def test_a_sandbox_shows_nothing_but_the_system_and_its_own(
    runtime: ProcessRuntime, program: Make, profiles: Profiles, tmp_path: Path
) -> None:
    need(profiles, SANDBOX)
    volume = volume_of(tmp_path)
    its = belongings(tmp_path, Mount(str(volume), "/data"), Mount(str(volume), "/fixed", True))
    script = (
        f"exec 2>&1; ls {tmp_path}; echo mine > mine; ls -d mine tmp; echo new > /data/file; cat /data/file;"
        " echo x > /fixed/x; ls /proc | grep -c '^[0-9]'; id -u; touch /usr/podium-test; ls /root /home; exit 7"
    )
    one = contain(program("sh", "-c", script, cwd=its.own), SANDBOX, profiles, its, can_mount=runtime.can_mount)
    await runtime.run(one)
    ended = await within(runtime.wait(one.run_id))
    said = ended.tail
    assert ended.exit_code == 7
    assert said.startswith("cluster\nvolume\nmine\ntmp\nnew\n"), said
    assert said.count("Read-only file system") == 2, said
    assert said.count("No such file or directory") == 2, said
    lines = said.splitlines()
    assert "4711" in lines
    assert (volume / "file").read_text() == "new\n"
    assert next(int(line) for line in lines if line.isdigit()) <= 5, "it sees no processes but its own"


async def test_a_working_directory_of_the_machine_can_be_read(
    runtime: ProcessRuntime, program: Make, profiles: Profiles, tmp_path: Path
) -> None:
    """The author of the pod chose it: a program may lie there. Nothing can be written there, and nothing else read."""
    its = belongings(tmp_path)
    for profile in (RESTRICTED, SANDBOX):
        need(profiles, profile)
        script = f"exec 2>&1; cat private; touch x || echo refused; ls {tmp_path}/volume || echo refused"
        one = contain(
            program("sh", "-c", script, cwd=tmp_path / "home"), profile, profiles, its, can_mount=runtime.can_mount
        )
        said = await output(runtime, one)
        assert said.startswith("private\n")
        assert said.count("refused") == 2
    assert its.foreign("/") == its.foreign(str(its.own / "deep")) == ""


async def test_signals_reach_the_program_in_its_sandbox_and_it_ends_whole(
    runtime: ProcessRuntime, program: Make, profiles: Profiles, tmp_path: Path
) -> None:
    need(profiles, SANDBOX)
    its = belongings(tmp_path)
    script = "trap 'echo told; exit 5' TERM; sleep 1000 & echo $$ > pid; wait"
    one = contain(program("sh", "-c", script, cwd=its.own), SANDBOX, profiles, its, can_mount=runtime.can_mount)
    await runtime.run(one)
    await pid_in(its.own / "pid")
    assert len(runtime.pids_of(one.run_id)) >= 3
    runtime.signal(one.run_id, 15)
    ended = await within(runtime.wait(one.run_id))
    assert (ended.exit_code, ended.tail) == (5, "told\n")
    two = contain(program("sleep", "1000", cwd=its.own), SANDBOX, profiles, its, can_mount=runtime.can_mount)
    await runtime.run(two)
    await until(lambda: len(runtime.pids_of(two.run_id)) == 3)
    runtime.kill(two.run_id)
    await within(runtime.wait(two.run_id))


async def test_system_calls_are_filtered_in_a_sandbox(
    runtime: ProcessRuntime, program: Make, profiles: Profiles, tmp_path: Path
) -> None:
    need(profiles, SANDBOX)
    if not shutil.which("/usr/bin/python3"):
        pytest.skip("there is no Python among the system's files")
    its = belongings(tmp_path)
    one = contain(
        program("/usr/bin/python3", "-c", CALLS, cwd=its.own), SANDBOX, profiles, its, can_mount=runtime.can_mount
    )
    assert (await output(runtime, one)).count("denied") == 4


def test_the_filter_is_made_once() -> None:
    assert make_filter() is make_filter()
    assert len(make_filter()) % 8 == 0
