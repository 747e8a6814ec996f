"""Backups of real clusters, and what becomes of clusters, pods and watchers when one is restored."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.actor.tasks import Tasks
from cluster.api.conditions import is_pod_ready
from cluster.api.errors import ApiError, Expired, NotFound, StoreRewound, Unavailable
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.store.failpoints import EXIT_CODE, KNOWN, VARIABLE
from cluster.store.opening import take_lock
from cluster.testing import Cluster
from cluster.up import control
from tests.e2e.workloads import sleeper
from tests.kit.watch_validators import Recording, check_alone

DEADLINE_S = 30.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """With two nodes, and a controller of two pods that are ready."""
    with Cluster.start(nodes=2, home=tmp_path / "podium") as cluster:
        cluster.apply(sleeper("web", 2))
        ready(cluster, "web", 2)
        yield cluster


def ready(cluster: Cluster, app: str, count: int) -> list[core.Pod]:
    """Waits until so many pods of an application are ready, all of them really run, and no others are left."""

    def is_so() -> bool:
        pods = cluster.list("pods", selector=f"app={app}")
        return len(pods) == count and all(is_pod_ready(pod) and cluster.pod_pids(pod.metadata.name) for pod in pods)

    cluster.wait_until(is_so, f"{count} pods of {app} run", timeout_s=DEADLINE_S)
    return cluster.pods(f"app={app}")


def pids(cluster: Cluster, pods: list[core.Pod]) -> set[int]:
    return {pid for pod in pods for pid in cluster.pod_pids(pod.metadata.name)}


def none_lives(cluster: Cluster, gone: set[int]) -> None:
    def is_so() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in gone)

    cluster.wait_until(is_so, f"processes {sorted(gone)} are gone", timeout_s=DEADLINE_S)


def uids(pods: list[core.Pod]) -> dict[str, str]:
    return {pod.metadata.name: pod.metadata.uid for pod in pods}


def status(cluster: Cluster) -> Any:
    """What podium backup and restore are about: the store's id and revision, by way of any answer."""
    return cluster.run(lambda client: client.history(core.Node, "node-1", limit=1))


class Watcher:
    """Watches pods as a reflector would, and keeps a recording for each time that it began anew."""

    def __init__(self) -> None:
        self.recordings: list[Recording] = []
        self.stores: list[str] = []
        self.reasons: list[str] = []
        self._tasks = Tasks("watcher")

    async def start(self, client: ClusterClient) -> None:
        self._tasks.spawn(self._run(client), name="watch pods")
        while not self.recordings or not self.recordings[0].last_revision:
            await asyncio.sleep(0.02)

    async def stop(self, client: ClusterClient) -> None:
        await self._tasks.cancel_all()

    async def _run(self, client: ClusterClient) -> None:
        again = True
        while True:
            if again:
                self.recordings.append(Recording(None, wants_state=True))
                self.stores.append("")
                again = False
            recording = self.recordings[-1]
            after = recording.last_revision if recording.batches else None
            try:
                async with client.watch(core.Pod, after_revision=after, initial_state=after is None) as batches:
                    async for batch in batches:
                        if self.stores[-1] not in ("", batches.store_id):
                            raise StoreRewound(f"it is {batches.store_id} now")
                        self.stores[-1] = batches.store_id
                        recording.add_events(batch)
            except (Expired, StoreRewound) as error:
                self.reasons.append(type(error).__name__)
                again = True
            except ApiError:
                if after is None:
                    recording.batches.clear()
                await asyncio.sleep(0.05)

    def check(self) -> None:
        for recording in self.recordings:
            check_alone(recording)

    def alive(self) -> dict[str, str]:
        """Names and uids of the pods that exist by what it was told since it began anew."""
        found: dict[str, str] = {}
        for event in self.recordings[-1].events:
            if event.object is None:
                continue
            found.pop(event.object.metadata.name, None)
            if event.type != "DELETED":
                found[event.object.metadata.name] = event.object.metadata.uid
        return found


