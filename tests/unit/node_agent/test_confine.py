"""What programs may do and see, with real processes, a real kernel, and a spawner that confines itself."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from node_agent.confine import MAX_FILE_BYTES, MAX_FILES, MAX_PROCESSES
from node_agent.runtime.interface import Confinement, Mount, StartFailure
from node_agent.runtime.process import ProcessRuntime
from tests.unit.node_agent.spawner_scene import Make, within


def make_runtime(node: Path, hidden: Path) -> ProcessRuntime:
    return ProcessRuntime(node, clock=SystemClock(), log_max_bytes=100_000, log_files=3, hidden=hidden)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    """Its spawner hides `cluster`, in which it has a node's directory."""
    node = tmp_path / "cluster" / "nodes" / "n"
    for name in ("pods", "data"):
        (node / name).mkdir(parents=True)
    (tmp_path / "cluster" / "key").write_text("the cluster's key")
    runtime = make_runtime(node, tmp_path / "cluster")
    await runtime.start()
    yield runtime
    await runtime.stop()


def needs_mounts(runtime: ProcessRuntime) -> None:
    if not runtime.can_mount:
        pytest.skip(f"this kernel lets nobody mount: {runtime.confinement}")


async def output(runtime: ProcessRuntime, make: Make, script: str, confinement: Confinement | None = None) -> str:
    one = make("sh", "-c", f"exec 2>&1; {script}")
    await runtime.run(replace(one, confinement=confinement or Confinement()))
    return (await within(runtime.wait(one.run_id))).tail


async def test_the_cluster_is_hidden_and_the_nodes_own_rooms_are_not(
    runtime: ProcessRuntime, program: Make, tmp_path: Path
) -> None:
    needs_mounts(runtime)
    node = tmp_path / "cluster" / "nodes" / "n"
    (node / "pods" / "mine").write_text("mine\n")
    said = await output(runtime, program, f"cat {tmp_path}/cluster/key; cat {node}/pods/mine; ls {node}")
    assert "No such file" in said
    assert said.endswith("mine\ndata\npods\n")
    said = await output(runtime, program, f"touch {tmp_path}/cluster/x; echo > {node}/pods/y; ls {node}/pods")
    assert said.endswith("mine\ny\n")
    assert not (tmp_path / "cluster" / "x").exists()
    assert (tmp_path / "cluster" / "key").read_text() == "the cluster's key"


async def test_all_find_the_nodes_resolv_conf_if_there_is_one(program: Make, tmp_path: Path) -> None:
    node = tmp_path / "cluster" / "node"
    for name in ("pods", "data"):
        (node / name).mkdir(parents=True)
    (node / "resolv.conf").write_text("nameserver 127.7.0.253\n")
    runtime = make_runtime(node, tmp_path / "cluster")
    await runtime.start()
    try:
        needs_mounts(runtime)
        assert runtime.names, runtime.missing
        assert await output(runtime, program, "cat /etc/resolv.conf") == "nameserver 127.7.0.253\n"
        (node / "resolv.conf").write_text("nameserver 127.7.0.254\n")
        assert await output(runtime, program, "cat /etc/resolv.conf") == "nameserver 127.7.0.254\n"
        assert "Read-only" in await output(runtime, program, "echo x > /etc/resolv.conf")
        own = tmp_path / "own"
        own.write_text("nameserver 192.0.2.1\n")
        target = os.path.realpath("/etc/resolv.conf")
        mine = Confinement(mounts=(Mount(str(own), target, True),))
        assert await output(runtime, program, "cat /etc/resolv.conf", mine) == "nameserver 192.0.2.1\n"
    finally:
        await runtime.stop()


async def test_without_one_they_find_the_machines(runtime: ProcessRuntime, program: Make) -> None:
    assert not runtime.names
    machine = Path("/etc/resolv.conf")
    expected = machine.read_text() if machine.exists() else ""
    assert await output(runtime, program, "cat /etc/resolv.conf 2>/dev/null") == expected


