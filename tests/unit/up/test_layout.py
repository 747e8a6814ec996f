"""The directory of a cluster and what is written there."""

import os
import stat
from pathlib import Path

import pytest

from cluster.api.errors import Invalid, NotFound
from cluster.config.errors import ConfigError
from cluster.up.layout import ClusterState, Process, cluster_dir, find_cluster, process_start_time, this_process


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make(name: str, supervisor: Process) -> None:
    directory = cluster_dir(name)
    directory.create()
    directory.write_state(ClusterState(name, True, "test", 42, "127.42.0.1:6443", 0.0, [supervisor], ["node-1"]))


def test_state_survives_writing_and_reading() -> None:
    make("demo", this_process("supervisor", "supervisor"))
    state = cluster_dir("demo").read_state()
    assert state is not None
    assert state.is_running()
    assert state.supervisor == this_process("supervisor", "supervisor")


def test_a_pid_that_was_used_again_does_not_count() -> None:
    stale = Process("supervisor", "supervisor", os.getpid(), process_start_time(os.getpid()) - 1)
    make("demo", stale)
    with pytest.raises(NotFound, match="podium up"):
        find_cluster(None)


def test_the_only_running_cluster_is_found_and_two_must_be_named() -> None:
    make("one", this_process("supervisor", "supervisor"))
    assert find_cluster(None)[0].name == "one"
    make("two", this_process("supervisor", "supervisor"))
    with pytest.raises(NotFound, match=r"one, two.*--cluster"):
        find_cluster(None)
    assert find_cluster("two")[0].name == "two"
    with pytest.raises(NotFound, match=r'^cluster "tow" is not running \(one, two are\). Start it: '):
        find_cluster("tow")


def test_directories_are_private(home: Path) -> None:
    cluster_dir("demo").create()
    for path in (home / "clusters" / "demo", home / "clusters" / "demo" / "pki"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_directory_that_others_can_read_is_refused(home: Path) -> None:
    cluster_dir("demo").create()
    (home / "clusters" / "demo").chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        cluster_dir("demo").create()


def test_a_link_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (home / "clusters").mkdir(parents=True, mode=0o700)
    (home / "clusters" / "demo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="link"):
        cluster_dir("demo").create()


@pytest.mark.parametrize("name", ["", "../x", "A", "a_b", "-a", "x" * 64])
def test_names_are_dns_labels(name: str) -> None:
    with pytest.raises(Invalid):
        cluster_dir(name)
