"""From "I want a cluster" to a running supervisor: claim addresses, make certificates, fork.

`start_supervisor` is called by a command that has not touched gRPC yet. The forked child becomes the supervisor; the
caller goes on, imports its own client meanwhile, and waits for the nodes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from dataclasses import dataclass

from setproctitle import setproctitle

from cluster.actor.clock import Clock
from cluster.config.profiles import PROFILES
from cluster.up.addresses import AddressBlock, claim_block, free_dns_port
from cluster.up.hollow import PREFIX
from cluster.up.layout import ClusterDir, ClusterState, this_process
from cluster.up.plan import UpOptions, cluster_domain, dns_options, master_addresses, node_names, plan_cluster
from cluster.up.spawners import end_spawners, spawners_of
from cluster.up.supervisor import ClusterSupervisor


@dataclass(slots=True)
class Handle:
    """What the starting command holds."""

    pid: int
    """Of the supervisor."""
    lifeline: int | None
    """Lifetime "dev" in the foreground: closing this write end, or dying, stops the cluster."""


def start_supervisor(
    directory: ClusterDir, options: UpOptions, *, detached: bool, clock: Clock, lifeline_fd: int | None = None
) -> Handle:
    """Forks the supervisor of a new cluster in that directory. What it says goes to DIR/log/supervisor.log.

    The cluster stops when its lifeline ends: a pipe from the caller, or if `detached` the descriptor that was given,
    if any. In the lifetime "service" the caller's death changes nothing.
    """
    directory.create()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        tied = options.lifetime == "dev" and not detached
        if not tied:
            os.close(read_end)
        _become_supervisor(directory, options, read_end if tied else lifeline_fd, clock)
    os.close(read_end)
    if detached:
        os.close(write_end)
        return Handle(pid, None)
    return Handle(pid, write_end)


def _become_supervisor(directory: ClusterDir, options: UpOptions, lifeline_fd: int | None, clock: Clock) -> None:
    """The forked child's life. Never returns."""
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # the command's handlers are not for us; there is nothing to stop yet
        setproctitle(f"podium {directory.name}: supervisor")
        log = os.open(directory.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
        code = supervise(directory, options, lifeline_fd, clock)
    except BaseException:  # it goes to the log; the child must not run the command's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def supervise(directory: ClusterDir, options: UpOptions, lifeline_fd: int | None, clock: Clock) -> int:
    """Runs a cluster until it is stopped. Returns the number of processes that could not be ended (0 is good)."""
    previous = directory.read_state()
    block = claim_block(random.Random(), previous.block if previous else options.block or None)
    dns_port = int(dns_options(options).get("port", 0)) or free_dns_port(block.dns_host)
    state = ClusterState(
        name=directory.name,
        detached=lifeline_fd is None,
        profile=options.profile,
        block=block.number,
        master=master_addresses(options.masters, block),
        store=options.store,
        etcd_credentials=options.etcd_credentials,
        scheduler_config=options.scheduler_config,
        policies=options.policies,
        started_at=clock.wall(),
        processes=[this_process("supervisor", "supervisor")],
        nodes=node_names(options.nodes),
        lifetime=options.lifetime,
        hollow=options.hollow,
        dns=block.dns(dns_port),
        cluster_domain=cluster_domain(options),
    )
    _end_strays(directory, state, clock)
    directory.control_socket.unlink(missing_ok=True)  # one that a killed supervisor left: nobody shall knock there
    directory.write_state(state)
    make_certificates(directory, state, block)
    supervisor = ClusterSupervisor(
        directory,
        plan_cluster(options, directory, block, dns_port=dns_port),
        state,
        clock=clock,
        stop_grace_s=PROFILES[options.profile].stop_grace_s,
        lifeline_fd=lifeline_fd,
    )
    try:
        return supervisor.run()
    finally:
        block.release()


def _end_strays(directory: ClusterDir, state: ClusterState, clock: Clock) -> None:
    """Pods that are nobody's now: of nodes that this cluster had once, or of a lifetime that is over."""
    nodes = state.nodes if state.lifetime == "service" else []
    names = {f"{node}{trusted}-spawner" for node in nodes for trusted in ("", "-trusted")}
    end_spawners([spawner for spawner in spawners_of(directory) if spawner.name not in names], clock)


def make_certificates(directory: ClusterDir, state: ClusterState, block: AddressBlock) -> None:
    """Makes the cluster's CA, unless it has one, and a fresh certificate for every identity."""
    from cluster.rpc.identity import Identity, issue, make_ca

    ca = directory.credentials("ca")
    if not (ca / "ca.key").exists():
        make_ca(ca, directory.name)
    # Managers answer for the scheduler at the addresses of the masters.
    serving = [*(address.partition(":")[0] for address in state.masters), "localhost"]
    hosts = {"master": serving, "scheduler": serving, "kubernetes": [block.kubernetes.partition(":")[0], "localhost"]}
    for index, node in enumerate(state.nodes):
        hosts[f"node:{node}"] = [block.agent(index).partition(":")[0], node]
    identities = ["master", "admin", "controllers", "scheduler", "proxy", "dns", "kubernetes"]
    identities += [f"node:{node}" for node in state.nodes]
    if state.hollow:
        identities.append(f"hollow:{PREFIX}")
        hosts[f"hollow:{PREFIX}"] = [block.hollow]
    for identity in identities:
        kind, _, name = identity.partition(":")
        issue(ca, directory.credentials(identity), Identity(kind, name), hosts=hosts.get(identity, []))
