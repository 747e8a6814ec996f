"""What the node agent answers: the logs of its pods, and commands run beside their containers.

An implementation of `cluster.rpc.handlers.NodeAgentHandler`; it knows nothing of gRPC. Who may call is in one table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from google.protobuf.message import Message

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import BadRequest, Forbidden, Invalid, NotFound
from cluster.api.rights import calls_of
from cluster.pb.v1 import agent_pb2
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from node_agent.agent import NodeAgent
from node_agent.pod_commands import not_running
from node_agent.pod_state import Phase
from node_agent.pod_worker import PodWorker
from node_agent.runtime.interface import ExecProcess, StartFailure
from node_agent.runtime.log_times import Stamper
from node_agent.runtime.logs import LogReader, next_log
from node_agent.status import waits_for
from node_agent.usage import LOOK_S, cpu_times, used

CONNECT_TIMEOUT_S = 5.0
ATTACH_PAUSE_S = 0.02
"""How often the output of a program is looked at that somebody is attached to."""
FOLLOW_PAUSE_S = 0.1
"""How often a followed log is looked at."""
_CHUNK_BYTES = 65536
_OUTPUT_QUEUE = 16
"""Chunks of a command's output that wait for the caller; when it is full, the command's pipe fills, and it waits."""

RULES: Mapping[str, frozenset[str]] = calls_of("cluster.pb.v1.NodeAgent")
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
        """The log, oldest first; followed, it goes on with the runs that come after, if not `one_run`. Raises NotFound,
        BadRequest."""
        pod, container = self._find(request.namespace, request.pod, request.container)
        if request.HasField("tail_lines") and request.tail_lines < 0:
            raise Invalid(f"tail_lines must not be negative: {request.tail_lines}")
        path = self._agent.log_file(pod, container, previous=request.previous)
        over_runs = request.follow and not request.one_run and not request.previous
        while path is None and over_runs and self._will_run(pod, container):
            await self._clock.sleep(FOLLOW_PAUSE_S)
            path = self._agent.log_file(pod, container, previous=False)
        if path is None:
            if request.previous:
                raise BadRequest(f'previous terminated container "{container}" in pod "{request.pod}" not found')
            raise BadRequest(f'container "{container}" in pod "{request.pod}" {self._why_no_log(pod, container)}')
        if request.HasField("limit_bytes") and request.limit_bytes < 1:
            raise Invalid(f"limit_bytes must be at least 1: {request.limit_bytes}")
        left = request.limit_bytes if request.HasField("limit_bytes") else None
        tail = request.tail_lines if request.HasField("tail_lines") else None
        reader = LogReader(path, tail, request.since_s if request.HasField("since_s") else None)
        stamper = Stamper()
        try:
            while True:
                # Asked before reading: what was written until the end is read after the end was seen.
                more = request.follow and self._is_current(pod, container, str(path))
                while data := reader.read():
                    if request.timestamps and reader.index is not None:
                        data = stamper.stamp(data, reader.offset, reader.index)
                    if left is not None:
                        data = data[:left]
                        left -= len(data)
                    yield agent_pb2.LogsChunk(data=data)
                    if left == 0:
                        return
                if not more:
                    following = await self._next_run(pod, container, str(path)) if over_runs else None
                    if following is None:
                        return
                    reader.close()
                    path, stamper = following, Stamper()
                    reader = LogReader(path, None, None)
                    continue
                await self._clock.sleep(FOLLOW_PAUSE_S)
        finally:
            reader.close()

    async def _next_run(self, pod: core.Pod, container: str, path: str) -> Path | None:
        """The log of the run that comes after this one, once it has begun; None if there will be none."""
        while True:
            # Asked before looking: a run may begin and end between two looks.
            worker = self._worker(pod)
            is_over = worker is None or worker.state[container].phase is Phase.ENDED
            found = next_log(Path(path))
            if found is not None or is_over:
                return found
            await self._clock.sleep(FOLLOW_PAUSE_S)

    def _find(self, namespace: str, name: str, container: str) -> tuple[core.Pod, str]:
        pod = self._agent.find_pod(namespace, name)
        if pod is None:
            raise NotFound(f'pod "{name}" is not on node {self._agent.settings.name}')
        names = [c.name for c in pod.spec.containers]
        if not container and len(names) == 1:
            return pod, names[0]
        if container not in (*names, *(c.name for c in pod.spec.initContainers)):
            if not container:
                raise BadRequest(f'pod "{name}" has several containers, name one of them: {", ".join(names)}')
            raise BadRequest(f'container "{container}" is not in pod "{name}"; it has {", ".join(names)}')
        return pod, container

    def _why_no_log(self, pod: core.Pod, container: str) -> str:
        worker = self._worker(pod)
        if worker is None or worker.state[container].phase is Phase.ENDED:
            return "has not run on this node"
        return f"is waiting to start: {waits_for(worker.state[container])[0]}"

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
        start = await _first(inputs)
        pod, container = self._find(start.namespace, start.pod, start.container)
        worker = self._worker(pod)
        if worker is None:
            raise not_running(container)
        try:
            process = await worker.exec(container, start.command, tty=start.tty, detached=start.detached)
            if start.HasField("size"):
                process.resize(start.size.rows, start.size.columns)
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

    # --- attach

    async def attach(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.ExecInput]
    ) -> AsyncIterator[agent_pb2.ExecOutput]:
        """What the program writes from now on, and what it reads. Raises NotFound, BadRequest."""
        start = await _first(inputs)
        pod, container = self._find(start.namespace, start.pod, start.container)
        worker = self._worker(pod)
        path = worker.log_file(container, previous=False) if worker is not None else None
        if worker is None or path is None or not worker.is_running(container):
            raise BadRequest(f"container {container} not found in pod {start.pod}_{pod.metadata.namespace}")
        run = worker.state[container].run
        if start.HasField("size"):
            worker.resize(container, start.size.rows, start.size.columns)
        reader = LogReader(path, tail_lines=0)
        tasks = Tasks("attach")
        try:
            tasks.spawn(_feed_container(worker, container, inputs), name="attach input")
            while True:
                on = worker.is_running(container) and worker.state[container].run == run
                while data := reader.read():
                    yield agent_pb2.ExecOutput(stdout=data)
                if not on:
                    break
                await self._clock.sleep(ATTACH_PAUSE_S)
            c = worker.state[container]
            end = c.last if c.run > run else c.ended or c.last
            yield agent_pb2.ExecOutput(exit_code=end.exit_code if end is not None else 0)
        finally:
            reader.close()
            await tasks.cancel_all()

    # --- usage

    async def stats(self, identity: Identity, request: agent_pb2.StatsRequest) -> agent_pb2.StatsResponse:
        """What the running containers of this node use."""
        workers = [
            worker
            for worker in self._agent.workers.values()
            if request.namespace in ("", worker.pod.metadata.namespace)
        ]
        before = {id(worker): {name: cpu_times(pids) for name, pids in worker.processes()} for worker in workers}
        start = self._clock.monotonic()
        await self._clock.sleep(LOOK_S)
        passed_s = max(self._clock.monotonic() - start, 0.001)
        answer = agent_pb2.StatsResponse(node=self._agent.settings.name)
        for worker in workers:
            meta = worker.pod.metadata
            pod = answer.pods.add(namespace=meta.namespace, pod=meta.name)
            for name, pids in worker.processes():
                found = used(before[id(worker)].get(name, {}), pids, passed_s)
                usage = agent_pb2.Usage(
                    cpu_cores=found.cpu_cores, memory_bytes=found.memory_bytes, processes=found.processes
                )
                pod.containers.add(name=name, usage=usage)
        return answer

    # --- port forwarding

    async def port_forward(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.PortForwardInput]
    ) -> AsyncIterator[agent_pb2.PortForwardOutput]:
        """One connection to a port of the pod, to the end of both sides. Raises NotFound, BadRequest."""
        first = await anext(aiter(inputs), None)
        if first is None or not first.HasField("start"):
            raise BadRequest("the first input must be `start`")
        start = first.start
        pod = self._agent.find_pod(start.namespace, start.pod)
        worker = self._worker(pod) if pod is not None else None
        if worker is None or not worker.pod_ip:
            raise NotFound(f'pod "{start.pod}" does not run on node {self._agent.settings.name}')
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(worker.pod_ip, start.port)
        except (OSError, TimeoutError) as error:
            why = getattr(error, "strerror", None) or "no answer"
            raise BadRequest(f"nothing accepts at {worker.pod_ip}:{start.port} of pod {start.pod}: {why}") from error
        tasks = Tasks("port forward")
        try:
            yield agent_pb2.PortForwardOutput(connected=True)
            tasks.spawn(_feed_connection(writer, inputs), name="port forward input")
            while data := await reader.read(_CHUNK_BYTES):
                yield agent_pb2.PortForwardOutput(data=data)
            yield agent_pb2.PortForwardOutput(closed=True)
        except OSError:
            yield agent_pb2.PortForwardOutput(closed=True)
        finally:
            await tasks.cancel_all()
            writer.transport.abort()


async def _first(inputs: AsyncIterator[agent_pb2.ExecInput]) -> agent_pb2.ExecStart:
    first = await anext(aiter(inputs), None)
    if first is None or not first.HasField("start"):
        raise BadRequest("the first input must be `start`")
    return first.start


async def _feed_container(worker: PodWorker, container: str, inputs: AsyncIterator[agent_pb2.ExecInput]) -> None:
    """The end of the input ends the program's only if its spec says so (stdinOnce)."""
    async for message in inputs:
        match message.WhichOneof("input"):
            case "stdin":
                await worker.write_stdin(container, message.stdin)
            case "stdin_closed":
                worker.detach_stdin(container)
            case "resize":
                worker.resize(container, message.resize.rows, message.resize.columns)
            case "signal":
                worker.signal(container, message.signal)


async def _feed_connection(writer: asyncio.StreamWriter, inputs: AsyncIterator[agent_pb2.PortForwardInput]) -> None:
    async for message in inputs:
        try:
            if message.HasField("closed"):
                writer.write_eof()
            else:
                writer.write(message.data)
                await writer.drain()
        except OSError:
            return  # the pod has closed: its side of the connection says the rest


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
            case "resize":
                process.resize(message.resize.rows, message.resize.columns)
            case _:
                raise BadRequest("exec takes one `start`, and it comes first")


async def _collect(process: ExecProcess, outputs: asyncio.Queue[agent_pb2.ExecOutput | None]) -> None:
    async def pump(reader: asyncio.StreamReader, *, is_error: bool) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            chunk = agent_pb2.ExecOutput(stderr=data) if is_error else agent_pb2.ExecOutput(stdout=data)
            await outputs.put(chunk)

    await asyncio.gather(pump(process.stdout, is_error=False), pump(process.stderr, is_error=True))
    await outputs.put(None)
