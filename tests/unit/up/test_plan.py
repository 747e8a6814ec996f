"""Which processes a cluster consists of, and when they are restarted."""

import random
import socket
from pathlib import Path

import pytest

from cluster.up.addresses import CLAIM_PORT, HIGH_DNS_PORT, AddressBlock, block_of, claim_block, free_dns_port
from cluster.up.layout import ClusterDir
from cluster.up.plan import Restart, RestartBudget, UpOptions, plan_cluster
from node_agent.hollow.flags import parse
from proxy.dns.flags import parse as parse_dns_flags


@pytest.fixture
def block() -> AddressBlock:
    return AddressBlock(42, socket.socket())


def test_every_daemon_has_its_own_credentials_and_address(block: AddressBlock) -> None:
    plan = plan_cluster(UpOptions(nodes=2), ClusterDir(Path("/c/demo")), block)
    assert [child.name for child in plan.children] == [
        *("master", "node-1", "node-2", "manager", "proxy", "dns", "kubernetes")
    ]
    assert [child.address for child in plan.children] == [
        "127.42.0.1:6443",
        "127.42.0.10:10250",
        "127.42.0.11:10250",
        "127.42.0.1:10259",
        "",
        "127.42.0.253:53",
        "127.42.0.251:6443",
    ]
    agent = plan.children[1]
    assert "/c/demo/pki/node-node-1" in agent.argv
    assert "/c/demo/nodes/node-1" in agent.argv
    assert agent.argv[agent.argv.index("--hide") + 1] == "/c", "pods see no other cluster of this user either"


@pytest.mark.parametrize("rest", [True, False])
def test_kubernetes_api_costs_nothing_until_somebody_asks(block: AddressBlock, rest: bool) -> None:
    plan = plan_cluster(UpOptions(nodes=1, rest=rest), ClusterDir(Path("/c/demo")), block)
    assert [child.name for child in plan.children if child.on_demand] == ([] if rest else ["kubernetes"])


def test_only_agents_stay_dead(block: AddressBlock) -> None:
    plan = plan_cluster(UpOptions(nodes=1), ClusterDir(Path("/c/demo")), block)
    restarts = {child.name: child.restart for child in plan.children}
    assert restarts == {
        "master": Restart.ALWAYS,
        "node-1": Restart.NEVER,
        "manager": Restart.ALWAYS,
        "proxy": Restart.ALWAYS,
        "dns": Restart.ALWAYS,
        "kubernetes": Restart.ALWAYS,
    }


def test_the_manager_stops_before_the_agents_and_the_master_last(block: AddressBlock) -> None:
    plan = plan_cluster(UpOptions(nodes=2), ClusterDir(Path("/c/demo")), block)
    assert plan.stop_order == (("kubernetes", "manager"), ("node-1", "node-2", "proxy", "dns"), ("master",))


def test_several_masters_share_a_store_and_everybody_knows_them_all(block: AddressBlock) -> None:
    options = UpOptions(nodes=1, masters=3, store="etcd://a:2379,b:2379", etcd_credentials="/etc/etcd")
    plan = plan_cluster(options, ClusterDir(Path("/c/demo")), block)
    names = [child.name for child in plan.children]
    assert names == [
        *("master-1", "master-2", "master-3", "node-1", "manager-1", "manager-2", "manager-3", "proxy", "dns"),
        "kubernetes",
    ]
    addresses = "127.42.0.1:6443,127.42.0.2:6443,127.42.0.3:6443"
    for child in plan.children:
        words = list(child.argv)
        if child.role == "master":
            assert words[words.index("--listen") + 1] == child.address
            assert words[words.index("--store") + 1] == "etcd://a:2379,b:2379"
            assert words[words.index("--etcd-credentials") + 1] == "/etc/etcd"
        else:
            assert words[words.index("--master") + 1] == addresses
        assert ("--leader-elect" in words) == (child.role == "manager")
    assert plan.stop_order == (
        ("kubernetes", "manager-1", "manager-2", "manager-3"),
        ("node-1", "proxy", "dns"),
        ("master-1", "master-2", "master-3"),
    )


def test_the_scheduler_config_is_for_managers(block: AddressBlock) -> None:
    options = UpOptions(nodes=1, masters=2, store="etcd://a", scheduler_config="/etc/scheduler.toml")
    plan = plan_cluster(options, ClusterDir(Path("/c/demo")), block)
    told = {child.name for child in plan.children if "/etc/scheduler.toml" in child.argv}
    assert told == {"manager-1", "manager-2"}


def test_one_manager_takes_no_turns(block: AddressBlock) -> None:
    plan = plan_cluster(UpOptions(nodes=1), ClusterDir(Path("/c/demo")), block)
    assert not any("--leader-elect" in child.argv or "--store" in child.argv for child in plan.children)


def test_capacity_is_handed_to_agents_only_if_asked_for(block: AddressBlock) -> None:
    plain = plan_cluster(UpOptions(nodes=1), ClusterDir(Path("/c/demo")), block).children[1].argv
    sized = plan_cluster(
        UpOptions(nodes=1, node_cpu="4", node_memory="8Gi", node_resources=("gpu=2",)),
        ClusterDir(Path("/c/demo")),
        block,
    )
    assert "--cpu" not in plain
    argv = sized.children[1].argv
    assert argv[argv.index("--cpu") + 1] == "4"
    assert argv[argv.index("--memory") + 1] == "8Gi"
    assert argv[argv.index("--resource") + 1] == "gpu=2"


