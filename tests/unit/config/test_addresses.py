"""Where masters serve, as it is written."""

from __future__ import annotations

import argparse

import pytest

from cluster.config.addresses import masters_argument, parse_masters
from cluster.config.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1:6443", ("127.0.0.1:6443",)),
        ("a:1,b:2, c:3", ("a:1", "b:2", "c:3")),
        ("[::1]:6443,localhost:6443", ("[::1]:6443", "localhost:6443")),
    ],
)
def test_one_or_several(text: str, addresses: tuple[str, ...]) -> None:
    assert parse_masters(text) == addresses
    assert masters_argument(text) == text


@pytest.mark.parametrize(
    ("text", "story"),
    [
        ("", "write HOST:PORT"),
        ("host", '"host" is not the address of a master'),
        ("a:1,", '"" is not the address of a master'),
        ("a:b", "write HOST:PORT"),
        (":1", "write HOST:PORT"),
        ("a:65536", "write HOST:PORT"),
        ("a:1,b:1,a:1", "names a master twice"),
        (",".join(f"a:{n}" for n in range(10)), "10 masters are too many"),
    ],
)
def test_what_makes_no_sense_is_said_so(text: str, story: str) -> None:
    with pytest.raises(ConfigError, match=story):
        parse_masters(text)
    with pytest.raises(argparse.ArgumentTypeError, match=story):
        masters_argument(text)
