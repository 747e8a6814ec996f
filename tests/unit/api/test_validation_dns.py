"""Whom a pod may be told to ask for names."""

from __future__ import annotations

import pytest

from cluster.api.problems import Report
from cluster.api.validation_dns import validate_dns
from cluster.pb.v1 import core_pb2 as core


def problems(spec: core.PodSpec) -> list[str]:
    report = Report()
    validate_dns(report, spec, "spec")
    return [f"{error.path}: {error.message}" for error in report.errors]


def config(
    *, servers: tuple[str, ...] = (), searches: tuple[str, ...] = (), options: tuple[tuple[str, str], ...] = ()
) -> core.PodSpec:
    made = core.PodSpec()
    made.dnsConfig.nameservers.extend(servers)
    made.dnsConfig.searches.extend(searches)
    for name, value in options:
        made.dnsConfig.options.add(name=name, value=value or None)
    return made


@pytest.mark.parametrize("policy", ["ClusterFirst", "ClusterFirstWithHostNet", "Default"])
def test_policies(policy: str) -> None:
    assert problems(core.PodSpec()) == []
    assert problems(core.PodSpec(dnsPolicy=policy)) == []


def test_none_needs_somebody_to_ask() -> None:
    wrong = core.PodSpec(dnsPolicy="None")
    assert problems(wrong) == [
        'spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when dnsPolicy is "None"'
    ]
    wrong.dnsConfig.nameservers.append("192.0.2.1")
    assert problems(wrong) == []


def test_what_is_right() -> None:
    right = config(
        servers=("192.0.2.1", "2001:db8::1"),
        searches=("a.example", "example.", ".", "_x.example"),
        options=(("ndots", "2"), ("edns0", "")),
    )
    assert problems(right) == []


@pytest.mark.parametrize(
    ("spec", "where", "words"),
    [
        (core.PodSpec(dnsPolicy="Mine"), "spec.dnsPolicy", "Unsupported value"),
        (config(servers=("example.com",)), "spec.dnsConfig.nameservers[0]", "must be a valid IP address"),
        (config(servers=("192.0.2.1",) * 4), "spec.dnsConfig.nameservers", "must not have more than 3 nameservers"),
        (config(searches=("a b",)), "spec.dnsConfig.searches[0]", "subdomain"),
        (config(searches=("a",) * 33), "spec.dnsConfig.searches", "must not have more than 32 search paths"),
        (config(searches=("\n",)), "spec.dnsConfig.searches[0]", "subdomain"),
        (config(options=(("", "1"),)), "spec.dnsConfig.options[0].name", "Required value"),
        (config(options=(("a\nnameserver", "1"),)), "spec.dnsConfig.options[0].name", "must not hold spaces"),
        (config(options=(("a", "1\nx"),)), "spec.dnsConfig.options[0].value", "must not hold spaces"),
    ],
)
def test_what_is_wrong(spec: core.PodSpec, where: str, words: str) -> None:
    found = problems(spec)
    assert found[0].startswith(f"{where}: ")
    assert words in found[0]


def test_so_many_characters_and_no_more() -> None:
    label = "x" * 63
    name = f"{label}.{label}.{label}"
    assert problems(config(searches=(name,) * 10)) == []
    assert "2048 characters" in problems(config(searches=(name,) * 11))[0]


def test_a_trusted_pod_cannot_have_its_own() -> None:
    trusted = config(servers=("192.0.2.1",))
    trusted.securityProfile = "trusted"
    assert "trusted" in problems(trusted)[0]
    assert problems(core.PodSpec(securityProfile="trusted", dnsPolicy="ClusterFirst")) == []
