"""A resolv.conf as data: whom to ask for names, and how (resolv.conf(5)). Pure.

It can name addresses only, no ports: whoever is asked is asked at port 53.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_NAMESERVERS = 3
"""The C library heeds no more."""


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What a resolver is told."""

    nameservers: tuple[str, ...] = ()
    """Addresses, in the order in which they are asked."""
    search: tuple[str, ...] = ()
    """What is put after a short name, one after the other."""
    options: tuple[str, ...] = ()
    """Such as "ndots:5"."""

    def to_text(self) -> str:
        """The file."""
        lines = [f"nameserver {address}" for address in self.nameservers]
        if self.search:
            lines.append(f"search {' '.join(self.search)}")
        if self.options:
            lines.append(f"options {' '.join(self.options)}")
        return "".join(f"{line}\n" for line in lines)


def parse_resolv_conf(text: str) -> ResolvConf:
    """What such a file says. What is not understood is passed over, as every resolver does."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        match words[0]:
            case "nameserver" if len(words) > 1:
                nameservers.append(words[1])
            case "search" | "domain":
                search = tuple(words[1:])  # the last one counts
            case "options":
                options += words[1:]
    return ResolvConf(tuple(nameservers), search, tuple(options))
