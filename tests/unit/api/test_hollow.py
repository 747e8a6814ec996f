"""How hollow nodes are known, whose they are, and what pods ask to be played."""

from __future__ import annotations

import ipaddress

import pytest

from cluster.api import hollow
from cluster.api.labels import label_value_problems, parse_selector
from cluster.pb.v1 import core_pb2 as core


def node(name: str, labels: dict[str, str]) -> core.Node:
    return core.Node(metadata=core.ObjectMeta(name=name, labels=labels))


@pytest.mark.parametrize("text", ["h", "hollow", "a-b-1", "x" * 50])
def test_prefixes_are_labels_with_room_for_a_number(text: str) -> None:
    assert hollow.is_prefix(text)
    assert not label_value_problems(hollow.node_name(text, 99_999))


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a.b", "a_b", "a:b", "a/b", "x" * 51, "a\n"])
def test_nothing_else_is_a_prefix(text: str) -> None:
    assert not hollow.is_prefix(text)


def test_a_hollow_node_has_both_labels_and_a_name_of_its_prefix() -> None:
    assert hollow.prefix_of(node("h-1", hollow.labels_of("h"))) == "h"
    assert hollow.prefix_of(node("h-1-2", hollow.labels_of("h-1"))) == "h-1"
    for other in (
        node("h-1", {}),
        node("h-1", {hollow.HOLLOW_LABEL: "true"}),
        node("h-1", {hollow.PREFIX_LABEL: "h"}),
        node("g-1", hollow.labels_of("h")),
        node("h", hollow.labels_of("h")),
    ):
        assert hollow.prefix_of(other) == ""
    assert parse_selector(hollow.selector_of("h")).equals == hollow.labels_of("h")


def test_who_speaks_for_a_node() -> None:
    assert hollow.speaks_for("node:n1", "n1")
    assert hollow.speaks_for("hollow:h", "h-7")
    for actor in ("node:n2", "hollow:g", "admin", "controllers", "node:", ""):
        assert not hollow.speaks_for(actor, "h-7")


def test_addresses_of_hollow_pods_are_known() -> None:
    first, last = hollow.NETWORK[0], hollow.NETWORK[-1]
    assert all(hollow.is_address(str(address)) and address.is_reserved for address in (first, last))
    assert not hollow.is_address(str(ipaddress.IPv4Address(int(last) + 1)))
    assert not hollow.is_address("127.240.0.1")


def test_what_a_pod_asks_to_be_played() -> None:
    assert hollow.seconds_of({}) is None
    assert hollow.seconds_of({hollow.RUN_SECONDS: "1.5"}) == 1.5
    assert hollow.exit_code_of({}) == 0
    assert hollow.exit_code_of({hollow.RUN_SECONDS: "0", hollow.EXIT_CODE: "3"}) == 3


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "1e10"])
def test_a_time_that_makes_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match=hollow.RUN_SECONDS):
        hollow.seconds_of({hollow.RUN_SECONDS: text})


@pytest.mark.parametrize("text", ["", "-1", "256", "1.0", "²", "x"])
def test_an_exit_code_that_makes_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match=hollow.EXIT_CODE):
        hollow.exit_code_of({hollow.RUN_SECONDS: "1", hollow.EXIT_CODE: text})


def test_an_exit_code_without_a_time_would_never_come() -> None:
    with pytest.raises(ValueError, match="goes with"):
        hollow.exit_code_of({hollow.EXIT_CODE: "1"})
