"""Logs, exec and probes with real processes, and the agent around them."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.actor.clock import SystemClock
from cluster.actor.ports import Listener
from cluster.actor.tasks import Tasks
from cluster.api.conditions import is_pod_ready
from cluster.api.errors import BadRequest, Forbidden, NotFound
from cluster.client import operations
from cluster.config.profiles import PROFILES, Profile
from cluster.pb.v1 import agent_pb2
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from node_agent import listeners, prober
from node_agent.agent import NodeAgent
from node_agent.listeners import listeners_of, warnings_about
from node_agent.prober import Outcome, Target, probe_once, resolve_port
from node_agent.runtime.interface import ExecProcess
from node_agent.runtime.process import ProcessRuntime
from node_agent.service import AgentService, authorize
from node_agent.settings import AgentSettings
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.unit.node_agent.kit import LIMIT_S, make_pod, serve, until

ADMIN = Identity("admin")


class World:
    def __init__(self, directory: Path, profile: Profile = PROFILES["test"]) -> None:
        self.cluster = MemoryCluster()
        settings = AgentSettings(
            name="node-1",
            master="",
            listen="127.0.0.1:10250",
            credentials=directory,
            dir=directory / "node-1",
            profile=profile,
        )
        clock = SystemClock()
        self.runtime = ProcessRuntime(directory / "node-1", clock=clock, log_max_bytes=10000, log_files=2)
        self.agent = NodeAgent(
            settings,
            self.cluster.client("node:node-1"),
            self.runtime,
            clock=clock,
            rng=random.Random(1),
            environ={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        )
        self.service = AgentService(self.agent, clock=clock)

    async def run(
        self, *script: str, name: str = "web", change: Callable[[core.Pod], object] = lambda p: None
    ) -> core.Pod:
        pod = make_pod(name, policy="Never", grace_s=1, command=("sh", "-c", *script))
        change(pod)
        outcome = await self.cluster.client().write([operations.create(pod)])
        created = outcome.outcomes[0].unwrap()
        assert isinstance(created, core.Pod)
        await until(lambda: self.pod(name).status.phase in ("Running", "Succeeded", "Failed"))
        return created

    def pod(self, name: str = "web") -> core.Pod:
        pod = self.cluster.find(core.Pod, name)
        assert pod is not None
        return pod

    async def logs(self, **request: object) -> str:
        asked = agent_pb2.LogsRequest(**({"pod": "web"} | request))  # type: ignore[arg-type]
        data = b""
        async with asyncio.timeout(LIMIT_S):
            async for chunk in self.service.logs(ADMIN, asked):
                data += chunk.data
        return data.decode()

    async def exec(
        self, *command: str, stdin: bytes | None = None, detached: bool = False, tty: bool = False
    ) -> tuple[str, str, int]:
        async def inputs() -> AsyncIterator[agent_pb2.ExecInput]:
            start = agent_pb2.ExecStart(pod="web", command=command, detached=detached, tty=tty)
            yield agent_pb2.ExecInput(start=start)
            if stdin is not None:
                yield agent_pb2.ExecInput(stdin=stdin)
                yield agent_pb2.ExecInput(stdin_closed=True)

        out, err, code = b"", b"", -1
        async with asyncio.timeout(LIMIT_S):
            async for output in self.service.exec(ADMIN, inputs()):
                out, err = out + output.stdout, err + output.stderr
                if output.HasField("exit_code"):
                    code = output.exit_code
        return out.decode(), err.decode(), code


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.agent.start()
    yield world
    await world.agent.stop()


@pytest.fixture
async def patient_world(tmp_path: Path) -> AsyncIterator[World]:
    """Nothing that crashed twice runs again."""
    world = World(tmp_path, replace(PROFILES["test"], crash_backoff_initial_s=1000.0, crash_backoff_max_s=1000.0))
    await world.agent.start()
    yield world
    await world.agent.stop()


async def crash(world: World) -> None:
    """Runs a pod that now waits to run for the third time."""
    script = "echo run; test -e twice && echo again; touch twice; exit 1"
    await world.run(script, change=lambda pod: setattr(pod.spec, "restartPolicy", "Always"))
    await until(lambda: world.pod().status.containerStatuses[0].state.waiting.reason == "CrashLoopBackOff")


async def test_logs_of_a_pod_that_ended(world: World) -> None:
    await world.run("echo one; echo two; echo three")
    await until(lambda: world.pod().status.phase == "Succeeded")
    assert await world.logs() == "one\ntwo\nthree\n"
    assert await world.logs(tail_lines=2) == "two\nthree\n"
    assert await world.logs(follow=True) == "one\ntwo\nthree\n"


async def test_a_container_that_waits_has_no_log_and_it_is_said_for_what_it_waits(world: World) -> None:
    pod = make_pod("web", policy="Never", grace_s=0, command=("true",))
    pod.spec.initContainers.add(name="first", command=["sleep", "1000"])
    (await world.cluster.client().write([operations.create(pod)])).outcomes[0].unwrap()
    await until(lambda: any(c.state.HasField("running") for c in world.pod().status.initContainerStatuses))
    with pytest.raises(BadRequest, match='container "c1" in pod "web" is waiting to start: PodInitializing'):
        await world.logs(container="c1")
    assert await world.logs(container="first") == ""


async def test_following_ends_with_the_container(world: World) -> None:
    await world.run("echo one; while [ ! -e go ]; do sleep 0.01; done; echo two")
    stream = world.service.logs(ADMIN, agent_pb2.LogsRequest(pod="web", follow=True))
    assert (await anext(aiter(stream))).data == b"one\n"
    (world.agent.settings.dir / "pods" / world.pod().metadata.uid / "go").touch()
    assert b"".join([chunk.data async for chunk in stream]) == b"two\n"


async def test_following_one_run_ends_with_it_though_there_are_more(world: World) -> None:
    def change(pod: core.Pod) -> None:
        pod.spec.restartPolicy = "Always"

    script = "[ -e go ] && echo second && sleep 1000; echo one; while [ ! -e go ]; do sleep 0.01; done; seq 9999"
    await world.run(script, change=change)
    stream = world.service.logs(ADMIN, agent_pb2.LogsRequest(pod="web", follow=True, one_run=True))
    written = (await anext(aiter(stream))).data
    (world.agent.settings.dir / "pods" / world.pod().metadata.uid / "go").touch()
    async with asyncio.timeout(LIMIT_S):
        written += b"".join([chunk.data async for chunk in stream])
    assert written.split() == [b"one", *(b"%d" % number for number in range(1, 10000))]
    await until(lambda: world.pod().status.containerStatuses[0].restartCount == 1)
    assert (await world.logs(follow=True, one_run=True, previous=True)).split()[-1] == "9999"


async def test_following_one_run_between_two_ends_at_once(patient_world: World) -> None:
    await crash(patient_world)
    assert await patient_world.logs(follow=True, one_run=True) == "run\nagain\n"


async def test_the_run_before_one_that_is_to_come_is_the_last(patient_world: World) -> None:
    await crash(patient_world)
    assert await patient_world.logs() == await patient_world.logs(previous=True) == "run\nagain\n"


async def test_following_one_run_does_not_wait_for_the_first(world: World) -> None:
    pod = make_pod("web", policy="Never", grace_s=0, command=("true",))
    pod.spec.initContainers.add(name="first", command=["sleep", "1000"])
    (await world.cluster.client().write([operations.create(pod)])).outcomes[0].unwrap()
    await until(lambda: any(c.state.HasField("running") for c in world.pod().status.initContainerStatuses))
    with pytest.raises(BadRequest, match="is waiting to start: PodInitializing"):
        await world.logs(container="c1", follow=True, one_run=True)


async def test_logs_of_the_run_before(world: World) -> None:
    def change(pod: core.Pod) -> None:
        pod.spec.restartPolicy = "Always"

    await world.run("if [ -e once ]; then echo second; sleep 1000; fi; touch once; echo first; exit 1", change=change)
    await until(lambda: world.pod().status.containerStatuses[0].restartCount == 1)
    await until(lambda: world.pod().status.containerStatuses[0].ready)
    assert await world.logs(previous=True) == "first\n"
    assert world.pod().status.containerStatuses[0].lastState.terminated.message == "first"


async def test_wrong_questions(world: World) -> None:
    await world.run("sleep 1000", change=lambda pod: pod.spec.containers.add(name="side", command=["sleep", "1000"]))
    with pytest.raises(NotFound):
        await world.logs(pod="nobody")
    with pytest.raises(BadRequest, match="name one of them: c1, side"):
        await world.logs()
    with pytest.raises(BadRequest, match="not in pod"):
        await world.logs(container="c9")
    with pytest.raises(BadRequest, match="previous terminated container"):
        await world.logs(container="c1", previous=True)


async def test_exec(world: World) -> None:
    await world.run("touch here; sleep 1000")
    await until(lambda: world.pod().status.phase == "Running")
    assert await world.exec("sh", "-c", "echo $POD_NAME; echo err >&2; exit 3") == ("web\n", "err\n", 3)
    assert await world.exec("cat", stdin=b"hello") == ("hello", "", 0)
    assert await world.exec("ls") == ("here\nlogs\n", "", 0)
    assert (await world.exec("sh", "-c", "kill -9 $$"))[2] == 137
    assert await world.exec("sh", "-c", "echo $TERM") == ("\n", "", 0)
    assert (await world.exec("sh", "-c", "echo $TERM", tty=True))[0] == "xterm\r\n"
    out, err, code = await world.exec("no-such-program")
    assert (out, code) == ("", 127)
    assert "executable file not found" in err


async def test_nothing_is_run_beside_a_container_that_does_not_run(world: World) -> None:
    """No exit code is told, for no command has failed: none was begun."""
    await world.run("exit 1")
    await until(lambda: world.pod().status.phase == "Failed")
    with pytest.raises(BadRequest, match=r'^container not found \("c1"\)$'):
        await world.exec("true")

    async def inputs() -> AsyncIterator[agent_pb2.ExecInput]:
        yield agent_pb2.ExecInput(start=agent_pb2.ExecStart(namespace="default", pod="web", container="c1"))

    with pytest.raises(BadRequest, match=r"^container c1 not found in pod web_default$"):
        await anext(aiter(world.service.attach(ADMIN, inputs())))


async def test_short_commands_in_the_place_of_a_container_are_told_how_they_ended(world: World) -> None:
    """However many there are at once: the pod lets go of them at their end, their callers may come a little later."""
    await world.run("exit 1")
    await until(lambda: world.pod().status.phase == "Failed")
    codes = await asyncio.gather(*(world.exec("sh", "-c", f"exit {number}", detached=True) for number in range(30)))
    assert codes == [("", "", number) for number in range(30)]
    worker = world.agent.workers[world.pod().metadata.uid]
    await until(lambda: not worker.state.stand_ins)
    assert not [run_id for run_id in world.runtime._runs if ".exec-" in run_id]


async def test_exec_ends_when_the_caller_goes(world: World) -> None:
    await world.run("sleep 1000")
    directory = world.agent.settings.dir / "pods" / world.pod().metadata.uid

    async def inputs() -> AsyncIterator[agent_pb2.ExecInput]:
        start = agent_pb2.ExecStart(pod="web", command=["sh", "-c", "echo $$; sleep 1000"])
        yield agent_pb2.ExecInput(start=start)
        await asyncio.Event().wait()

    stream = world.service.exec(ADMIN, inputs())
    pid = int((await anext(aiter(stream))).stdout)
    await stream.aclose()  # type: ignore[attr-defined]
    await until(lambda: not Path(f"/proc/{pid}").exists())
    assert directory.exists()


async def test_readiness_and_liveness(world: World) -> None:
    def change(pod: core.Pod) -> None:
        pod.spec.restartPolicy = "Always"
        container = pod.spec.containers[0]
        container.readinessProbe.handler.exec.command.extend(["test", "-e", "ready"])
        container.livenessProbe.handler.exec.command.extend(["test", "!", "-e", "sick"])
        container.livenessProbe.periodSeconds = 1
        container.livenessProbe.failureThreshold = 1
        container.readinessProbe.timeoutSeconds = container.livenessProbe.timeoutSeconds = 20

    pod = await world.run("rm -f sick; sleep 1000", change=change)
    directory = world.agent.settings.dir / "pods" / pod.metadata.uid
    assert not is_pod_ready(world.pod())
    (directory / "ready").touch()
    await until(lambda: is_pod_ready(world.pod()))
    (directory / "sick").touch()
    await until(lambda: world.pod().status.containerStatuses[0].restartCount == 1)
    await until(lambda: {"Unhealthy", "Killing"} <= {event.reason for event in world.cluster.objects(core.Event)})


def test_who_may_call() -> None:
    authorize(ADMIN, "/cluster.pb.v1.NodeAgent/Exec", None)
    for identity in (Identity("proxy"), Identity("node", "node-2"), Identity("scheduler"), Identity("controllers")):
        for method in ("Logs", "Exec"):
            with pytest.raises(Forbidden):
                authorize(identity, f"/cluster.pb.v1.NodeAgent/{method}", None)
    with pytest.raises(Forbidden):
        authorize(ADMIN, "/cluster.pb.v1.NodeAgent/Unheard", None)


# --- probes


async def nothing(command: object) -> ExecProcess:
    raise AssertionError("no exec here")


def target(container: core.Container | None = None) -> Target:
    return Target("127.0.0.1", container or core.Container(name="c"), nothing)


def http(port: int, path: str = "/", **more: object) -> core.Handler:
    handler = core.Handler(httpGet=core.HTTPGetAction(path=path, **more))  # type: ignore[arg-type]
    handler.httpGet.port.intVal = port
    return handler


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", Outcome.SUCCESS),
        (b"HTTP/1.0 204 No Content\r\n\r\n", Outcome.SUCCESS),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n", Outcome.SUCCESS),
        (b"HTTP/1.1 399 \r\n\r\n", Outcome.SUCCESS),
        (b"HTTP/1.1 404 Not Found\r\n\r\nnope", Outcome.FAILURE),
        (b"HTTP/1.1 503 Busy\r\n\r\n" + b"x" * 1_000_000, Outcome.FAILURE),
        (b"SSH-2.0-OpenSSH\r\n", Outcome.FAILURE),
        (b"HTTP/1.1 " + b"9" * 100_000, Outcome.FAILURE),
        (b"", Outcome.FAILURE),
        (None, Outcome.FAILURE),
    ],
)
async def test_http(reply: bytes | None, outcome: Outcome) -> None:
    server, port = await serve(lambda request: reply)
    async with server:
        result = await probe_once(http(port), target(), 0.5 if reply is None else LIMIT_S)
    assert result.outcome is outcome
    assert len(result.message) < 1000


async def test_what_an_http_probe_says() -> None:
    seen: list[bytes] = []
    server, port = await serve(lambda request: seen.append(request) or b"HTTP/1.1 200 OK\r\n\r\n")  # type: ignore[func-returns-value]
    async with server:
        handler = http(port, "/healthz?x=1", httpHeaders=[core.HTTPHeader(name="X-Probe", value="yes")])
        await probe_once(handler, target(), LIMIT_S)
    assert seen[0].startswith(b"GET /healthz?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"X-Probe: yes\r\n" in seen[0]


async def test_tcp_and_refusals() -> None:
    server, port = await serve(lambda request: b"")
    handler = core.Handler(tcpSocket=core.TCPSocketAction())
    handler.tcpSocket.port.intVal = port
    async with server:
        assert (await probe_once(handler, target(), LIMIT_S)).outcome is Outcome.SUCCESS
    assert (await probe_once(handler, target(), 1)).outcome is Outcome.FAILURE
    handler.tcpSocket.host = "169.254.169.254"
    result = await probe_once(handler, target(), 1)
    assert result.outcome is Outcome.FAILURE
    assert "not the pod's own address" in result.message
    injected = http(port, "/ HTTP/1.1\r\nEvil: yes")
    assert (await probe_once(injected, target(), 1)).outcome is not Outcome.SUCCESS


def test_ports_by_name() -> None:
    container = core.Container(name="c")
    container.ports.add(name="http", containerPort=8080)
    assert resolve_port(core.IntOrString(type=1, strVal="http"), container) == 8080
    assert resolve_port(core.IntOrString(type=0, intVal=99), container) == 99
    assert resolve_port(core.IntOrString(type=1, strVal="77"), container) == 77
    assert resolve_port(core.IntOrString(type=1, strVal="none"), container) is None


async def test_the_rhythm_of_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager until the first success, then every period; failures of the eager ones do not count."""
    clock, tasks = VirtualClock(monotonic_s=0), Tasks("test")
    times: list[float] = []
    findings: list[tuple[float, bool, bool]] = []
    answers = iter([False] * 4 + [True, True, False, False, False, True])

    async def fake(handler: core.Handler, target: Target, timeout_s: float) -> prober.Result:
        times.append(round(clock.monotonic(), 2))
        return prober.Result(Outcome.SUCCESS if next(answers) else Outcome.FAILURE, "said no")

    async def on_finding(finding: prober.Finding) -> None:
        findings.append((round(clock.monotonic(), 2), finding.healthy, finding.changed))

    class Even(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return (a + b) / 2

    monkeypatch.setattr(prober, "probe_once", fake)
    probe = core.Probe(periodSeconds=10)
    watching = prober.watch("readiness", probe, target(), on_finding, clock=clock, rng=Even(), eager=True)
    tasks.spawn(watching, name="probe")
    await clock.run_for(55)
    await tasks.cancel_all()
    assert times == [0, 0.05, 0.12, 0.24, 0.41, 10.0, 20.0, 30.0, 40.0, 50.0]
    assert findings == [
        (0.41, True, True),
        (20, True, False),
        (30, True, False),
        (40, False, True),
        (50, True, True),
    ]


# --- listeners


def test_words_about_listeners() -> None:
    everywhere, right, wrong = Listener("0.0.0.0", 80), Listener("127.7.16.1", 80), Listener("127.0.0.1", 80)
    assert warnings_about([right], [80], "c", "127.7.16.1") == []
    assert warnings_about([], [80], "c", "127.7.16.1") == []
    assert "0.0.0.0" in warnings_about([everywhere], [80], "c", "127.7.16.1")[0]
    (warning,) = warnings_about([wrong], [80], "c", "127.7.16.1")
    assert "127.0.0.1:80" in warning
    assert "$POD_IP (127.7.16.1)" in warning
    assert listeners.looks_like_a_clash("OSError: [Errno 98] Address already in use")
    assert not listeners.looks_like_a_clash("all is well")


async def test_listeners_of_a_process(world: World) -> None:
    script = (
        "import socket, time; s = [socket.create_server((host, 0)) for host in ('0.0.0.0', '127.9.8.7')];"
        " open('up', 'w'); time.sleep(999)"
    )
    pod = await world.run(f'{sys.executable} -c "{script}"')
    await until((world.agent.settings.dir / "pods" / pod.metadata.uid / "up").exists)
    found = listeners_of(world.runtime.pid_of(f"{pod.metadata.uid}.c1.0"))
    assert {listener.address for listener in found} == {"0.0.0.0", "127.9.8.7"}