def test_agents_know_where_names_are_answered_for(block: AddressBlock) -> None:
    options = UpOptions(nodes=1, dns=("upstream=1.1.1.1", "cluster-domain=corp.example", "ttl-s=30"))
    plan = plan_cluster(options, ClusterDir(Path("/c/demo")), block, dns_port=10053)
    agent, dns = plan.children[1].argv, plan.children[-2].argv
    assert agent[agent.index("--dns") + 1] == dns[dns.index("--listen") + 1] == "127.42.0.253:10053"
    assert agent[agent.index("--cluster-domain") + 1] == dns[dns.index("--cluster-domain") + 1] == "corp.example"
    assert "--dns-forwards" in agent
    settings, _ = parse_dns_flags(dns, {})
    assert (settings.upstream, settings.ttl_s, settings.address.port) == (("1.1.1.1",), 30, 10053)


def test_the_port_of_names_can_be_chosen(block: AddressBlock) -> None:
    plan = plan_cluster(UpOptions(nodes=1, dns=("port=1053",)), ClusterDir(Path("/c/demo")), block)
    assert plan.children[-2].address == "127.42.0.253:1053"
    assert "--dns-forwards" not in plan.children[1].argv
    parse_dns_flags(plan.children[-2].argv, {})


def test_port_53_is_left_to_who_has_it_already() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        try:
            holder.bind(("127.251.0.253", 53))
        except PermissionError:
            assert free_dns_port("127.251.0.253") == HIGH_DNS_PORT
            return
        assert free_dns_port("127.251.0.253") == HIGH_DNS_PORT
    assert free_dns_port("127.251.0.253") == 53


def test_hollow_nodes_are_further_daemons_that_share_an_identity_and_an_address(block: AddressBlock) -> None:
    options = UpOptions(nodes=0, hollow=6000, hollow_args=("zones=3", "events"), profile="kubernetes")
    plan = plan_cluster(options, ClusterDir(Path("/c/demo")), block)
    assert [child.name for child in plan.children] == [
        *("master", "hollow.1", "hollow.2", "hollow.3", "manager", "proxy", "dns", "kubernetes")
    ]
    assert plan.stop_order[1] == ("hollow.1", "hollow.2", "hollow.3", "proxy", "dns")
    second = list(plan.children[2].argv)
    given = dict(zip(second[:-3:2], second[1:-3:2], strict=True))
    assert given == {
        "--prefix": "hollow",
        "--first": "2001",
        "--count": "2000",
        "--master": "127.42.0.1:6443",
        "--listen": "127.42.0.250:0",
        "--credentials": "/c/demo/pki/hollow-hollow",
        "--profile": "kubernetes",
    }
    assert second[-3:] == ["--keep", "--zones=3", "--events"]
    settings, _ = parse(second)
    assert (settings.first, settings.count, settings.zones, settings.keep) == (2001, 2000, 3, True)


@pytest.mark.parametrize(("lifetime", "restart"), [("dev", Restart.NEVER), ("service", Restart.ALWAYS)])
def test_those_who_play_stay_dead_where_agents_do(block: AddressBlock, lifetime: str, restart: Restart) -> None:
    plan = plan_cluster(UpOptions(nodes=1, hollow=1, lifetime=lifetime), ClusterDir(Path("/c/demo")), block)
    assert {child.restart for child in plan.children if child.role in ("hollow", "node-agent")} == {restart}


def test_a_crashing_child_waits_longer_and_longer() -> None:
    budget = RestartBudget(initial_s=0.05, max_s=5.0, calm_after_s=30.0)
    assert [budget.delay_s(n) for n in (1, 2, 3, 4, 20)] == [0.05, 0.1, 0.2, 0.4, 5.0]
    assert budget.crashes_in_a_row(3, ran_for_s=1.0) == 4
    assert budget.crashes_in_a_row(3, ran_for_s=31.0) == 1


def test_two_clusters_never_get_the_same_block() -> None:
    first = claim_block(random.Random(7))
    second = claim_block(random.Random(7))
    try:
        assert first.number != second.number
        with socket.socket() as intruder, pytest.raises(OSError):
            intruder.bind((f"127.{first.number}.255.254", CLAIM_PORT))
    finally:
        first.release()
        second.release()


def test_a_cluster_that_comes_back_gets_its_block_again() -> None:
    first = claim_block(random.Random(1))
    first.release()
    again = claim_block(random.Random(2), preferred=first.number)
    try:
        assert again.number == first.number
    finally:
        again.release()


@pytest.mark.parametrize(
    ("address", "block"), [("127.71.1.0", 71), ("127.71.16.0/25", 71), ("10.0.0.1", None), ("None", None), ("", None)]
)
def test_addresses_say_of_which_block_they_are(address: str, block: int | None) -> None:
    assert block_of(address) == block
