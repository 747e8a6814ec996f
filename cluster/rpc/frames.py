"""The messages of WriteStream and WatchStream with their contents left as bytes.

What travels in a `WriteCall` was encoded by one caller and is decoded for one caller; whoever only sorts calls and
answers need not look inside, and a caller's answer should not keep a thousand others in memory, as it would if it were
a part of the message in which they came. So these are made, when this is imported, from the descriptors of WriteCalls,
WriteAnswers and WatchAnswers by turning fields that hold a message into fields that hold bytes: on the wire that is the
same, and a number that changes in protos/ changes here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from cluster.pb.v1 import cluster_pb2 as wire

_PACKAGE = "cluster.rpc.frames"


class Answer(NamedTuple):
    """One answer of a stream: either an encoded WriteResponse or an encoded Status."""

    number: int
    response: bytes | None
    error: bytes | None


def write_calls(calls: Iterable[tuple[int, bytes]]) -> bytes:
    """A WriteCalls of (number, encoded WriteRequest)."""
    message = _Calls()
    add = message.calls.add
    for number, request in calls:
        add(id=number, request=request)
    encoded: bytes = message.SerializeToString()
    return encoded


def read_answers(data: bytes) -> list[Answer]:
    """What a WriteAnswers holds, in its order. Raises DecodeError."""
    return [
        Answer(answer.id, None, answer.error) if answer.HasField("error") else Answer(answer.id, answer.response, None)
        for answer in _Answers.FromString(data).answers
    ]


def write_answers(answers: Iterable[Answer]) -> bytes:
    """A WriteAnswers."""
    message = _Answers()
    add = message.answers.add
    for number, response, error in answers:
        if error is None:
            add(id=number, response=response)
        else:
            add(id=number, error=error)
    encoded: bytes = message.SerializeToString()
    return encoded


class WatchAnswer(NamedTuple):
    """What is said of one watch of a stream: either an encoded WatchBatch or an encoded Status, which ends it."""

    number: int
    batch: bytes | None
    error: bytes | None


def write_watch_answers(answers: Iterable[WatchAnswer]) -> bytes:
    """A WatchAnswers."""
    message = _WatchAnswers()
    add = message.answers.add
    for number, batch, error in answers:
        if error is None:
            add(id=number, batch=batch)
        else:
            add(id=number, error=error)
    encoded: bytes = message.SerializeToString()
    return encoded


def read_watch_answers(data: bytes) -> list[WatchAnswer]:
    """What a WatchAnswers holds, in its order. Raises DecodeError."""
    return [
        WatchAnswer(answer.id, None, answer.error)
        if answer.HasField("error")
        else WatchAnswer(answer.id, answer.batch, None)
        for answer in _WatchAnswers.FromString(data).answers
    ]


def _opaque(*messages: Any) -> DescriptorPool:
    """The same messages with bytes where others are embedded, except for each other."""
    names = {message.full_name for message in messages}
    file = FileDescriptorProto(name="cluster/rpc/frames.proto", package=_PACKAGE, syntax="proto2")
    for message in messages:
        copy = file.message_type.add()
        message.CopyToProto(copy)
        for field in copy.field:
            if field.type != FieldDescriptorProto.TYPE_MESSAGE:
                continue
            if field.type_name.lstrip(".") in names:
                field.type_name = f".{_PACKAGE}.{field.type_name.rpartition('.')[2]}"
            else:
                field.type = FieldDescriptorProto.TYPE_BYTES
                field.ClearField("type_name")
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _opaque(
    *(wire.WriteCall.DESCRIPTOR, wire.WriteCalls.DESCRIPTOR, wire.WriteAnswer.DESCRIPTOR, wire.WriteAnswers.DESCRIPTOR),
    *(wire.WatchAnswer.DESCRIPTOR, wire.WatchAnswers.DESCRIPTOR),
)
_Calls: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.WriteCalls"))
_Answers: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.WriteAnswers"))
_WatchAnswers: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.WatchAnswers"))
