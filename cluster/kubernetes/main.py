"""`python -m cluster kubernetes`: flags to a supervised server of Kubernetes' REST API."""

from __future__ import annotations

import argparse
import random
import ssl
import sys
from asyncio import sslproto
from collections.abc import Sequence

from cluster.actor import daemon
from cluster.actor.clock import SystemClock
from cluster.actor.open_files import raise_file_limit
from cluster.actor.supervisor import ChildSpec, Supervisor
from cluster.client.agent_client import NodeAgentClient
from cluster.client.grpc_client import GrpcClusterClient
from cluster.config import flags as common
from cluster.kubernetes.authentication import Authentication
from cluster.kubernetes.listener import tls_context
from cluster.kubernetes.server import KubernetesServer
from cluster.rpc.account_tokens import AccountTokens
from cluster.rpc.identity import Credentials, CredentialsError
from cluster.rpc.tokens import TokenChecker
from cluster.telemetry import log

TLS_BUFFER = 32 * 1024
"""Bytes that each connection keeps to read into, twice a record of TLS. asyncio would take 256 KiB, which a thousand
watches, that read nothing, make 256 MiB of."""


def main(argv: Sequence[str]) -> int:
    """Serves until a signal, or the end of the lifeline, stops it. Returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m cluster kubernetes", description="Serves Kubernetes' REST API, for kubectl and the like."
    )
    common.add_master(parser)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="address to serve at; HTTPS")
    common.add_credentials(parser, whose=" of the identity kubernetes, whose certificate must name the host")
    common.add_lifeline(parser)
    common.add_log_level(parser)
    flags = parser.parse_args(argv)
    log.setup("kubernetes", flags.log_level)
    raise_file_limit()  # a connection for each watch
    sslproto.SSLProtocol.max_size = TLS_BUFFER
    try:
        credentials = Credentials.load(flags.credentials)
        cluster, identity = credentials.who()
        if identity.kind != "kubernetes":
            raise CredentialsError(f"the certificate is of {identity}, not of kubernetes")
        tls = tls_context(flags.credentials)
    except (CredentialsError, ssl.SSLError, OSError) as error:
        print(f"kubernetes: {error}", file=sys.stderr)
        return 2
    bound: dict[str, str] = {}
    clock = SystemClock()

    async def make() -> Supervisor:
        def server() -> KubernetesServer:
            return KubernetesServer(
                flags.listen,
                tls,
                Authentication(
                    cluster,
                    TokenChecker(credentials.ca, cluster, clock),
                    AccountTokens(credentials.key, cluster, clock),
                ),
                lambda caller: GrpcClusterClient(flags.master, credentials, on_behalf_of=caller),
                lambda caller, address: NodeAgentClient(address, credentials, on_behalf_of=caller),
                GrpcClusterClient(flags.master, credentials),
                clock=clock,
                rng=random.Random(),
                on_bound=lambda address: bound.update(address=address),
            )

        return Supervisor("kubernetes", [ChildSpec("server", server)])

    return daemon.run(make, name="kubernetes", ready=lambda: bound, lifeline_fd=flags.lifeline_fd, stop_grace_s=5.0)
