"""The order of a pod's containers: whose turn it is to start and to end, and what each of the others waits for. Pure.

    init containers    one after the other, each to its end; a failure of the last try is the pod's
    sidecars           begin in that same order, and let the next one begin once they have started
    the others         all at once when those are through, but each only when what it depends on is ready
    at the end         the others first, then the sidecars, the last one first

Nothing begins while something of the cluster that the pod depends on is not ready.
"""

from __future__ import annotations

from dataclasses import replace

from node_agent.pod_state import ContainerState, Phase, PodState, Role


def to_start(state: PodState) -> list[ContainerState]:
    """Those whose turn it is and that have not been started yet."""
    if state.missing:
        return []
    for c in state.containers:
        if c.role is Role.MAIN:
            break
        if c.phase is Phase.WAITING and not c.blocked:
            return [c]
        if not is_through(c):
            return []
    ready = {c.name for c in state.containers if c.ready}
    return [
        c
        for c in state.containers
        if c.role is Role.MAIN and c.phase is Phase.WAITING and not c.blocked and ready.issuperset(c.depends_on)
    ]


def is_through(c: ContainerState) -> bool:
    """An init container that lets the next one begin. A sidecar that has started once stays so, whatever becomes of it;
    one whose runs have all failed to start holds the pod back."""
    if c.role is Role.SIDECAR:
        return c.was_started or c.phase is Phase.ENDED
    return c.phase is Phase.ENDED and c.ended is not None and c.ended.exit_code == 0


def is_initialized(state: PodState) -> bool:
    """All init containers are through."""
    return all(is_through(c) for c in state.containers if c.role is not Role.MAIN)


def say_why_waiting(state: PodState) -> PodState:
    """The same, with what each container waits for that has not run yet and could."""
    ready = {c.name for c in state.containers if c.ready}
    initialized = is_initialized(state)
    changed = []
    for c in state.containers:
        if c.phase is Phase.WAITING and not c.blocked:
            missing = [name for name in c.depends_on if name not in ready]
            if state.missing:
                why = ("WaitingForDependency", f"waiting for {', '.join(state.missing)} to be ready")
            elif not initialized:
                why = ("PodInitializing", "")
            elif missing:
                why = ("WaitingForDependency", f"waiting for container {', '.join(missing)} to be ready")
            else:
                why = ("ContainerCreating", "")
            if c.waiting != why:
                c = replace(c, waiting=why)
        changed.append(c)
    return replace(state, containers=tuple(changed))


def is_over(state: PodState) -> bool:
    """Nothing but sidecars will ever run again."""
    mains = [c for c in state.containers if c.role is Role.MAIN]
    if all(c.phase is Phase.ENDED for c in mains):
        return True
    return any(c.role is Role.INIT and c.phase is Phase.ENDED and not is_through(c) for c in state.containers)


def next_sidecar_to_end(state: PodState) -> ContainerState | None:
    """The last one that runs, once the others are over; None while one before it in this order is still ending."""
    if any(c.role is not Role.SIDECAR and c.phase not in (Phase.ENDED, Phase.WAITING) for c in state.containers):
        return None
    for c in reversed(state.containers):
        if c.role is Role.SIDECAR and c.phase in (Phase.HOOKED, Phase.RUNNING):
            return c
        if c.role is Role.SIDECAR and c.phase in (Phase.STARTING, Phase.PRESTOP, Phase.STOPPING):
            return None
    return None


def serves_to_the_end(state: PodState) -> bool:
    """As in Kubernetes, a pod that was deleted says that it is ready while its programs run: some serve their clients
    to the end, and services lead to them while they have nobody else. One that is ended otherwise does not."""
    return state.stop is not None and state.stop.remove and state.failed is None


def is_closed(state: PodState) -> bool:
    """The pod was to end, and all its containers have: nothing runs in their place any more either."""
    return state.stop is not None and all(container.phase is Phase.ENDED for container in state.containers)
