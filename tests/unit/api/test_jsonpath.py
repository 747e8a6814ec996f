"""Paths into objects, as definitions of kinds use them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.jsonpath import MAX_FOUND, MAX_LENGTH, parse

DATA: dict[str, Any] = {
    "metadata": {"name": "blue", "annotations": {"example.com/size": "3", "it's": "odd"}},
    "spec": {"replicas": 3, "hosts": ["a", "b", "c"], "on": True, "ports": [{"name": "web", "port": 80}, {"port": 90}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Late", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.replicas", [3]),
        ("{.spec.replicas}", [3]),
        ("$.spec.replicas", [3]),
        (".spec['replicas']", [3]),
        ('.metadata.annotations["example.com/size"]', ["3"]),
        (r".metadata.annotations.example\.com/size", ["3"]),
        (r".metadata.annotations['it\'s']", ["odd"]),
        (".spec.hosts[0]", ["a"]),
        (".spec.hosts[-1]", ["c"]),
        (".spec.hosts[7]", []),
        (".spec.hosts[1:]", ["b", "c"]),
        (".spec.hosts[:2]", ["a", "b"]),
        (".spec.hosts[*]", ["a", "b", "c"]),
        (".spec.ports[*].port", [80, 90]),
        (".spec.ports[*].name", ["web"]),
        (".spec.ports.*.port", [80, 90]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Ready')].status", ["True"]),
        ('.status.conditions[?(@.type != "Ready")].type', ["Late"]),
        (".spec.ports[?(@.port>80)].port", [90]),
        (".spec.ports[?(@.port<=80.0)].port", [80]),
        (".spec.ports[?(@.name)].port", [80]),
        ('.spec.hosts[?(@=="b")]', ["b"]),
        (".spec.ports[?(@.port==true)]", []),
        ('.status.conditions[ ?( @.type == "Ready" ) ].status', ["True"]),
        (".spec.hosts[ 1 : 2 ]", ["b"]),
        ('[?(@.hosts[?(@=="b")])]', []),
        (".*[?(@['port']==90)].port", []),
        (".spec.*[?(@['port']==90)].port", [90]),
        ("..port", [80, 90]),
        (".nothing.at.all", []),
        (".spec.replicas.deeper", []),
        (".", [DATA]),
    ],
)
def test_what_a_path_leads_to(path: str, found: list[Any]) -> None:
    assert parse(path).find(DATA) == found
    assert parse(path).first(DATA) == (found[0] if found else None)


@pytest.mark.parametrize(
    "path",
    [
        *("", "  ", "{}", "$", "spec", ".spec.", ".spec[", ".spec[x]", ".spec[0", ".a..", ".spec[?(@.a==b)]", ".a b"),
        "." + "a" * MAX_LENGTH,
    ],
)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(path)


@pytest.mark.parametrize("inside", ["?(@{}=={}x", "?(@{}{}x", "{}:{}x", "?(@{}=={}]", "{}{}x"])
def test_a_path_full_of_spaces_is_refused_as_soon_as_any_other(inside: str) -> None:
    spaces = " " * (MAX_LENGTH // 2 - 10)  # with backtracking, half a minute
    with pytest.raises(ValueError, match=r"\w"):
        parse(f".spec[{inside.format(spaces, spaces)}]")


def test_a_path_of_fields_alone_says_which() -> None:
    assert parse(".spec.replicas").names == ("spec", "replicas")
    assert parse(".spec['a.b']").names == ("spec", "a.b")
    for path in (".spec.hosts[0]", "..port", ".spec.*", ".spec[1:2]"):
        assert parse(path).names is None


def test_what_is_found_has_a_limit() -> None:
    wide = {"items": [{"items": list(range(1000))} for _ in range(1000)]}
    assert len(parse("..*..*..*").find(wide)) <= MAX_FOUND
    assert len(parse(".items[*].items[*]").find(wide)) == MAX_FOUND


@given(st.text(alphabet=".[]'\"*@?()=a0:\\$ -", max_size=30))
def test_nothing_but_value_errors(text: str) -> None:
    try:
        path = parse(text)
    except ValueError:
        return
    path.find(DATA)
