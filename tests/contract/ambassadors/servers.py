"""Real servers as plain processes on loopback addresses, for the ambassadors that speak their protocols."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxy.balancer import Target
from tests.kit.ports import free_port

DEADLINE_S = 30.0


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


def _owned(directory: Path, user: int | None) -> None:
    if user is not None:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, user, -1)


@contextmanager
def postgres(*, replica_of: Server | None = None, login: str = "trust", password: str = "") -> Iterator[Server]:
    """A PostgreSQL server, and a streaming replica of another one if wanted. `login`: how clients have to (pg_hba)."""
    binaries, user = postgres_binaries(), unprivileged()
    assert binaries is not None
    # Not below pytest's directories, which are for their owner only.
    directory = Path(tempfile.mkdtemp(prefix="podium-pg-", dir="/tmp"))
    data, server = directory / "data", Server(free_port())
    _owned(directory, user)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(directory), "PGPASSWORD": password}

    def must(*command: str) -> None:
        subprocess.run(
            command, cwd=directory, user=user, env=environment, check=True, capture_output=True, timeout=DEADLINE_S * 2
        )

    try:
        if replica_of is None:
            (directory / "password").write_text(password or "unused")
            _owned(directory, user)
            must(
                *(str(binaries / "initdb"), "-D", str(data), "-U", "podium", "-A", "trust", "-N"),
                *("--pwfile", str(directory / "password")),
            )
        else:
            source = ("-h", "127.0.0.1", "-p", str(replica_of.port), "-U", "podium")
            must(str(binaries / "pg_basebackup"), "-D", str(data), "-R", "-c", "fast", "-X", "stream", *source)
        (data / "pg_hba.conf").write_text(
            f"host replication podium 127.0.0.0/8 trust\nhost all podium 127.0.0.0/8 {login}\n"
        )
        command = [str(binaries / "postgres"), "-D", str(data), "-p", str(server.port), "-k", "", "-h", "127.0.0.1"]
        for setting in (
            "fsync=off",
            "wal_level=replica",
            "max_wal_senders=5",
            "max_connections=40",
            "shared_buffers=16MB",
        ):
            command += ["-c", setting]
        with process(command, directory, user=user):
            until(lambda: _is_ready(binaries, server.port), f"PostgreSQL is ready at {server.port}")
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _is_ready(binaries: Path, port: int) -> bool:
    command = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
    return subprocess.run(command, check=False).returncode == 0
