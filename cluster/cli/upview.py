"""What `podium up` shows: each step until the cluster is ready and the manifests run, and then its live status."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.actor.clock import SystemClock
from cluster.actor.tasks import Tasks
from cluster.api.conditions import is_node_ready
from cluster.api.errors import ApiError
from cluster.api.hollow import is_hollow
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.client.grpc_client import GrpcClusterClient
from cluster.client.informer import Informer
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials
from cluster.up import control
from cluster.up.addresses import block_of, kubernetes_address
from cluster.up.child import tail_of
from cluster.up.hollow import PREFIX

if TYPE_CHECKING:
    from cluster.cli.up import Steps
    from cluster.up.layout import ClusterDir, ClusterState
    from cluster.up.start import Handle

R = TypeVar("R")
_TICK_S = 0.05


class View:
    """What a user sees of a cluster that starts. A context manager.

    Its parts share one event loop: gRPC hands what is left of an earlier loop's calls to it, closed or not.
    """

    def __init__(self, directory: ClusterDir, handle: Handle, interrupted: Any) -> None:
        self._directory = directory
        self._handle = handle
        self._interrupted = interrupted
        """True as soon as the user wants it to end."""
        self._runner = asyncio.Runner()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def bring_up(
        self, nodes: int, hollow: int, manifests: Sequence[str], timeout: float, steps: Steps, *, rest: bool = False
    ) -> bool:
        """Waits for every node to be Ready, hollow ones too, then applies the manifests and waits for their pods; with
        `rest`, waits for Kubernetes' API, too.

        Returns False if the user interrupted. Raises CommandError, with what the daemons said, if it does not come up.
        """
        directory, handle = self._directory, self._handle

        async def body() -> None:
            deadline = _clock.monotonic() + timeout
            while not ((state := directory.read_state()) and state.supervisor and state.supervisor.pid == handle.pid):
                _check_alive(directory, handle, deadline)
                await asyncio.sleep(0.005)
            while not (directory.credentials("admin") / "tls.key").exists() or not _masters_run(directory):
                _check_alive(directory, handle, deadline)
                await asyncio.sleep(0.005)
            client = GrpcClusterClient(state.master, Credentials.load(directory.credentials("admin")))
            try:
                several = f"s at {' '.join(state.masters)}" if len(state.masters) > 1 else f" at {state.master}"
                steps.done(f"cluster {directory.name}", f"master{several}")
                check = partial(_check_alive, directory, handle, deadline)
                await _nodes_ready(client, directory, nodes + hollow, check)
                real = _names([f"node-{n}" for n in range(1, nodes + 1)])
                played = f"{hollow:,} hollow nodes" if hollow else ""
                steps.done("nodes", f"{' and '.join(filter(None, (real, played)))} Ready")
                if state.store:
                    await _warn_of_other_addresses(client, state.block)
                while rest and not _served_at(directory):
                    check()
                    await asyncio.sleep(_TICK_S)
                begun = "" if rest else ", begun by"
                steps.done("kubernetes", f"https://{kubernetes_address(state.block)}{begun}: podium kubeconfig")
                for path in manifests:
                    await _apply(client, path, timeout, steps)
            finally:
                await client.close()

        finished, _ = self._runner.run(_unless(self._interrupted, body))
        return finished

    def show_live_status(self) -> None:
        """A status line until the user interrupts: rewritten on a terminal, elsewhere printed when it changes."""
        directory, handle = self._directory, self._handle

        async def body() -> None:
            state = directory.read_state()
            assert state is not None
            client = GrpcClusterClient(state.master, Credentials.load(directory.credentials("admin")))
            status = _LiveStatus(client)
            try:
                await status.start()
                await status.run(lambda: _check_running(directory, handle))
            finally:
                await status.stop()
                await client.close()

        say(f"\nRunning; Ctrl-C stops everything. In another terminal: podium --cluster {directory.name} get pods")
        self._runner.run(_unless(self._interrupted, body))


async def _unless(interrupted: Any, body: Callable[[], Awaitable[R]]) -> tuple[bool, R | None]:
    """Runs the body until it is done or the user interrupts."""
    tasks = Tasks("up", on_crash=lambda task, error: None)  # its result is looked at below

    async def run() -> R:
        return await body()

    task = tasks.spawn(run(), name="body")
    try:
        while not task.done():
            if interrupted:
                return False, None
            await asyncio.wait([task], timeout=_TICK_S)
        return True, task.result()
    finally:
        await tasks.cancel_all()


def _running(directory: ClusterDir) -> set[str]:
    """The processes that have said READY."""
    state = directory.read_state()
    return {process.name for process in state.processes if process.state == "running"} if state is not None else set()


def _served_at(directory: ClusterDir) -> str:
    """Where Kubernetes' API is served; empty if it is not yet."""
    state = directory.read_state()
    processes = state.processes if state is not None else []
    return next((each.address for each in processes if each.role == "kubernetes" and each.state == "running"), "")


