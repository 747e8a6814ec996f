"""What is kept of a write that must not happen twice, and how it is answered again.

    first      request r1, id "4f1c"      written at 41..43; kept: hash of r1, answer without the objects' contents
    again      request r1, id "4f1c"      the same answer; contents are put back where version 41, 42, 43 is at hand
    misused    request r2, id "4f1c"      refused: the caller would take the answer to r1 for that to r2

An id counts together with the identity that sent it: nobody can guess somebody else's. What is kept is small, since it
is in the log beside the changes: of each object its name and version, of an error its words.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

from cluster.api.errors import BadRequest
from cluster.api.kinds import BY_NAME, KINDS, unwrap
from cluster.api.meta import Key, key_of
from cluster.api.raw_pb import delimited, varint
from cluster.master.answers import SUCCESS, UNCHANGED
from cluster.master.operations import Outcome
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from cluster.rpc.outcome import to_status
from cluster.store.encoding import object_field

MAX_ID_LENGTH = 64
FINGERPRINT_BYTES = 16
_WORDY_BYTES = 256 * 1024
"""An answer that would be longer keeps only the beginning of what its errors say."""
_BRIEF = 100

_META = {kind.name: kind.message.DESCRIPTOR.fields_by_name["metadata"].number for kind in KINDS}
_NAME, _NAMESPACE, _VERSION = (
    core.ObjectMeta.DESCRIPTOR.fields_by_name[field].number for field in ("name", "namespace", "resourceVersion")
)

_RESOURCE = core.CustomObject.DESCRIPTOR.fields_by_name["resource"].number


def request_key(identity: Identity, request_id: str) -> str:
    """The name of a request among those of all callers. Raises BadRequest for an id that is none."""
    if len(request_id) > MAX_ID_LENGTH or not request_id.isprintable():
        raise BadRequest(f"request_id: at most {MAX_ID_LENGTH} printable characters")
    return f"{identity}/{request_id}"


def fingerprint(request: wire.WriteRequest) -> bytes:
    """Two requests with the same fingerprint ask for the same."""
    return blake2b(request.SerializeToString(deterministic=True), digest_size=FINGERPRINT_BYTES).digest()


def check_same(kept: bytes, asked: bytes) -> None:
    """Raises BadRequest if the id was used for something else. `kept` begins with the fingerprint of then."""
    if kept[:FINGERPRINT_BYTES] != asked:
        raise BadRequest("request_id: another request was sent with this id; every request needs one of its own")


def outcome_of(asked: bytes, outcomes: Sequence[Outcome], revision: int) -> bytes:
    """What is kept: the fingerprint, and a WriteResponse."""
    parts = [delimited(1, _result(outcome)) for outcome in outcomes]
    if sum(map(len, parts)) > _WORDY_BYTES:
        parts = [delimited(1, _result(outcome, brief=True)) for outcome in outcomes]
    return b"".join((asked, *parts, b"\x10", varint(revision)))


def answer_again(kept: bytes, store_id: str) -> wire.WriteResponse:
    """The answer, but for the contents of its objects; see `missing`."""
    response = wire.WriteResponse.FromString(kept[FINGERPRINT_BYTES:])
    response.store_id = store_id
    response.replayed = True
    return response


def missing(response: wire.WriteResponse) -> Iterator[tuple[wire.Object, Key, int]]:
    """The objects of an answer, each with its key and the revision of the version that it was; for `put_back`."""
    for result in response.results:
        if result.HasField("object"):
            reduced = unwrap(result.object)
            yield result.object, key_of(reduced), int(reduced.metadata.resourceVersion)


def put_back(place: wire.Object, key: Key, data: bytes) -> None:
    """The content of an object."""
    getattr(place, BY_NAME[key.kind].field).ParseFromString(data)


def _result(outcome: Outcome, *, brief: bool = False) -> bytes:
    if outcome.error is not None:
        status = to_status(outcome.error)
        if brief:
            status.message = status.message[:_BRIEF]
            status.ClearField("details")
        return delimited(1, status.SerializeToString())
    version = outcome.version
    assert version is not None
    kind, namespace, name = version.key
    resource = b""
    if kind == "CustomObject":
        of, _, name = name.partition("/")
        resource = delimited(_RESOURCE, of.encode())
    meta = delimited(_NAME, name.encode()) + delimited(_VERSION, b"%d" % version.revision)
    if namespace:
        meta += delimited(_NAMESPACE, namespace.encode())
    body = SUCCESS + object_field(2, kind, delimited(_META[kind], meta) + resource)
    return body + UNCHANGED if outcome.unchanged else body
