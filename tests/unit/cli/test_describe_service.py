"""What `podium describe service` says of its traffic."""

from __future__ import annotations

from cluster.cli import describe_service
from cluster.pb.v1 import core_pb2 as core


def lines(spec: core.ServiceSpec) -> dict[str, str]:
    described = [line.split(":", 1) for line in describe_service.service(core.Service(spec=spec), None)]
    return {title.strip(): text.strip() for title, text in described}


def test_nothing_of_what_is_not_said() -> None:
    said = lines(core.ServiceSpec(clusterIP="127.9.1.1", sessionAffinity="None"))
    assert not {"Balancing", "Outlier Detection", "Health Check", "Timeouts", "Access Log"} & said.keys()


def test_all_that_is_said() -> None:
    said = lines(
        core.ServiceSpec(
            clusterIP="127.9.1.1",
            balancing=core.ServiceBalancing(policy="ConsistentHash", hashKey="ClientIP"),
            trafficDistribution="PreferSameZone",
            outlierDetection=core.OutlierDetection(consecutiveFailures=3),
            healthCheck=core.ServiceHealthCheck(httpPath="/healthz", intervalSeconds=5),
            timeouts=core.ServiceTimeouts(idleSeconds=600),
            accessLog=True,
        )
    )
    assert said["Balancing"] == "ConsistentHash by ClientIP"
    assert said["Traffic Distribution"] == "PreferSameZone"
    assert said["Outlier Detection"] == "consecutiveFailures 3"
    assert said["Health Check"] == "intervalSeconds 5, httpPath /healthz"
    assert said["Timeouts"] == "idleSeconds 600"
    assert said["Access Log"] == "true"
