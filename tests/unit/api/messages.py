"""Random messages of any type, from the descriptors: a hypothesis strategy for the converter's round trips."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from cluster.api.json_print import is_inline, map_entry
from cluster.api.quantities import canonical
from cluster.api.times import MAX_S, MIN_S
from cluster.pb.v1 import core_pb2 as core

M = TypeVar("M", bound=Message)

_text = st.text(max_size=8)
quantity_texts = st.one_of(
    st.builds("{}{}".format, st.integers(-999, 99999), st.sampled_from(["", "m", "k", "M", "Ki", "Mi", "Gi", "e3"])),
    st.builds("{:.3f}".format, st.floats(0, 1e6)),
)
_scalars: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: _text,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
}


def messages(cls: type[M], *, exact_times: bool = False) -> st.SearchStrategy[M]:
    """Messages of that type with any fields set; quantities canonical, times as JSON has them unless `exact_times`."""
    return _arguments(cls.DESCRIPTOR, exact_times).map(lambda arguments: cls(**arguments))


@cache
def _arguments(descriptor: Descriptor, exact: bool) -> st.SearchStrategy[dict[str, Any]]:
    special: dict[str, st.SearchStrategy[dict[str, Any]]] = {
        core.Time.DESCRIPTOR.full_name: st.fixed_dictionaries(
            {"seconds": st.integers(MIN_S, MAX_S), **({"nanos": st.integers(0, 999_999_999)} if exact else {})}
        ),
        core.MicroTime.DESCRIPTOR.full_name: st.fixed_dictionaries(
            {
                "seconds": st.integers(MIN_S, MAX_S),
                "nanos": st.integers(0, 999_999_999)
                if exact
                else st.integers(0, 999_999).map(lambda micros: micros * 1000),
            }
        ),
        core.Quantity.DESCRIPTOR.full_name: quantity_texts.map(lambda text: {"string": canonical(text)}),
        core.FieldsV1.DESCRIPTOR.full_name: st.sampled_from(({}, {"Raw": b'{"f:spec":{"f:replicas":{}}}'})),
        core.RawJson.DESCRIPTOR.full_name: st.sampled_from(({"Raw": b'{"type":"object"}'}, {"Raw": b"[1,2.5]"})),
        core.IntOrString.DESCRIPTOR.full_name: st.one_of(
            st.integers(-(2**31), 2**31 - 1).map(lambda number: {"type": 0, "intVal": number}),
            _text.map(lambda text: {"type": 1, "strVal": text}),
        ),
    }
    if descriptor.full_name in special:
        return special[descriptor.full_name]
    fields = {field.name: _values(field, exact) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional=fields)


def _values(field: FieldDescriptor, exact: bool) -> st.SearchStrategy[Any]:
    entry = map_entry(field)
    if entry is not None:
        return st.dictionaries(_text, _one(entry.fields_by_name["value"], exact), max_size=3)
    if field.is_repeated:
        return st.lists(_one(field, exact), max_size=2)
    one = _one(field, exact)
    # The presence of an empty inline message cannot be seen in JSON.
    return one.filter(bool) if is_inline(field) else one


def _one(field: FieldDescriptor, exact: bool) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        descriptor = field.message_type
        return st.deferred(lambda: _arguments(descriptor, exact))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=8)
    return _scalars[field.cpp_type]