def test_a_running_cluster_becomes_what_it_was(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    before = uids(cluster.pods("app=web"))
    deleted, kept = sorted(before)
    kept_pids = cluster.pod_pids(kept)
    service = (
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}"
    )
    cluster.apply(service)
    address = cluster.address("web")
    told = cluster.podium("backup", str(file)).stderr
    assert "revision" in told
    assert file.stat().st_mode & 0o777 == 0o600
    old_id = status(cluster).store_id

    watcher = Watcher()
    cluster.run(watcher.start)
    cluster.apply(sleeper("later", 2))
    cluster.scale("web", 4)
    cluster.delete("pod", deleted)
    cluster.delete("service", "web")
    later = ready(cluster, "later", 2)
    more = ready(cluster, "web", 4)
    extra = [pod for pod in more if pod.metadata.name not in before]
    gone = pids(cluster, later) | pids(cluster, extra)
    ahead = status(cluster).revision

    refused = cluster.podium("restore", str(file), check=False)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert status(cluster).store_id == old_id
    said = cluster.podium("restore", str(file), "--yes").stderr
    assert "restored revision" in said

    pods = ready(cluster, "web", 2)
    none_lives(cluster, gone)
    assert status(cluster).store_id.partition("+")[0] == old_id
    assert status(cluster).store_id != old_id
    assert cluster.get("rc", "web").spec.replicas == 2
    assert cluster.address("web") == address
    with pytest.raises(NotFound):
        cluster.get("rc", "later")
    assert not cluster.list("pods", selector="app=later")
    assert uids(pods) == before, "what was deleted since then is there again, as it was"
    assert cluster.pod_pids(kept) == kept_pids, "what was there all the time was left alone"
    # A client that knows later revisions is told so, and begins anew; what it is told then is true.
    cluster.wait_until(lambda: watcher.alive() == uids(pods), "the watcher knows what is there")
    cluster.run(watcher.stop)
    watcher.check()
    assert watcher.reasons == ["StoreRewound"]
    assert len(set(watcher.stores)) == 2
    assert ahead > int(said.split("restored revision ")[1].split(":")[0])
    # History goes on, and what comes after is written as ever.
    cluster.scale("web", 3)
    ready(cluster, "web", 3)
    history = cluster.podium("history", "rc/web").stdout
    assert "replicas: 2 -> 3" in history
    assert "-> 4" not in history


def test_a_cluster_that_was_removed_comes_back_at_its_addresses(tmp_path: Path) -> None:
    file, home = tmp_path / "backup", tmp_path / "podium"
    with Cluster.start(nodes=1, home=home, name="back") as cluster:
        cluster.apply(sleeper("web", 2))
        names = {pod.metadata.name for pod in ready(cluster, "web", 2)}
        master = cluster.master
        cluster.podium("backup", str(file))
        cluster.podium("down")
        assert not cluster.directory.exists()
        restored = cluster.podium("restore", str(file))
        assert "podium up --cluster back --nodes 1 -d" in restored.stderr
        assert cluster.podium("fsck").stdout.endswith("sound\n")
        with Cluster.start(nodes=1, home=home, name="back") as again:
            assert again.master == master
            assert {pod.metadata.name for pod in ready(again, "web", 2)} == names
            # And once more, into a cluster that was kept: what was is kept aside.
            again.podium("down", "--keep")
            again.podium("restore", str(file), "--yes")
            aside = podium(again, "fsck", "--dir", str(again.directory / "master" / "restore.old"))
            assert aside.returncode == 0, aside.stdout
            with Cluster.start(nodes=1, home=home, name="back") as third:
                assert {pod.metadata.name for pod in ready(third, "web", 2)} == names


