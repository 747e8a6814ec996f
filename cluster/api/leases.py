"""The leases by which the controllers and the scheduler of several managers run once: where they are, whose they are.

They are known to the managers, which stand for them, and to the master, which lets each component write its own only.
"""

from __future__ import annotations

from cluster.api.meta import Key

SYSTEM_NAMESPACE = "kube-system"
"""For what belongs to the cluster itself."""

COMPONENT_LEASES: dict[str, Key] = {
    component: Key("Lease", SYSTEM_NAMESPACE, f"podium-{component}") for component in ("controllers", "scheduler")
}
"""The kind of identity that runs once -> the lease that it runs by."""
