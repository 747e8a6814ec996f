"""Whom pods ask for names: policies, what is added to them, variables, files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.api.resolv_conf import ResolvConf, parse_resolv_conf
from cluster.pb.v1 import core_pb2 as core
from node_agent.resolver import Names, common, conf_of, is_common, variables, why_not
from node_agent.resolver_file import ResolverFile, write_own

NAMES = Names("127.7.0.253:53")
HIGH = Names("127.7.0.253:10053")
MACHINE = ResolvConf(("192.0.2.1", "192.0.2.2", "192.0.2.3"), ("corp.example",), ("timeout:1",))
OWN = core.PodDNSConfig(nameservers=["192.0.2.9"], searches=["x.example"])
OWN.options.add(name="ndots", value="2")
OWN.options.add(name="edns0")


def spec(policy: str = "", config: core.PodDNSConfig | None = None) -> core.PodSpec:
    return core.PodSpec(dnsPolicy=policy or None, dnsConfig=config)


SEARCH = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example")
FIRST = ResolvConf(("127.7.0.253", "192.0.2.1", "192.0.2.2"), SEARCH, ("ndots:5",))
CASES = [
    (spec(), NAMES, FIRST),
    (spec("ClusterFirst"), NAMES, FIRST),
    (spec("ClusterFirstWithHostNet"), NAMES, FIRST),
    (spec(), Names("127.7.0.253:53", forwards=True), ResolvConf(("127.7.0.253",), SEARCH, ("ndots:5",))),
    (spec(), HIGH, MACHINE),
    (spec(), Names(), MACHINE),
    (spec("Default"), NAMES, MACHINE),
    (spec("None", OWN), NAMES, ResolvConf(("192.0.2.9",), ("x.example",), ("ndots:2", "edns0"))),
    (
        spec("", OWN),
        Names("127.7.0.253:53", forwards=True),
        ResolvConf(("127.7.0.253", "192.0.2.9"), (*SEARCH, "x.example"), ("ndots:2", "edns0")),
    ),
    (
        spec("Default", OWN),
        NAMES,
        ResolvConf(MACHINE.nameservers, ("corp.example", "x.example"), ("timeout:1", "ndots:2", "edns0")),
    ),
]


@pytest.mark.parametrize(("pod", "names", "expected"), CASES)
def test_what_a_pod_is_told(pod: core.PodSpec, names: Names, expected: ResolvConf) -> None:
    assert conf_of(pod, "default", names, MACHINE) == expected


def test_what_all_pods_share_says_nothing_of_a_namespace() -> None:
    assert common(NAMES, MACHINE).search == SEARCH[1:]
    assert common(HIGH, MACHINE) == MACHINE
    assert [is_common(each) for each in (spec(), spec("Default"), spec("", OWN), spec("None", OWN))] == [
        *(True, False, False, False)
    ]


def test_variables() -> None:
    env = {"PODIUM_DNS": "127.7.0.253:53", "PODIUM_CLUSTER_DOMAIN": "cluster.local"}
    assert variables(spec(), "default", NAMES, MACHINE, shares=False) == env
    assert variables(spec(), "default", NAMES, MACHINE, shares=True) == env | {"LOCALDOMAIN": " ".join(SEARCH)}
    assert "LOCALDOMAIN" not in variables(spec(), "default", HIGH, MACHINE, shares=True)
    assert variables(spec(), "default", Names(), MACHINE, shares=True) == {}


def test_what_cannot_be_had_is_said() -> None:
    assert "mount nothing" in why_not(spec("None", OWN), NAMES, can_mount=False)
    assert "mount nothing" in why_not(spec("", OWN), NAMES, can_mount=False)
    assert "port 53 only" in why_not(spec("", OWN), HIGH, can_mount=True)
    for pod, names, can_mount in (
        (spec(), HIGH, False),
        (spec("Default"), NAMES, False),
        (spec("None", OWN), HIGH, True),
        (spec("Default", OWN), HIGH, True),
        (spec("", OWN), NAMES, True),
    ):
        assert why_not(pod, names, can_mount=can_mount) == ""


def test_a_resolv_conf_there_and_back() -> None:
    assert parse_resolv_conf(FIRST.to_text()) == FIRST
    odd = "; c\n# c\n\nnameserver\nnameserver 192.0.2.1 x\ndomain a\nsearch b c\noptions a\noptions b:1 c\nsortlist x\n"
    assert parse_resolv_conf(odd) == ResolvConf(("192.0.2.1",), ("b", "c"), ("a", "b:1", "c"))
    assert ResolvConf().to_text() == ""


def test_the_nodes_file_follows_the_machines(tmp_path: Path) -> None:
    machine, node = tmp_path / "machine", tmp_path / "node"
    node.mkdir()
    ours = ResolverFile(node, NAMES, machine)
    ours.refresh()
    file = node / "resolv.conf"
    before = file.stat()
    assert parse_resolv_conf(file.read_text()).nameservers == ("127.7.0.253",)
    machine.write_text("nameserver 192.0.2.1\nsearch a-long-name.corp.example\n")
    ours.refresh()
    assert parse_resolv_conf(file.read_text()).nameservers == ("127.7.0.253", "192.0.2.1")
    machine.write_text("nameserver 192.0.2.2\n")
    os.utime(machine, ns=(1, 1))
    ours.refresh()
    text = file.read_text()
    assert parse_resolv_conf(text) == ResolvConf(("127.7.0.253", "192.0.2.2"), SEARCH[1:3], ("ndots:5",))
    assert (file.stat().st_ino, file.stat().st_mode & 0o777) == (before.st_ino, 0o644), "it is the file that is mounted"
    ours.refresh()
    assert file.read_text() == text


def test_there_is_no_file_where_there_is_nothing_to_say_and_one_that_was_there_is_kept_true(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    machine.write_text("nameserver 192.0.2.1\n")
    ResolverFile(tmp_path, HIGH, machine).refresh()
    assert not (tmp_path / "resolv.conf").exists()
    ResolverFile(tmp_path, NAMES, machine).refresh()
    ResolverFile(tmp_path, HIGH, machine).refresh()
    assert (tmp_path / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"


def test_what_a_pod_has_put_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (tmp_path / "resolv.conf").symlink_to(elsewhere)
    path = write_own(tmp_path, FIRST)
    assert elsewhere.read_text() == "mine"
    assert not path.is_symlink()
    assert parse_resolv_conf(path.read_text()) == FIRST
    write_own(tmp_path, MACHINE)
    assert parse_resolv_conf(path.read_text()) == MACHINE
