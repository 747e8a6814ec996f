"""The rules of whom a pod asks for names: dnsPolicy and dnsConfig, as in Kubernetes."""

from __future__ import annotations

import ipaddress

from cluster.api.names import dns1123_subdomain_problems
from cluster.api.pods import TRUSTED
from cluster.api.problems import Report
from cluster.api.resolv_conf import MAX_NAMESERVERS
from cluster.pb.v1 import core_pb2 as core

POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
MAX_SEARCHES, MAX_SEARCH_CHARACTERS = 32, 2048


def validate_dns(report: Report, spec: core.PodSpec, path: str) -> None:
    """dnsPolicy and dnsConfig."""
    if spec.HasField("dnsPolicy"):
        report.one_of(f"{path}.dnsPolicy", spec.dnsPolicy, POLICIES)
        if spec.dnsPolicy == "None" and not spec.dnsConfig.nameservers:
            report.required(
                f"{path}.dnsConfig.nameservers", 'must provide at least one DNS nameserver when dnsPolicy is "None"'
            )
    if spec.securityProfile == TRUSTED and (spec.HasField("dnsConfig") or spec.dnsPolicy == "None"):
        report.forbidden(f"{path}.dnsConfig", "nothing is mounted for the processes of a trusted pod")
    if spec.HasField("dnsConfig"):
        _validate_config(report, spec.dnsConfig, f"{path}.dnsConfig")


def _validate_config(report: Report, config: core.PodDNSConfig, path: str) -> None:
    servers, searches = config.nameservers, config.searches
    if len(servers) > MAX_NAMESERVERS:
        report.invalid(f"{path}.nameservers", list(servers), f"must not have more than {MAX_NAMESERVERS} nameservers")
    for index, server in enumerate(servers):
        try:
            ipaddress.ip_address(server)
        except ValueError:
            report.invalid(f"{path}.nameservers[{index}]", server, "must be a valid IP address")
    if len(searches) > MAX_SEARCHES:
        report.invalid(f"{path}.searches", list(searches), f"must not have more than {MAX_SEARCHES} search paths")
    if len(" ".join(searches)) > MAX_SEARCH_CHARACTERS:
        what = f"must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        report.invalid(f"{path}.searches", list(searches), what)
    for index, search in enumerate(searches):
        # A name may begin with an underscore, and end with the root's dot.
        name = search.removesuffix(".").replace("_", "x") if search != "." else "x"
        report.check(f"{path}.searches[{index}]", search, dns1123_subdomain_problems(name))
    for index, option in enumerate(config.options):
        where = f"{path}.options[{index}]"
        if not option.name:
            report.required(f"{where}.name", "must not be empty")
        for field in ("name", "value"):
            text: str = getattr(option, field)
            if any(character.isspace() or not character.isprintable() for character in text):
                report.invalid(f"{where}.{field}", text, "must not hold spaces or control characters")
