"""Virtual time for tests: the clock of the simulation, under the name that tests know it by."""

from __future__ import annotations

from cluster.simulation.clock import VirtualClock

__all__ = ["VirtualClock"]
