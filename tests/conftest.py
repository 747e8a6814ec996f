"""For all tests: fixtures of the kit, and a home of their own, so that no test can touch a real cluster's directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.leaks import no_leaks

__all__ = ["no_leaks"]


@pytest.fixture(autouse=True, scope="session")
def podium_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """PODIUM_HOME of the whole session; a test that sets another one does so with `monkeypatch`."""
    home = tmp_path_factory.mktemp("home") / "podium"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODIUM_HOME", str(home))
        patch.delenv("PODIUM_CLUSTER", raising=False)
        yield home
