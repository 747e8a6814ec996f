"""Between the nouns of `model` and the messages of etcd.proto. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.pb.etcd import etcd_pb2 as pb
from cluster.rpc.etcd.model import (
    Compare,
    Delete,
    DeleteResult,
    Event,
    Get,
    GetResult,
    Header,
    KeyValue,
    Operation,
    OperationResult,
    Put,
    PutResult,
    Relation,
    Target,
    TxnResult,
)

_RELATIONS = {
    Relation.EQUAL: pb.Compare.EQUAL,
    Relation.NOT_EQUAL: pb.Compare.NOT_EQUAL,
    Relation.GREATER: pb.Compare.GREATER,
    Relation.LESS: pb.Compare.LESS,
}
_TARGETS = {
    Target.VERSION: pb.Compare.VERSION,
    Target.CREATE: pb.Compare.CREATE,
    Target.MOD: pb.Compare.MOD,
    Target.VALUE: pb.Compare.VALUE,
    Target.LEASE: pb.Compare.LEASE,
}


def range_request(get: Get) -> pb.RangeRequest:
    request = pb.RangeRequest(
        key=get.key,
        range_end=get.range_end,
        limit=get.limit,
        revision=get.revision,
        serializable=get.serializable,
        keys_only=get.keys_only,
        count_only=get.count_only,
    )
    if get.descending:
        request.sort_order = pb.RangeRequest.DESCEND
        request.sort_target = pb.RangeRequest.KEY
    return request


def put_request(put: Put) -> pb.PutRequest:
    return pb.PutRequest(key=put.key, value=put.value, lease=put.lease)


def delete_request(delete: Delete) -> pb.DeleteRangeRequest:
    return pb.DeleteRangeRequest(key=delete.key, range_end=delete.range_end)


def txn_request(
    compares: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]
) -> pb.TxnRequest:
    """Raises TypeError for a comparison of a value with a number, or the other way round."""
    return pb.TxnRequest(
        compare=map(_compare, compares), success=map(_operation, success), failure=map(_operation, failure)
    )


def _compare(compare: Compare) -> pb.Compare:
    if isinstance(compare.expected, bytes) is not (compare.target is Target.VALUE):
        raise TypeError(f"{compare.target} is not compared with {compare.expected!r}")
    message = pb.Compare(key=compare.key, result=_RELATIONS[compare.relation], target=_TARGETS[compare.target])
    setattr(message, compare.target.value, compare.expected)
    return message


def _operation(operation: Operation) -> pb.RequestOp:
    match operation:
        case Put():
            return pb.RequestOp(request_put=put_request(operation))
        case Get():
            return pb.RequestOp(request_range=range_request(operation))
        case Delete():
            return pb.RequestOp(request_delete_range=delete_request(operation))


def header(message: pb.ResponseHeader) -> Header:
    return Header(message.cluster_id, message.member_id, message.revision, message.raft_term)


def get_result(message: pb.RangeResponse) -> GetResult:
    return _get_result(message, header(message.header))


def _get_result(message: pb.RangeResponse, at: Header) -> GetResult:
    return GetResult(at, tuple(map(_key_value, message.kvs)), message.more, message.count)


def txn_result(message: pb.TxnResponse) -> TxnResult:
    at = header(message.header)
    return TxnResult(at, message.succeeded, tuple(_result(one, at) for one in message.responses))


def _result(message: pb.ResponseOp, at: Header) -> OperationResult:
    # etcd leaves out the headers of operations within a transaction, but for the revision; it is one for all of them.
    match message.WhichOneof("response"):
        case "response_range":
            return _get_result(message.response_range, at)
        case "response_put":
            return PutResult(at)
        case _:
            return DeleteResult(at, message.response_delete_range.deleted)


def events(messages: Iterable[pb.Event]) -> list[Event]:
    return [Event(message.type == pb.Event.DELETE, _key_value(message.kv)) for message in messages]


def _key_value(kv: pb.KeyValue) -> KeyValue:
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
