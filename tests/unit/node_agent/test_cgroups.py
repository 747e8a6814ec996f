"""Where control groups are found and what is written into them: in a tree of plain files, and in the machine's own."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from node_agent import cgroup_files
from node_agent.launch import Refused, launch
from node_agent.runtime import cgroups
from node_agent.runtime.cgroups import Cgroups, Limits, is_delegated, remove_groups, remove_remembered
from node_agent.runtime.interface import Confinement

MIB = 1 << 20
GROUP_FILES = (
    *("cgroup.procs", "cgroup.subtree_control", "cgroup.type", "pids.max", "memory.max", "memory.limit_in_bytes"),
    *("cpu.max", "cpu.weight", "cpu.cfs_quota_us", "cpu.shares"),
)


class Tree:
    """Files like those of a kernel: a new group has its files at once, and can be removed with them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, own: str, extra: tuple[str, ...] = ()) -> None:
        self.mount, self.proc = root / "cgroup", root / "proc"
        self.files = (*GROUP_FILES, *extra)
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text(own)
        self.mount.mkdir()
        mkdir, rmdir = os.mkdir, os.rmdir

        def make(path: str | Path, mode: int = 0o777) -> None:
            mkdir(path, mode)
            if Path(path).is_relative_to(self.mount):
                self.fill(Path(path))

        def remove(path: str | Path) -> None:
            group = Path(path)
            if group.is_relative_to(self.mount) and not (group / "cgroup.procs").read_text():
                for file in group.iterdir():
                    if file.is_file():
                        file.unlink()
            rmdir(path)

        monkeypatch.setattr(os, "mkdir", make)
        monkeypatch.setattr(os, "rmdir", remove)

    def fill(self, group: Path, procs: str = "") -> None:
        for name in self.files:
            (group / name).write_text(procs if name == "cgroup.procs" else "")

    def add(self, path: str, procs: str = "") -> Path:
        group = self.mount / path
        group.mkdir(parents=True, exist_ok=True)
        self.fill(group, procs)
        return group

    def find(self) -> Cgroups:
        return Cgroups.find("n", self.mount, self.proc)


def v2(root: Path, monkeypatch: pytest.MonkeyPatch, own: str = "/") -> Tree:
    tree = Tree(root, monkeypatch, f"0::{own}\n", ("memory.swap.max",))
    (tree.mount / "cgroup.controllers").write_text("cpu memory pids")
    (tree.mount / "cgroup.procs").write_text("1\n2\n")
    return tree


