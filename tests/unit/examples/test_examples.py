"""The examples are valid, and the guestbook's programs do what their docstrings say: as plain processes, no cluster."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from cluster.api.defaults import apply_defaults
from cluster.api.kinds import kind_of
from cluster.api.manifest import read_path
from cluster.api.validation import validate
from cluster.pb.v1 import core_pb2 as core

EXAMPLES = Path(__file__).parents[3] / "examples"
DEADLINE_S = 20


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
def test_manifests_are_valid_and_their_parts_fit(name: str) -> None:
    objects = [manifest.object for manifest in read_path(str(EXAMPLES / name), io.BytesIO())]
    services = [obj for obj in objects if isinstance(obj, core.Service)]
    controllers = [obj for obj in objects if isinstance(obj, core.ReplicationController)]
    assert len(services) + len(controllers) == len(objects)
    for obj in objects:
        apply_defaults(obj)
        assert validate(obj) == [], f"{kind_of(obj).name} {obj.metadata.name}"
    for service in services:
        served = [
            rc.spec.template
            for rc in controllers
            if service.spec.selector.items() <= rc.spec.template.metadata.labels.items()
        ]
        assert served, f"no controller's pods match the service {service.metadata.name}"
        for template in served:
            names = {port.name for container in template.spec.containers for port in container.ports}
            assert {port.targetPort.strVal for port in service.spec.ports} <= names
        assert all(port.port >= 1024 for port in service.spec.ports), "an unprivileged user can serve it"


class Program:
    """A running program of the guestbook."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        directory = EXAMPLES / "guestbook"
        self.process = subprocess.Popen(
            [sys.executable, "-S", name],
            cwd=directory,
            env={"PATH": os.environ["PATH"], "PORT": "0", "POD_IP": "127.0.0.1", **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first.startswith("listening on "), first
        self.address = first.removeprefix("listening on ").strip()

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        connection = HTTPConnection(self.address, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode


@contextmanager
def program(name: str, **environment: str) -> Iterator[Program]:
    running = Program(name, environment)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@pytest.fixture
def guestbook() -> Iterator[tuple[Program, Program]]:
    with ExitStack() as stack:
        backend = stack.enter_context(program("backend.py"))
        host, _, port = backend.address.partition(":")
        frontend = stack.enter_context(
            program(
                "frontend.py",
                BACKEND_SERVICE_HOST=host,
                BACKEND_SERVICE_PORT=port,
                POD_NAME="frontend-<1>",
                NODE_NAME="node-1",
            )
        )
        yield backend, frontend


def test_sign_and_read(guestbook: tuple[Program, Program]) -> None:
    _, frontend = guestbook
    assert frontend.ask("GET", "/healthz")[0] == 200
    assert json.loads(frontend.ask("GET", "/api")[1]) == {"pod": "frontend-<1>", "node": "node-1", "entries": []}
    status, answer = frontend.ask("POST", "/api", '{"name": "Ada", "text": "<script>alert(1)</script>"}')
    assert (status, json.loads(answer)["entry"]["id"]) == (201, 1)
    assert frontend.ask("POST", "/", "name=Bob&text=a+%26+b")[0] == 303
    entries = json.loads(frontend.ask("GET", "/api")[1])["entries"]
    assert [(entry["name"], entry["text"]) for entry in entries] == [
        ("Ada", "<script>alert(1)</script>"),
        ("Bob", "a & b"),
    ]
    status, page = frontend.ask("GET", "/")
    assert status == 200
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "frontend-&lt;1&gt;" in page
    assert "a &amp; b" in page


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("POST", "/nothing", "", 404),
        ("POST", "/api", "not json", 400),
        ("POST", "/api", "[" * 10_000, 400),
        ("POST", "/api", "[]", 400),
        ("POST", "/api", '{"text": " "}', 400),
        ("POST", "/api", '{"text": "' + "x" * 20_000 + '"}', 413),
        ("POST", "/", "text=", 400),
    ],
)
def test_bad_requests(
    guestbook: tuple[Program, Program], method: str, path: str, body: str | None, status: int
) -> None:
    assert guestbook[1].ask(method, path, body)[0] == status


def test_half_a_surrogate_pair_does_not_spoil_the_page(guestbook: tuple[Program, Program]) -> None:
    assert guestbook[1].ask("POST", "/api", '{"text": "\\ud800"}')[0] == 201
    assert guestbook[1].ask("GET", "/")[0] == 200


def test_the_backend_is_away_and_both_end_on_sigterm(guestbook: tuple[Program, Program]) -> None:
    backend, frontend = guestbook
    assert backend.stop() == 0
    status, answer = frontend.ask("GET", "/api")
    assert status == 502
    assert "does not answer" in json.loads(answer)["error"]
    assert frontend.ask("GET", "/")[0] == 502
    assert frontend.ask("GET", "/healthz")[0] == 200, "the frontend itself is well"
    assert frontend.stop() == 0


def test_without_a_backend_service_it_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-S", EXAMPLES / "guestbook" / "frontend.py"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "apply backend.yaml" in done.stderr
