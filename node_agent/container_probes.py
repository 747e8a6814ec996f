"""Hooks and probes of a pod's containers: carried out while a run is on, and told to the lifecycle.

How one probe goes, and how often, is in `node_agent.prober`; which there are, and what is said of them, is here. A
container that declares a port and has no readiness probe is ready when that port listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent import hooks, prober, status
from node_agent.pod_state import NEVER, POST_START, HookDone, ProbeChanged
from node_agent.probe_state import LIVENESS, READINESS, STARTUP, ProbeTimes, first_delay_s
from node_agent.runtime.interface import ExecProcess
from node_agent.surroundings import PodHands

log = get_logger("node_agent.pod")


class ContainerProbes:
    """Of one pod."""

    def __init__(self, hands: PodHands, exec: Callable[[str, Sequence[str]], Awaitable[ExecProcess]]) -> None:
        """`exec(container, command)` runs a command beside a container; it raises StartFailure."""
        self._hands, self._exec = hands, exec
        self._around, self._home = hands.around, hands.home
        self._probes: dict[str, list[asyncio.Task[object]]] = {}  # by container, those of the run that is on

    def _target(self, name: str) -> prober.Target:
        return prober.Target(self._home.pod_ip, self._hands.specs[name], lambda command: self._exec(name, command))

    async def run_hook(self, container: str, run: int, hook: str) -> None:
        """To its end, which comes home as HookDone."""
        lifecycle = self._hands.specs[container].lifecycle
        handler = lifecycle.postStart if hook == POST_START else lifecycle.preStop
        error = await hooks.run_hook(handler, self._target(container), self._around.clock)
        await self._hands.tell(HookDone(container, run, hook, error))

    def start(self, name: str, run: int, *, startup: bool, healthy: bool | None = None, adopted: bool = False) -> None:
        """`healthy`: what the readiness probe has said to an earlier life of this agent, which had the container."""
        container, clock = self._hands.specs[name], self._around.clock
        started_mono_s = self._hands.state()[name].started_mono_s
        ran_s = 0.0 if started_mono_s is None else clock.monotonic() - started_mono_s
        probes = [(STARTUP, container.startupProbe)] if startup else []
        if not startup and container.HasField("readinessProbe"):
            probes.append((READINESS, container.readinessProbe))
        elif not startup and self._hands.state()[name].probes_readiness and not healthy:
            by_port = core.Probe(periodSeconds=1)
            by_port.handler.tcpSocket.port.intVal = status.port_to_be_ready(container)
            probes.append((READINESS, by_port))
        if not startup and container.HasField("livenessProbe"):
            probes.append((LIVENESS, container.livenessProbe))
        tasks = self._probes.setdefault(name, [])
        for kind, probe in probes:
            known = healthy if kind == READINESS else None
            is_well = adopted and (kind == LIVENESS or bool(known))
            spread = self._around.rng.random() if is_well else 0.0
            delay_s = first_delay_s(ProbeTimes.of(probe), ran_s=ran_s, spread=spread)
            watching = self._watch_probe(name, run, kind, probe, delay_s, known)
            tasks.append(self._hands.spawn(watching, name=f"{kind} probe of {name}"))

    def stop(self, container: str) -> None:
        """The run that they asked about is over, or is to end."""
        for task in self._probes.pop(container, []):
            task.cancel()

    async def _watch_probe(
        self, container: str, run: int, kind: str, probe: core.Probe, delay_s: float, healthy: bool | None
    ) -> None:
        by_port = kind == READINESS and not self._hands.specs[container].HasField("readinessProbe")
        grace_s = (
            float(probe.terminationGracePeriodSeconds) if probe.HasField("terminationGracePeriodSeconds") else None
        )
        done = asyncio.Event()
        hint_at = self._around.clock.monotonic() + self._around.listener_check_s

        async def on_finding(finding: prober.Finding) -> None:
            nonlocal hint_at
            if by_port and not finding.healthy and self._around.clock.monotonic() >= hint_at:
                hint_at = NEVER
                port = status.port_to_be_ready(self._hands.specs[container])
                hint = "it declares this port and has no readiness probe, so it is ready when the port listens"
                self._hands.note("Warning", "Unhealthy", f"Container {container}: {finding.result.message}; {hint}")
                name = self._home.pod.metadata.name
                log.info("a container does not listen yet", pod=name, container=container, port=port)
            if finding.result.outcome is prober.Outcome.FAILURE and not by_port:
                title = kind.capitalize()
                self._hands.note("Warning", "Unhealthy", f"{title} probe failed: {finding.result.message}")
            if finding.changed:
                await self._hands.tell(ProbeChanged(container, run, kind, finding.healthy, grace_s))
                if by_port and finding.healthy:
                    done.set()  # it listens: that is all that was to be known

        around = self._around
        await prober.watch(
            kind,
            probe,
            self._target(container),
            on_finding,
            clock=around.clock,
            rng=around.rng,
            eager=around.eager_readiness or by_port,
            delay_s=delay_s,
            healthy=healthy,
            done=done,
        )