def _masters_run(directory: ClusterDir) -> bool:
    """All of them have said READY."""
    state = directory.read_state()
    masters = [process for process in state.processes if process.role == "master"] if state is not None else []
    return bool(masters) and all(process.state == "running" for process in masters)


def _check_alive(directory: ClusterDir, handle: Handle, deadline: float) -> None:
    """Raises CommandError if the supervisor ended, a daemon crashes again and again, or time is over."""
    pid, status = os.waitpid(handle.pid, os.WNOHANG)
    if pid:
        log = directory.log("supervisor")
        raise CommandError(f"the cluster did not start (supervisor: status {status}):\n{tail_of(log)}\nlog: {log}")
    late = _clock.monotonic() > deadline
    state = directory.read_state()
    if late or (state is not None and any(process.state == "stopped" for process in state.processes)):
        try:
            children = control.ask(directory.control_socket, {"op": "status"})["children"]
        except ApiError as error:
            if not late:
                return
            raise CommandError(f"the cluster is not ready in time: {error}", ExitCode.TIMEOUT) from error
        if not late and not any(child["hopeless"] for child in children):
            return  # it is about to be started again
        lines = [
            f"{child['name']}: {child['state']}, {child['last_exit'] or 'never ended'}\n"
            f"{_once(tail_of(directory.log(child['name'])))}"
            for child in children
            # Without a master nothing else comes up: what only waits has nothing to say, unless it is all there is.
            if child["last_exit"] or (late and child["state"] != "running")
        ]
        what = "the cluster is not ready in time" if late else "the cluster does not start"
        raise CommandError(f"{what}:\n" + "\n".join(lines), ExitCode.TIMEOUT if late else ExitCode.ERROR)


def _once(text: str) -> str:
    """Each line once: a daemon that was started again and again has said the same each time."""
    return "\n".join(dict.fromkeys(text.splitlines()))


def wait_for_nodes(directory: ClusterDir, state: ClusterState, timeout: float) -> None:
    """Returns when every node of a cluster that was started earlier is Ready. Raises CommandError."""
    deadline = _clock.monotonic() + timeout

    def check() -> None:
        if _clock.monotonic() > deadline:
            raise CommandError(f'cluster "{directory.name}" runs, but not every node is Ready', ExitCode.TIMEOUT)

    async def body() -> None:
        client = GrpcClusterClient(state.master, Credentials.load(directory.credentials("admin")))
        try:
            await _nodes_ready(client, directory, len(state.nodes) + state.hollow, check)
        finally:
            await client.close()

    asyncio.run(body())


async def _nodes_ready(client: GrpcClusterClient, directory: ClusterDir, count: int, check: Callable[[], None]) -> None:
    """Returns when so many nodes are Ready, and their agents run. Raises what `check`, asked now and then, raises."""
    informer: Informer[core.Node] = Informer(client, core.Node)
    changed = asyncio.Event()
    ready: set[str] = set()
    played: set[str] = set()

    def on_node(old: core.Node | None, new: core.Node | None) -> None:
        node = new or old
        assert node is not None
        into = played if is_hollow(node) else ready
        (into.add if new is not None and _is_up(new) else into.discard)(node.metadata.name)
        changed.set()

    informer.add_handler(on_node)
    await informer.start()
    try:
        while True:
            changed.clear()
            # Kept state may say so of an agent that has not started yet.
            running = _running(directory)
            plays = PREFIX in running or f"{PREFIX}.1" in running
            if len(ready & running) + (len(played) if plays else 0) >= count:
                return
            check()
            try:
                await asyncio.wait_for(changed.wait(), 0.25 if len(ready) + len(played) < count else 0.01)
            except TimeoutError:
                pass
    finally:
        await informer.stop()


def _is_up(node: core.Node) -> bool:
    """Ready, and known to be by the controllers, who then take these taints away; a cordoned node is up as well."""
    waiting = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    return is_node_ready(node) and not any(taint.key in waiting for taint in node.spec.taints)


