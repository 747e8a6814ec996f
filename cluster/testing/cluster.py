"""A cluster as a test sees it: apply, wait, look, break things, look again.

Everything here is what a user can do: the cluster is started by the `podium` command as a process of its own and talked
to over gRPC with its admin certificate. Faults are signals to processes that `podium cluster-info` names. A wait has a
deadline, and when it is over the error tells the story: what was waited for, the objects and the last events.
"""

from __future__ import annotations

import builtins
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cluster.actor.clock import SystemClock
from cluster.api.conditions import get_condition, is_node_ready, is_pod_ready
from cluster.api.errors import ApiError, NotFound
from cluster.api.events import last_seen
from cluster.api.kinds import AnyObject, Kind, kind_from_word
from cluster.api.labels import selector_from_map
from cluster.api.manifest import read_manifests, read_path
from cluster.api.meta import Key
from cluster.client import operations
from cluster.client.agent_client import NodeAgentClient, agent_address
from cluster.client.apply import apply_manifests
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Credentials
from cluster.testing.connection import Connection
from cluster.testing.processes import NotRunning, Processes, environment_of

R = TypeVar("R")
_START_TIMEOUT_S = 120.0
DEFAULT_TIMEOUT_S = 40.0
_clock = SystemClock()


class WaitTimeout(AssertionError):
    """A condition did not come true in time. The message tells the story."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command beside a container did."""

    code: int
    stdout: str
    stderr: str


