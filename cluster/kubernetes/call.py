"""A request on its way: what it is about, who asks, and what helps to answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from cluster.actor.clock import Clock
from cluster.api import aside
from cluster.api.errors import Unavailable
from cluster.api.kinds import AnyObject
from cluster.api.managers import MAX_NAME_BYTES
from cluster.api.times import format_time
from cluster.client.agent_client import NodeAgentClient
from cluster.client.interface import ClusterClient
from cluster.kubernetes import protobuf, query, views, yaml_writer
from cluster.kubernetes.encoding import Encoder
from cluster.kubernetes.negotiation import JSON, PROTOBUF, YAML, Accepted, Form
from cluster.kubernetes.paths import Target
from cluster.kubernetes.tables import Tables
from cluster.pb.v1 import core_pb2 as core

TIMEOUT_S = 30.0
"""Of a call to the master, unless the request says how long it may take."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out."""

    body: bytes | tuple[bytes, ...]
    """Or its parts, of which none is large: they are sent one after the other."""
    code: int = 200
    warnings: list[str] = field(default_factory=list)


def no_agents(address: str) -> NodeAgentClient:
    """Where there are none, as in tests."""
    raise Unavailable(f"there is no way to the agent at {address}")


def no_tokens(account: core.ServiceAccount, lifetime_s: int) -> tuple[str, int]:
    """Where none are made."""
    raise Unavailable("no tokens are made here")


async def nothing_follows(crd: core.CustomResourceDefinition, deleted: bool) -> None:
    """Where definitions make no difference, as in tests."""


@dataclass(frozen=True, slots=True)
class Call:
    """See above."""

    target: Target
    query: Mapping[str, str]
    accepted: Accepted
    client: ClusterClient
    """With the caller's rights."""
    encoder: Encoder
    tables: Tables
    now_s: float
    """Seconds since 1970."""
    clock: Clock
    content_type: str = ""
    body: bytes = b""
    timeout_s: float = TIMEOUT_S
    commands: tuple[str, ...] = ()
    """What is to be run: the parameter `command`, which is given for each word."""
    user_agent: str = ""
    reach: Callable[[str], NodeAgentClient] = no_agents
    """Makes a client of the node agent at an address, with the caller's rights."""
    mint: Callable[[core.ServiceAccount, int], tuple[str, int]] = no_tokens
    """Makes a token of an account that lives so many seconds, if the caller may have one; and when it expires, in
    seconds since 1970. Raises Forbidden."""
    settled: Callable[[core.CustomResourceDefinition, bool], Awaitable[None]] = nothing_follows
    """Waits until what is served follows from a definition that was just written; or, if so, deleted."""

    @property
    def manager(self) -> str:
        """Who answers for what is written: as the request says, or by the program that sent it."""
        program = "".join(filter(str.isprintable, self.user_agent.partition("/")[0]))
        return self.query.get("fieldManager") or program.encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "unknown"

    @property
    def time(self) -> str:
        """Now, as JSON."""
        return format_time(int(self.now_s))

    @property
    def namespace(self) -> str:
        return self.target.namespace

    def selector(self, *terms: str) -> str:
        """A field selector that chooses objects of this kind for which all of these terms hold; those that are empty do
        not count."""
        row = self.target.resource
        return row.selector(*(views.selector(row, term) for term in terms))

    async def current(self, *, stale: bool = False) -> AnyObject:
        """The object that the path names, as it is now. Raises NotFound."""
        row = self.target.resource
        key = row.key(self.namespace, self.target.name)
        return await self.client.get(
            row.kind.message, key.name, key.namespace, allow_stale=stale, timeout_s=self.timeout_s
        )

    def one(self, obj: AnyObject) -> bytes:
        """An object in the form that the caller wants; in JSON, if that is YAML (see `in_yaml`)."""
        if query.dry_run(self.query) and self.encoder.keeps:
            # It was not written: nobody else shall be shown it, as it is now or as that version of the object.
            encoder = Encoder(max_bytes=0)
            return replace(self, encoder=encoder, tables=Tables(encoder)).one(obj)
        if self.accepted.form is Form.TABLE:
            metadata = {"resourceVersion": obj.metadata.resourceVersion}
            return self.table([obj], metadata)
        if not self.accepted.is_protobuf:
            return self.item(obj)
        if self.accepted.form is Form.METADATA:
            return protobuf.envelope(protobuf.METADATA, protobuf.METADATA_VERSION, self.item(obj))
        row = self.target.resource
        return protobuf.envelope(row.kind.name, row.api_version, self.item(obj))

    def forget(self, obj: AnyObject) -> None:
        """Nothing that was encoded of this object is used again."""
        self.encoder.forget(obj.metadata.uid)
        self.tables.forget(obj.metadata.uid)

    def item(self, obj: AnyObject) -> bytes:
        """An object as it stands in a list that is no table: its JSON, or the bytes of its message."""
        row, is_protobuf = self.target.resource, self.accepted.is_protobuf
        if self.accepted.form is Form.METADATA:
            return protobuf.raw_metadata_of(obj) if is_protobuf else self.encoder.metadata(obj)
        if not is_protobuf:
            return self.encoder.json(obj, row)
        if row.view is None:
            return protobuf.raw_of(obj)
        return views.message(row, aside.plain(obj, exact=True)).SerializeToString()

    def table(self, objects: list[Any], metadata: dict[str, Any], *, headings: bool = True) -> bytes:
        """Objects as a table."""
        return self.tables.table(
            self.target.resource,
            objects,
            self.now_s,
            metadata,
            version=self.accepted.version,
            include=self._include,
            headings=headings,
        )

    def rows(self, objects: list[Any]) -> list[bytes]:
        """Objects as rows of a table."""
        return self.tables.rows(self.target.resource, objects, self.now_s, include=self._include)

    @property
    def _include(self) -> str:
        return self.query.get("includeObject", "") or "Metadata"

    def at(self, now_s: float) -> Call:
        """The same, answered at another time."""
        return replace(self, now_s=now_s)

    def answer(self, data: dict[str, Any], code: int = 200) -> Answer:
        """Something that is no object of the table, as JSON's values; for YAML, see `in_yaml`."""
        return Answer(encoded(data, JSON if self.accepted.is_yaml else self.accepted.media), code)


def encoded(data: dict[str, Any], media: str) -> bytes:
    """What is no object of the table, from JSON's values."""
    if media == YAML:
        return b"".join(yaml_writer.pieces(data))
    return protobuf.values(data) if media == PROTOBUF else orjson.dumps(data)


async def encoded_in_turns(data: dict[str, Any], media: str) -> bytes:
    """The same of what may be long."""
    return await in_turns(yaml_writer.pieces(data)) if media == YAML else encoded(data, media)


async def in_yaml(answer: Answer) -> Answer:
    """An answer whose body is JSON, to one who wants YAML."""
    assert isinstance(answer.body, bytes), "long lists are made YAML item by item (reading.py)"
    return replace(answer, body=await encoded_in_turns(orjson.loads(answer.body), YAML))


async def in_turns(pieces: Iterable[bytes]) -> bytes:
    """Pieces together, which take long to make: after each of them it is others' turn."""
    found: list[bytes] = []
    for piece in pieces:
        found.append(piece)
        await asyncio.sleep(0)
    return b"".join(found)