def v1(root: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    tree = Tree(root, monkeypatch, "3:memory:/session\n2:cpu,cpuacct:/\n1:pids:/\n0::/mine\n")
    for path in ("memory/session", "cpu", "pids", "unified/mine"):
        tree.add(path)
    (tree.mount / "unified" / "cgroup.procs").write_text("")
    return tree


def test_v2_below_the_root_for_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = v2(tmp_path, monkeypatch)
    found = tree.find()
    base = tree.mount / "podium-n"
    assert (found.version, set(found.bases.values()), found.missing) == (2, {base}, ())
    assert found.enforces
    assert (base / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    assert (tree.mount / "cgroup.procs").read_text() == "1\n2\n", "nobody is moved out of the root of all"


def test_v2_below_a_group_that_was_delegated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemons have to move out of it first; a second agent finds itself where the first one moved it."""
    tree = v2(tmp_path, monkeypatch, "/user.slice/run-7.scope")
    scope = tree.add("user.slice/run-7.scope", "4242\n")
    found = tree.find()
    assert found.bases["memory"] == scope / "podium-n"
    assert (scope / cgroup_files.DAEMONS / "cgroup.procs").read_text() == "4242"
    (tree.proc / "self" / "cgroup").write_text(f"0::/user.slice/run-7.scope/{cgroup_files.DAEMONS}\n")
    assert tree.find().bases == found.bases


def test_v2_where_nothing_was_delegated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = v2(tmp_path, monkeypatch, "/user.slice/app-terminal.scope")
    scope = tree.add("user.slice/app-terminal.scope", "4242\n")
    assert not is_delegated(scope)
    (tree.mount / "cgroup.subtree_control").mkdir()  # like a file that cannot be written
    found = tree.find()
    assert (found.version, found.enforces, found.bases) == (0, False, {})
    assert "systemd-run --user --scope -p Delegate=yes podium up" in found.missing[0]
    assert (scope / "cgroup.procs").read_text() == "4242\n"


def test_v1_and_hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = v1(tmp_path, monkeypatch)
    found = tree.find()
    assert found.bases == {
        "memory": tree.mount / "memory/session/podium-n",
        "cpu": tree.mount / "cpu/podium-n",
        "pids": tree.mount / "pids/podium-n",
        "kill": tree.mount / "unified/mine/podium-n",
    }
    groups = found.make("uid.main", Limits())
    assert {Path(group).parent.parent.name for group in groups} == {"pids", "mine", "cpu"}, "no limit of memory"
    cpu = found.bases["cpu"] / "uid.main"
    assert (cpu / "cpu.shares").read_text() == "", "nothing holds the spawner up"
    found.divide_cpu("uid.main", Limits(), 0)
    assert (cpu / "cpu.shares").read_text() == "2", "what others leave"
    assert (cpu / "cpu.cfs_quota_us").read_text() == "-1"
    assert (found.bases["cpu"] / "cpu.shares").read_text() == str(1024 * (os.cpu_count() or 1)), "all pods together"
    groups = found.make("uid.main", Limits(64 * MIB, 500))
    assert (cpu / "cpu.shares").read_text() == "1024", "again: the group was busy, and is used for the next run"
    found.divide_cpu("uid.main", Limits(64 * MIB, 500), 250)
    assert (cpu / "cpu.shares").read_text() == "256"
    assert len(groups) == 4
    assert set(found.groups_of("uid.main")) == set(groups)
    assert (found.bases["memory"] / "uid.main" / "memory.limit_in_bytes").read_text() == str(64 * MIB)
    assert (found.bases["cpu"] / "uid.main" / "cpu.cfs_quota_us").read_text() == "50000"
    assert (found.bases["pids"] / "uid.main" / "pids.max").read_text() == str(cgroups.MAX_PROCESSES)


def test_a_group_that_cannot_be_used_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = v1(tmp_path, monkeypatch)
    monkeypatch.setattr(os, "access", lambda path, mode: "/memory/" not in str(path))
    found = tree.find()
    assert "memory" not in found.bases
    assert not found.enforces
    assert found.missing == ("control groups: memory (Permission denied); run as root, or have them delegated",)
    assert not (tree.mount / "memory/session/podium-n").exists()


def test_limits_of_v2_and_memory_that_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what happened since the run began counts: a group that was busy at its end is used again."""
    found = v2(tmp_path, monkeypatch).find()
    (group,) = found.make("uid.main", Limits(64 * MIB, 1))
    found.divide_cpu("uid.main", Limits(64 * MIB, 1), 2000)
    found.divide_cpu("it.has-ended", Limits(64 * MIB, 1), 2000)
    read = {file.name: file.read_text() for file in Path(group).iterdir()}
    assert (read["memory.max"], read["memory.swap.max"]) == (str(64 * MIB), "0")
    assert read["cpu.max"] == "1000 100000", "the kernel takes no less than 1 ms"
    assert read["cpu.weight"] == "79"
    events = Path(group) / "memory.events"
    assert not found.was_out_of_memory("uid.main")
    events.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert found.was_out_of_memory("uid.main")
    found.make("uid.main", Limits(64 * MIB, 1))
    assert not found.was_out_of_memory("uid.main")
    events.write_text("low 0\noom 3\noom_kill 3\n")
    assert found.was_out_of_memory("uid.main")


@pytest.mark.parametrize(
    ("milli", "shares", "weight"), [(0, 2, 1), (1, 2, 1), (100, 102, 4), (1000, 1024, 39), (10**7, 262_144, 10_000)]
)
def test_a_request_of_cpu_is_a_part_when_it_is_short(milli: int, shares: int, weight: int) -> None:
    """Kubernetes' numbers."""
    assert (cgroups.shares_of(milli), cgroups.weight_of(shares)) == (shares, weight)


def test_what_is_busy_stays_and_all_else_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = v1(tmp_path, monkeypatch).find()
    for name in ("kept.main", "gone.main", "busy.main"):
        found.make(name, Limits(MIB))
    (found.bases["pids"] / "busy.main" / "cgroup.procs").write_text("7")
    found.remove_all_but(["kept.main"])
    assert sorted(group.name for group in found.bases["pids"].iterdir() if group.is_dir()) == ["busy.main", "kept.main"]
    assert [group.name for group in found.bases["memory"].iterdir() if group.is_dir()] == ["kept.main"]
    found.remember(tmp_path)
    (found.bases["pids"] / "busy.main" / "cgroup.procs").write_text("")
    remove_remembered(tmp_path)
    assert not any(base.exists() for base in found.bases.values())
    remove_remembered(tmp_path / "nothing")  # a node that had none


def test_a_spawner_that_cannot_come_back_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would be one of those whom ending the program ends."""
    monkeypatch.chdir(tmp_path)  # launching goes to another directory: back to ours, afterwards
    group = tmp_path / "node" / "run"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("")
    confinement = asdict(Confinement(cgroups=(str(group),)))
    started = tmp_path / "started"
    with pytest.raises(Refused, match="cannot leave the program's control groups"):
        launch(["/bin/sh", "-c", f"sleep 0.3; echo > {started}"], {}, "/", (-1, -1, -1), confinement)
    assert not any(str(started) in " ".join(it.info["cmdline"] or ()) for it in psutil.process_iter(["cmdline"]))
    assert not started.exists()
    (tmp_path / "cgroup.procs").write_text("")
    pid, _ = launch(["/bin/true"], {}, "/", (-1, -1, -1), confinement)
    assert os.waitpid(pid, 0)[1] == 0
    (group / "cgroup.procs").unlink()
    with pytest.raises(Refused, match="cannot enter its control groups"):
        launch(["/bin/true"], {}, "/", (-1, -1, -1), confinement)


def test_the_machines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has: what is found can be used, and nothing of it is left."""
    monkeypatch.chdir(tmp_path)
    found = Cgroups.find(f"test-{os.getpid()}")
    try:
        if not found.bases:
            pytest.skip(found.missing[0])
        groups = found.make("uid.main", Limits(64 * MIB, 500))
        before = Path("/proc/self/cgroup").read_text()
        confinement = asdict(Confinement(cgroups=groups))
        pid, _ = launch(["/bin/sleep", "1000"], {}, "/", (-1, -1, -1), confinement)
        assert cgroup_files.pids_in(groups) == [pid]
        assert Path("/proc/self/cgroup").read_text() == before
        if not cgroup_files.kill_all_in(groups):
            os.kill(pid, 9)
        os.waitpid(pid, 0)
        # Where somebody is held up already: it goes by itself, and whoever starts it stays outside.
        found.divide_cpu("uid.main", Limits(64 * MIB, 500), 100)
        pid, word = launch(
            ["/bin/sleep", "1000"], {}, "/", (-1, -1, -1), asdict(Confinement(cgroups=groups, apart=True))
        )
        os.set_blocking(word, True)
        assert os.read(word, 1000) == b"", "it runs"
        os.close(word)
        assert cgroup_files.pids_in(groups) == [pid]
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        found.remove("uid.main")
        assert found.groups_of("uid.main") == ()
    finally:
        remove_groups(found.bases.values())
