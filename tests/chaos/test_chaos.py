"""Everything at once: for a minute daemons and pods are killed, suspended and scaled at random; then it must be whole.

    make chaos
    PODIUM_CHAOS_SEED=4711 PODIUM_CHAOS_S=120 make chaos        the same dice again, for longer

The dice decide what happens and in which order; processes decide how fast. So a seed does not replay a run exactly, but
it comes close.
"""

from __future__ import annotations

import http.client
import os
import random
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from cluster.api.errors import ApiError
from cluster.client.interface import ClusterClient
from cluster.testing import Cluster
from tests.e2e.workloads import fetch, sleeper, web
from tests.kit.processes import alive, family, mentioning
from tests.kit.transcript import Transcript, bound_once, never_too_many

NODES = 4
SLEEPERS = ("red", "green", "blue")
DURATION_S = float(os.environ.get("PODIUM_CHAOS_S", "75"))
HEALED_S = 60.0
"""How long everything may take to be whole again."""


@dataclass
class Chaos:
    """The dice, what they may do, and what is broken at the moment."""

    cluster: Cluster
    rng: random.Random
    suspended: dict[str, float] = field(default_factory=dict)
    """Process -> when it goes on, monotonic seconds."""
    told: list[str] = field(default_factory=list)

    def run(self, duration_s: float) -> None:
        """One act after the other, a fraction of a second apart."""
        acts: list[tuple[int, Callable[[], str]]] = [
            (6, self.scale),
            (3, self.delete_pod),
            (3, self.kill_pod),
            (2, lambda: self.kill("master")),
            (3, lambda: self.kill("manager")),
            (2, lambda: self.kill("proxy")),
            (1, lambda: self.kill("dns")),
            (2, self.kill_agent),
            (2, self.start_agents),
            (1, self.kill_spawner),
            (2, lambda: self.suspend("master", 2.0)),
            (2, lambda: self.suspend("manager", 3.0)),
            (1, lambda: self.suspend("proxy", 1.0)),
            (2, lambda: self.suspend(self.rng.choice(self.cluster.nodes), 3.0)),
        ]
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            self.wake(time.monotonic())
            act = self.rng.choices([act for _, act in acts], [weight for weight, _ in acts])[0]
            try:
                self.tell(act())
            except (LookupError, ProcessLookupError, psutil.NoSuchProcess) as error:
                self.tell(f"nothing to break: {error}")
            except ApiError as error:
                self.tell(f"refused: {error}")
            time.sleep(self.rng.uniform(0.0, 0.5))

    def tell(self, what: str) -> None:
        self.told.append(what)
        print(f"{len(self.told):4} {what}")

    def wake(self, now: float) -> None:
        """Lets those go on whose time is up."""
        for process in [name for name, until in self.suspended.items() if until <= now]:
            del self.suspended[process]
            try:
                self.cluster.kill_process(process, signal.SIGCONT)
            except (LookupError, ProcessLookupError):
                continue
            self.tell(f"{process} goes on")

    # --- acts; each returns what it did

    def scale(self) -> str:
        name, replicas = self.rng.choice(SLEEPERS), self.rng.randrange(9)
        self.cluster.scale(name, replicas)
        return f"scaled {name} to {replicas}"

    def some_pod(self) -> str:
        names = [pod.metadata.name for pod in self.cluster.pods() if pod.status.phase == "Running"]
        if not names:
            raise LookupError("no pod runs")
        return self.rng.choice(names)

    def delete_pod(self) -> str:
        name, grace_s = self.some_pod(), self.rng.choice([None, 0, 1])
        self.cluster.delete("pod", name, grace_period_s=grace_s, wait=False)
        return f"deleted pod/{name} with grace {grace_s}"

    def kill_pod(self) -> str:
        name = self.some_pod()
        self.cluster.kill_pod(name)
        return f"killed the processes of pod/{name}"

    def kill(self, process: str) -> str:
        self.cluster.kill_process(process)
        self.suspended.pop(process, None)
        return f"killed {process}"

    def kill_agent(self) -> str:
        if len(self.agents()) <= 2:
            raise LookupError("only two agents are left")
        return self.kill(self.rng.choice(self.agents()))

    def agents(self) -> list[str]:
        processes = self.cluster.info()["processes"]
        return [one["name"] for one in processes if one["role"] == "node-agent" and one["state"] != "stopped"]

    def start_agents(self) -> str:
        down = set(self.cluster.nodes) - set(self.agents())
        # It may not be done in time when something is suspended; the supervisor has been told.
        self.cluster.podium("up", "--cluster", self.cluster.name, "--timeout", "0.5", check=False)
        return f"started {', '.join(sorted(down)) or 'nobody'}"

    def kill_spawner(self) -> str:
        node = self.rng.choice(self.agents())
        for child in psutil.Process(self.cluster.pid(node)).children():
            child.kill()
        return f"killed the spawner of {node}"

    def suspend(self, process: str, at_most_s: float) -> str:
        self.cluster.kill_process(process, signal.SIGSTOP)
        self.suspended[process] = time.monotonic() + self.rng.uniform(0.1, at_most_s)
        return f"suspended {process}"

    def heal(self) -> None:
        """Nothing is broken any more: everything goes on, and what is down is started."""
        self.wake(float("inf"))
        self.cluster.podium("up", "--cluster", self.cluster.name)
        self.tell("healed")


