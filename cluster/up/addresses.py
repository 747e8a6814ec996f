"""Which loopback addresses a cluster owns.

On Linux every address of 127.0.0.0/8 can be bound without asking anyone. A cluster takes one block 127.B.0.0/16, so
that several clusters (and parallel tests) never meet. The kernel arbitrates: whoever holds the socket 127.B.255.254 on
the claim port owns block B, for as long as its process lives; nothing is written down that could go stale.

    127.B.0.1 ...         master, up to nine   127.B.1.0 - 127.B.15.255     services
    127.B.0.10 ...        node agents          127.B.16.0 - 127.B.255.127   pods, a /25 for each node
    127.B.0.250           hollow nodes, all of them
    127.B.0.251           Kubernetes' REST API
    127.B.0.253           names (DNS)
"""

from __future__ import annotations

import errno
import random
import socket
from dataclasses import dataclass

from cluster.api.errors import Overloaded
from cluster.config.addresses import pod_cidr_base_of, service_cidr_of

CLAIM_PORT = 10257
MASTER_PORT = 6443
AGENT_PORT = 10250
SCHEDULER_PORT = 10259
"""Kubernetes' number for the scheduler, at the master's address of the same number."""
DNS_PORT, HIGH_DNS_PORT = 53, 10053
"""Where names are asked for: the number that every resolver knows; and where that may not be bound."""
FIRST_BLOCK, LAST_BLOCK = 10, 250
MAX_MASTERS = 9
MAX_NODES = 200
"""Agents' addresses are 127.B.0.10 to 127.B.0.209."""


@dataclass(slots=True)
class AddressBlock:
    """A claimed block. It is given back when the socket is closed or the process ends."""

    number: int
    claim: socket.socket

    @property
    def prefix(self) -> str:
        return f"127.{self.number}"

    def master(self, index: int) -> str:
        """Address of the index-th master, from 0."""
        return f"{self.prefix}.0.{1 + index}:{MASTER_PORT}"

    def scheduler(self, index: int) -> str:
        """Where the index-th manager answers for the scheduler, from 0."""
        return f"{self.prefix}.0.{1 + index}:{SCHEDULER_PORT}"

    def agent(self, index: int) -> str:
        """Address of the index-th node's agent, from 0."""
        return f"{self.prefix}.0.{10 + index}:{AGENT_PORT}"

    @property
    def hollow(self) -> str:
        """The address of all hollow nodes."""
        return hollow_host(self.number)

    def dns(self, port: int) -> str:
        """Where names are answered for."""
        return f"{self.dns_host}:{port}"

    @property
    def dns_host(self) -> str:
        return f"{self.prefix}.0.253"

    @property
    def kubernetes(self) -> str:
        """Where Kubernetes' REST API is served: at the port that it is known by."""
        return kubernetes_address(self.number)

    @property
    def service_cidr(self) -> str:
        return service_cidr_of(self.prefix)

    @property
    def pod_cidr_base(self) -> str:
        return pod_cidr_base_of(self.prefix)

    def release(self) -> None:
        self.claim.close()


def kubernetes_address(number: int) -> str:
    """Where Kubernetes' REST API of the block with that number is served, or would be."""
    return f"127.{number}.0.251:{MASTER_PORT}"


def hollow_host(number: int) -> str:
    """The address of all hollow nodes of the cluster that has this block."""
    return f"127.{number}.0.250"


def is_free(number: int) -> bool:
    """No cluster has that block now. Raises ValueError for a number that is no block."""
    if not 0 < number < 256:
        raise ValueError(f"127.{number} is no block of addresses")
    claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        claim.bind((f"127.{number}.255.254", CLAIM_PORT))
    except OSError:
        return False
    finally:
        claim.close()
    return True


def free_dns_port(host: str) -> int:
    """53 if it can be had there, by UDP and TCP, by whoever asks; else the high one, which every user may have.

    Port 53 is for privileged users unless net.ipv4.ip_unprivileged_port_start says otherwise, and a DNS server of the
    machine's that listens on all addresses has it on this one, too.
    """
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as trial:
            if kind == socket.SOCK_STREAM:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, DNS_PORT))
            except OSError:
                return HIGH_DNS_PORT
    return DNS_PORT


def block_of(address: str) -> int | None:
    """The block that an address or network is of; None if it is of none."""
    first, _, rest = address.partition(".")
    second = rest.partition(".")[0]
    return int(second) if first == "127" and second.isdecimal() else None


def taken(number: int) -> str:
    """The sentence for a cluster that cannot have its own block."""
    return (
        f"the objects of this cluster have addresses of 127.{number}.0.0/16, which another cluster has now; stop that "
        "first: podium down --cluster NAME"
    )


def claim_block(rng: random.Random, preferred: int | None = None) -> AddressBlock:
    """Claims a free block, or the one that a cluster has which comes back: its objects have addresses of it.

    Raises Overloaded if it is taken, or all are.
    """
    numbers = list(range(FIRST_BLOCK, LAST_BLOCK + 1))
    rng.shuffle(numbers)
    if preferred is not None:
        numbers = [preferred]
    for number in numbers:
        claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            claim.bind((f"127.{number}.255.254", CLAIM_PORT))
            claim.listen(1)
        except OSError as error:
            claim.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise
        return AddressBlock(number, claim)
    if preferred is not None:
        raise Overloaded(taken(preferred))
    raise Overloaded(
        f"all {len(numbers)} blocks of loopback addresses are in use: something holds port {CLAIM_PORT} on "
        "127.10.255.254 to 127.250.255.254. Stop clusters that are not needed: podium down --cluster NAME"
    )
