"""Talking to a cluster from Python: the library that Podium's own daemons use, and that yours may use, too.

Where the master is and which credentials to use, `podium cluster-info -o json` says ("master", "credentials").

    import asyncio, contextlib
    from cluster.client import Credentials, GrpcClusterClient, Informer, core, key_of, operations

    async def main(address, directory):
        async with contextlib.aclosing(GrpcClusterClient(address, Credentials.load(directory))) as client:
            pods = Informer(client, core.Pod, label_selector="app=guestbook")     # a live copy of these objects
            pods.add_handler(lambda old, new: print("changed:", (new or old).metadata.name))
            await pods.start()
            await pods.wait_synced(timeout_s=10)
            for pod in pods.indexer.list():
                print(pod.metadata.name, "on", pod.spec.nodeName, "is", pod.status.phase)
            controller = await client.get(core.ReplicationController, "frontend", "default")
            written = await client.write([operations.patch(key_of(controller), {"spec": {"replicas": 4}})])
            written.outcomes[0].unwrap()                                          # raises what went wrong, if anything
            await pods.stop()

    asyncio.run(main("127.5.0.1:6443", "/home/me/.local/state/podium/clusters/default/pki/admin"))

The names that are meant for use:

    GrpcClusterClient    get, list, watch, write; the interface is `ClusterClient`, which says what each call promises
    operations           the words of a write: create, update, update_status, patch, bind, delete
    apply_manifests      what `podium apply` does, for manifests that `read_path` or `read_manifests` has read
    Informer, Indexer    a live copy of the objects of a kind, with indexes; handlers hear of each change
    WorkQueue            keys to look at, each with one worker at a time, with delays and back-off
    EventRecorder        tells people what happened to an object, as Events
    ServiceEndpoints     who is behind a service, kept current, and whose turn it is; see `cluster.client.balancing`
    balanced_channel     a grpc.aio channel that sends each call to an endpoint of its own choice
    RoundRobin           ... in turn; PowerOfTwo: to the less busy of two; ByKey: by what the call is about
    ServiceView          a service with each Endpoint, as `resolve` and `watch_service` give it
    NodeAgentClient      logs and exec, asked of the node that runs the pod
    Credentials          the certificate of whoever calls, read from a directory
    core                 the objects: core.Pod, core.Service ... (generated from protos/cluster/pb/v1/core.proto)
    Key, key_of          kind, namespace and name of an object
    errors               what the calls raise: errors.NotFound, errors.Conflict, errors.Unavailable ...

Use one event loop per process: gRPC's asyncio has a single poller. Objects that come from a watch or an indexer are
shared: copy before you change one. Nothing is imported before it is used, so whoever needs a work queue does not load
gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.api import errors
    from cluster.api.manifest import read_manifests, read_path
    from cluster.api.meta import Key, key_of
    from cluster.client import operations
    from cluster.client.agent_client import NodeAgentClient
    from cluster.client.apply import apply_manifests
    from cluster.client.balancing import ServiceEndpoints, balanced_channel
    from cluster.client.choosing import ByKey, PowerOfTwo, RoundRobin
    from cluster.client.events import EventRecorder
    from cluster.client.grpc_client import GrpcClusterClient
    from cluster.client.indexer import Indexer
    from cluster.client.informer import Informer
    from cluster.client.interface import ClusterClient
    from cluster.client.resolved import Endpoint, ServiceView
    from cluster.client.workqueue import WorkQueue
    from cluster.pb.v1 import core_pb2 as core
    from cluster.rpc.identity import Credentials

__all__ = [
    "ByKey",
    "ClusterClient",
    "Credentials",
    "Endpoint",
    "EventRecorder",
    "GrpcClusterClient",
    "Indexer",
    "Informer",
    "Key",
    "NodeAgentClient",
    "PowerOfTwo",
    "RoundRobin",
    "ServiceEndpoints",
    "ServiceView",
    "WorkQueue",
    "apply_manifests",
    "balanced_channel",
    "core",
    "errors",
    "key_of",
    "operations",
    "read_manifests",
    "read_path",
]

_HOMES = {
    # name: the module that has it, or that it is
    "ByKey": "cluster.client.choosing",
    "ClusterClient": "cluster.client.interface",
    "Credentials": "cluster.rpc.identity",
    "Endpoint": "cluster.client.resolved",
    "EventRecorder": "cluster.client.events",
    "GrpcClusterClient": "cluster.client.grpc_client",
    "Indexer": "cluster.client.indexer",
    "Informer": "cluster.client.informer",
    "Key": "cluster.api.meta",
    "NodeAgentClient": "cluster.client.agent_client",
    "PowerOfTwo": "cluster.client.choosing",
    "RoundRobin": "cluster.client.choosing",
    "ServiceEndpoints": "cluster.client.balancing",
    "ServiceView": "cluster.client.resolved",
    "WorkQueue": "cluster.client.workqueue",
    "apply_manifests": "cluster.client.apply",
    "balanced_channel": "cluster.client.balancing",
    "core": "cluster.pb.v1.core_pb2",
    "errors": "cluster.api.errors",
    "key_of": "cluster.api.meta",
    "operations": "cluster.client.operations",
    "read_manifests": "cluster.api.manifest",
    "read_path": "cluster.api.manifest",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    return getattr(module, name, module)
