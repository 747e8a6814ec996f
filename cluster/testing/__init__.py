"""A real cluster for tests: real daemons and real processes, its own directory and addresses, gone afterwards.

With pytest, the fixture `podium_cluster` (see plugin); without, `with Cluster.start(nodes=3) as cluster: ...`.
"""

from cluster.testing.cluster import Cluster, ExecResult, WaitTimeout

__all__ = ["Cluster", "ExecResult", "WaitTimeout"]
