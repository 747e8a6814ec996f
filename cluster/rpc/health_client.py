"""Asking a program over gRPC how it is: the standard health protocol, as a probe does it.

Without TLS, since what is asked is a program of a pod at the pod's own address, and the question is whether it answers,
not who it is (as Kubernetes does it).
"""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.rpc import options

_DETAILS_LIMIT = 200
"""As much is passed on of what a program says about its error."""


async def ask_health(address: str, service: str, timeout_s: float) -> str:
    """What the program at host:port says of that service ("" is the program as a whole): "SERVING", "NOT_SERVING", ...

    A status that the protocol does not have is its number. If the program does not answer within the time, or not in
    this protocol, the gRPC status, such as "UNAVAILABLE: connection refused".
    """
    async with grpc.aio.insecure_channel(address, options=options.PROBE_CHANNEL) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {(error.details() or 'no details')[:_DETAILS_LIMIT]}"
        names = {number: name for name, number in health_pb2.HealthCheckResponse.ServingStatus.items()}
        return str(names.get(answer.status, answer.status))
