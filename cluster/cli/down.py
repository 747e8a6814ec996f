"""`podium down`: a cluster is stopped, and what is left of it is counted and named.

A supervisor that runs stops its own children; without one, what was left of the cluster is looked for and ended.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from cluster.actor.clock import SystemClock
from cluster.cli.exits import ExitCode, say
from cluster.cli.interrupts import Interrupts
from cluster.cli.session import chosen_cluster, cluster_option

if TYPE_CHECKING:
    from cluster.up.layout import ClusterDir, ClusterState

_CLOCK = SystemClock()


@click.command(
    "down",
    epilog="\b\nExamples:\n"
    "  podium down\n"
    "  podium down --cluster demo --now\n"
    "  podium down --keep      the next `podium up` goes on from there",
)
@click.option("--now", is_flag=True, help="Kill at once: no grace for pods.")
@click.option("--keep", is_flag=True, help="Keep the cluster's state for the next `up`.")
@cluster_option
@click.pass_context
def down_command(ctx: click.Context, now: bool, keep: bool) -> int:
    """Stop a cluster, count what is left, and remove its directory.

    Exit code 7 if a process is left."""
    from cluster.up.layout import cluster_dir, find_cluster, known_clusters

    name = chosen_cluster(ctx)
    if name is None:
        # The only cluster there is, even if its supervisor died: then there is something to clean up. One that was
        # stopped and kept has no processes; to remove what it kept, it must be named.
        states = [(directory, directory.read_state()) for directory in known_clusters()]
        left = [directory for directory, state in states if state is not None and state.processes]
        directory = left[0] if len(left) == 1 else find_cluster(None)[0]
    else:
        directory = cluster_dir(name)
        if directory.read_state() is None:
            find_cluster(name)  # raises, with the words for it
    with Interrupts(directory, patience=0):
        return stop_cluster(directory, now=now, keep=keep)


def stop_cluster(directory: ClusterDir, *, now: bool, keep: bool, failed: bool = False) -> int:
    """Stops a cluster and says how long it took and what is left. Removes its directory unless `keep`.

    One that `failed` to start is cleaned up without many words."""
    start_s = _CLOCK.monotonic()
    state = directory.read_state()
    if state is None:
        survivors: list[dict[str, Any]] = []
    elif state.is_running():
        survivors = _stop_through_supervisor(directory, state, now)
    else:
        survivors = end_what_remains(directory, state, now)
    took_s = _CLOCK.monotonic() - start_s
    elsewhere = state.store if state is not None else ""
    # What is in etcd is not ours to remove; so the first `down` keeps what belongs to it, its addresses among others.
    keep = keep or bool(elsewhere and state is not None and state.processes and not failed)
    removed = "state kept"
    if not keep and not survivors and directory.path.exists():
        directory.remove()
        removed = "directory removed" if elsewhere else "state removed"
    elif keep and not survivors and (kept := directory.read_state()) is not None:
        kept.processes = []
        directory.write_state(kept)
    if not failed or survivors:
        count = max(len(state.processes) - 1, 0) if state is not None else 0
        left = f"{len(survivors)} process{'' if len(survivors) == 1 else 'es'} left"
        say(f'cluster "{directory.name}" stopped ({count} processes) in {took_s:.1f}s · {left} · {removed}')
        if elsewhere:
            _tell_where_state_is(directory, elsewhere, removed)
    for survivor in survivors:
        say(f"  left: pid {survivor['pid']} {survivor['name']}")
    return ExitCode.SURVIVORS if survivors else ExitCode.OK


def _tell_where_state_is(directory: ClusterDir, store: str, removed: str) -> None:
    from cluster.config.etcd_url import parse_etcd_url

    url = parse_etcd_url(store)
    say(
        f"its state is still in {store}; to remove that: etcdctl --endpoints {','.join(url.endpoints)} del --prefix "
        f"{url.prefix or f'/podium/{directory.name}/'}"
    )
    if removed == "state kept":
        say(f"to remove what is kept here as well: podium down --cluster {directory.name}")


def _stop_through_supervisor(directory: ClusterDir, state: ClusterState, now: bool) -> list[dict[str, Any]]:
    from cluster.api.errors import ApiError, DeadlineExceeded
    from cluster.up import control

    survivors: list[dict[str, Any]] | None = None
    try:
        control.ask(directory.control_socket, {"op": "status"})
        for answer in control.request(directory.control_socket, {"op": "stop", "now": now}, timeout_s=60.0):
            if answer["step"] == "killing":
                say(f"killing what did not stop in time: {', '.join(answer['names'])}")
            if answer.get("done"):
                survivors = answer["processes_left"]
                if answer["swept"]:
                    say(f"{answer['swept']} processes had escaped from their pods; killed")
    except DeadlineExceeded as error:
        say(f"warning: {error}; killing everything")
        return end_what_remains(directory, directory.read_state() or state, now=True)
    except ApiError as error:
        say(f"warning: {error}")
    supervisor = state.supervisor
    deadline = _CLOCK.monotonic() + 10.0
    while supervisor is not None and supervisor.is_alive() and _CLOCK.monotonic() < deadline:
        time.sleep(0.005)
    if survivors is None or (supervisor is not None and supervisor.is_alive()):
        return end_what_remains(directory, directory.read_state() or state, now)
    return survivors


def end_what_remains(directory: ClusterDir, state: ClusterState, now: bool, pods: bool = True) -> list[dict[str, Any]]:
    from cluster.up.remains import end_remains

    left = end_remains(directory, state, _CLOCK, now=now, pods=pods)
    return [{"pid": process.pid, "name": process.name()} for process in left]
