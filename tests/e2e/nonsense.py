"""Throws at an API what can be made of its own OpenAPI document: schemathesis, with the same requests each time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def throw_nonsense(server: str, token: str, group: str, name: str, directory: Path) -> int:
    """Asserts that nothing is answered with a 5xx; returns how many operations of `group` were tried.

    `server` is https://HOST:PORT. `name` is an object that there is in the namespace default, so that it comes to that
    and not only to names that there are not. `directory` is for what schemathesis reads and leaves.
    """
    pytest.importorskip("schemathesis")
    (directory / "schemathesis.toml").write_text(f'[parameters]\nnamespace = "default"\nname = "{name}"\n')
    result = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server}/openapi/v3/{group}"),
            *("--url", server, "--tls-verify", "false", "-H", f"Authorization: Bearer {token}"),
            *("--checks", "not_a_server_error", "--phases", "fuzzing", "--max-examples", "2", "--workers", "2"),
            # Its own opinion of how fast examples have to be made is one of the machine.
            *("--generation-deterministic", "--suppress-health-check", "all"),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", result.stdout)
    assert tested is not None, result.stdout[-3000:]
    return int(tested[1])
