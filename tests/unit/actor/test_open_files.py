"""The limit of open files."""

from __future__ import annotations

import resource
import subprocess
import sys


def test_it_is_raised_as_far_as_it_may_be() -> None:
    program = (
        "import resource; from cluster.actor.open_files import raise_file_limit;"
        "print(raise_file_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0], raise_file_limit())"
    )
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))

    said = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=lower, capture_output=True, text=True, check=True
    ).stdout
    assert said.split() == [str(hard)] * 3
