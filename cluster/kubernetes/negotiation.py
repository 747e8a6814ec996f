"""In which form the caller wants its answer: the header Accept.

    application/json                                    objects
    application/json;as=Table;v=v1;g=meta.k8s.io        a table for people
    application/json;as=PartialObjectMetadata;...       metadata alone (as=PartialObjectMetadataList, of lists)
    application/json;as=APIGroupDiscoveryList;...       discovery, all at once

Of those that it names, the first that is served is taken; the order is the client's order of preference. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cluster.kubernetes.statuses import Refused


class Form(Enum):
    """What is sent."""

    PLAIN = "plain"
    TABLE = "table"
    METADATA = "metadata"
    DISCOVERY = "discovery"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The form, and the version of it."""

    form: Form
    version: str = "v1"


PLAIN = Accepted(Form.PLAIN)
_JSON = ("application/json", "application/*", "*/*")


def negotiate(header: str, *, discovery: bool = False) -> Accepted:
    """The form to answer in; with `discovery`, which only discovery has. Raises Refused (406)."""
    if not header:
        return PLAIN
    for media in header.split(","):
        kind, *parameters = (part.strip() for part in media.split(";"))
        if kind not in _JSON:
            continue
        given = dict(pair.partition("=")[::2] for pair in parameters)
        if given.get("q") in ("0", "0.0"):
            continue
        wanted = given.get("as", "")
        if not wanted:
            return PLAIN
        version = given.get("v", "")
        if discovery:
            if (
                wanted == "APIGroupDiscoveryList"
                and given.get("g") == "apidiscovery.k8s.io"
                and version in ("v2", "v2beta1")
            ):
                return Accepted(Form.DISCOVERY, version)
        elif given.get("g") == "meta.k8s.io" and version in ("v1", "v1beta1"):
            if wanted == "Table":
                return Accepted(Form.TABLE, version)
            if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
                return Accepted(Form.METADATA, version)
    served = "application/json, as=Table and as=PartialObjectMetadata of meta.k8s.io v1"
    raise Refused(406, "NotAcceptable", f"only the following media types are accepted: {served}")
