"""Timers, as named profiles: one table for everything that waits, retries or gives up.

`laptop` sees a dead node in two seconds and replaces its pods at once, because on one machine nothing is slow and none
waits. `kubernetes` has the numbers of Kubernetes. `test` retries faster still, for tests that break things; it does not
give up a node sooner, because a busy CI machine may keep an agent waiting.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One set of timers. All times are in seconds."""

    name: str
    heartbeat_interval_s: float
    """Between two heartbeats of a node agent."""
    node_monitor_period_s: float
    """Between two looks of the node lifecycle controller."""
    node_monitor_grace_s: float
    """A node that was silent for longer is NotReady."""
    node_startup_grace_s: float
    """The same for a node that was never heard of."""
    eviction_toleration_s: int
    """How long pods tolerate a dead node, unless they say otherwise (tolerationSeconds)."""
    eviction_rate_per_s: float
    """Nodes per second whose pods are evicted, in a healthy zone."""
    secondary_eviction_rate_per_s: float
    """The same in a large zone of which much is dead; in a small one it is 0."""
    crash_backoff_initial_s: float
    """Before the second restart of a container; doubles with each."""
    crash_backoff_max_s: float
    crash_backoff_reset_s: float
    """A run that lasted so long resets the back-off."""
    scheduler_backoff_initial_s: float
    scheduler_backoff_max_s: float
    stop_grace_s: float
    """What pods get at most when their node agent stops."""
    master_lease_s: int
    """Of several masters, another leads once the leading one was silent for so long; etcd takes whole seconds."""
    manager_lease_s: int
    """Of several managers, another takes over once the acting one has not renewed its lease for so long."""
    manager_renew_deadline_s: float
    """A manager that could not renew its lease for so long stops acting."""
    manager_retry_s: float
    """Between two attempts to get or to renew a lease."""
    eviction_hard: str = "memory.available<100Mi,nodefs.available<1%,nodefs.inodesFree<1%"
    """A node of which less is left ends pods (`node_agent.eviction`). On a laptop the disk is often nearly full, and
    nobody wants to lose pods over that before it matters."""
    eviction_period_s: float = 2.0
    """Between two looks at what a node has left."""
    eviction_pressure_s: float = 10.0
    """A node says for so long after a shortage that it has one."""
    event_ttl_s: float = 3600.0
    """Events are removed after that."""
    bookmark_interval_s: float = 5.0
    """An idle watch says so often that it is alive."""
    large_zone_threshold: int = 50
    """A zone with more nodes is large."""
    unhealthy_zone_fraction: float = 0.55
    """A zone with this share of dead nodes (and more than 2) is in trouble: evictions slow down or stop."""


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="laptop",
            heartbeat_interval_s=0.5,
            node_monitor_period_s=0.25,
            node_monitor_grace_s=2.0,
            node_startup_grace_s=5.0,
            eviction_toleration_s=0,
            eviction_rate_per_s=10.0,
            secondary_eviction_rate_per_s=1.0,
            crash_backoff_initial_s=0.5,
            crash_backoff_max_s=10.0,
            crash_backoff_reset_s=20.0,
            scheduler_backoff_initial_s=0.2,
            scheduler_backoff_max_s=2.0,
            stop_grace_s=5.0,
            master_lease_s=3,
            manager_lease_s=3,
            manager_renew_deadline_s=2.0,
            manager_retry_s=0.5,
        ),
        Profile(
            name="kubernetes",
            heartbeat_interval_s=10.0,
            node_monitor_period_s=5.0,
            node_monitor_grace_s=40.0,
            node_startup_grace_s=60.0,
            eviction_toleration_s=300,
            eviction_rate_per_s=0.1,
            secondary_eviction_rate_per_s=0.01,
            crash_backoff_initial_s=10.0,
            crash_backoff_max_s=300.0,
            crash_backoff_reset_s=600.0,
            scheduler_backoff_initial_s=1.0,
            scheduler_backoff_max_s=10.0,
            stop_grace_s=30.0,
            master_lease_s=15,
            manager_lease_s=15,
            manager_renew_deadline_s=10.0,
            manager_retry_s=2.0,
            eviction_hard="memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%",
            eviction_period_s=10.0,
            eviction_pressure_s=300.0,
        ),
        Profile(
            name="test",
            heartbeat_interval_s=0.2,
            node_monitor_period_s=0.1,
            node_monitor_grace_s=2.0,
            node_startup_grace_s=5.0,
            eviction_toleration_s=0,
            eviction_rate_per_s=100.0,
            secondary_eviction_rate_per_s=10.0,
            crash_backoff_initial_s=0.2,
            crash_backoff_max_s=2.0,
            crash_backoff_reset_s=5.0,
            scheduler_backoff_initial_s=0.05,
            scheduler_backoff_max_s=0.5,
            stop_grace_s=2.0,
            master_lease_s=2,
            manager_lease_s=2,
            manager_renew_deadline_s=1.5,
            manager_retry_s=0.25,
            bookmark_interval_s=1.0,
            eviction_period_s=0.2,
            eviction_pressure_s=1.0,
        ),
    )
}
