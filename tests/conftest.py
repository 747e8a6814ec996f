"""For all tests: fixtures of the kit, a home of their own, so that no test can touch a real cluster's directory, and
how hypothesis looks for examples.

It looks at the same examples each time: a run says whether the code is right, not how lucky the dice were. To look for
new ones: `pytest --hypothesis-profile=search`. What it finds becomes an `@example`. An example may take as long as it
takes, in either: on a machine that does other things as well, a limit on that measures the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.leaks import no_leaks

__all__ = ["no_leaks"]

settings.register_profile("same", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("search", settings.get_profile("same"), derandomize=False, print_blob=True)
settings.load_profile("same")


@pytest.fixture(autouse=True, scope="session")
def podium_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """PODIUM_HOME of the whole session; a test that sets another one does so with `monkeypatch`."""
    home = tmp_path_factory.mktemp("home") / "podium"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODIUM_HOME", str(home))
        patch.delenv("PODIUM_CLUSTER", raising=False)
        yield home
