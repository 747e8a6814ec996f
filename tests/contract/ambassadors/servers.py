"""Real servers as plain processes on loopback addresses, for the ambassadors that speak their protocols."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxy.balancer import Target

DEADLINE_S = 30.0


def free_port(ip: str = "127.0.0.1") -> int:
    with socket.socket() as sock:
        sock.bind((ip, 0))
        return int(sock.getsockname()[1])


class Server:
    """A process that listens. `target` makes it an endpoint for the rig."""

    def __init__(self, port: int) -> None:
        self.target = Target("127.0.0.1", port)

    @property
    def port(self) -> int:
        return self.target.port


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a real server; says what it waited for."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def process(command: Sequence[str], directory: Path, *, user: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Runs while the test does; its output is in DIRECTORY/log."""
    with (directory / "log").open("ab") as log:
        running = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=user)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


async def run(*command: str, said: str = "", environment: dict[str, str] | None = None) -> str:
    """What a client of the real thing prints; it must succeed. The loop goes on meanwhile: the proxy is in it."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, _ = await child.communicate(said.encode())
    except BaseException:
        child.kill()
        await child.wait()
        raise
    assert child.returncode == 0, f"{' '.join(command)}: {out.decode()}"
    return out.decode()


@contextmanager
def redis(directory: Path, *, replica_of: Server | None = None, password: str = "") -> Iterator[Server]:
    """A redis-server, and a replica of another one if wanted."""
    directory.mkdir()
    server = Server(free_port())
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(server.port), "--save", "", "--dir", str(directory)]
    command += ["--repl-diskless-sync-delay", "0"]
    if replica_of is not None:
        command += ["--replicaof", "127.0.0.1", str(replica_of.port)]
    if password:
        command += ["--requirepass", password, "--masterauth", password]
    with process(command, directory):
        until(lambda: answers(server.port), f"redis-server answers at {server.port}")
        yield server


def postgres_binaries() -> Path | None:
    """Where initdb and postgres are: Debian does not put them into the path."""
    found = shutil.which("initdb")
    if found and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (directory / "initdb").exists():
            return directory
    return None


def unprivileged() -> int | None:
    """PostgreSQL does not run as root: another user then. None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return 65534


@contextmanager
def nginx(directory: Path, name: str) -> Iterator[Server]:
    """An nginx of one process: / says its name and what it was asked, /big is 20 MB, PUT /up/... takes files."""
    directory.mkdir()
    server = Server(free_port())
    (directory / "www").mkdir()
    (directory / "www" / "big").write_bytes(os.urandom(1 << 20) * 20)
    (directory / "temp").mkdir()
    temp = "\n".join(
        f"{kind}_temp_path {directory}/temp/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;
        {"user root;" if os.geteuid() == 0 else ""}
        events {{ worker_connections 256; }}
        http {{
            access_log {directory}/access.log; {temp} client_max_body_size 100m; keepalive_timeout 60;
            server {{
                listen 127.0.0.1:{server.port}; root {directory}/www;
                location / {{ return 200 "{name} $request_method $request_uri $http_x_forwarded_for\\n"; }}
                location /big {{ }}
                location /up/ {{ dav_methods PUT; create_full_put_path on; }}
            }}
        }}
    """)
    with process([shutil.which("nginx") or "/usr/sbin/nginx", "-p", str(directory), "-c", "nginx.conf"], directory):
        until(lambda: answers(server.port), f"nginx answers at {server.port}")
        yield server
