"""Carrying probes out: asking a container, by a command, by HTTP or by a connection, whether it is well.

What the answers mean is decided in `node_agent.probe_state`. HTTP and TCP probes go to the pod's own address and
nowhere else, follow no redirect, read no more than a little of the answer, and never take longer than the probe's
timeout. A command of an exec probe runs with the container's environment, and its whole tree is killed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from cluster.actor.clock import Clock
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.health_client import ask_health
from node_agent.probe_state import LIVENESS, STARTUP, ProbeState, ProbeTimes
from node_agent.runtime.interface import ExecProcess, StartFailure

_BODY_BYTES = 10 * 1024
"""As much of an answer's body is read, to be shown when the probe fails."""
_HEAD_BYTES = 16 * 1024
_OUTPUT_BYTES = 1024
"""As much of the output of a probe's command is shown when it fails; the rest is thrown away."""
_TRIES = 3
"""A probe that cannot be carried out is tried this often; then this round is left out."""
EAGER_FIRST_S, EAGER_MAX_S = 0.05, 0.5
USER_AGENT = "podium-probe/1"


class Outcome(Enum):
    """What one probe said."""

    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    """It could not be carried out: it says nothing about the container."""


@dataclass(frozen=True, slots=True)
class Result:
    outcome: Outcome
    message: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed."""

    pod_ip: str
    container: core.Container
    exec: Callable[[Sequence[str]], Awaitable[ExecProcess]]
    """Runs a command beside the container. Raises StartFailure."""


@dataclass(frozen=True, slots=True)
class Finding:
    """News of a probe: what it counts as now, and whether that is a change."""

    healthy: bool
    changed: bool
    result: Result


def resolve_port(port: core.IntOrString, container: core.Container) -> int | None:
    """The number of a port that a probe names or numbers."""
    if port.type != 1:
        return port.intVal or None
    for declared in container.ports:
        if declared.name == port.strVal:
            return declared.containerPort
    return int(port.strVal) if port.strVal.isdigit() else None


async def probe_once(handler: core.Handler, target: Target, timeout_s: float) -> Result:
    """Probes once. Never raises (but CancelledError) and never takes much longer than the timeout."""
    try:
        if handler.HasField("exec"):
            return await _probe_exec(handler.exec.command, target, timeout_s)
        if handler.HasField("grpc"):
            return await _probe_grpc(handler.grpc, target.pod_ip, timeout_s)
        action = handler.httpGet if handler.HasField("httpGet") else handler.tcpSocket
        port = resolve_port(action.port, target.container)
        if port is None:
            return Result(Outcome.ERROR, f"the container declares no port named {action.port.strVal!r}")
        if action.host and action.host != target.pod_ip:
            return Result(Outcome.FAILURE, f"host {action.host} is not the pod's own address, and only that is probed")
        async with asyncio.timeout(timeout_s):
            if isinstance(action, core.HTTPGetAction):
                return await _probe_http(action, target.pod_ip, port)
            return await _probe_tcp(target.pod_ip, port)
    except TimeoutError:
        return Result(Outcome.FAILURE, f"no answer within {timeout_s:g}s")


def _why(error: OSError) -> str:
    """In few words: asyncio's own would name the address once more."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


async def _probe_grpc(action: core.GRPCAction, host: str, timeout_s: float) -> Result:
    said = await ask_health(f"{host}:{action.port}", action.service, timeout_s)
    if said == "SERVING":
        return Result(Outcome.SUCCESS)
    about = f'service "{action.service}"' if action.service else "the program"
    return Result(Outcome.FAILURE, f"gRPC health of {about} at {host}:{action.port}: {said}")


async def _probe_tcp(host: str, port: int) -> Result:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Result(Outcome.FAILURE, f"dial tcp {host}:{port}: {_why(error)}")
    writer.transport.abort()
    return Result(Outcome.SUCCESS)


