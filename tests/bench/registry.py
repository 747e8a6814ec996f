"""All benchmarks: importing this module registers them, in the order in which they are run."""

from __future__ import annotations

from tests.bench import (  # noqa: F401 - imported for their registrations
    agents,
    backing_up,
    crowd,
    deciding,
    failing_over,
    foretelling,
    journaling,
    kubernetes,
    placing,
    proxying,
    restarting,
    scheduling,
    simulated,
    watching,
    whole,
    writing,
)
