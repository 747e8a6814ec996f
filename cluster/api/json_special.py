"""The messages that JSON writes otherwise than as objects with their fields: times, quantities and the like.

Which they are is said here alone. How each is printed, read and described stands in a table where that is done.
"""

from __future__ import annotations

from enum import Enum

from google.protobuf.descriptor import Descriptor

from cluster.pb.v1 import core_pb2 as core


class Special(Enum):
    """One of them; the value is the name of its message."""

    TIME = core.Time.DESCRIPTOR.full_name
    MICRO_TIME = core.MicroTime.DESCRIPTOR.full_name
    QUANTITY = core.Quantity.DESCRIPTOR.full_name
    INT_OR_STRING = core.IntOrString.DESCRIPTOR.full_name
    FIELDS = core.FieldsV1.DESCRIPTOR.full_name
    RAW = core.RawJson.DESCRIPTOR.full_name


_BY_NAME = {special.value: special for special in Special}


def special(descriptor: Descriptor) -> Special | None:
    """Which one it is, if it is any."""
    return _BY_NAME.get(descriptor.full_name)
