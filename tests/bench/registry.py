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
    naming,
    placing,
    proxy_scale,
    proxying,
    resolving,
    restarting,
    scheduling,
    simulated,
    watching,
    whole,
    writing,
)
