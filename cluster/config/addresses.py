"""Addresses in words: where the masters serve ("host:port", or several of them, with commas between), and how a
cluster's block of loopback addresses is divided."""

from __future__ import annotations

import argparse

from cluster.config.errors import ConfigError

MOST = 9
"""More masters than anybody has; etcd itself wants no more members."""


def parse_masters(text: str) -> tuple[str, ...]:
    """The addresses in "127.5.0.1:6443,127.5.0.2:6443", in that order. Raises ConfigError for what makes no sense."""
    addresses = tuple(part.strip() for part in text.split(","))
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ConfigError(
                f'"{address}" is not the address of a master: write HOST:PORT, several with commas between them'
            )
    if len(set(addresses)) < len(addresses):
        raise ConfigError(f'"{text}" names a master twice')
    if len(addresses) > MOST:
        raise ConfigError(f"{len(addresses)} masters are too many: the most is {MOST}")
    return addresses


def masters_argument(text: str) -> str:
    """The type of a flag --master: the text, if it makes sense."""
    try:
        parse_masters(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def service_cidr_of(block: str) -> str:
    """The addresses of services in a block of addresses such as "127.28", as `podium up` divides it; the first 256 are
    the daemons'."""
    return f"{block}.0.0/20"


def pod_cidr_base_of(block: str) -> str:
    """Where the addresses of pods begin in such a block."""
    return f"{block}.16.0"
