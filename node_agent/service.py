"""What the node agent answers: the logs of its pods, and commands run beside their containers.

An implementation of `cluster.rpc.handlers.NodeAgentHandler`; it knows nothing of gRPC. Who may call is in one table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from google.protobuf.message import Message

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import BadRequest, Forbidden, Invalid, NotFound
from cluster.pb.v1 import agent_pb2
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from node_agent.agent import NodeAgent
from node_agent.pod_worker import PodWorker
from node_agent.runtime.interface import ExecProcess, StartFailure
from node_agent.runtime.logs import LogReader

FOLLOW_PAUSE_S = 0.1
"""How often a followed log is looked at."""
_CHUNK_BYTES = 65536
_OUTPUT_QUEUE = 16
"""Chunks of a command's output that wait for the caller; when it is full, the command's pipe fills, and it waits."""

_EVERYONE = frozenset({"admin", "controllers", "scheduler", "node", "proxy", "master"})
RULES: Mapping[str, frozenset[str]] = {
    "/cluster.pb.v1.NodeAgent/Logs": frozenset({"admin"}),
    "/cluster.pb.v1.NodeAgent/Exec": frozenset({"admin"}),
    "/grpc.health.v1.Health/Check": _EVERYONE,
    "/grpc.health.v1.Health/Watch": _EVERYONE,
    "/grpc.health.v1.Health/List": _EVERYONE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _EVERYONE,
}
"""Method -> kinds of identity that may call it; a method without a row is refused to all."""


def authorize(identity: Identity, method: str, request: Message | None) -> None:
    """Raises Forbidden unless the table lets this identity call this method."""
    if identity.kind not in RULES.get(method, frozenset()):
        raise Forbidden(f"{identity} may not call {method.rpartition('/')[2]} on a node agent")


class AgentService:
    """Logs and exec."""

    def __init__(self, agent: NodeAgent, *, clock: Clock) -> None:
        self._agent, self._clock = agent, clock

    # --- logs

    async def logs(self, identity: Identity, request: agent_pb2.LogsRequest) -> AsyncIterator[agent_pb2.LogsChunk]:
        """The log, oldest first. Raises NotFound, BadRequest."""
        pod, container = self._find(request.namespace, request.pod, request.container)
        if request.HasField("tail_lines") and request.tail_lines < 0:
            raise Invalid(f"tail_lines must not be negative: {request.tail_lines}")
        path = self._agent.log_file(pod, container, previous=request.previous)
        while path is None and request.follow and not request.previous and self._will_run(pod, container):
            await self._clock.sleep(FOLLOW_PAUSE_S)
            path = self._agent.log_file(pod, container, previous=False)
        if path is None:
            if request.previous:
                raise BadRequest(f'previous terminated container "{container}" in pod "{request.pod}" not found')
            raise BadRequest(f'container "{container}" in pod "{request.pod}" has not run on this node yet')
        reader = LogReader(path, request.tail_lines if request.HasField("tail_lines") else None)
        try:
            while True:
                # Asked before reading: what was written until the end is read after the end was seen.
                more = request.follow and self._is_current(pod, container, str(path))
                while data := reader.read():
                    yield agent_pb2.LogsChunk(data=data)
                if not more:
                    return
                await self._clock.sleep(FOLLOW_PAUSE_S)
        finally:
            reader.close()

    def _find(self, namespace: str, name: str, container: str) -> tuple[core.Pod, str]:
        pod = self._agent.find_pod(namespace, name)
        if pod is None:
            raise NotFound(f'pod "{name}" is not on node {self._agent.settings.name}')
        names = [c.name for c in pod.spec.containers]
        if not container and len(names) == 1:
            return pod, names[0]
        if container not in names:
            if not container:
                raise BadRequest(f'pod "{name}" has several containers, name one of them: {", ".join(names)}')
            raise BadRequest(f'container "{container}" is not in pod "{name}"; it has {", ".join(names)}')
        return pod, container

    def _worker(self, pod: core.Pod) -> PodWorker | None:
        return self._agent.workers.get(pod.metadata.uid)

    def _will_run(self, pod: core.Pod, container: str) -> bool:
        worker = self._worker(pod)
        return worker is not None and not worker.is_over

    def _is_current(self, pod: core.Pod, container: str, path: str) -> bool:
        """The run that writes this log is on."""
        worker = self._worker(pod)
        if worker is None or not worker.is_running(container):
            return False
        return str(worker.log_file(container, previous=False)) == path

    # --- exec

    async def exec(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.ExecInput]
    ) -> AsyncIterator[agent_pb2.ExecOutput]:
        """Runs a command to its end, or until the caller goes. Raises NotFound, BadRequest."""
        first = await anext(aiter(inputs), None)
        if first is None or not first.HasField("start"):
            raise BadRequest("the first input of exec must be `start`")
        start = first.start
        pod, container = self._find(start.namespace, start.pod, start.container)
        worker = self._worker(pod)
        if worker is None:
            raise BadRequest(f'pod "{start.pod}" does not run')
        try:
            process = await worker.exec(container, start.command)
        except StartFailure as failure:
            yield agent_pb2.ExecOutput(stderr=f"{failure.message}\n".encode())
            yield agent_pb2.ExecOutput(exit_code=failure.exit_code)
            return
        tasks = Tasks("exec")
        outputs: asyncio.Queue[agent_pb2.ExecOutput | None] = asyncio.Queue(_OUTPUT_QUEUE)
        try:
            tasks.spawn(_feed(process, inputs), name="exec input")
            tasks.spawn(_collect(process, outputs), name="exec output")
            while (output := await outputs.get()) is not None:
                yield output
            ended = await process.wait()
            yield agent_pb2.ExecOutput(exit_code=ended.exit_code)
        finally:
            process.close()
            await tasks.cancel_all()


async def _feed(process: ExecProcess, inputs: AsyncIterator[agent_pb2.ExecInput]) -> None:
    async for message in inputs:
        match message.WhichOneof("input"):
            case "stdin":
                try:
                    process.stdin.write(message.stdin)
                    await process.stdin.drain()
                except OSError:
                    pass  # the command does not read any more; its exit code says the rest
            case "stdin_closed":
                process.stdin.close()
            case "signal":
                process.signal(message.signal)
            case _:
                raise BadRequest("exec takes one `start`, and it comes first")


async def _collect(process: ExecProcess, outputs: asyncio.Queue[agent_pb2.ExecOutput | None]) -> None:
    async def pump(reader: asyncio.StreamReader, *, is_error: bool) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            chunk = agent_pb2.ExecOutput(stderr=data) if is_error else agent_pb2.ExecOutput(stdout=data)
            await outputs.put(chunk)

    await asyncio.gather(pump(process.stdout, is_error=False), pump(process.stderr, is_error=True))
    await outputs.put(None)
