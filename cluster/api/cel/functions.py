"""Which functions rules can call: Kubernetes' libraries, said once, for the compiler and for the evaluation.

    string.find(string): string        a member; ip.isCanonical(string): bool     a function with a dot in its name
    quantity(string): Quantity         the compiler knows more types than there are when rules are evaluated

A function of ours is called "k8s.NAME" once a rule is checked (`rewriting.py`): the libraries for strings and for lists
both have an indexOf, and no function can be declared twice. What has no implementation here the library for CEL has;
`matches` it has, too, but ours compiles a pattern once, and none that is huge. Addresses have no type of their own, for
string(ip("::1")) must be said. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any

from cluster.api.cel import library as lib
from cluster.api.cel import library_text as text
from cluster.api.cel.values import equal, joined

Implementation = Callable[..., Any]

OURS = "k8s."
"""What the names of our own functions begin with, where rules are evaluated."""
FOUND = "Found"
"""What is added to the names of functions that take a pattern, if that is no constant."""
OPTIONAL = frozenset({"format.named", "validate"})
"""Their answer is an optional value: none, if it is empty."""
_ORDERED = ("int", "uint", "double", "bool", "string", "bytes", "google.protobuf.Duration", "google.protobuf.Timestamp")
_SUMMED = ("int", "uint", "double", "google.protobuf.Duration")

_STRINGS = (
    "string.charAt(int): string",
    "string.lowerAscii(): string",
    "string.upperAscii(): string",
    "string.replace(string, string): string",
    "string.replace(string, string, int): string",
    "string.split(string): list<string>",
    "string.split(string, int): list<string>",
    "list<string>.join(): string",
    "list<string>.join(string): string",
    "string.substring(int): string",
    "string.substring(int, int): string",
    "string.trim(): string",
    "string.format(list<dyn>): string",
    "string.reverse(): string",
    "strings.quote(string): string",
)
"""Those that the library for CEL has, as in its extension."""

_OWN: tuple[tuple[str, Implementation], ...] = (
    *((f"list<{one}>.isSorted(): bool", lib.is_sorted) for one in _ORDERED),
    *((f"list<{one}>.min(): {one}", lib.smallest) for one in _ORDERED),
    *((f"list<{one}>.max(): {one}", lib.largest) for one in _ORDERED),
    *((f"list<{one}>.sum(): {one}", lib.total) for one in _SUMMED),
    ("list<dyn>.indexOf(dyn): int", lib.index_of),
    ("string.indexOf(string): int", lib.index_of),
    ("string.indexOf(string, int): int", lib.index_of),
    ("list<dyn>.lastIndexOf(dyn): int", lib.last_index_of),
    ("string.lastIndexOf(string): int", lib.last_index_of),
    ("string.lastIndexOf(string, int): int", lib.last_index_of),
    ("string.find(string): string", lib.find),
    ("string.findAll(string): list<string>", lib.find_all),
    ("string.findAll(string, int): list<string>", lib.find_all),
    ("isQuantity(string): bool", lib.is_quantity),
    ("quantity(string): Quantity", lib.quantity),
    ("Quantity.sign(): int", lib.sign),
    ("Quantity.isInteger(): bool", lib.is_integer),
    ("Quantity.asInteger(): int", lib.as_integer),
    ("Quantity.asApproximateFloat(): double", lib.as_float),
    ("Quantity.add(Quantity): Quantity", lib.plus),
    ("Quantity.add(int): Quantity", lib.plus),
    ("Quantity.sub(Quantity): Quantity", lib.minus),
    ("Quantity.sub(int): Quantity", lib.minus),
    *((f"{one}.compareTo({one}): int", lib.compare) for one in ("Quantity", "Semver")),
    *((f"{one}.isLessThan({one}): bool", lib.is_less) for one in ("Quantity", "Semver")),
    *((f"{one}.isGreaterThan({one}): bool", lib.is_greater) for one in ("Quantity", "Semver")),
    ("isSemver(string): bool", lib.is_semver),
    ("isSemver(string, bool): bool", lib.is_semver),
    ("semver(string): Semver", lib.semver),
    ("semver(string, bool): Semver", lib.semver),
    ("Semver.major(): int", lib.major),
    ("Semver.minor(): int", lib.minor),
    ("Semver.patch(): int", lib.patch),
    ("isIP(string): bool", text.is_ip),
    ("ip(string): dyn", text.ip),
    ("ip.isCanonical(string): bool", text.is_canonical),
    ("Address.family(): int", text.family),
    ("Address.isUnspecified(): bool", text.is_unspecified),
    ("Address.isLoopback(): bool", text.is_loopback),
    ("Address.isLinkLocalMulticast(): bool", text.is_link_local_multicast),
    ("Address.isLinkLocalUnicast(): bool", text.is_link_local_unicast),
    ("Address.isGlobalUnicast(): bool", text.is_global_unicast),
    ("isCIDR(string): bool", text.is_cidr),
    ("cidr(string): dyn", text.cidr),
    ("Network.containsIP(string): bool", text.contains_ip),
    ("Network.containsCIDR(string): bool", text.contains_cidr),
    ("Network.ip(): dyn", text.cidr_ip),
    ("Network.masked(): dyn", text.masked),
    ("Network.prefixLength(): int", text.prefix_length),
    ("isURL(string): bool", text.is_url),
    ("url(string): URL", text.url),
    ("URL.getScheme(): string", text.get_scheme),
    ("URL.getHost(): string", text.get_host),
    ("URL.getHostname(): string", text.get_hostname),
    ("URL.getPort(): string", text.get_port),
    ("URL.getEscapedPath(): string", text.get_escaped_path),
    ("URL.getQuery(): map<string,list<string>>", text.get_query),
    ("format.named(string): dyn", text.named),
    *((f"format.{name}(): Format", lambda name=name: name) for name in text.FORMATS),
    ("Format.validate(string): dyn", text.validate),
)
_KUBERNETES = ("Quantity", "Semver", "Address", "Network", "URL", "Format")
_ANY = ("bool", "int", "uint", "double", "string", "bytes", "null", "list", "map", "duration", "timestamp")
"""All kinds of values that there are when rules are evaluated."""
_HIDDEN: tuple[tuple[str, tuple[str, ...], Implementation], ...] = (
    ("matches", ("string", "string"), lib.matches),
    (f"matches{FOUND}", ("string", "string"), lib.matches_found),
    (f"find{FOUND}", ("string", "string"), lib.find_found),
    (f"findAll{FOUND}", ("string", "string"), lib.find_all_found),
    (f"findAll{FOUND}", ("string", "string", "int"), lib.find_all_found),
    ("sumDouble", ("list",), lib.total_double),
    ("indexOf", ("list", "any"), lib.index_of),
    ("lastIndexOf", ("list", "any"), lib.last_index_of),
    ("mapInsert", ("map", "key", "any"), lib.insert),
    ("equal", ("any", "any", "string"), equal),
    ("joined", ("list", "list", "string"), joined),
)
"""Those that rules do not call by these names."""
NAMES = frozenset(re.match(r"(?:[^(]*>\.|(?:string|[A-Z]\w*)\.)?([\w.]+)\(", row)[1] for row, _ in _OWN)  # type: ignore[index]
"""Functions that are ours."""
_row = re.compile(r"(?:(list<[\w.]+>|string|[A-Z]\w*)\.)?([\w.]+)\((.*)\): (.+)")


def own_name(name: str, is_member: bool) -> str:
    """What a function is called after "k8s.": ip of a text is none of a network."""
    return "networkIP" if name == "ip" and is_member else name


def _parsed(row: str) -> tuple[str, str | None, list[str], str]:
    found = _row.fullmatch(row)
    assert found is not None, row
    return found[2], found[1], [one for one in found[3].split(", ") if one], found[4]


def declared(words: frozenset[str]) -> list[Any]:
    """The functions as the compiler knows them, for the library for CEL: those whose names are among some words."""
    return [declaration for name, declaration in _declarations().items() if words.issuperset(name.split("."))]


@lru_cache(1)
def _declarations() -> dict[str, Any]:
    from cel_expr_python import cel

    def kind(name: str) -> Any:
        return cel.Type.AbstractType(f"kubernetes.{name}") if name in _KUBERNETES else cel.Type(name)

    overloads: dict[str, list[Any]] = {}
    for row in [*_STRINGS, *(row for row, _ in _OWN)]:
        name, target, parameters, result = _parsed(row)
        overloads.setdefault(name, []).append(
            cel.Overload(
                row,
                kind(result),
                [kind(one) for one in ([target] if target else []) + parameters],
                is_member=target is not None,
                impl=_nothing,
            )
        )
    return {name: cel.FunctionDecl(name, found) for name, found in overloads.items()}


def _nothing(*arguments: Any) -> Any:
    raise AssertionError("a rule is evaluated as the compiler sees it")


@lru_cache(1)
def implemented() -> list[Any]:
    """The same as they are evaluated: by kinds of values, with names of their own."""
    from cel_expr_python import cel

    kinds = {
        "any": _ANY,
        "key": ("string", "int", "uint", "bool"),
        "list": ("list",),
        "map": ("map",),
    }
    types = {name: getattr(cel.Type, name.upper()) for name in _ANY}
    overloads: dict[tuple[str, ...], Implementation] = {}
    for row, implementation in _OWN:
        name, target, parameters, _ = _parsed(row)
        if target == "list<dyn>":
            continue  # among the hidden ones, with all kinds of values
        spelled = [_kind(one) for one in ([target] if target else []) + parameters]
        overloads[(own_name(name, target is not None), *spelled)] = implementation
    for name, spelled_kinds, implementation in _HIDDEN:
        for combination in product(*(kinds.get(one, (one,)) for one in spelled_kinds)):
            overloads.setdefault((name, *combination), implementation)
    functions: dict[str, list[Any]] = {}
    for (name, *spelled), implementation in overloads.items():
        overload = cel.Overload(
            f"{OURS}{name}({','.join(spelled)})",
            cel.Type.DYN,
            [types[one] for one in spelled],
            impl=implementation,
        )
        functions.setdefault(f"{OURS}{name}", []).append(overload)
    return [cel.FunctionDecl(name, found) for name, found in functions.items()]


def _kind(name: str) -> str:
    """What a value of that type is when rules are evaluated."""
    if name.startswith("list<"):
        return "list"
    return "string" if name in _KUBERNETES else name