async def test_other_nodes_secrets_are_hidden_and_shared_memory_works(program: Make, tmp_path: Path) -> None:
    """Each node has a /dev/shm of its own, in which its secrets are where they were."""
    if not os.path.ismount("/dev/shm"):
        pytest.skip("there is no shared memory")
    node = tmp_path / "cluster" / "nodes" / "n"
    (node / "pods").mkdir(parents=True)
    mine, theirs = (Path(f"/dev/shm/podium-test-{os.getpid()}-{which}") for which in ("mine", "theirs"))
    try:
        for directory in (mine, theirs):
            directory.mkdir(mode=0o700)
            (directory / "secret").write_text(f"{directory.name}\n")
        (node / "memory").symlink_to(mine)
        runtime = make_runtime(node, tmp_path / "cluster")
        await runtime.start()
        try:
            needs_mounts(runtime)
            said = await output(runtime, program, f"cat {theirs}/secret; cat {mine}/secret; ls /dev/shm")
            assert "No such file" in said
            assert said.endswith(f"{mine.name}\n{mine.name}\n")
            (mine / "late").write_text("late\n")
            said = await output(runtime, program, f"cat {mine}/late; echo it works > /dev/shm/x; cat /dev/shm/x")
            assert said == "late\nit works\n"
            assert await output(runtime, program, "cat /dev/shm/x; rm /dev/shm/x") == "it works\n", "pods share it"
            assert not os.path.exists("/dev/shm/x")
        finally:
            await runtime.stop()
    finally:
        for directory in (mine, theirs):
            shutil.rmtree(directory)


async def test_no_rights_can_be_gained(runtime: ProcessRuntime, program: Make) -> None:
    said = await output(runtime, program, "grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status; umask; ulimit -c")
    words = said.split()
    assert words[words.index("NoNewPrivs:") + 1] == "1"
    assert int(words[words.index("CapEff:") + 1], 16) == 0
    assert words[-2:] == ["0077", "0"]


async def test_what_runs_outside_can_be_neither_signalled_nor_looked_into(
    runtime: ProcessRuntime, program: Make
) -> None:
    if runtime.confinement.get("missing"):
        pytest.skip(f"this kernel cannot do it: {runtime.confinement}")
    outside = await asyncio.create_subprocess_exec("sleep", "1000", env={"SECRET": "hush", "PATH": os.environ["PATH"]})
    try:
        proc = f"/proc/{outside.pid}"
        said = await output(runtime, program, f"kill {outside.pid}; cat {proc}/environ; ls {proc}/fd {proc}/root")
        assert outside.returncode is None
        assert "hush" not in said
        assert said.count("ermission denied") + said.count("not permitted") >= 3
    finally:
        outside.kill()
        await outside.wait()


async def test_a_program_cannot_signal_the_spawner_that_owns_it(runtime: ProcessRuntime, program: Make) -> None:
    """Nor other programs' owner, which is the same; its own children it can."""
    if runtime.confinement.get("missing"):
        pytest.skip(f"this kernel cannot do it: {runtime.confinement}")
    script = f"kill -9 {runtime.spawner_pid}; sleep 1000 & kill $! && echo mine; kill -9 $PPID"
    said = await output(runtime, program, script)
    assert said.count("not permitted") == 2
    assert said.count("mine\n") == 1
    confined = await output(runtime, program, script, Confinement(rlimits={"NOFILE": 77}))
    assert confined.count("not permitted") == 2, "also where it is forked"


async def test_mounts_appear_where_they_are_wanted_and_only_there(
    runtime: ProcessRuntime, program: Make, tmp_path: Path
) -> None:
    needs_mounts(runtime)
    source = tmp_path / "volume"
    source.mkdir()
    (source / "file").write_text("content\n")
    mounts = (
        Mount(str(source), "/no-such-directory/deep/down"),
        Mount(str(source), "/etc/podium-test/config", read_only=True),
        Mount(str(source / "file"), "/opt/podium-test-file"),
    )
    script = (
        "cat /no-such-directory/deep/down/file /etc/podium-test/config/file /opt/podium-test-file;"
        " echo new > /no-such-directory/deep/down/new; echo x > /etc/podium-test/config/x;"
        " head -c 5 /etc/passwd; ls /tmp > /dev/null && pwd"
    )
    said = await output(runtime, program, script, Confinement(mounts=mounts))
    assert said.startswith("content\ncontent\ncontent\n")
    assert "Read-only file system" in said
    assert said.endswith(f"root:{tmp_path}\n")
    assert (source / "new").read_text() == "new\n"
    for path in ("/no-such-directory", "/etc/podium-test", "/opt/podium-test-file"):
        assert not os.path.lexists(path), "nothing is written to the machine's own directories"
    assert "podium-test" not in Path("/proc/self/mountinfo").read_text()


async def test_a_root_that_cannot_be_written(runtime: ProcessRuntime, program: Make, tmp_path: Path) -> None:
    needs_mounts(runtime)
    script = "touch /var/podium-test /usr/podium-test; touch mine && echo fine"
    said = await output(runtime, program, script, Confinement(read_only_root=True))
    assert said.count("Read-only file system") == 2 or os.geteuid() != 0
    assert said.endswith("fine\n")
    assert not os.path.lexists("/var/podium-test")