@pytest.mark.podium(nodes=NODES)
def test_everything_is_whole_again_after_a_minute_of_chaos(podium_cluster: Cluster) -> None:
    seed = int(os.environ.get("PODIUM_CHAOS_SEED") or secrets.randbelow(10**6))
    print(f"PODIUM_CHAOS_SEED={seed}")
    rng = random.Random(seed)
    cluster = podium_cluster
    # A number of seconds that nobody else sleeps: so their processes are found, wherever they have got to.
    token = f"1000.{secrets.randbelow(10**12):012d}"
    transcript = cluster.run(make_transcript)
    for name in SLEEPERS:
        cluster.apply(sleeper(name, 2, command=f"(setsid sleep {token} &) ; exec sleep {token}"))
    cluster.apply(web("web", 2))
    cluster.wait("svc/web", ready=2)

    chaos = Chaos(cluster, rng)
    chaos.run(DURATION_S)
    chaos.heal()

    final = {name: rng.randrange(1, 7) for name in SLEEPERS}
    cluster.wait_until(lambda: scaled(cluster, final), "the last wishes are accepted", timeout_s=HEALED_S)
    for node in cluster.nodes:
        cluster.wait(f"node/{node}", timeout_s=HEALED_S)
    for name, replicas in final.items():
        cluster.wait(f"rc/{name}", ready=replicas, timeout_s=HEALED_S)
    cluster.wait("svc/web", ready=2, timeout_s=HEALED_S)
    cluster.wait_until(lambda: len(cluster.list("pods")) == sum(final.values()) + 2, "no other pod is left")
    served = {pod.metadata.name for pod in cluster.pods("app=web")}
    cluster.wait_until(lambda: served_by(cluster.address("web")) == served, "the service leads to its pods")
    wanted = 2 * sum(final.values())
    cluster.wait_until(
        lambda: len(mentioning(f"sleep {token}")) == wanted,
        f"{wanted} processes run, no more and no less: {len(mentioning(token))} do",
    )

    changes = cluster.run(lambda _: transcript.stop(), timeout_s=60.0)
    created, bound = never_too_many(changes), bound_once(changes)
    print(f"{len(chaos.told)} acts, {len(changes)} changes, {created} pods became active, {bound} were bound")
    complaints = [
        f"{log.name}: {line}" for log in logs(cluster) for line in log.read_text().splitlines() if "Traceback" in line
    ]
    assert complaints == []
    everything = family(cluster.pid("supervisor"))
    assert "0 processes left" in cluster.podium("down").stderr
    assert not alive(everything)
    assert not mentioning(token)


async def make_transcript(client: ClusterClient) -> Transcript:
    transcript = Transcript(client)
    await transcript.start()
    return transcript


def scaled(cluster: Cluster, wishes: dict[str, int]) -> bool:
    for name, replicas in wishes.items():
        cluster.scale(name, replicas)
    return True


def served_by(address: tuple[str, int]) -> set[str]:
    """Who answers on eight new connections; empty if one fails."""
    try:
        return {fetch(address, timeout_s=2.0)[1] for _ in range(8)}
    except (OSError, http.client.HTTPException):
        return set()


def logs(cluster: Cluster) -> list[Path]:
    return sorted((cluster.directory / "log").glob("*.log"))
