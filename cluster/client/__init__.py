"""Talking to a cluster from Python: the library that Podium's own daemons use, and that yours may use, too.

    from cluster.client.grpc_client import GrpcClusterClient     # get, list, watch, write
    from cluster.client import operations                        # the words of a write
    from cluster.client.informer import Informer                 # a live, indexed copy of the objects of a kind
    from cluster.client.workqueue import WorkQueue               # keys to look at, each with one worker at a time
    from cluster.client.events import EventRecorder              # tell people what happened
    from cluster.pb.v1 import core_pb2 as core                   # the objects themselves
    from cluster.rpc.identity import Credentials

    client = GrpcClusterClient("127.5.0.1:6443", Credentials.load(directory))
    pods = Informer(client, core.Pod, label_selector="app=web", indexes={"node": lambda pod: [pod.spec.nodeName]})
    pods.add_handler(lambda old, new: print("changed:", (new or old).metadata.name))
    await pods.start()
    await pods.wait_synced(timeout_s=10)
    key = Key("Pod", "default", "web-x7k2p")
    await client.write([operations.delete(key, uid=pods.indexer.get(key).metadata.uid)])
    await pods.stop()
    await client.close()

Errors are those of `cluster.api.errors`. `interface.py` says what every client promises. Nothing is imported here, so
that whoever needs a work queue does not load gRPC.
"""
