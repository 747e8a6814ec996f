"""Errors there and back: the two tables, the details, and what a status without details means."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from grpc.aio import Metadata
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import ALL_ERRORS, ApiError, BadRequest, FieldError, Internal, Invalid, Overloaded, Unavailable
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.outcome import from_status, to_status
from cluster.rpc.status import CODE_OF, ERROR_OF, decode, encode

TEXT = st.text(max_size=40)


def _arrived(code: grpc.StatusCode, message: str, *metadata: tuple[str, bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, Metadata(), Metadata(*metadata), details=message)


def _there_and_back(error: ApiError) -> ApiError:
    code, message, metadata = encode(error)
    return decode(_arrived(code, message, *metadata))


def test_the_tables_are_inverse() -> None:
    assert set(CODE_OF) == set(ALL_ERRORS)
    assert set(ERROR_OF) == set(CODE_OF.values())
    for code, error in ERROR_OF.items():
        assert CODE_OF[error] is code


@given(
    error=st.sampled_from(ALL_ERRORS),
    message=TEXT,
    causes=st.lists(st.builds(FieldError, TEXT, TEXT, st.just("FieldValueInvalid")), max_size=3),
    retry_after_s=st.integers(0, 1000),
)
def test_every_error_arrives_as_it_left(
    error: type[ApiError], message: str, causes: list[FieldError], retry_after_s: int
) -> None:
    sent = error(message, causes=causes, retry_after_s=retry_after_s)
    for arrived in (_there_and_back(sent), from_status(to_status(sent))):
        assert type(arrived) is error
        assert arrived.message == message
        assert arrived.causes == tuple(causes)
        assert arrived.retry_after_s == retry_after_s


@pytest.mark.parametrize("code", list(ERROR_OF))
def test_a_status_without_details_is_read_by_its_code(code: grpc.StatusCode) -> None:
    expected = Unavailable if code is grpc.StatusCode.INTERNAL else ERROR_OF[code]
    assert type(decode(_arrived(code, "who knows"))) is expected


def test_what_the_transport_breaks_is_unavailable_because_nobody_knows_how_far_it_got() -> None:
    for code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL):
        assert isinstance(decode(_arrived(code, "Stream removed (ping timeout)")), Unavailable)
    assert isinstance(decode(_arrived(grpc.StatusCode.UNIMPLEMENTED, "")), BadRequest)
    assert isinstance(decode(_arrived(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")), Overloaded)


_NO_ADDRESS = "failed to connect to all addresses; last error:"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            f"{_NO_ADDRESS} UNKNOWN: ipv4:127.1.0.11:10250: Failed to connect to remote host: Connection refused",
            "cannot connect to 127.1.0.11:10250: Connection refused",
        ),
        (
            f"{_NO_ADDRESS} UNAVAILABLE: ipv4:127.1.0.11:10250: Socket closed",
            "cannot connect to 127.1.0.11:10250: Socket closed",
        ),
        ("something else", "something else"),
    ],
)
def test_who_cannot_be_reached_is_told_without_what_grpc_makes_of_it(said: str, told: str) -> None:
    error = decode(_arrived(grpc.StatusCode.UNAVAILABLE, said))
    assert (type(error), error.message) == (Unavailable, told)


def test_a_long_story_is_cut_and_says_so() -> None:
    sent = Invalid("short", causes=[FieldError(f"spec.containers[{n}].name", "no " * 20) for n in range(500)])
    arrived = _there_and_back(sent)
    assert isinstance(arrived, Invalid)
    assert arrived.causes[0] == sent.causes[0]
    assert arrived.causes[-1].message == f"and {500 - len(arrived.causes) + 1} more"


def test_success_is_no_error() -> None:
    assert to_status(None).status == "Success"
    assert from_status(to_status(None)) is None
    assert from_status(wire.Status()) is None


def test_a_reason_from_the_future_is_an_internal_error() -> None:
    assert isinstance(from_status(wire.Status(status="Failure", reason="Teapot", message="short and stout")), Internal)
