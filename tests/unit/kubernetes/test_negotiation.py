"""In which form an answer is wanted, and what the query says."""

from __future__ import annotations

import pytest

from cluster.api.errors import BadRequest, Invalid
from cluster.kubernetes import query
from cluster.kubernetes.negotiation import JSON, PROTOBUF, YAML, Accepted, Form, check_stream, media_of, negotiate
from cluster.kubernetes.statuses import Refused

TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


@pytest.mark.parametrize(
    ("header", "discovery", "accepted"),
    [
        ("", False, Accepted(Form.PLAIN)),
        ("*/*", False, Accepted(Form.PLAIN)),
        ("application/json", False, Accepted(Form.PLAIN)),
        (TABLE, False, Accepted(Form.TABLE)),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", False, Accepted(Form.TABLE, "v1beta1")),
        ("application/json;as=Table;v=v9;g=meta.k8s.io, application/json", False, Accepted(Form.PLAIN)),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", False, Accepted(Form.METADATA)),
        ("application/vnd.kubernetes.protobuf,application/json", False, Accepted(Form.PLAIN)),
        (DISCOVERY, True, Accepted(Form.DISCOVERY, "v2")),
        (DISCOVERY, False, Accepted(Form.PLAIN)),
        ("application/json, */*", True, Accepted(Form.PLAIN)),
        ("text/html, application/json;q=0.9", False, Accepted(Form.PLAIN)),
        ("application/json;v=v1;g=meta.k8s.io;as=Table;q=0.5, application/json", False, Accepted(Form.PLAIN)),
        ("*/*, application/json;as=Table;v=v1;g=meta.k8s.io", False, Accepted(Form.TABLE)),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io;q=nonsense", False, Accepted(Form.METADATA)),
        (f"{PROTOBUF};as=PartialObjectMetadata;v=v1;g=meta.k8s.io", False, Accepted(Form.METADATA, "v1", PROTOBUF)),
        (f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io, {TABLE}", False, Accepted(Form.TABLE)),
        ("application/yaml", False, Accepted(Form.PLAIN, media=YAML)),
        ("application/yaml;q=0.5, application/json", False, Accepted(Form.PLAIN)),
        ("*/*, application/yaml", False, Accepted(Form.PLAIN, media=YAML)),
        ("application/yaml", True, Accepted(Form.PLAIN, media=YAML)),
        ("application/yaml;as=Table;v=v1;g=meta.k8s.io", False, Accepted(Form.TABLE, media=YAML)),
        ("application/yaml;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", False, Accepted(Form.METADATA, media=YAML)),
    ],
)
def test_the_first_form_that_is_served_is_taken(header: str, discovery: bool, accepted: Accepted) -> None:
    assert negotiate(header, discovery=discovery) == accepted


@pytest.mark.parametrize(
    ("header", "media"),
    [
        (PROTOBUF, PROTOBUF),
        (f"{PROTOBUF},application/json", PROTOBUF),
        (f"{PROTOBUF}, */*", PROTOBUF),
        (f"application/json,{PROTOBUF}", JSON),
        (f"application/json;q=0.8,{PROTOBUF};q=0.9", PROTOBUF),
        (f"{PROTOBUF};q=0, application/json", JSON),
        (f"*/*, {PROTOBUF}", PROTOBUF),
        (f"{PROTOBUF};stream=watch", PROTOBUF),
        ("*/*", JSON),
        ("", JSON),
    ],
)
def test_objects_are_sent_in_protobuf_to_those_who_prefer_it(header: str, media: str) -> None:
    assert negotiate(header, protobuf=True) == Accepted(Form.PLAIN, media=media)
    assert media_of(header, whole=True) == media_of(header, whole=False) == media


def test_an_error_is_sent_in_protobuf_to_those_who_want_metadata_in_it() -> None:
    header = f"{PROTOBUF};as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    assert media_of(header, whole=False) == PROTOBUF
    assert media_of(header, whole=True) == JSON


def test_a_watch_has_no_form_in_yaml() -> None:
    check_stream(Accepted(Form.TABLE))
    check_stream(Accepted(Form.PLAIN, media=PROTOBUF))
    with pytest.raises(Refused, match="are accepted: application/json;stream=watch, application/vnd"):
        check_stream(Accepted(Form.PLAIN, media=YAML))


@pytest.mark.parametrize("header", ["text/html", "application/vnd.kubernetes.protobuf", "application/json;q=0", ";;,"])
def test_what_is_not_served_is_not_acceptable(header: str) -> None:
    with pytest.raises(Refused) as refused:
        negotiate(header)
    assert (refused.value.code, refused.value.reason) == (406, "NotAcceptable")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False), ("", True)])
def test_flags(text: str, value: bool) -> None:
    assert query.flag({"watch": text}, "watch") is value
    assert query.flag({}, "watch") is False


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("1m30s", 90.0), ("500ms", 0.5), ("0", 0.0), ("1.5h", 5400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert query.duration_s({"timeout": text}, "timeout") == seconds


@pytest.mark.parametrize("text", ["yes", "-1", "1.5", "١", "9" * 30, "x" * 100])
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        query.number({"limit": text}, "limit")
    if text != "-1":
        with pytest.raises(BadRequest):
            query.number({"gracePeriodSeconds": text}, "gracePeriodSeconds", signed=True)
    with pytest.raises(BadRequest):
        query.flag({"watch": text}, "watch")
    with pytest.raises(BadRequest):
        query.duration_s({"timeout": text}, "timeout")


def test_dry_run_and_field_validation() -> None:
    assert query.dry_run({"dryRun": "All"})
    assert not query.dry_run({})
    assert query.field_validation({}) == "Warn"
    assert query.field_validation({"fieldValidation": "Strict"}) == "Strict"
    with pytest.raises(Invalid, match='supported values: "All"'):
        query.dry_run({"dryRun": "client"})
    with pytest.raises(Invalid, match="fieldValidation"):
        query.field_validation({"fieldValidation": "strict"})