async def _probe_http(action: core.HTTPGetAction, host: str, port: int) -> Result:
    tls = None
    if action.scheme.upper() == "HTTPS":  # as Kubernetes does: whether it answers, not who it is
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    path = action.path or "/"
    url = f"{'https' if tls else 'http'}://{host}:{port}{path}"
    headers = {"Host": f"{host}:{port}", "User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    for header in action.httpHeaders:
        headers[header.name] = header.value
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    if any("\r" in line or "\n" in line for line in lines):
        return Result(Outcome.ERROR, "a path or header of the probe holds a line break")
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=_HEAD_BYTES)
    except OSError as error:
        return Result(Outcome.FAILURE, f'Get "{url}": dial tcp {host}:{port}: {_why(error)}')
    try:
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        words = (await reader.readline()).split(maxsplit=2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            return Result(Outcome.FAILURE, f'Get "{url}": the answer is not HTTP')
        code = int(words[1])
        if 200 <= code < 400:
            return Result(Outcome.SUCCESS)
        while (await reader.readline()).strip():
            pass
        body = (await reader.read(_BODY_BYTES)).decode(errors="replace").strip()
        return Result(
            Outcome.FAILURE, f"HTTP probe failed with statuscode: {code}" + (f": {body[:200]}" if body else "")
        )
    except (OSError, ValueError) as error:  # ValueError: a line longer than the limit
        return Result(Outcome.FAILURE, f'Get "{url}": {error}')
    finally:
        writer.transport.abort()


async def _probe_exec(command: Sequence[str], target: Target, timeout_s: float) -> Result:
    try:
        process = await target.exec(command)
    except StartFailure as failure:
        return Result(Outcome.FAILURE, failure.message)
    try:
        process.stdin.close()
        async with asyncio.timeout(timeout_s):
            output, _, ended = await asyncio.gather(
                _read_some(process.stdout), _read_some(process.stderr), process.wait()
            )
    except TimeoutError:
        return Result(Outcome.FAILURE, f"command '{' '.join(command)}' timed out after {timeout_s:g}s")
    finally:
        process.close()
    if ended.exit_code == 0:
        return Result(Outcome.SUCCESS)
    text = output.decode(errors="replace").strip()
    words = f"command '{' '.join(command)}' ended with exit code {ended.exit_code}"
    return Result(Outcome.FAILURE, f"{words}: {text}" if text else words)


async def _read_some(reader: asyncio.StreamReader) -> bytes:
    """Reads to the end, keeping the first bytes."""
    kept = b""
    while data := await reader.read(65536):
        kept += data[: _OUTPUT_BYTES - len(kept)]
    return kept


async def watch(
    kind: str,
    probe: core.Probe,
    target: Target,
    on_finding: Callable[[Finding], Awaitable[None]],
    *,
    clock: Clock,
    rng: random.Random,
    eager: bool,
    delay_s: float = 0.0,
    healthy: bool | None = None,
    done: asyncio.Event | None = None,
) -> None:
    """Probes again and again, first after the delay, until it is cancelled; tells each finding that is a failure or a
    change.

    With `eager`, a readiness or startup probe that has not succeeded yet is also carried out between its periods, soon
    after the start; a failure there counts for nothing and is not told. So a program that listens after 100 ms is ready
    after 150 ms and not only a period later. `healthy` is what the probe has said before this agent began, if it has. A
    startup probe is over with its first answer, any other when `done` is set.
    """
    times, state = ProbeTimes.of(probe), ProbeState.initial(kind)
    if healthy is not None:
        state = ProbeState(healthy)
    await clock.sleep(delay_s)
    hurry_s = EAGER_FIRST_S if eager and kind != LIVENESS and not state.healthy else None
    next_s = clock.monotonic() + (times.period_s if hurry_s is not None else 0.0)
    while True:
        counted = clock.monotonic() >= next_s
        result = await _probe_with_retries(probe.handler, target, times)
        if result.outcome is not Outcome.ERROR and (counted or result.outcome is Outcome.SUCCESS):
            success = result.outcome is Outcome.SUCCESS
            before, state = state, state.observe(success, times)
            if kind == STARTUP and state.has_answer(times):
                await on_finding(Finding(success, True, result))
                return
            if before.healthy != state.healthy or not success:
                await on_finding(Finding(state.healthy, before.healthy != state.healthy, result))
            if done is not None and done.is_set():
                return
            if kind == LIVENESS and not state.healthy:
                return  # the container is killed; its next run has a probe of its own
        if counted:
            next_s = clock.monotonic() + times.period_s
        if hurry_s is not None and not state.healthy and clock.monotonic() + hurry_s < next_s:
            await clock.sleep(hurry_s * rng.uniform(0.9, 1.1))
            hurry_s = min(hurry_s * 1.5, EAGER_MAX_S)
        else:
            if state.healthy:
                hurry_s = None
            await clock.sleep(max(0.0, next_s - clock.monotonic()))


async def _probe_with_retries(handler: core.Handler, target: Target, times: ProbeTimes) -> Result:
    result = Result(Outcome.ERROR)
    for _ in range(_TRIES):
        with contextlib.suppress(OSError):  # out of descriptors, say: an error of ours
            result = await probe_once(handler, target, times.timeout_s)
        if result.outcome is not Outcome.ERROR:
            break
    return result
