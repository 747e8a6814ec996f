"""What all pods of a node find at /etc/resolv.conf, while others replace the machine's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCENE = Path(__file__).with_name("shared_names_scene.py")


def test_the_nodes_file_stays_when_the_machines_is_replaced(tmp_path: Path) -> None:
    command = [sys.executable, str(SCENE), str(tmp_path)]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        command,
        env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode and "Operation not permitted" in done.stderr:
        pytest.skip(f"this kernel lets nobody mount: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "mounted": "the node's",
        "quiet": [],
        "written": "Read-only file system",
        "woken": True,
        "gone": "the machine's, replaced",
        "again": "the node's",
        "changed": "the node's, changed",
        "absent": False,
    }
