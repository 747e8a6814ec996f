"""The spawners of a cluster: the processes that own the pods of each node, and may outlive everything else.

Each says who it is in a file of its node's directory. They end their pods with themselves when they are told to
(SIGTERM), so nobody has to know how. Processes are compared with their start times and the machine's boot, since pids
are used again.
"""

from __future__ import annotations

import json
import signal
import time

import psutil

from cluster.actor.clock import Clock
from cluster.up.layout import ClusterDir, Process
from node_agent.spawner import TRUSTED_DIRECTORY, WHO, boot_id

PATIENCE_S = 6.0
"""How long a spawner may take to end what it owns."""
KILL_LIMIT_S = 3.0
"""How long killed processes may take to be gone."""


def spawners_of(directory: ClusterDir) -> list[Process]:
    """Those that live, by the name of their node: "node-1-spawner", and "node-1-trusted-spawner" for trusted pods."""
    found = []
    nodes = directory.path / "nodes"
    for file in sorted([*nodes.glob(f"*/{WHO}"), *nodes.glob(f"*/{TRUSTED_DIRECTORY}/{WHO}")]):
        name = "-".join(file.parent.relative_to(nodes).parts)
        try:
            who = json.loads(file.read_text())
            spawner = Process(f"{name}-spawner", "spawner", who["pid"], who["ticks"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is just beginning, or was never there
        if who.get("boot") == boot_id() and spawner.is_alive():
            found.append(spawner)
    return found


def family_of(process: Process) -> list[psutil.Process]:
    """A process and all its descendants; empty if it is gone."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)] if process.is_alive() else []
    except psutil.NoSuchProcess:
        return []


def end_spawners(spawners: list[Process], clock: Clock, *, now: bool = False) -> None:
    """Has them end what they own, and returns when they are gone; kills all of it if they do not, or at once if `now`.

    What withstands is found by whoever counts what is left.
    """
    family = [process for spawner in spawners for process in family_of(spawner)]
    for spawner in spawners:
        _send(spawner, signal.SIGTERM)
    kill_at_s = clock.monotonic() + (0.0 if now else PATIENCE_S)
    killed = False
    while any(_runs(process) for process in family):
        if clock.monotonic() >= kill_at_s + KILL_LIMIT_S:
            return
        if clock.monotonic() >= kill_at_s and not killed:
            killed = True
            for process in family:
                if _runs(process):
                    process.kill()
        time.sleep(0.005)


def _send(process: Process, number: signal.Signals) -> None:
    try:
        if process.is_alive():
            psutil.Process(process.pid).send_signal(number)
    except psutil.NoSuchProcess:
        pass


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