def test_a_backup_of_another_cluster_is_not_taken_by_mistake(cluster: Cluster, tmp_path: Path) -> None:
    file, home = tmp_path / "backup", tmp_path / "podium"
    cluster.podium("backup", str(file))
    with Cluster.start(nodes=1, home=home, name="other") as other:
        mistaken = other.podium("restore", str(file), "--yes", check=False)
        assert (mistaken.returncode, f"--from {cluster.name}" in mistaken.stderr) == (2, True)
        elsewhere = other.podium("restore", str(file), "--yes", "--from", cluster.name, check=False)
        assert (elsewhere.returncode, "podium down --cluster other --keep" in elsewhere.stderr) == (2, True)
        other.podium("down", "--keep")
        taken = other.podium("restore", str(file), "--yes", "--from", cluster.name, check=False)
        assert (taken.returncode, "another cluster has now" in taken.stderr) == (2, True)
        cluster.podium("down")
        other.podium("restore", str(file), "--yes", "--from", cluster.name)
        with Cluster.start(nodes=2, home=home, name="other") as moved:
            ready(moved, "web", 2)


def test_what_is_no_backup_or_damaged_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    cluster.podium("backup", str(file))
    sound = json.loads(cluster.podium("fsck", str(file), "-o", "json", check=False).stdout or "{}")
    assert not sound, "a cluster is named, and a file"
    report = podium(cluster, "fsck", str(file), "-o", "json")
    told = json.loads(report.stdout)
    assert (told["verdict"], told["cluster"], told["objects"]["Pod"]) == ("sound", cluster.name, 2)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    report = podium(cluster, "fsck", str(file))
    assert (report.returncode, "damaged" in report.stdout) == (1, True)
    before = status(cluster)
    for bad in (file, Path(__file__)):
        refused = cluster.podium("restore", str(bad), "--yes", check=False)
        assert (refused.returncode, "Nothing was changed" in refused.stderr) == (1, True)
    assert status(cluster).store_id == before.store_id


