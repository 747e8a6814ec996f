"""Every field that Kubernetes has is known: it is carried out, or its name is reserved, so that it is put aside.

Held against the models of the official Python client. A field that is new there is to be reserved here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from cluster.api.json_print import is_inline
from cluster.api.kinds import KINDS, Kind
from cluster.pb.v1 import core_pb2 as core

client = pytest.importorskip("kubernetes.client")

_OTHER_NAMES = {"Event": "CoreV1Event"}
_FREE = core.RawJson.DESCRIPTOR.full_name
"""Holds any field there may be."""
_ITEM = re.compile(r"(?:list\[|dict\(str, |dict\[str, )(.*)[\])]", re.IGNORECASE)


def _known(descriptor: Descriptor) -> dict[str, Descriptor | None]:
    """The fields of a message by their names in JSON, with the messages that they are."""
    own = DescriptorProto()
    descriptor.CopyToProto(own)
    found: dict[str, Descriptor | None] = dict.fromkeys(own.reserved_name)
    for field in descriptor.fields:
        inner = field.message_type
        if inner is not None and is_inline(field):
            found |= _known(inner)
        elif inner is not None and inner.GetOptions().map_entry:
            found[field.name] = inner.fields_by_name["value"].message_type
        else:
            found[field.name] = inner
    return found


def _unknown(descriptor: Descriptor, model: Any, path: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    """The paths of what the model has and the message has not."""
    if (descriptor.full_name, model.__name__) in seen:
        return
    seen.add((descriptor.full_name, model.__name__))
    known = _known(descriptor)
    for attribute, name in model.attribute_map.items():
        if name in ("apiVersion", "kind") and "." not in path:
            continue
        if name not in known:
            yield f"{path}.{name}"
            continue
        told = model.openapi_types[attribute]
        item = _ITEM.fullmatch(told)
        inner, its_model = known[name], getattr(client, item[1] if item else told, None)
        if inner is not None and inner.full_name != _FREE and hasattr(its_model, "attribute_map"):
            yield from _unknown(inner, its_model, f"{path}.{name}", seen)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.api_version.startswith("podium.dev")], ids=lambda kind: kind.name
)
def test_every_field_is_known(kind: Kind) -> None:
    model = getattr(client, _OTHER_NAMES.get(kind.name, f"V1{kind.name}"))
    assert len(model.attribute_map) > 2
    descriptor: Any = kind.message.DESCRIPTOR
    assert list(_unknown(descriptor, model, kind.name, set())) == []
