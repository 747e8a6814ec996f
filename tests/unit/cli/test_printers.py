"""What objects look like on a terminal."""

import json

import pytest

from cluster.api import hollow
from cluster.api.kinds import BY_NAME, KINDS
from cluster.cli import describe, printers
from cluster.pb.v1 import core_pb2 as core


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (5, "5s"),
        (119, "119s"),
        (200, "3m20s"),
        (240, "4m"),
        (3599, "59m"),
        (8000, "133m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 60, "5h1m"),
        (30 * 3600, "30h"),
        (72 * 3600, "3d"),
    ],
)
def test_ages_are_written_as_kubectl_does(seconds: float, text: str) -> None:
    assert printers.age(seconds) == text


def pod(name: str = "web-1", **status: object) -> core.Pod:
    return core.Pod(
        metadata=core.ObjectMeta(name=name, namespace="default", creationTimestamp=core.Time(seconds=100)),
        spec=core.PodSpec(containers=[core.Container(name="web")]),
        status=core.PodStatus(**status),  # type: ignore[arg-type]
    )


def container(**state: object) -> core.ContainerStatus:
    return core.ContainerStatus(name="web", state=core.ContainerState(**state), restartCount=3)  # type: ignore[arg-type]


def test_a_table_of_pods() -> None:
    running = pod(phase="Running", containerStatuses=[container(running=core.ContainerStateRunning())])
    running.status.containerStatuses[0].ready = True
    waiting = pod("web-22", phase="Pending")
    text = printers.table(BY_NAME["Pod"], [running, waiting], 110.0)
    assert text.splitlines() == [
        "NAME     READY   STATUS    RESTARTS   AGE",
        "web-1    1/1     Running   3          10s",
        "web-22   0/1     Pending   0          10s",
    ]


def test_the_status_of_a_pod_is_what_says_most() -> None:
    crashing = container(waiting=core.ContainerStateWaiting(reason="CrashLoopBackOff"))
    assert printers.pod_status(pod(phase="Running", containerStatuses=[crashing])) == "CrashLoopBackOff"
    ended = container(terminated=core.ContainerStateTerminated(exitCode=3, reason="Error"))
    assert printers.pod_status(pod(phase="Failed", containerStatuses=[ended])) == "Error"
    leaving = pod(phase="Running")
    leaving.metadata.deletionTimestamp.seconds = 5
    assert printers.pod_status(leaving) == "Terminating"
    assert printers.pod_status(pod(phase="Failed", reason="OutOfcpu")) == "OutOfcpu"


def test_control_characters_never_reach_the_terminal() -> None:
    text = printers.table(BY_NAME["Pod"], [pod("x\x1b[31m\rboo")], 110.0)
    assert "\x1b" not in text
    assert "\\x1b[31m\\rboo" in text


def test_a_table_of_leases() -> None:
    times = core.Time(seconds=100)
    held = core.Lease(
        metadata=core.ObjectMeta(name="a", creationTimestamp=times), spec=core.LeaseSpec(holderIdentity="me")
    )
    free = core.Lease(
        metadata=core.ObjectMeta(name="b", creationTimestamp=times), spec=core.LeaseSpec(holderIdentity="")
    )
    text = printers.table(BY_NAME["Lease"], [held, free], 110.0)
    assert text.splitlines() == [
        "NAME   HOLDER   AGE",
        "a      me       10s",
        "b      <none>   10s",
    ]


def test_a_lease_is_described() -> None:
    spec = core.LeaseSpec(
        holderIdentity="me",
        leaseDurationSeconds=15,
        leaseTransitions=2,
        renewTime=core.MicroTime(seconds=0, nanos=1000),
    )
    assert list(describe._lease(core.Lease(spec=spec))) == [
        "Holder:            me",
        "Lease Duration:    15s",
        "Acquire Time:      <none>",
        "Renew Time:        1970-01-01T00:00:00.000001Z",
        "Lease Transitions: 2",
    ]


def test_every_kind_has_columns() -> None:
    assert set(printers.COLUMNS) == {kind.name for kind in KINDS}


def test_json_is_the_object_or_a_list() -> None:
    one = json.loads(printers.as_json([pod()], single=True))
    assert (one["apiVersion"], one["kind"], one["metadata"]["name"]) == ("v1", "Pod", "web-1")
    several = json.loads(printers.as_json([pod()], single=False))
    assert several["kind"] == "List"
    assert [item["kind"] for item in several["items"]] == ["Pod"]


def test_several_kinds_are_told_apart_by_a_prefix() -> None:
    assert "pod/web-1" in printers.table(BY_NAME["Pod"], [pod()], 110.0, kind_prefix=True)
    text = printers.table(BY_NAME["Pod"], [pod()], 110.0, kind_prefix=True, namespaces=True)
    assert text.splitlines()[1].split()[:2] == ["default", "pod/web-1"]


def test_of_a_pod_with_a_container_that_is_done_and_one_that_runs_the_latter_counts() -> None:
    done = container(terminated=core.ContainerStateTerminated(reason="Completed"))
    runs = container(running=core.ContainerStateRunning())
    both = pod(phase="Running", containerStatuses=[done, runs])
    assert printers.pod_status(both) == "NotReady"
    both.status.conditions.add(type="Ready", status="True")
    assert printers.pod_status(both) == "Running"


def test_lines_that_follow_a_table_stand_in_its_columns() -> None:
    kind = BY_NAME["Pod"]
    widths: list[int] = []
    above = printers.table(kind, [pod("a-long-name")], 110.0, at_least=widths)
    below = printers.table(kind, [pod("b")], 110.0, headers=False, at_least=widths)
    assert below.index("0/1") == above.splitlines()[0].index("READY")
    assert below.index("10s") == above.splitlines()[0].index("AGE")


def test_a_node_that_is_only_played_says_so() -> None:
    real = core.Node(metadata=core.ObjectMeta(name="node-1"))
    played = core.Node(metadata=core.ObjectMeta(name="hollow-1", labels=hollow.labels_of("hollow")))
    lines = printers.table(BY_NAME["Node"], [real, played], 0.0).splitlines()
    assert [line.split()[2] for line in lines] == ["ROLES", "<none>", "hollow"]
