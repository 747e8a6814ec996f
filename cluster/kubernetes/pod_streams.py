"""What goes on beside a pod's containers: its logs, a command, its program's input and output.

Which pod on which node: the caller asks the master; the rest is between the caller and the node's agent, with the
caller's rights there too.

exec and attach are WebSockets whose binary frames begin with a channel: 0 standard input, 1 output, 2 error, 3 the
outcome (a Status), 4 the size of the terminal. In v5.channel.k8s.io the frame 255, N says that channel N has ended;
before it, there is no way to say so. kubectl before 1.30 knows only SPDY: see spdy_exec.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import WSMessage, WSMsgType, web

from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, BadRequest
from cluster.api.times import parse_time
from cluster.client.agent_client import NodeAgentClient, agent_address
from cluster.kubernetes import query, spdy_exec
from cluster.kubernetes.call import Call
from cluster.kubernetes.statuses import failure, not_upgraded, success
from cluster.pb.v1 import agent_pb2
from cluster.pb.v1 import core_pb2 as core

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, OUTCOME, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
MAX_FRAME = 1024 * 1024
MAX_INPUTS = 64
"""Frames of input that wait for the command; then the caller waits."""
_FIRST_S = 0.05


# --- logs


async def logs(call: Call, request: web.BaseRequest) -> web.StreamResponse:
    """GET pods/NAME/log. Raises ApiError as long as nothing was sent."""
    words = call.query
    pod, agent = await agent_of(call, words.get("container", ""))
    try:
        since_s = query.number(words, "sinceSeconds")
        since = call.now_s - since_s if since_s is not None else None
        if text := words.get("sinceTime"):
            if since is not None:
                raise BadRequest("at most one of sinceTime or sinceSeconds may be specified")
            try:
                seconds, nanos = parse_time(text)
            except ValueError as error:
                raise BadRequest(f"sinceTime: {error}") from error
            since = seconds + (nanos or 0) / 1e9
        chunks = agent.logs(
            call.namespace,
            pod.metadata.name,
            container=_container(pod, words.get("container", "")),
            follow=query.flag(words, "follow"),
            one_run=True,
            tail_lines=query.number(words, "tailLines"),
            previous=query.flag(words, "previous"),
            since_s=since,
            timestamps=query.flag(words, "timestamps"),
            limit_bytes=query.number(words, "limitBytes"),
        )
        async with aclosing(chunks):
            return await _send(request, chunks)
    finally:
        await agent.close()


async def _send(request: web.BaseRequest, chunks: AsyncGenerator[bytes, None]) -> web.StreamResponse:
    """Text, as it comes; the head goes out when the first of it is there, or is not there for a moment."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    tasks = Tasks("logs", on_crash=lambda task, error: None)
    first = tasks.spawn(_following(chunks), name="the first of a log")
    try:
        await asyncio.wait({first}, timeout=_FIRST_S)
        chunk = first.result() if first.done() else b""
        await response.prepare(request)
        if not first.done():
            chunk = await first
        while chunk is not None:
            await response.write(chunk)
            chunk = await _following(chunks)
        await response.write_eof()
    except ConnectionError:
        pass  # the reader has gone
    except ApiError:
        if not response.prepared:
            raise
        if request.transport is not None:
            request.transport.abort()  # the end of what is sent shall not look like the end of the log
    finally:
        await tasks.cancel_all()
    return response


async def _following(chunks: AsyncGenerator[bytes, None]) -> bytes | None:
    try:
        return await anext(chunks)
    except StopAsyncIteration:
        return None


# --- exec and attach


async def converse(call: Call, request: web.BaseRequest) -> web.StreamResponse:
    """GET pods/NAME/exec and pods/NAME/attach, as WebSockets. Raises ApiError before the connection becomes one."""
    words, is_attach = call.query, call.target.subresource == "attach"
    if not is_attach and not call.commands:
        raise BadRequest("you must specify at least 1 command for the container")
    flags = {name: query.flag(words, name) for name in ("stdin", "stdout", "stderr", "tty")}
    if not any(flags[name] for name in ("stdin", "stdout", "stderr")):
        raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    pod, agent = await agent_of(call, words.get("container", ""))
    try:
        container = _container(pod, words.get("container", ""))
        if spdy_exec.wants_spdy(request):
            return await _by_spdy(call, request, agent, container, flags)
        socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=MAX_FRAME)
        if request.method != "GET" or not socket.can_prepare(request):
            raise BadRequest("unable to upgrade: a WebSocket of v5.channel.k8s.io or v4.channel.k8s.io is needed")
        await socket.prepare(request)
        if socket.ws_protocol not in PROTOCOLS:
            await socket.close(code=1002, message=b"v5.channel.k8s.io or v4.channel.k8s.io is needed")
            return socket
        inputs: asyncio.Queue[Any] = asyncio.Queue(MAX_INPUTS)
        ended = _let_go if is_attach else exited
        outputs = agent.exec(
            call.namespace,
            pod.metadata.name,
            call.commands,
            container=container,
            stdin=_inputs(inputs) if flags["stdin"] or flags["tty"] else None,
            tty=flags["tty"],
            attach=is_attach,
        )
        tasks = Tasks("exec")
        sending = tasks.spawn(_outputs(socket, outputs, call, ended), name="output of a command")
        hearing = tasks.spawn(_hear(socket, inputs, with_stdin=flags["stdin"]), name="input of a command")
        try:
            # When the caller has gone, the command ends with the call.
            await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.cancel_all()
            await outputs.aclose()
        await socket.close()
        return socket
    finally:
        await agent.close()


