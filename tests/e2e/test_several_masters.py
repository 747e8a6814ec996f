"""Whole clusters with three masters and three managers on three members of etcd: what users see when some die."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.rpc.identity import Identity, issue, make_ca
from cluster.testing import Cluster
from tests.e2e.conftest import assert_nothing_left, watched
from tests.e2e.foreground import Foreground
from tests.e2e.workloads import fetch, sleeper, web
from tests.kit.etcd import EtcdCluster, need_etcd
from tests.kit.processes import alive


class Scene:
    """A cluster and its etcd."""

    def __init__(self, cluster: Cluster, etcd: EtcdCluster, run: Callable[..., object]) -> None:
        self.cluster = cluster
        self.etcd = etcd
        self._run = run

    def uids(self, selector: str) -> set[str]:
        return {pod.metadata.uid for pod in self.cluster.pods(selector)}

    def works(self, name: str) -> None:
        """Something new is carried out, by all parts together."""
        self.cluster.apply(sleeper(name, 2))
        self.cluster.wait(f"rc/{name}", ready=2)
        self.cluster.delete("rc", name)

    def restart_member(self, name: str) -> None:
        member = next(member for member in self.etcd.members if member.name == name)
        member.start()
        self._run(self.etcd.ready())

    def etcd_leader(self) -> str:
        leader = self._run(self.etcd.leader())
        return str(leader.name)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def etcd3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EtcdCluster, Callable[..., object]]]:
    """Three members for all tests of this file."""
    need_etcd()
    with asyncio.Runner() as runner:
        etcd = EtcdCluster(tmp_path_factory.mktemp("etcd"), 3)
        try:
            runner.run(etcd.start())
            yield etcd, runner.run
        finally:
            etcd.stop()


@pytest.fixture(scope="module")
def scene(
    etcd3: tuple[EtcdCluster, Callable[..., object]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    etcd, run = etcd3
    home = tmp_path_factory.mktemp("several") / "podium"
    with Cluster.start(nodes=2, masters=3, store=f"{etcd.url}/podium/several", home=home) as cluster, watched(cluster):
        cluster.apply(web("web", 2))
        cluster.wait("rc/web", ready=2)
        cluster.wait("svc/web", ready=2)
        yield Scene(cluster, etcd, run)
    assert_nothing_left(home)


def test_one_master_leads_and_each_part_is_run_by_one_manager(scene: Scene) -> None:
    cluster = scene.cluster
    assert fetch(cluster.address("web"))[0] == 200
    masters = cluster.info()["masters"]
    assert len(masters) == 3
    assert sum(each["leader"] for each in masters) == 1
    assert all(each["engine"].startswith("etcd 3.") and not each["problems"] for each in masters), masters
    leases = {lease.metadata.name: lease.spec.holderIdentity for lease in cluster.list("leases", "kube-system")}
    assert set(leases) == {"podium-controllers", "podium-scheduler"}
    assert all(leases.values())
    text = cluster.podium("cluster-info").stdout
    assert text.count("(follows; ") == 2
    assert scene.etcd.url in text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_leading_master_fails_and_the_cluster_goes_on(scene: Scene, number: signal.Signals) -> None:
    cluster = scene.cluster
    before = scene.uids("app=web")
    leader = cluster.leader()
    pid = cluster.kill_process(leader, number)
    cluster.apply(sleeper("after", 1))  # with the next leader, and without an error
    cluster.wait("rc/after", ready=1)
    if number is signal.SIGSTOP:
        assert cluster.leader(but=leader) != leader
        os.kill(pid, signal.SIGCONT)
    cluster.wait_until(
        lambda: all(not each["problems"] and "revision" in each for each in cluster.info()["masters"]),
        "all masters answer",
    )
    assert scene.uids("app=web") == before, "nobody touched what ran"
    assert fetch(cluster.address("web"))[0] == 200
    assert [event for event in cluster.events("NodeNotReady", namespace="") if event] == []
    cluster.delete("rc", "after")


def test_etcds_leader_dies_and_the_cluster_goes_on(scene: Scene) -> None:
    before = scene.uids("app=web")
    name = scene.etcd_leader()
    next(member for member in scene.etcd.members if member.name == name).kill()
    try:
        scene.works("without-a-member")
    finally:
        scene.restart_member(name)
    scene.works("with-it-again")
    assert scene.uids("app=web") == before


def test_without_a_majority_of_etcd_pods_run_on_and_writes_say_why(scene: Scene) -> None:
    before, address = scene.uids("app=web"), scene.cluster.address("web")
    members = scene.etcd.members[:2]
    for member in members:
        member.suspend()
    try:
        refused = scene.cluster.podium("scale", "rc/web", "--replicas", "3", check=False)
        assert refused.returncode != 0
        assert "error: " in refused.stderr
        assert "Traceback" not in refused.stderr
        assert fetch(address)[0] == 200
    finally:
        for member in members:
            member.resume()
    scene.works("with-a-majority")
    assert scene.uids("app=web") >= before


def test_the_acting_manager_dies_and_another_goes_on(scene: Scene) -> None:
    cluster = scene.cluster

    def holders() -> set[str]:
        return {lease.spec.holderIdentity for lease in cluster.list("leases", "kube-system")}

    before = holders()
    # One manager acts for both parts, or two for one each: all but one die, and the last acts for both.
    for name in ("manager-1", "manager-2"):
        cluster.kill_process(name)
    scene.works("with-another-manager")
    cluster.kill_process("manager-3")
    scene.works("with-yet-another")
    cluster.wait_until(lambda: holders() != before, "somebody else holds the leases")


def test_a_cluster_that_is_stopped_goes_on_from_where_it_was(
    etcd3: tuple[EtcdCluster, Callable[..., object]], tmp_path: Path
) -> None:
    etcd, _ = etcd3
    store = f"{etcd.url}/podium/kept"
    with Cluster.start(nodes=1, masters=2, store=store, home=tmp_path / "podium") as cluster:
        cluster.apply(sleeper("kept", 1))
        cluster.wait("rc/kept", ready=1)
        uid = cluster.get("rc", "kept").metadata.uid
        addresses = cluster.info()["addresses"]
        stopped = cluster.podium("down").stderr
        assert "state kept" in stopped
        assert f"its state is still in {store}" in stopped
        assert "del --prefix /podium/kept/" in stopped
        other = cluster.podium("up", "-d", "--store", f"{etcd.url}/podium/other", check=False)
        assert other.returncode == 2
        assert f"its state is in {store}" in other.stderr
        cluster.podium("up", "-d", "--nodes", "1", "--profile", "test")
        assert cluster.info()["addresses"] == addresses
        assert cluster.get("rc", "kept").metadata.uid == uid
        cluster.wait("rc/kept", ready=1)


@pytest.mark.parametrize(
    ("arguments", "story"),
    [
        (["--masters", "3"], "--masters: more than one need a store that they share"),
        (["--store", "http://127.0.0.1:1"], "does not begin with etcd://"),
        (["--store", "etcd://127.0.0.1:1", "--etcd-credentials", "/nowhere"], "there is no such directory"),
        (["--etcd-credentials", "/tmp"], "--etcd-credentials is for --store"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: list[str], story: str) -> None:
    with pytest.raises(RuntimeError, match=story):
        Cluster.start(home=tmp_path / "podium", options=arguments)


def test_an_etcd_that_is_not_there_is_said_so_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1:1"):
        Cluster.start(home=tmp_path / "podium", store="etcd://127.0.0.1:1", masters=2)
    assert not (tmp_path / "podium").exists()


def test_a_new_directory_goes_on_with_the_state_and_the_addresses_that_are_in_etcd(
    etcd3: tuple[EtcdCluster, Callable[..., object]], tmp_path: Path
) -> None:
    etcd, _ = etcd3
    store = f"{etcd.url}/podium/moved"
    with Cluster.start(nodes=2, store=store, home=tmp_path / "podium") as cluster:
        block = cluster.info()["addresses"].split(".")[1]
        cluster.apply(web("web", 2))
        cluster.wait("svc/web", ready=2)
        address = cluster.address("web")
    assert_nothing_left(tmp_path / "podium")
    # Another authority, other certificates, a node less: what was there is found, and made true again.
    with Cluster.start(
        nodes=1, masters=2, store=store, home=tmp_path / "podium", options=["--block", block]
    ) as cluster:
        assert cluster.address("web") == address
        cluster.wait("svc/web", ready=2)
        cluster.wait_until(
            lambda: {pod.spec.nodeName for pod in cluster.pods("app=web")} == {"node-1"}, "all are on the node there is"
        )
        cluster.wait("rc/web", ready=2)
        assert fetch(address)[0] == 200
        assert cluster.info()["addresses"] == f"127.{block}.0.0/16"
        taken = cluster.podium("up", "-d", "--cluster", "another", "--block", block, check=False)
        assert taken.returncode == 1
        assert f"another cluster has the addresses 127.{block}.0.0/16" in taken.stderr
    other = "200" if block != "200" else "201"
    options = ["--cluster", "elsewhere", "--nodes", "1", "--profile", "test", "-d", "--store", store, "--block", other]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PODIUM_")}
    environment["PODIUM_HOME"] = str(tmp_path / "podium")
    command = [sys.executable, "-m", "cluster.cli.main"]
    started = subprocess.run([*command, "up", *options], env=environment, capture_output=True, text=True, check=False)
    for _ in range(2 if started.returncode == 0 else 0):
        _down(tmp_path / "podium", "elsewhere")
    assert started.returncode == 0, started.stderr
    assert f"warning: objects in the store have addresses of 127.{block}.0.0/16" in started.stderr
    assert f"podium up --block {block}" in started.stderr


def test_wrong_credentials_are_said_so_and_with_right_ones_ctrl_c_ends_all_masters(tmp_path: Path) -> None:
    need_etcd()
    (tmp_path / "etcd").mkdir()
    etcd = EtcdCluster(tmp_path / "etcd", 1, tls=True)
    make_ca(tmp_path / "foreign-ca", "foreign")
    issue(tmp_path / "foreign-ca", tmp_path / "foreign", Identity("admin"))
    (tmp_path / "empty").mkdir()
    home = tmp_path / "podium"
    with asyncio.Runner() as runner:
        try:
            runner.run(etcd.start())
            for name, story in (
                ("foreign", r"its certificate is not signed by the ca\.crt of the credentials"),
                ("empty", r"cannot read .*/empty/ca\.crt"),
            ):
                options = ["--etcd-credentials", str(tmp_path / name)]
                with pytest.raises(RuntimeError, match=story):
                    Cluster.start(home=home, store=etcd.url, options=options)
                assert not home.exists()
            right = ("--etcd-credentials", str(etcd.credentials_directory()))
            store = ("--masters", "3", "--store", etcd.url, *right)
            with Foreground(home, "up", "--cluster", "tls", "--profile", "test", "--nodes", "1", *store) as up:
                up.wait_for("Ctrl-C stops everything")
                everything = up.everything()
                assert len(everything) >= 1 + 1 + 3 + 3 + 3  # this command, supervisor, masters, managers, the rest
                up.signal_group(signal.SIGINT)
                assert up.wait() == 0, up.text
                assert "0 processes left · state kept" in up.text
                assert not alive(everything)
        finally:
            etcd.stop()
    _down(home, "tls")
    assert not home.exists()


def _down(home: Path, name: str) -> None:
    """Removes what was kept here; etcd is not asked for that."""
    command = [sys.executable, "-m", "cluster.cli.main", "down", "--cluster", name]
    subprocess.run(command, env=os.environ | {"PODIUM_HOME": str(home)}, capture_output=True, check=True)
