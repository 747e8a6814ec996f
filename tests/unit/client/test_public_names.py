"""The packages that are for others to use: every public name is there, and nothing is imported for those unused."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cluster.client
import cluster.simulation
import cluster.testing

PACKAGES = [cluster.client, cluster.simulation, cluster.testing]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_exists_and_is_told_of(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name) is not None
        assert name in (package.__doc__ or "")
    with pytest.raises(AttributeError, match="nonsense"):
        package.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_importing_them_loads_no_grpc() -> None:
    script = (
        "import sys, cluster.testing.plugin; from cluster.client import WorkQueue; "
        "from cluster.simulation import NodeDown; print('grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
