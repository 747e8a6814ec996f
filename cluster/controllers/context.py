"""What every controller is given: a client, the shared view of the cluster, a voice, timers, time and dice."""

from __future__ import annotations

import random
from dataclasses import dataclass

from cluster.actor.clock import Clock
from cluster.actor.tasks import OnCrash
from cluster.client.events import EventRecorder
from cluster.client.interface import ClusterClient
from cluster.config.profiles import Profile
from cluster.controllers.caches import Caches


@dataclass(frozen=True, slots=True)
class Context:
    """See above. Shared by all controllers of one manager."""

    client: ClusterClient
    caches: Caches
    events: EventRecorder
    profile: Profile
    clock: Clock
    rng: random.Random
    on_crash: OnCrash
    """Told when a task dies that should never end: the manager then starts everything again."""
