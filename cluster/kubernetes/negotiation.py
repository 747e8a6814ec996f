"""In which form the caller wants its answer: the header Accept.

    application/json                                    objects
    application/vnd.kubernetes.protobuf                 the same in protobuf, which Go's clients prefer (protobuf.py)
    application/yaml                                    whatever is there in JSON, watches excepted (yaml_writer.py)
    application/json;as=Table;v=v1;g=meta.k8s.io        a table for people
    application/json;as=PartialObjectMetadata;...       metadata alone (as=PartialObjectMetadataList, of lists)
    application/json;as=APIGroupDiscoveryList;...       discovery, all at once

Of those that it names, the first that is served is taken: by their q, and then in the order in which they stand, but
that what is named is before what a star stands for. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from cluster.kubernetes.statuses import Refused


class Form(Enum):
    """What is sent."""

    PLAIN = "plain"
    TABLE = "table"
    METADATA = "metadata"
    DISCOVERY = "discovery"


JSON = "application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
YAML = "application/yaml"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The form, and the version of it."""

    form: Form
    version: str = "v1"
    media: str = JSON

    @property
    def is_protobuf(self) -> bool:
        return self.media == PROTOBUF

    @property
    def is_yaml(self) -> bool:
        return self.media == YAML


PLAIN = Accepted(Form.PLAIN)
_STARS = ("application/*", "*/*")


@lru_cache(maxsize=256)  # a client says the same each time
def negotiate(header: str, *, discovery: bool = False, protobuf: bool = False) -> Accepted:
    """The form to answer in; with `discovery`, which only discovery has. `protobuf`: whole objects are there in
    protobuf too; metadata always is, tables and discovery never are. Raises Refused (406)."""
    if not header:
        return PLAIN
    for kind, parameters in _clauses(header):
        accepted = _served(kind, parameters, discovery=discovery, protobuf=protobuf)
        if accepted is not None:
            return accepted
    raise _not_acceptable(
        JSON, YAML, *([PROTOBUF] if protobuf else []), "as=Table and as=PartialObjectMetadata of meta.k8s.io v1"
    )


def check_stream(accepted: Accepted) -> None:
    """A watch is told in JSON or protobuf: YAML has no way to say where an event ends. Raises Refused (406)."""
    if accepted.is_yaml:
        raise _not_acceptable(f"{JSON};stream=watch", f"{PROTOBUF};stream=watch")


def _not_acceptable(*served: str) -> Refused:
    return Refused(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(served)}")


def media_of(header: str, *, whole: bool) -> str:
    """As what to send that has no other form: something `whole`, or else an error, for which a type counts whatever it
    is wanted as. Where nothing is accepted that is served, JSON is what there is."""
    for kind, given in _clauses(header):
        if whole and given.get("as"):
            continue
        if kind in (JSON, *_STARS):
            return JSON
        if kind in (PROTOBUF, YAML):
            return kind
    return JSON


def _served(kind: str, given: Mapping[str, str], *, discovery: bool, protobuf: bool) -> Accepted | None:
    """What this one gets; None: it is not served."""
    media = JSON if kind in _STARS else kind
    if media not in (JSON, PROTOBUF, YAML):
        return None
    is_protobuf = media == PROTOBUF
    wanted, version = given.get("as", ""), given.get("v", "")
    if not wanted:
        return None if is_protobuf and not protobuf else Accepted(Form.PLAIN, media=media)
    if discovery:
        known = given.get("g") == "apidiscovery.k8s.io" and version in ("v2", "v2beta1") and media == JSON
        return Accepted(Form.DISCOVERY, version) if known and wanted == "APIGroupDiscoveryList" else None
    if given.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
        return None
    if wanted == "Table" and not is_protobuf:
        return Accepted(Form.TABLE, version, media)
    if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList") and not (is_protobuf and version != "v1"):
        return Accepted(Form.METADATA, version, media)
    return None


def _clauses(header: str) -> list[tuple[str, Mapping[str, str]]]:
    """The types that are named, with their parameters, the most wanted first; those with q=0 are left out."""
    found = []
    for media in header.split(","):
        kind, *parameters = (part.strip() for part in media.split(";"))
        given = {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in parameters)}
        quality = _quality(given.get("q", "1"))
        if quality > 0:
            found.append((quality, kind.lower(), given))
    found.sort(key=lambda each: (-each[0], each[1] in _STARS, each[1] == "*/*"))
    return [(kind, given) for _, kind, given in found]


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 1.0
    return min(max(value, 0.0), 1.0) if value == value else 1.0
