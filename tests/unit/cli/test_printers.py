"""What objects look like on a terminal."""

import json

import pytest

from cluster.api import columns, hollow
from cluster.api.kinds import BY_NAME, KINDS
from cluster.cli import describe, describe_pod, printers
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
        (77 * 3600, "3d5h"),
        (8 * 86400 + 5 * 3600, "8d"),
        (700 * 86400, "700d"),
        (750 * 86400, "2y20d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_ages_are_written_as_kubectl_does(seconds: float, text: str) -> None:
    assert columns.age(seconds) == text


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
    assert columns.pod_status(pod(phase="Running", containerStatuses=[crashing])) == "CrashLoopBackOff"
    ended = container(terminated=core.ContainerStateTerminated(exitCode=3, reason="Error"))
    assert columns.pod_status(pod(phase="Failed", containerStatuses=[ended])) == "Error"
    leaving = pod(phase="Running")
    leaving.metadata.deletionTimestamp.seconds = 5
    assert columns.pod_status(leaving) == "Terminating"
    assert columns.pod_status(pod(phase="Failed", reason="OutOfcpu")) == "OutOfcpu"


@pytest.mark.parametrize(("initialized", "restarts"), [("True", "3"), ("False", "10"), ("", "10")])
def test_restarts_of_init_containers_count_while_they_are_at_work_and_those_of_sidecars_for_good(
    initialized: str, restarts: str
) -> None:
    one = pod(phase="Running")
    one.spec.initContainers.add(name="prepare")
    one.spec.initContainers.add(name="side", restartPolicy="Always")
    one.status.initContainerStatuses.add(name="prepare", restartCount=9)
    one.status.initContainerStatuses.add(name="side", restartCount=1)
    one.status.containerStatuses.add(name="web", restartCount=2)
    if initialized:
        one.status.conditions.add(type="Initialized", status=initialized)
    assert printers.table(BY_NAME["Pod"], [one], 110.0).splitlines()[1].split()[3] == restarts


def test_a_pod_that_gates_hold_back_says_so() -> None:
    gated = pod(phase="Pending")
    gated.status.conditions.add(type="PodScheduled", status="False", reason="SchedulingGated")
    assert columns.pod_status(gated) == "SchedulingGated"
    gated.status.conditions[0].reason = "Unschedulable"
    assert columns.pod_status(gated) == "Pending"


def test_a_wide_table_of_pods_says_where_they_are_nominated() -> None:
    text = printers.table(BY_NAME["Pod"], [pod(phase="Pending", nominatedNodeName="node-2")], 110.0, wide=True)
    header, line = text.splitlines()
    assert line[header.index("NOMINATED NODE") :].split()[0] == "node-2"


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
    assert set(columns.COLUMNS) == {kind.name for kind in KINDS}


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
    assert columns.pod_status(both) == "NotReady"
    both.status.conditions.add(type="Ready", status="True")
    assert columns.pod_status(both) == "Running"


def test_lines_that_follow_a_table_stand_in_its_columns() -> None:
    kind = BY_NAME["Pod"]
    widths: list[int] = []
    above = printers.table(kind, [pod("a-long-name")], 110.0, at_least=widths)
    below = printers.table(kind, [pod("b")], 110.0, headers=False, at_least=widths)
    assert below.index("0/1") == above.splitlines()[0].index("READY")
    assert below.index("10s") == above.splitlines()[0].index("AGE")


def test_a_pod_says_where_its_variables_and_files_come_from() -> None:
    found = core.Pod(metadata=core.ObjectMeta(name="web", namespace="default"))
    spec = found.spec
    container = spec.containers.add(name="main", command=["serve"])
    container.env.add(name="PLAIN", value="1")
    container.env.add(name="FIELD").valueFrom.fieldRef.fieldPath = "metadata.name"
    container.env.add(name="LIMIT").valueFrom.resourceFieldRef.resource = "limits.cpu"
    secret = container.env.add(name="PASSWORD").valueFrom.secretKeyRef
    secret.localObjectReference.name, secret.key, secret.optional = "db", "password", True
    level = container.env.add(name="LEVEL").valueFrom.configMapKeyRef
    level.localObjectReference.name, level.key = "web", "level"
    container.envFrom.add(prefix="C_").configMapRef.localObjectReference.name = "web"
    container.volumeMounts.add(name="db", mountPath="/run/db", readOnly=True)
    container.volumeMounts.add(name="data", mountPath="/data", subPath="mine")
    container.securityContext.readOnlyRootFilesystem = True
    container.securityContext.capabilities.drop.append("ALL")
    spec.volumes.add(name="db").volumeSource.secret.secretName = "db"
    spec.volumes.add(name="data").volumeSource.dataDirectory.name = "store"
    spec.volumes.add(name="tmp").volumeSource.emptyDir.medium = "Memory"
    spec.volumes.add(name="etc").volumeSource.hostPath.path = "/etc"
    spec.volumes.add(name="conf").volumeSource.configMap.localObjectReference.name = "web"
    spec.volumes.add(name="me").volumeSource.downwardAPI.items.add(path="labels")
    spec.securityProfile = "restricted"
    spec.securityContext.runAsNonRoot = True
    lines = [" ".join(line.split()) for line in describe_pod.pod(found)]
    wanted = [
        'Env From: config map web, as "C_..."',
        "Environment: PLAIN: 1",
        "FIELD: (field metadata.name)",
        "LIMIT: (limits.cpu)",
        'PASSWORD: (key "password" of secret db, optional)',
        'LEVEL: (key "level" of config map web)',
        "Mounts: /run/db from db (ro)",
        "/data from data (rw, mine of it)",
        "Security: readOnlyRootFilesystem=true drop=ALL",
        "Volumes: db: secret db",
        "data: data directory store",
        "tmp: empty directory in memory",
        "etc: host path /etc",
        "conf: config map web",
        "me: fields of the pod: labels",
        "Security: restricted runAsNonRoot=true",
    ]
    assert [line for line in lines if line in wanted] == wanted


def test_a_post_mortem() -> None:
    words = "".join(f"line {number}\n" for number in range(30)) + "\x1b[31mred: the end\n"
    ended = core.ContainerStateTerminated(
        exitCode=137, signal=9, reason="OOMKilled", message=words, finishedAt=core.Time(seconds=100)
    )
    ended.usage.cpuUserMilliseconds, ended.usage.cpuSystemMilliseconds = 1500, 250
    ended.usage.maxRssBytes = 64 << 20
    state = core.ContainerStatus(name="web", state=core.ContainerState(terminated=ended))
    found = pod(phase="Failed", containerStatuses=[state])
    lines = [line.strip() for line in describe_pod.pod(found)]
    said = next(line for line in lines if line.startswith("State:"))
    assert "Terminated: OOMKilled, exit code 137 (signal 9), Thu, 01 Jan 1970 00:01:40 +0000" in said
    used = next(line for line in lines if line.startswith("Used:"))
    assert used.split(maxsplit=1)[1] == "cpu 1.5s user 0.25s system, at most 64.0 MiB of memory"
    last = [line for line in lines if line.startswith("line ") or "the end" in line]
    assert (len(last), last[0]) == (20, "line 11"), "the last twenty lines"
    assert "\x1b" not in last[-1], "nothing that a terminal would obey"


def test_a_node_that_is_only_played_says_so() -> None:
    real = core.Node(metadata=core.ObjectMeta(name="node-1"))
    played = core.Node(metadata=core.ObjectMeta(name="hollow-1", labels=hollow.labels_of("hollow")))
    lines = printers.table(BY_NAME["Node"], [real, played], 0.0).splitlines()
    assert [line.split()[2] for line in lines] == ["ROLES", "<none>", "hollow"]
