"""Real etcd members for tests: one or three, on loopback addresses of their own, killed, suspended and started again.

    async with running_etcd(3) as etcd:
        EtcdClient(etcd.endpoints)
        leader = await etcd.leader()
        leader.kill()

Each cluster takes random addresses of 127.0.0.0/8, so the ports are always etcd's own and never those of another test,
also after a restart. Data lies in a temporary directory. Members are killed at the end, data and all; they die with the
test's process, too, however that ends (where `setpriv` is installed). Whether a member is well and whether it leads is
asked over its port for metrics, without the client that is being tested.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.rpc import etcd as rpc
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.store.etcd import settings as store
from cluster.testing.signals import send

PATIENT_CLIENT = rpc.EtcdSettings(read_s=30.0, write_s=30.0)
PATIENT_JOURNAL = store.EtcdSettings(lease_ttl_s=60, call_timeout_s=10.0, read_timeout_s=30.0, append_timeout_s=30.0)
"""For tests that are not about time: a disk that others use as well keeps etcd waiting for seconds."""
START_TIMEOUT_S = 60.0
CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381
_PAUSE_S = 0.02
_ASK_S = 1.0


class EtcdFailed(AssertionError):
    """etcd did not do what the test needs of it; the message has the end of its log."""


@dataclass
class EtcdMember:
    """One etcd process, and what it is started with."""

    name: str
    host: str
    directory: Path
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{CLIENT_PORT}"

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    def start(self) -> None:
        """Starts it, with the data it has. Does not wait until it serves; see EtcdCluster.ready."""
        assert self.process is None, f"{self.name} runs already"
        command = [shutil.which("etcd") or "etcd", *self.arguments]
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL, at once. Twice is fine."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def suspend(self) -> None:
        """SIGSTOP: its connections stay, and nothing answers."""
        send(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log_tail(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace")[-1500:] if path.exists() else ""

    async def is_well(self) -> bool:
        """It serves, and there is a leader."""
        answer = await self._ask("/health")
        try:
            return bool(json.loads(answer or "{}").get("health") == "true")
        except ValueError:
            return False

    async def leads(self) -> bool:
        return "\netcd_server_is_leader 1" in await self._ask("/metrics")

    async def _ask(self, path: str) -> str:
        """The body of an answer; empty: there was none in time."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_ASK_S):
                reader, writer = await asyncio.open_connection(self.host, METRICS_PORT)
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {self.host}\r\n\r\n".encode())
                return (await reader.read()).decode(errors="replace").partition("\r\n\r\n")[2]
        except (OSError, TimeoutError):
            return ""
        finally:
            if writer is not None:
                writer.transport.abort()