def podium(cluster: Cluster, *arguments: str, environment: dict[str, str] | None = None) -> Any:
    """The command without PODIUM_CLUSTER, or with other variables."""
    return subprocess.run(
        [sys.executable, "-m", "cluster.cli.main", *arguments],
        env={**os.environ, "PODIUM_HOME": str(cluster.home), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_files_are_not_replaced_by_mistake_and_go_to_pipes_too(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("mine")
    refused = cluster.podium("backup", str(file), check=False)
    assert (refused.returncode, "--force" in refused.stderr, file.read_text()) == (2, True, "mine")
    cluster.podium("backup", str(file), "--force")
    piped = tmp_path / "piped"
    with piped.open("wb") as out:
        subprocess.run(
            [sys.executable, "-m", "cluster.cli.main", "backup", "-"],
            env={**os.environ, "PODIUM_HOME": str(cluster.home)},
            stdout=out,
            check=True,
            timeout=60,
        )
    for path in (file, piped):
        assert podium(cluster, "fsck", str(path)).returncode == 0
    assert not list(tmp_path.glob("*.partial"))


def test_on_a_full_disk_there_is_no_backup(cluster: Cluster, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk's end: the same error from the same call."""
    file = tmp_path / "backup"
    result = subprocess.run(
        ["prlimit", "--fsize=4096", sys.executable, "-m", "cluster.cli.main", "backup", str(file)],
        env={**os.environ, "PODIUM_HOME": str(cluster.home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, "File too large" in result.stderr) == (1, True), result.stderr
    assert sorted(os.listdir(tmp_path)) == ["podium"]


@contextmanager
def with_failpoints(home: Path, failpoints: str) -> Iterator[Cluster]:
    with Cluster.start(nodes=1, home=home, environment={VARIABLE: failpoints}) as cluster:
        yield cluster


@pytest.mark.parametrize("point", [name for name in KNOWN if name.startswith("backup.")])
def test_when_the_master_dies_there_is_no_backup(tmp_path: Path, point: str) -> None:
    with with_failpoints(tmp_path / "podium", f"{point}=exit") as cluster:
        result = cluster.podium("backup", str(tmp_path / "backup"), check=False)
        assert result.returncode == 6, result.stderr
        assert sorted(os.listdir(tmp_path)) == ["podium"]
        cluster.wait_until(lambda: cluster.get("node", "node-1") is not None, "the master is back")


def test_when_the_command_is_killed_there_is_no_backup(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    with with_failpoints(tmp_path / "podium", "backup.before_end=sleep:1500ms:nth1") as cluster:
        command = subprocess.Popen(
            [sys.executable, "-m", "cluster.cli.main", "backup", str(file)],
            env={**os.environ, "PODIUM_HOME": str(cluster.home)},
            stderr=subprocess.DEVNULL,
        )
        partial = tmp_path / "backup.partial"
        deadline = time.monotonic() + DEADLINE_S
        while not partial.exists() and command.poll() is None:
            assert time.monotonic() < deadline, "nothing was written"
            time.sleep(0.01)
        command.send_signal(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL
        assert not file.exists()
        cluster.podium("backup", str(file))
        assert podium(cluster, "fsck", str(file)).returncode == 0
        assert not partial.exists()


def test_a_restore_that_fails_leaves_the_cluster_as_it_was(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    cluster.podium("backup", str(file))
    cluster.scale("web", 3)
    ready(cluster, "web", 3)
    before = status(cluster)
    for point in ("restore.after_stage", "restore.before_switch", "restore.between_aside", "restore.between_install"):
        result = podium(cluster, "restore", str(file), "--yes", environment={VARIABLE: f"{point}=raise:nth1"})
        assert result.returncode == 1, result.stderr
        assert status(cluster).store_id == before.store_id
        assert status(cluster).revision >= before.revision
    assert len(cluster.pods("app=web")) == 3
    ready(cluster, "web", 3)


def test_masters_stay_away_as_long_as_somebody_holds_them(cluster: Cluster) -> None:
    control_socket = cluster.directory / "run" / "control.sock"
    pid = cluster.pid("master")
    with control.hold_masters(control_socket):
        with pytest.raises(Unavailable, match="another command"), control.hold_masters(control_socket):
            pass
        control.ask(control_socket, {"op": "start"})
        with pytest.raises(LookupError):
            cluster.pid("master")
        os.close(take_lock(cluster.directory / "master"))
    for _ in range(15):  # a master may be ended before it has begun
        with control.hold_masters(control_socket):
            pass
    cluster.wait_until(lambda: cluster.get("node", "node-1") is not None, "the master is back")
    assert cluster.pid("master") != pid
    with control.hold_masters(control_socket):
        cluster.podium("down")
    assert not cluster.directory.exists()


def test_a_restore_that_is_killed_leaves_the_old_cluster_or_the_new_one(cluster: Cluster, tmp_path: Path) -> None:
    """The supervisor starts the master when whoever has stopped it is gone; the master finishes what was begun."""
    file = tmp_path / "backup"
    cluster.podium("backup", str(file))
    old_id = status(cluster).store_id
    for point, finished in (
        ("restore.after_stage", False),
        ("restore.before_switch", False),
        ("restore.between_aside", True),
        ("restore.between_install", True),
        ("restore.after_done", True),
    ):
        result = podium(cluster, "restore", str(file), "--yes", environment={VARIABLE: f"{point}=exit:nth1"})
        assert result.returncode == EXIT_CODE, result.stderr

        def answers(expected: bool = finished, known: str = old_id) -> bool:
            try:
                return bool((status(cluster).store_id != known) == expected)
            except ApiError:
                return False

        cluster.wait_until(answers, f"after {point}: the {'new' if finished else 'old'} store", timeout_s=DEADLINE_S)
        old_id = status(cluster).store_id
    ready(cluster, "web", 2)
