"""etcd's nouns, as far as they are used here: what is asked of it and what it answers. No gRPC, no protobuf.

Keys and values are bytes. A range is [key, range_end); without a range_end it is that one key. A revision counts the
transactions of the whole key space, not of one key. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

MAX_TXN_OPERATIONS = 128
"""etcd's default: more comparisons, or more operations in one branch, are refused as TooLarge."""
MAX_REQUEST_BYTES = 1_572_864
"""etcd's default (1.5 MiB): a request of more bytes is refused as TooLarge."""


def prefix_end(prefix: bytes) -> bytes:
    """The range_end of all keys that begin with `prefix`. b"\\0" (all keys from there on) if no key follows them."""
    for index in range(len(prefix) - 1, -1, -1):
        if prefix[index] < 0xFF:
            return prefix[:index] + bytes([prefix[index] + 1])
    return b"\0"


class KeyValue(NamedTuple):
    """A key and what it held as of some revision."""

    key: bytes
    value: bytes
    create_revision: int
    """When it was created last; 0 for a key that was deleted."""
    mod_revision: int
    """When it was changed last."""
    version: int
    """Changes since it was created, this included; 0: deleted."""
    lease: int
    """It is deleted together with this lease; 0: it has none."""


class Event(NamedTuple):
    """One change of one key. Of a deletion `kv` has the key and the mod_revision (that of the deletion) only."""

    deleted: bool
    kv: KeyValue

    @property
    def created(self) -> bool:
        """A put of a key that was not there."""
        return not self.deleted and self.kv.create_revision == self.kv.mod_revision


class WatchBatch(NamedTuple):
    """Changes that a watch hears of: one or more complete revisions, in order."""

    revision: int
    """Of the last event. Everything in the watched range up to here has now been delivered."""
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """Stands in every answer."""

    cluster_id: int
    member_id: int
    """Who answered."""
    revision: int
    """Of the whole key space when it was carried out. For a change: its own."""
    raft_term: int


# --- what may be asked, alone or within a transaction -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Get:
    """Reads a key or a range, sorted by key."""

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    """At most so many keys; 0: all."""
    revision: int = 0
    """As of then; 0: now."""
    serializable: bool = False
    """Whatever the member knows, which may be old; also without a leader. Has no meaning within a transaction."""
    keys_only: bool = False
    count_only: bool = False
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """Sets a key. One transaction may put a key once only."""

    key: bytes
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes a key or a range."""

    key: bytes
    range_end: bytes = b""


Operation = Get | Put | Delete


class Target(Enum):
    """What of a key is compared. A key that does not exist has zeros, and no value."""

    VERSION = "version"
    CREATE = "create_revision"
    MOD = "mod_revision"
    LEASE = "lease"
    VALUE = "value"


class Relation(Enum):
    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    LESS = "<"


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a transaction. A comparison of the VALUE of a key that does not exist is false."""

    key: bytes
    target: Target
    expected: int | bytes
    """Bytes for VALUE, a number for everything else."""
    relation: Relation = Relation.EQUAL


def created_at(key: bytes, revision: int) -> Compare:
    """True while the key is the one that was created at that revision; 0: while there is no such key."""
    return Compare(key, Target.CREATE, revision)


def modified_at(key: bytes, revision: int) -> Compare:
    """True while the key's last change is that revision; 0: while there is no such key."""
    return Compare(key, Target.MOD, revision)


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetResult:
    """Of a Get."""

    header: Header
    kvs: tuple[KeyValue, ...]
    more: bool
    """The limit has cut something off."""
    count: int
    """Keys in the range, without regard to the limit."""


@dataclass(frozen=True, slots=True)
class PutResult:
    header: Header


@dataclass(frozen=True, slots=True)
class DeleteResult:
    header: Header
    deleted: int
    """How many keys."""


OperationResult = GetResult | PutResult | DeleteResult


@dataclass(frozen=True, slots=True)
class TxnResult:
    header: Header
    """Its revision is that of the transaction if it changed something, else the newest there is."""
    succeeded: bool
    """All comparisons were true: `success` was carried out; else `failure`."""
    results: Sequence[OperationResult]
    """Of the operations of that branch, in their order."""


@dataclass(frozen=True, slots=True)
class Lease:
    id: int
    ttl_s: int
    """As granted: etcd may grant more than was asked for (its election timeout is the least)."""


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    id: int
    left_s: int
    """Until it expires unless it is renewed."""
    ttl_s: int
    keys: Sequence[bytes]
    """That are deleted with it, if they were asked for."""


class Alarm(Enum):
    NOSPACE = "NOSPACE"
    CORRUPT = "CORRUPT"


@dataclass(frozen=True, slots=True)
class Status:
    """Of one member."""

    endpoint: str
    header: Header
    version: str
    """Such as "3.4.23"."""
    size_bytes: int
    """Of its database file."""
    in_use_bytes: int
    """Of that, not free."""
    leader: int
    """The member id of the leader; 0: it knows of none."""
    errors: Sequence[str]
    """What etcd says is wrong, alarms among it."""
