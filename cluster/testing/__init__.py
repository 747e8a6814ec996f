"""A real cluster for tests: real daemons and real processes, its own directory and addresses, gone afterwards.

Installing Podium installs a pytest plugin. Its fixture `podium_cluster` is a cluster for one test alone; the marker
`podium` says how many nodes it has and which timers.

    import pytest

    WEB = '''
    {apiVersion: v1, kind: ReplicationController, metadata: {name: web}, spec: {replicas: 2, selector: {app: web},
     template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, command: [sleep, "1000"]}]}}}}
    '''

    @pytest.mark.podium(nodes=2)
    def test_pods_move_off_a_dead_node(podium_cluster):
        podium_cluster.apply(WEB)
        podium_cluster.wait("rc/web", ready=2)
        podium_cluster.kill_node("node-2")
        podium_cluster.wait_until(
            lambda: {pod.spec.nodeName for pod in podium_cluster.pods("app=web")} == {"node-1"}, "all are on node-1"
        )
        podium_cluster.wait("rc/web", ready=2)

Without pytest: `with Cluster.start(nodes=3) as cluster: ...`.

    look        get, list, pods, events, logs, address (of a service), leader (of several masters), info, story
    change      apply, scale, patch, delete, exec (an ExecResult), and `run` for whatever else `cluster.client` can do
    wait        wait (ready, condition, phase, gone), wait_until; both raise WaitTimeout, which tells the story
    break       kill_node, pause_node, resume_node, start_node, kill_pod, kill_process

Every wait has a deadline. Clusters may run side by side. When a test fails, logs and objects are kept (see
`cluster.testing.plugin`); when a process is left behind, the test fails. Nothing is imported before it is used, so the
plugin costs a test run without clusters nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.testing.cluster import Cluster, ExecResult, WaitTimeout

__all__ = ["Cluster", "ExecResult", "WaitTimeout"]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cluster.testing import cluster

    return getattr(cluster, name)
