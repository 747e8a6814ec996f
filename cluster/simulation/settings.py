"""What can be set about a simulation."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.config.errors import ConfigError
from cluster.config.profiles import PROFILES, Profile
from cluster.scheduler.settings import SchedulerSettings
from cluster.simulation.hollow import Pace


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """Every value is good as it is, but for `profile` and `scheduler`, which must be those of the cluster."""

    profile: str = "laptop"
    """Which row of the table of timers the cluster runs with: how soon a silent node counts as failed, how long pods
    tolerate that, how fast they are evicted."""
    scheduler: SchedulerSettings | None = None
    """How the cluster's scheduler is set, if a file says so (`scheduler.configuration`); None: by the timers alone."""
    pace: Pace = field(default_factory=Pace)
    """How fast pods start and stop."""
    limit_s: float = 1800.0
    """Virtual time after which a simulation that does not become quiet is ended."""
    deadline_s: float = 120.0
    """Real time after which it is ended, however far it has come."""
    service_cidr: str = ""
    """Addresses of services; empty: reckoned from those that the snapshot shows."""
    pod_cidr_base: str = ""
    """Where the blocks of addresses for pods begin; empty: reckoned from those that the snapshot shows."""

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ConfigError(f'profile: "{self.profile}" is not one of {", ".join(PROFILES)}')
        for name in ("limit_s", "deadline_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: {getattr(self, name):g} is not a time")
        for name in ("start_s", "stop_s"):
            if getattr(self.pace, name) < MIN_PACE_S:
                raise ConfigError(f"pace.{name}: {getattr(self.pace, name):g} is less than {MIN_PACE_S:g} s")

    @property
    def timers(self) -> Profile:
        """The row of the table of timers."""
        return PROFILES[self.profile]


MIN_PACE_S = 0.01
"""Nodes that take no time at all would do anything infinitely often before any time passes."""
