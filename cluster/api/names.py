"""Names: what an object may be called, and names that the master makes up.

Kubernetes' rules: nearly everything is a DNS-1123 label or subdomain, so that a name is safe as a host name, as a file
name and in a path without any quoting. Each check returns Kubernetes' own sentences about what is wrong, and nothing
when the name is fine; `cluster.api.validation` puts the path of the field in front.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")

LABEL_MAX_LENGTH = 63
SUBDOMAIN_MAX_LENGTH = 253
PORT_NAME_MAX_LENGTH = 15

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS1035_LABEL = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_ENV_NAME = r"[-._a-zA-Z][-._a-zA-Z0-9]*"

_label = re.compile(_LABEL)
_subdomain = re.compile(_SUBDOMAIN)
_dns1035_label = re.compile(_DNS1035_LABEL)
_env_name = re.compile(_ENV_NAME)
_port_name_characters = re.compile(r"[-a-z0-9]+")

RANDOM_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' alphabet of generated names: no vowels (no words), nothing that reads like something else."""
RANDOM_LENGTH = 5


class Dice(Protocol):
    """What pure code needs of a random.Random."""

    def choice(self, seq: Sequence[T], /) -> T: ...


def too_long(limit: int) -> str:
    """Kubernetes' sentence for a text over its limit."""
    return f"must be no more than {limit} characters"


def dns1123_label_problems(text: str) -> list[str]:
    """What keeps a text from being a DNS-1123 label (namespaces, containers): nothing if it is one."""
    problems = []
    if len(text) > LABEL_MAX_LENGTH:
        problems.append(too_long(LABEL_MAX_LENGTH))
    if not _label.fullmatch(text):
        problems.append(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and"
            f" end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
            f" '{_LABEL}')"
        )
    return problems


def dns1123_subdomain_problems(text: str) -> list[str]:
    """What keeps a text from being a DNS-1123 subdomain (most names of objects): nothing if it is one."""
    problems = []
    if len(text) > SUBDOMAIN_MAX_LENGTH:
        problems.append(too_long(SUBDOMAIN_MAX_LENGTH))
    if not _subdomain.fullmatch(text):
        problems.append(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must"
            f" start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
            f" '{_SUBDOMAIN}')"
        )
    return problems


def dns1035_label_problems(text: str) -> list[str]:
    """What keeps a text from being a DNS-1035 label (services: they become variables and host names)."""
    problems = []
    if len(text) > LABEL_MAX_LENGTH:
        problems.append(too_long(LABEL_MAX_LENGTH))
    if not _dns1035_label.fullmatch(text):
        problems.append(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
            f" character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for"
            f" validation is '{_DNS1035_LABEL}')"
        )
    return problems


def port_name_problems(text: str) -> list[str]:
    """What keeps a text from being the name of a container's port (an IANA service name)."""
    problems = []
    if len(text) > PORT_NAME_MAX_LENGTH:
        problems.append(too_long(PORT_NAME_MAX_LENGTH))
    if not _port_name_characters.fullmatch(text):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= character <= "z" for character in text):
        problems.append("must contain at least one letter or number (a-z, 0-9)")
    if "--" in text:
        problems.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def env_name_problems(text: str) -> list[str]:
    """What keeps a text from being the name of an environment variable."""
    problems = []
    if not _env_name.fullmatch(text):
        problems.append(
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and"
            " must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for"
            f" validation is '{_ENV_NAME}')"
        )
    if text in (".", "..") or text.startswith(".."):
        problems.append("must not be '.' or start with '..'")
    return problems


def generate_name(prefix: str, rng: Dice) -> str:
    """A name that begins with the prefix (cut so that the whole fits a label) and ends in five random characters.

    It may be taken: whoever creates the object tries again.
    """
    base = prefix[: LABEL_MAX_LENGTH - RANDOM_LENGTH]
    return base + "".join(rng.choice(RANDOM_ALPHABET) for _ in range(RANDOM_LENGTH))
