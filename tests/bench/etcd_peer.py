"""etcd as the peer of a benchmark: one process on the disk that the master uses, and a client in Python over grpc.aio.

Both sides are durable (etcd syncs its log before it answers, as it does by default), both are asked over mutual TLS
with certificates of the same authority, by a client in this process with one channel. What etcd stores are the same
bytes: an encoded pod. The messages are etcd's, cut down to the fields that are used here; only their numbers matter.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from cluster.rpc import options
from cluster.rpc.identity import Credentials
from tests.bench.harness import Unavailable
from tests.bench.stage import Stage, end

NAME = "etcd"
START_TIMEOUT_S = 20.0
TIMEOUT_S = 60.0

_F = FieldDescriptorProto
_MESSAGES: dict[str, list[tuple[str, int, Any]]] = {
    "ResponseHeader": [("revision", 3, _F.TYPE_INT64)],
    "KeyValue": [
        ("key", 1, _F.TYPE_BYTES),
        ("mod_revision", 3, _F.TYPE_INT64),
        ("version", 4, _F.TYPE_INT64),
        ("value", 5, _F.TYPE_BYTES),
    ],
    "PutRequest": [("key", 1, _F.TYPE_BYTES), ("value", 2, _F.TYPE_BYTES)],
    "PutResponse": [("header", 1, "ResponseHeader")],
    "RequestOp": [("request_put", 2, "PutRequest")],
    "ResponseOp": [("response_put", 2, "PutResponse")],
    "TxnRequest": [("success", 2, ["RequestOp"])],
    "TxnResponse": [
        ("header", 1, "ResponseHeader"),
        ("succeeded", 2, _F.TYPE_BOOL),
        ("responses", 3, ["ResponseOp"]),
    ],
    "WatchCreateRequest": [
        ("key", 1, _F.TYPE_BYTES),
        ("range_end", 2, _F.TYPE_BYTES),
        ("start_revision", 3, _F.TYPE_INT64),
    ],
    "WatchRequest": [("create_request", 1, "WatchCreateRequest")],
    "Event": [("type", 1, _F.TYPE_INT32), ("kv", 2, "KeyValue")],
    "WatchResponse": [
        ("header", 1, "ResponseHeader"),
        ("watch_id", 2, _F.TYPE_INT64),
        ("created", 3, _F.TYPE_BOOL),
        ("events", 11, ["Event"]),
    ],
}


def _classes() -> dict[str, Any]:
    file = FileDescriptorProto(name="bench_etcd.proto", package="etcdserverpb", syntax="proto3")
    for message, fields in _MESSAGES.items():
        descriptor = file.message_type.add(name=message)
        for name, number, kind in fields:
            label = _F.LABEL_REPEATED if isinstance(kind, list) else _F.LABEL_OPTIONAL
            field = descriptor.field.add(name=name, number=number, label=label)
            kind = kind[0] if isinstance(kind, list) else kind
            if isinstance(kind, str):
                field.type, field.type_name = _F.TYPE_MESSAGE, f".etcdserverpb.{kind}"
            else:
                field.type = kind
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"etcdserverpb.{name}")) for name in _MESSAGES}


_CLASSES = _classes()
PutRequest, RequestOp, TxnRequest = (_CLASSES[name] for name in ("PutRequest", "RequestOp", "TxnRequest"))
WatchRequest, WatchCreateRequest = _CLASSES["WatchRequest"], _CLASSES["WatchCreateRequest"]


class Etcd:
    """A client of one etcd."""

    def __init__(self, address: str, credentials: Credentials, pid: int) -> None:
        self.pid = pid
        self._address, self._credentials = address, credentials
        tls = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate)
        # The same settings as our own client's; without them, messages of more than 4 MB would be refused.
        self._channel = grpc.aio.secure_channel(address, tls, options=options.UNARY_CHANNEL)
        self._watches = grpc.aio.secure_channel(address, tls, options=options.WATCH_CHANNEL)
        self._put = self._unary("KV/Put", "PutResponse")
        self._txn = self._unary("KV/Txn", "TxnResponse")

    def _unary(self, method: str, response: str) -> Any:
        return self._channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_CLASSES[response].FromString,
        )

    async def put(self, key: bytes, value: bytes) -> int:
        """One put; its revision."""
        response = await self._put(PutRequest(key=key, value=value), timeout=TIMEOUT_S)
        return int(response.header.revision)

    async def put_all(self, pairs: Sequence[tuple[bytes, bytes]]) -> int:
        """All in one transaction; its revision."""
        operations = [RequestOp(request_put=PutRequest(key=key, value=value)) for key, value in pairs]
        response = await self._txn(TxnRequest(success=operations), timeout=TIMEOUT_S)
        assert len(response.responses) == len(pairs)
        return int(response.header.revision)

    def again(self) -> Etcd:
        """Another client of the same etcd, with connections of its own."""
        return Etcd(self._address, self._credentials, self.pid)

    async def watch(self, key: bytes, end: bytes, after: int | None = None) -> Any:
        """A watch of a range, after a revision or from now on, as a call to be read; it exists when this returns."""
        call = self._watches.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_CLASSES["WatchResponse"].FromString,
        )()
        start = 0 if after is None else after + 1
        await call.write(WatchRequest(create_request=WatchCreateRequest(key=key, range_end=end, start_revision=start)))
        created = await call.read()
        assert created.created
        return call

    async def close(self) -> None:
        await self._channel.close()
        await self._watches.close()


def installed() -> bool:
    """Whether there can be a peer."""
    return shutil.which("etcd") is not None


@asynccontextmanager
async def etcd(scene: Stage) -> AsyncIterator[Etcd | None]:
    """A fresh etcd beside the master of a stage; None where it is not installed."""
    program = shutil.which("etcd")
    if program is None:
        yield None
        return
    host = scene.master.partition(":")[0]
    client, peer = (_free_port(host) for _ in range(2))
    tls = scene.credentials("master", host)
    directory = scene.directory / "etcd"
    log = scene.directory / "etcd.log"
    url = f"https://{host}:{client}"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program,
            *("--data-dir", str(directory), "--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", f"http://{host}:{peer}", "--client-cert-auth"),
            *("--cert-file", str(tls / "tls.crt"), "--key-file", str(tls / "tls.key")),
            *("--trusted-ca-file", str(tls / "ca.crt")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={name: value for name, value in os.environ.items() if not name.startswith("ETCD_")},
        )
    made = Etcd(f"{host}:{client}", Credentials.load(scene.credentials("admin")), process.pid)
    try:
        await _ready(made, process, log)
        yield made
    finally:
        await made.close()
        await end(process)


async def _ready(client: Etcd, process: asyncio.subprocess.Process, log: Path) -> None:
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while True:
        try:
            await client.put(b"ready", b"")
            return
        except grpc.aio.AioRpcError as error:
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"etcd does not serve: {error.details()}\n{log.read_text()[-2000:]}") from error
            await asyncio.sleep(0.1)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