class EtcdCluster:
    """Members that belong together."""

    def __init__(
        self,
        directory: Path,
        size: int = 1,
        *,
        tls: bool = False,
        quota_bytes: int = 0,
        heartbeat_ms: int = 100,
        election_ms: int = 500,
        arguments: Sequence[str] = (),
    ) -> None:
        """`tls`: clients need a certificate of this cluster's authority (`credentials`). `quota_bytes`: how large its
        database may get, 0 is etcd's default. `arguments` are added to each member's command line."""
        self.directory = directory
        hosts = _hosts(size)
        client_scheme = "https" if tls else "http"
        security: list[str] = []
        if tls:
            make_ca(directory / "ca", "etcd")
            # Credentials of the cluster's kind: who they name is of no interest to etcd, by whom they are signed is.
            issue(directory / "ca", directory / "server", Identity("master"), hosts=hosts)
            server = directory / "server"
            security = ["--client-cert-auth", f"--trusted-ca-file={server / 'ca.crt'}"]
            security += [f"--cert-file={server / 'tls.crt'}", f"--key-file={server / 'tls.key'}"]
        self.members = [
            EtcdMember(
                f"m{number}",
                host,
                directory / f"m{number}",
                [
                    f"--name=m{number}",
                    f"--data-dir={directory / f'm{number}' / 'data'}",
                    f"--listen-client-urls={client_scheme}://{host}:{CLIENT_PORT}",
                    f"--advertise-client-urls={client_scheme}://{host}:{CLIENT_PORT}",
                    f"--listen-peer-urls=http://{host}:{PEER_PORT}",
                    f"--initial-advertise-peer-urls=http://{host}:{PEER_PORT}",
                    f"--listen-metrics-urls=http://{host}:{METRICS_PORT}",
                    "--initial-cluster="
                    + ",".join(f"m{n}=http://{h}:{PEER_PORT}" for n, h in enumerate(hosts, start=1)),
                    f"--heartbeat-interval={heartbeat_ms}",
                    f"--election-timeout={election_ms}",
                    *([f"--quota-backend-bytes={quota_bytes}"] if quota_bytes else []),
                    *security,
                    *arguments,
                ],
            )
            for number, host in enumerate(hosts, start=1)
        ]
        self._tls = tls

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    @property
    def url(self) -> str:
        """As a user writes it."""
        return f"etcd://{','.join(self.endpoints)}"

    def credentials_directory(self, name: str = "client") -> Path:
        """ca.crt, tls.crt and tls.key of a client."""
        assert self._tls, "this etcd speaks no TLS"
        directory = self.directory / name
        if not directory.exists():
            issue(self.directory / "ca", directory, Identity("admin"))
        return directory

    def credentials(self) -> Credentials:
        return Credentials.load(self.credentials_directory())

    async def start(self) -> None:
        """Starts all members, and returns when they serve."""
        for member in self.members:
            member.directory.mkdir(mode=0o700)
            member.start()
        await self.ready()

    async def ready(self, *members: EtcdMember) -> None:
        """Waits until these members (all that run, if none is named) serve. Raises EtcdFailed."""
        waiting = list(members) or [member for member in self.members if member.process is not None]
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while waiting:
            if await waiting[-1].is_well():
                waiting.pop()
                continue
            member = waiting[-1]
            if member.process is None or member.process.poll() is not None:
                raise EtcdFailed(f"{member.name} has ended:\n{member.log_tail()}")
            if asyncio.get_running_loop().time() > deadline:
                raise EtcdFailed(f"{member.name} does not serve after {START_TIMEOUT_S:g} s:\n{member.log_tail()}")
            await asyncio.sleep(_PAUSE_S)

    async def leader(self) -> EtcdMember:
        """The member that leads now; waits for one. Raises EtcdFailed."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            for member in self.members:
                if member.process is not None and await member.leads():
                    return member
            await asyncio.sleep(_PAUSE_S)
        raise EtcdFailed("nobody leads:\n" + "\n".join(member.log_tail() for member in self.members))

    def stop(self) -> None:
        """Kills all members. Twice is fine."""
        for member in self.members:
            member.kill()


def _hosts(count: int) -> list[str]:
    """Loopback addresses on which nobody listens."""
    dice = random.SystemRandom()
    while True:
        block = f"127.{dice.randrange(128, 254)}.{dice.randrange(256)}"
        hosts = [f"{block}.{number}" for number in range(1, count + 1)]
        try:
            for host in hosts:
                for port in (CLIENT_PORT, PEER_PORT, METRICS_PORT):
                    with socket.socket() as probe:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        probe.bind((host, port))
        except OSError:
            continue
        return hosts


def need_etcd() -> None:
    """Skips the test, loudly, where etcd is not installed."""
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed: apt-get install etcd-server")


@asynccontextmanager
async def running_etcd(
    size: int = 1,
    *,
    tls: bool = False,
    quota_bytes: int = 0,
    heartbeat_ms: int = 100,
    election_ms: int = 500,
    arguments: Sequence[str] = (),
) -> AsyncIterator[EtcdCluster]:
    """A cluster that serves; see EtcdCluster. Nothing of it is left afterwards. Skips where etcd is missing."""
    need_etcd()
    with tempfile.TemporaryDirectory(prefix="podium-etcd-") as directory:
        cluster = EtcdCluster(
            Path(directory),
            size,
            tls=tls,
            quota_bytes=quota_bytes,
            heartbeat_ms=heartbeat_ms,
            election_ms=election_ms,
            arguments=arguments,
        )
        try:
            await cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
async def shared_etcd() -> AsyncIterator[EtcdCluster]:
    """One member for all tests of a session that need nothing but an etcd: keep to keys of your own."""
    async with running_etcd() as cluster:
        yield cluster


@pytest.fixture
async def etcd() -> AsyncIterator[EtcdCluster]:
    """One member, for this test alone."""
    async with running_etcd() as cluster:
        yield cluster


@pytest.fixture
async def etcd3() -> AsyncIterator[EtcdCluster]:
    """Three members, for this test alone."""
    async with running_etcd(3) as cluster:
        yield cluster