async def _by_spdy(
    call: Call, request: web.BaseRequest, agent: NodeAgentClient, container: str, flags: dict[str, bool]
) -> web.StreamResponse:
    """The same for callers that know no WebSockets. Never returns: the connection is HTTP no more."""
    wire = spdy_exec.take_over(request, spdy_exec.PROTOCOL)
    try:
        wanted = {"error", *(name for name in ("stdin", "stdout") if flags[name])}
        wanted |= {"resize"} if flags["tty"] else {"stderr"} if flags["stderr"] else set()
        session = spdy_exec.ExecSession(wire, wanted, call.target)
        await session.run(
            lambda inputs: agent.exec(
                call.namespace,
                call.target.name,
                call.commands,
                container=container,
                stdin=inputs if flags["stdin"] or flags["tty"] else None,
                tty=flags["tty"],
                attach=call.target.subresource == "attach",
            ),
            _let_go if call.target.subresource == "attach" else exited,
            _size,
        )
    finally:
        wire.close()
    raise ConnectionResetError("the connection was taken over, and has ended")


async def _inputs(waiting: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while (item := await waiting.get()) is not None:
        yield item


async def _hear(socket: web.WebSocketResponse, inputs: asyncio.Queue[Any], *, with_stdin: bool) -> None:
    """Hands on what the caller sends, until it has gone."""
    stdin_open = with_stdin
    async for message in socket:
        data = _frame(message)
        if not data:
            continue
        channel, content = data[0], data[1:]
        if channel == STDIN and stdin_open:
            if content:
                await inputs.put(content)
        elif channel == RESIZE:
            size = _size(content)
            if size is not None:
                await inputs.put(size)
        elif channel == CLOSE and content[:1] == bytes([STDIN]) and stdin_open:
            stdin_open = False
            await inputs.put(None)


def _frame(message: WSMessage) -> bytes:
    if message.type is WSMsgType.BINARY:
        return bytes(message.data)
    return str(message.data).encode() if message.type is WSMsgType.TEXT else b""


def _size(content: bytes) -> agent_pb2.TerminalSize | None:
    """The size of a terminal; None for what makes no sense."""
    try:
        found = json.loads(content)
        rows, columns = int(found["Height"]), int(found["Width"])
    except (ValueError, TypeError, KeyError):
        return None
    return agent_pb2.TerminalSize(rows=rows, columns=columns) if 0 < rows < 65536 and 0 < columns < 65536 else None


async def _outputs(
    socket: web.WebSocketResponse,
    outputs: AsyncGenerator[agent_pb2.ExecOutput, None],
    call: Call,
    ended: Callable[[int], dict[str, Any]],
) -> None:
    """Sends what the command writes, and how it has ended, as `ended` says it of the exit code."""
    outcome: dict[str, Any] | None = None
    try:
        async for output in outputs:
            if output.HasField("exit_code"):
                outcome = ended(output.exit_code)
            elif output.HasField("stdout"):
                await socket.send_bytes(bytes([STDOUT]) + output.stdout)
            elif output.HasField("stderr"):
                await socket.send_bytes(bytes([STDERR]) + output.stderr)
        if outcome is None:
            outcome = failure(BadRequest("the node agent ended the call without an exit code"), call.target)
    except ApiError as error:
        outcome = failure(not_upgraded(error), call.target)
    except ConnectionError:
        return  # the caller has gone
    try:
        await socket.send_bytes(bytes([OUTCOME]) + orjson.dumps(outcome))
    except ConnectionError:
        pass


def exited(code: int) -> dict[str, Any]:
    """The Status of a command that has ended."""
    if code == 0:
        return success()
    return {
        **success(),
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _let_go(code: int) -> dict[str, Any]:
    """The Status for who was attached to a container that has ended: how it ended, the pod's status says. kubectl takes
    anything else for a connection that has failed, and shows the log once more."""
    return success()


# --- where


async def agent_of(call: Call, container: str) -> tuple[core.Pod, NodeAgentClient]:
    """The pod, and its node's agent. Raises ApiError."""
    name = call.target.name
    pod = await call.client.get(core.Pod, name, call.namespace, timeout_s=call.timeout_s)
    known = [each.name for each in (*pod.spec.initContainers, *pod.spec.containers)]
    if container and container not in known:
        raise BadRequest(f"container {container[:80]} is not valid for pod {name}")
    if not pod.spec.nodeName:
        raise BadRequest(f"pod {name} does not have a host assigned")
    node = await call.client.get(core.Node, pod.spec.nodeName, timeout_s=call.timeout_s)
    address = agent_address(node)
    if not address:
        raise BadRequest(f"node {pod.spec.nodeName} tells no address of its agent")
    return pod, call.reach(address)


def _container(pod: core.Pod, named: str) -> str:
    """The container that is meant: the one that is named, or the only one, or the one that the pod says. Raises
    BadRequest."""
    if named:
        return named
    default: str = pod.metadata.annotations.get("kubectl.kubernetes.io/default-container", "")
    names = [each.name for each in pod.spec.containers]
    if default in names:
        return default
    if len(names) > 1:
        choose = f"choose one of: [{' '.join(names)}]"
        raise BadRequest(f"a container name must be specified for pod {pod.metadata.name}, {choose}")
    return names[0]
