"""Where nothing can be covered, because there are no namespaces: keys are closed off by Landlock, or it is said that
they are open. With a real spawner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from node_agent.restrict import above, landlock_version
from tests.kit.without_namespaces import NO_NAMESPACE, without_namespaces

ROOT = str(Path(__file__).resolve().parents[3])
RUN = """
import asyncio, json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from cluster.actor.clock import SystemClock
from node_agent.runtime import process, spawner_link
from node_agent.runtime.interface import Program

if sys.argv[3]:
    spawner_link._BOOT = spawner_link._BOOT.replace("from node_agent", sys.argv[3] + "; from node_agent")

async def main(root):
    node = root / "home" / "cluster" / "node"
    runtime = process.ProcessRuntime(
        node, clock=SystemClock(), log_max_bytes=100_000, log_files=3, hidden=root / "home" / "cluster"
    )
    await runtime.start()
    said = {"confinement": dict(runtime.confinement), "hides": runtime.hides, "tails": []}
    for number, script in enumerate(sys.argv[4:]):
        os.makedirs(root / "home" / f"new-{number}")
        (root / "home" / f"new-{number}" / "file").write_text("new\\n")
        env = {"PATH": os.environ["PATH"]}
        log = str(root / f"{number}.log")
        argv = ("sh", "-c", "exec 2>&1; cd ../home; " + script)
        await runtime.run(Program(str(number), argv, env, str(root / "outside"), log))
        said["tails"].append((await runtime.wait(str(number))).tail)
    await runtime.stop()
    print(json.dumps(said))

asyncio.run(main(Path(sys.argv[2])))
"""


def run(root: Path, *scripts: str, before: str = "") -> dict[str, Any]:
    """What the spawner said of itself, and what each script did, in `home`, beside the directory that is hidden."""
    for name in ("home/cluster/node/pods", "home/cluster/node/data", "home/mine", "outside"):
        (root / name).mkdir(parents=True)
    (root / "home" / "cluster" / "key").write_text("the key\n")
    (root / "home" / "way-in").symlink_to(root / "home" / "cluster")
    arguments = [json.dumps([ROOT, *sys.path]), str(root), before, *scripts]
    done = subprocess.run(
        without_namespaces("-c", RUN, *arguments), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == NO_NAMESPACE:
        pytest.skip("there is no namespace to be had at all")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_keys_are_closed_off_and_all_the_rest_is_as_it_was(tmp_path: Path) -> None:
    if not landlock_version():
        pytest.skip("this kernel has no Landlock")
    pods, data = "cluster/node/pods", "cluster/node/data"
    said = run(
        tmp_path,
        "cat cluster/key way-in/key; echo x > cluster/key; rm cluster/key; mv cluster/key mine; ln cluster/key mine;"
        " touch cluster/x; mkdir cluster/y; ls cluster",
        f"echo pod > {pods}/file; mv {pods}/file {data}; cat {data}/file; rm {data}/file",
        "echo mine > mine/file; cat mine/file new-2/file; mkdir mine/deep; mv mine/file mine/deep; ls mine; pwd",
        "touch unwelcome; ls /proc/self/fd > /dev/null && head -c 4 /etc/passwd && cd .. && echo x > outside/x && ls",
    )
    assert said["hides"]
    assert said["confinement"]["hidden"] == "closed"
    assert not said["confinement"]["mounts"]
    assert any("closed by Landlock" in each for each in said["confinement"]["missing"])
    thief, pod, other, machine = said["tails"]
    assert thief.count("ermission denied") + thief.count("cross-device") == 8, thief
    assert thief.endswith("\nkey\nnode\n"), "names can be seen"
    assert (tmp_path / "home" / "cluster" / "key").read_text() == "the key\n"
    assert pod == "pod\n"
    assert other == f"mine\nnew\ndeep\n{tmp_path}/home\n", "what was new when it started can be opened"
    assert machine.startswith("touch: ")
    assert "root" in machine
    assert (tmp_path / "outside" / "x").exists()
    assert not (tmp_path / "home" / "unwelcome").exists()


def test_it_is_said_where_keys_are_open(tmp_path: Path) -> None:
    no_landlock = "import node_agent.restrict as r; r.CREATE_RULESET = 100_000"
    said = run(tmp_path, "cat cluster/key", before=no_landlock)
    assert not said["hides"]
    assert any(each.startswith("pods can read the cluster's keys: ") for each in said["confinement"]["missing"])
    assert said["tails"] == ["the key\n"]


def test_directories_above() -> None:
    assert above("/a/b/c") == ["/", "/a", "/a/b"]
    assert above("/a") == ["/"]
    assert os.path.commonpath(above("/x/y")) == "/"