async def _warn_of_other_addresses(client: GrpcClusterClient, block: int) -> None:
    """A store in etcd may have been used from another directory, at other addresses."""
    services = (await client.list(core.Service)).items
    known = [service.spec.clusterIP for service in services]
    known += [node.spec.podCIDR for node in (await client.list(core.Node)).items]
    others = sorted(set(map(block_of, known)) - {block, None}, key=str)
    if others:
        blocks = ", ".join(f"127.{other}.0.0/16" for other in others)
        say(
            f"warning: objects in the store have addresses of {blocks}, which this cluster does not own: another may "
            "take them. To own them: podium down (twice, which removes the directory), then podium up --block "
            f"{others[0]}"
        )


async def _apply(client: GrpcClusterClient, path: str, timeout: float, steps: Steps) -> None:
    # Most clusters are started empty, and reading manifests takes a tenth of a second to import.
    from cluster.api.manifest import read_path
    from cluster.cli.waiting import service_urls, wait_until_ready
    from cluster.client.apply import apply_manifests

    applied = await apply_manifests(client, read_path(path, sys.stdin.buffer))
    steps.done("applied", f"{path}: {len(applied)} objects")
    slow = await wait_until_ready(client, [item.object for item in applied], timeout)
    for item in applied:
        if isinstance(item.object, core.ReplicationController):
            steps.done(f"rc/{item.object.metadata.name}", await _placement(client, item.object))
    for name, url in await service_urls(client, [item.object for item in applied]):
        steps.done(f"svc/{name}", url)
    if slow:
        say("not ready yet:\n  " + "\n  ".join(slow))


async def _placement(client: GrpcClusterClient, rc: core.ReplicationController) -> str:
    selector = ",".join(f"{key}={value}" for key, value in sorted(rc.spec.selector.items()))
    pods = (await client.list(core.Pod, rc.metadata.namespace, label_selector=selector)).items
    ready = sum(any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions) for pod in pods)
    return f"{ready}/{rc.spec.replicas} ready ({_names(sorted({pod.spec.nodeName or '-' for pod in pods}))})"


def _names(names: Sequence[str], most: int = 5) -> str:
    return " ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _check_running(directory: ClusterDir, handle: Handle) -> None:
    pid, status = os.waitpid(handle.pid, os.WNOHANG)
    if pid:
        raise CommandError(f"the cluster's supervisor ended (status {status}); log: {directory.log('supervisor')}")


class _LiveStatus:
    """Counts nodes, pods and controllers, and shows warnings."""

    def __init__(self, client: GrpcClusterClient) -> None:
        self._nodes: Informer[core.Node] = Informer(client, core.Node)
        self._pods: Informer[core.Pod] = Informer(client, core.Pod)
        self._controllers: Informer[core.ReplicationController] = Informer(client, core.ReplicationController)
        self._changed = asyncio.Event()
        self._line = ""
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    async def start(self) -> None:
        for informer in (self._nodes, self._pods, self._controllers):
            informer.add_handler(lambda old, new: self._changed.set())
            await informer.start()

    async def stop(self) -> None:
        for informer in (self._nodes, self._pods, self._controllers):
            await informer.stop()
        if self._terminal:
            say()

    async def run(self, check: Callable[[], None]) -> None:
        while True:
            self._changed.clear()
            self._show()
            check()
            try:
                await asyncio.wait_for(self._changed.wait(), 1.0)
            except TimeoutError:
                continue
            await asyncio.sleep(0.1)

    def _show(self) -> None:
        if not (self._nodes.has_synced and self._pods.has_synced and self._controllers.has_synced):
            return
        nodes, pods = self._nodes.indexer.list(), self._pods.indexer.list()
        running = sum(pod.status.phase == "Running" for pod in pods)
        words = [f"nodes {sum(map(is_node_ready, nodes))}/{len(nodes)} Ready", f"pods {running}/{len(pods)} Running"]
        for rc in sorted(self._controllers.indexer.list(), key=lambda rc: rc.metadata.name):
            words.append(f"rc/{rc.metadata.name} {rc.status.readyReplicas}/{rc.spec.replicas}")
        line = " · ".join(words)
        if line == self._line:
            return
        self._line = line
        if self._terminal:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            sys.stderr.write(f"\r\x1b[K{line[: width - 1]}")
            sys.stderr.flush()
        else:
            say(line)


_clock = SystemClock()