async def test_limits_that_all_programs_have(runtime: ProcessRuntime, program: Make) -> None:
    """And that they cannot raise."""
    script = """
import json, resource, sys
names = ("CORE", "NOFILE", "FSIZE")
print(json.dumps([resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names]))
for name in names:
    number = getattr(resource, f"RLIMIT_{name}")
    try:
        resource.setrlimit(number, (resource.getrlimit(number)[1] + 1,) * 2)
        print("raised", name)
    except (ValueError, OSError):
        pass
"""
    one = program(sys.executable, "-I", "-S", "-c", script)
    await runtime.run(one)
    ended = await within(runtime.wait(one.run_id))
    ours = [resource.getrlimit(number)[1] for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)]
    most = [
        limit if hard == -1 else min(limit, hard) for limit, hard in zip((MAX_FILES, MAX_FILE_BYTES), ours, strict=True)
    ]
    assert json.loads(ended.tail) == [[each, each] for each in (0, *most)], ended.tail
    overwrite = "dd if=/dev/zero of=big bs=1 count=1 seek=1099511627776 || echo refused"
    assert "refused" in await output(runtime, program, overwrite)


@pytest.mark.parametrize("rlimits", [{}, {"NOFILE": 77}])
async def test_who_is_killed_first_when_memory_is_used_up(
    runtime: ProcessRuntime, program: Make, rlimits: dict[str, int]
) -> None:
    """Whether it is forked or not. All that it starts is of the same rank; the spawner keeps its own."""
    own = Path("/proc/self/oom_score_adj").read_text().strip()
    for wanted in (1000, 500, -997):
        confinement = Confinement(oom_score_adj=wanted, rlimits=rlimits)
        said = await output(
            runtime, program, "cat /proc/self/oom_score_adj; (cat /proc/$PPID/oom_score_adj)", confinement
        )
        # To protect itself from the kernel is root's right.
        assert said in (f"{wanted}\n{own}\n", *([f"{own}\n{own}\n"] if wanted < int(own) else []))
        if os.geteuid() != 0 or wanted > int(own):
            assert said.startswith(str(max(wanted, int(own))))
        assert Path(f"/proc/{runtime.spawner_pid}/oom_score_adj").read_text().strip() == own
    assert await output(runtime, program, "cat /proc/self/oom_score_adj", Confinement(rlimits=rlimits)) == f"{own}\n"


async def test_limits_and_another_user(runtime: ProcessRuntime, program: Make, tmp_path: Path) -> None:
    said = await output(runtime, program, "ulimit -n", Confinement(rlimits={"NOFILE": 77}))
    assert said == "77\n"
    if os.geteuid() == 0:
        one = program("/bin/sh", "-c", "id -u; id -g; id -G", cwd=Path("/"))
        await runtime.run(replace(one, confinement=Confinement(uid=65534, gid=65534)))
        assert (await within(runtime.wait(one.run_id))).tail.split() == ["65534"] * 3


async def test_processes_are_capped_in_a_user_namespace(runtime: ProcessRuntime, program: Make) -> None:
    """And others of this user are not counted: this test is one of them."""
    needs_mounts(runtime)
    if os.geteuid() == 0:
        pytest.skip("root needs no user namespace, and control groups can cap its pods")
    script = """
import os, time
try:
    for count in range(10000):
        if os.fork() == 0:
            time.sleep(1000)
except BlockingIOError:
    print(count)
"""
    one = program(sys.executable, "-I", "-S", "-c", script)
    await runtime.run(one)
    ended = await within(runtime.wait(one.run_id))
    assert MAX_PROCESSES - 50 < int(ended.tail) < MAX_PROCESSES
    assert not ended.lost


async def test_what_cannot_be_confined_is_not_started(runtime: ProcessRuntime, program: Make) -> None:
    one = replace(program("true"), confinement=Confinement(mounts=(Mount("/no/such/source", "/mnt"),)))
    with pytest.raises(StartFailure, match=r"cannot be confined as asked: .*/no/such/source"):
        await runtime.run(one)
    nowhere = replace(program("true"), confinement=Confinement(mounts=(Mount("/usr", ""),)))
    with pytest.raises(StartFailure, match="not an absolute path"):
        await runtime.run(nowhere)
    two = replace(program("no-such-program"), confinement=Confinement(rlimits={"NOFILE": 77}))
    with pytest.raises(StartFailure, match="executable file not found") as failure:
        await runtime.run(two)
    assert failure.value.exit_code == 127
    three = replace(program(sys.executable, "-c", "pass"), cwd="/no/such/dir", confinement=two.confinement)
    with pytest.raises(StartFailure, match="chdir to working directory"):
        await runtime.run(three)