class Cluster(Processes):
    """A running cluster. Start one with `Cluster.start`; it is a context manager that stops it."""

    def __init__(self, name: str, home: Path, lifeline: int) -> None:
        self.name = name
        self.home = home
        self._lifeline = lifeline
        self._stopped = False
        info = self.info()
        self.directory = Path(info["directory"])
        self.nodes: list[str] = info["nodes"]
        self.master: str = info["master"]
        """Where the master serves; of several with commas between."""
        self.store: str = info["store"]
        """Where the state is: a directory, or "etcd://..."."""
        self._credentials = Path(info["credentials"])
        self._connection = Connection(self.master, self._credentials)

    # --- life

    @classmethod
    def start(
        cls,
        nodes: int = 1,
        *,
        profile: str = "test",
        masters: int = 1,
        store: str = "",
        lifetime: str = "dev",
        name: str = "",
        home: Path | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Cluster:
        """Starts a cluster and returns when every node is Ready.

        It ends with this process, even if that is killed; in the lifetime "service" it does not. `masters` share a
        `store`, such as "etcd://127.0.0.1:2379/t1": what is in it is left there when the cluster stops. `options` are
        further options of `podium up`, `environment` further variables for its daemons. Raises RuntimeError with what
        `podium up` said if it fails.
        """
        name = name or f"t{os.getpid()}-{secrets.token_hex(3)}"
        home = home or Path(tempfile.mkdtemp(prefix="podium-test-"))
        read_end, write_end = os.pipe()
        command = ["up", "--cluster", name, "--nodes", str(nodes), "--profile", profile, "-d"]
        command += ["--masters", str(masters), *(["--store", store] if store else [])]
        command += ["--lifetime", lifetime, *(["--lifeline-fd", str(read_end)] if lifetime == "dev" else []), *options]
        try:
            result = subprocess.run(
                [sys.executable, "-m", "cluster.cli.main", *command],
                env=environment_of(home) | dict(environment or {}),
                pass_fds=(read_end,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_START_TIMEOUT_S,
                check=False,
            )
        finally:
            os.close(read_end)
        if result.returncode != 0:
            os.close(write_end)
            raise RuntimeError(f"podium up failed with {result.returncode}:\n{result.stdout}{result.stderr}")
        return cls(name, home, write_end)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops the cluster and removes it. Raises AssertionError if a process is left. Twice is fine."""
        if self._stopped:
            return
        self._stopped = True
        self._connection.close()
        result = self.podium("down", "--cluster", self.name, check=False)
        if self.store.startswith("etcd://") and result.returncode == 0:
            result = self.podium("down", "--cluster", self.name, check=False)  # what belongs to the store elsewhere
        os.close(self._lifeline)
        if result.returncode != 0 and self.directory.exists():  # a test may have stopped and removed it by itself
            raise AssertionError(f"podium down failed with {result.returncode}:\n{result.stderr}")

    # --- processes

    def leader(self, *, but: str = "", timeout_s: float = DEFAULT_TIMEOUT_S) -> str:
        """The name of the master that leads, once one does that is not `but`."""
        found = ""

        def look() -> bool:
            nonlocal found
            info = self.info()
            names = {process["address"]: process["name"] for process in info["processes"]}
            leading = [names[each["address"]] for each in info["masters"] if each["leader"]]
            found = next((name for name in leading if name != but), "")
            return bool(found)

        self.wait_until(look, "a master leads", timeout_s=timeout_s)
        return found

    def start_node(self, name: str) -> None:
        """Starts a killed agent again, and waits until its node is Ready."""
        self.podium("up", "--cluster", self.name)
        self.wait_until(lambda: is_node_ready(self.get("node", name)), f"node/{name} Ready")

    def kill_pod(self, name: str, namespace: str = "default") -> None:
        """Kills the main processes of a pod's containers with SIGKILL, as a crash would."""
        pids = self.pod_pids(name, namespace)
        if not pids:
            raise LookupError(f"pod/{name} has no running process")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def pod_pids(self, name: str, namespace: str = "default") -> list[int]:
        """Main process of each running container: containerID is process://PID/STARTTIME."""
        statuses = self.get("pod", name, namespace).status.containerStatuses
        running = [status.containerID for status in statuses if status.state.HasField("running")]
        return [int(text.removeprefix("process://").partition("/")[0]) for text in running]

    # --- objects

    def run(self, body: Callable[[ClusterClient], Any], timeout_s: float = 30.0) -> Any:
        """The result of the coroutine function `body(client)`: anything that the client can do."""
        return self._connection.run(body, timeout_s)

    def apply(self, manifest: str | Path, namespace: str = "default") -> list[AnyObject]:
        """Applies a file or directory (Path), or YAML (str). Returns the objects. Raises Invalid and others."""
        is_path = isinstance(manifest, Path)
        manifests = read_path(str(manifest), sys.stdin.buffer) if is_path else read_manifests(str(manifest), "<test>")
        applied = self.run(lambda client: apply_manifests(client, manifests, namespace=namespace))
        return [item.object for item in applied]

    def get(self, kind: str, name: str, namespace: str = "default") -> Any:
        """An object. Raises NotFound."""
        row = kind_from_word(kind)
        return self.run(lambda client: client.get(row.message, name, namespace if row.namespaced else ""))

    def list(
        self, kind: str, namespace: str = "default", selector: str = "", field_selector: str = ""
    ) -> builtins.list[Any]:
        """Objects of a kind; namespace "" means all."""
        row = kind_from_word(kind)
        space = namespace if row.namespaced else ""
        listed = self.run(
            lambda client: client.list(row.message, space, label_selector=selector, field_selector=field_selector)
        )
        return list(listed.items)

    def pods(self, selector: str = "", namespace: str = "default") -> builtins.list[core.Pod]:
        """Pods that are not being deleted, sorted by name."""
        return [pod for pod in self.list("pods", namespace, selector) if not pod.metadata.HasField("deletionTimestamp")]

    def scale(self, name: str, replicas: int, namespace: str = "default") -> None:
        """Sets the number of replicas of a replication controller."""
        self.patch("rc", name, {"spec": {"replicas": replicas}}, namespace)

    def patch(self, kind: str, name: str, merge_patch: dict[str, Any], namespace: str = "default") -> Any:
        """Applies a JSON merge patch; returns the object."""
        operation = operations.patch(self._key(kind_from_word(kind), name, namespace), merge_patch)
        return self.run(lambda client: client.write([operation])).outcomes[0].unwrap()

    def delete(
        self, kind: str, name: str, namespace: str = "default", *, grace_period_s: int | None = None, wait: bool = True
    ) -> None:
        """Deletes an object and, if `wait`, returns when it is gone."""
        key = self._key(kind_from_word(kind), name, namespace)
        operation = operations.delete(key, grace_period_s=grace_period_s)
        uid = self.run(lambda client: client.write([operation])).outcomes[0].unwrap().metadata.uid
        if wait:
            self.wait_until(lambda: self._uid(kind, name, namespace) != uid, f"{kind}/{name} is gone")

    def _uid(self, kind: str, name: str, namespace: str) -> str:
        try:
            return str(self.get(kind, name, namespace).metadata.uid)
        except NotFound:
            return ""

    @staticmethod
    def _key(kind: Kind, name: str, namespace: str) -> Key:
        return Key(kind.name, namespace if kind.namespaced else "", name)

    def events(self, reason: str = "", about: str = "", namespace: str = "default") -> builtins.list[core.Event]:
        """Events, oldest first; with this reason, about an object of this name."""
        found = [
            event
            for event in self.list("events", namespace)
            if reason in ("", event.reason) and about in ("", event.involvedObject.name)
        ]
        return sorted(found, key=last_seen)

    def logs(
        self,
        pod: str,
        namespace: str = "default",
        *,
        container: str = "",
        tail: int | None = None,
        previous: bool = False,
    ) -> str:
        """The log of a pod's container."""

        async def body(agent: NodeAgentClient) -> str:
            chunks = [
                chunk
                async for chunk in agent.logs(namespace, pod, container=container, tail_lines=tail, previous=previous)
            ]
            return b"".join(chunks).decode(errors="replace")

        text: str = self._with_agent(pod, namespace, body)
        return text

    def exec(self, pod: str, command: Sequence[str], namespace: str = "default", *, stdin: bytes = b"") -> ExecResult:
        """Runs a command beside the first container of a pod."""
        arguments = ["exec", "-n", namespace, *(["-i"] if stdin else []), pod, "--", *command]
        result = self.podium(*arguments, check=False, stdin=stdin.decode())
        return ExecResult(result.returncode, result.stdout, result.stderr)

    def _with_agent(self, pod: str, namespace: str, body: Callable[[NodeAgentClient], Any]) -> Any:
        address = agent_address(self.get("node", self.get("pod", pod, namespace).spec.nodeName))

        async def connected(_: ClusterClient) -> Any:
            agent = NodeAgentClient(address, Credentials.load(self._credentials))
            try:
                return await body(agent)
            finally:
                await agent.close()

        return self.run(connected)

    def address(self, service: str, namespace: str = "default") -> tuple[str, int]:
        """Address and first port of a service."""
        spec = self.get("service", service, namespace).spec
        return spec.clusterIP, spec.ports[0].port

    # --- waiting

    def wait(
        self,
        what: str,
        namespace: str = "default",
        *,
        ready: int | None = None,
        condition: str = "",
        phase: str = "",
        gone: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Waits for an object, named as KIND/NAME.

        `ready`: so many replicas of rc/NAME, no more and no less, or endpoints of svc/NAME are ready. `condition`: this
        condition is True. `phase`: a pod's phase. `gone`: it does not exist. With none: a pod or node is Ready, a
        controller has all its replicas ready. Raises WaitTimeout.
        """
        kind_word, _, name = what.partition("/")
        kind = kind_from_word(kind_word)

        def check() -> bool:
            try:
                obj = self.get(kind_word, name, namespace)
            except NotFound:
                return gone
            if gone:
                return False
            if phase:
                return bool(obj.status.phase == phase)
            if condition:
                found = get_condition(obj.status, condition)
                return found is not None and found.status == "True"
            return self._is_ready(kind, obj, ready)

        wanted = "gone" if gone else phase or condition or (f"{ready} ready" if ready is not None else "ready")
        self.wait_until(check, f"{what} {wanted}", timeout_s=timeout_s)

    def _is_ready(self, kind: Kind, obj: Any, ready: int | None) -> bool:
        if kind.name == "Pod":
            return is_pod_ready(obj)
        if kind.name == "Node":
            return is_node_ready(obj) and not obj.spec.taints
        if kind.name == "Service":
            endpoints = self.get("endpoints", obj.metadata.name, obj.metadata.namespace)
            count = sum(len(subset.addresses) for subset in endpoints.subsets)
            return bool(count == ready) if ready is not None else count > 0
        if kind.name == "ReplicationController":
            wanted = obj.spec.replicas if ready is None else ready
            pods = self.pods(str(selector_from_map(obj.spec.selector)), obj.metadata.namespace)
            return bool(len(pods) == wanted and sum(map(is_pod_ready, pods)) == wanted == obj.status.readyReplicas)
        raise ValueError(f"{kind.plural} have no readiness; name a condition")

    def wait_until(
        self, check: Callable[[], object], what: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, every_s: float = 0.03
    ) -> None:
        """Waits until `check()` is true. Errors of the API count as "not yet", and so does a process that is down
        (NotRunning). Raises WaitTimeout with the story."""
        deadline = _clock.monotonic() + timeout_s
        last_error: ApiError | NotRunning | None = None
        while True:
            try:
                if check():
                    return
                last_error = None
            except (ApiError, NotRunning) as error:
                last_error = error
            if _clock.monotonic() > deadline:
                trouble = f"\nlast error: {last_error!r}" if last_error else ""
                raise WaitTimeout(f"waited {timeout_s:g} s for: {what}{trouble}\n{self.story()}")
            time.sleep(every_s)

    def story(self) -> str:
        """Objects, processes and last events as text, for the message of a failed test."""
        parts = []
        for arguments in (("get", "nodes,pods,rc,svc,ep", "-A", "-o", "wide"), ("cluster-info",), ("events", "-A")):
            result = self.podium(*arguments, check=False)
            lines = (result.stdout + result.stderr).splitlines()
            parts.append(f"--- podium {' '.join(arguments)}\n" + "\n".join(lines[-40:]))
        return "\n".join(parts)
