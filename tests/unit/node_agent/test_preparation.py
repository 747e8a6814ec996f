"""From a container's spec to a program: volumes by mount or by variable, what is missing, who it runs as."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.api.errors import NotFound, Unavailable
from cluster.api.resolv_conf import ResolvConf
from cluster.pb.v1 import core_pb2 as core
from node_agent.configuration import Configured
from node_agent.host import Home, Host
from node_agent.preparation import NotPrepared, prepare
from node_agent.resolver import Names
from node_agent.runtime.cgroups import Cgroups
from node_agent.runtime.interface import Mount
from node_agent.security import Profiles
from node_agent.volume_keeper import KEEP_S, keep_volumes, needs_keeping
from tests.kit.clock import VirtualClock
from tests.unit.node_agent.kit import make_pod


class Node:
    """A node's directories, and a master that knows what the test says."""

    def __init__(self, root: Path) -> None:
        self.known: dict[tuple[str, str], Configured] = {}
        self.away = False
        self.reads = 0
        self.can_mount = True
        for name in ("data", "memory", "pod"):
            (root / name).mkdir(mode=0o700)
        self.root = root

    async def read(self, kind: str, namespace: str, name: str, *, max_age_s: float) -> Configured:
        self.reads += 1
        if self.away:
            raise Unavailable("the master is away")
        if (kind, name) not in self.known:
            raise NotFound(name)
        return self.known[kind, name]

    def host(self, *, uid: int = 1000, allow_root: bool = True) -> Host:
        return Host(
            node_name="node-1",
            host_ip="127.7.0.10",
            path="/bin",
            lang="C",
            services=list,
            read_configuration=self.read,
            allocatable=dict,
            data=self.root / "data",
            on_new_data=lambda: None,
            memory=self.root / "memory",
            can_mount=lambda: self.can_mount,
            cgroups=Cgroups.none,
            profiles=lambda: Profiles((), (), ""),
            uid=uid,
            gid=uid,
            allow_root=allow_root,
        )

    def home(self, pod: core.Pod) -> Home:
        return Home(pod, "127.7.16.3", self.root / "pod")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def with_volume(source: core.VolumeSource, mount_path: str = "/x") -> core.Pod:
    pod = make_pod(uid="uid")
    pod.spec.volumes.add(name="my-data", volumeSource=source)
    pod.spec.containers[0].volumeMounts.add(name="my-data", mountPath=mount_path, readOnly=True)
    return pod


async def prepared(node: Node, pod: core.Pod, **host: object) -> object:
    return await prepare(node.host(**host), node.home(pod), pod.spec.containers[0], 0, "run")  # type: ignore[arg-type]


async def refusal(node: Node, pod: core.Pod, **host: object) -> tuple[str, str]:
    with pytest.raises(NotPrepared) as caught:
        await prepared(node, pod, **host)
    return caught.value.reason, caught.value.message


async def test_a_volume_is_mounted_where_that_can_be_and_named_in_any_case(node: Node) -> None:
    pod = with_volume(core.VolumeSource(dataDirectory=core.DataDirectoryVolumeSource(name="db")), "/srv/db/")
    path = str(node.root / "data" / "default" / "db")
    mounted = await prepare(node.host(), node.home(pod), pod.spec.containers[0], 0, "run")
    assert mounted.program.confinement.mounts == (Mount(path, "/srv/db", True),)
    node.can_mount = False
    named = await prepare(node.host(), node.home(pod), pod.spec.containers[0], 0, "run")
    assert named.program.confinement.mounts == ()
    assert {each.program.env["PODIUM_VOLUME_MY_DATA"] for each in (mounted, named)} == {path}


async def test_what_cannot_be_made_is_waited_for_with_the_name_of_its_volume(node: Node) -> None:
    (node.root / "file").touch()
    made = core.HostPathVolumeSource(path=str(node.root / "file" / "sub"), type="DirectoryOrCreate")
    reason, message = await refusal(node, with_volume(core.VolumeSource(hostPath=made)))
    assert reason == "FailedMount"
    assert message.startswith('volume "my-data": Not a directory: ')
    absent = core.HostPathVolumeSource(path=str(node.root / "absent"))
    reason, message = await refusal(node, with_volume(core.VolumeSource(hostPath=absent)))
    assert (reason, message) == ("FailedMount", f"hostPath {node.root}/absent does not exist")


async def test_configuration_is_waited_for_and_good_enough_while_the_master_is_away(node: Node) -> None:
    source = core.VolumeSource(
        configMap=core.ConfigMapVolumeSource(localObjectReference={"name": "web"}, defaultMode=0o644)
    )
    pod = with_volume(source)
    assert await refusal(node, pod) == ("CreateContainerConfigError", 'configmap "web" not found')
    node.away = True
    reason, message = await refusal(node, pod)
    assert reason == "CreateContainerConfigError"
    assert "the master is away" in message
    node.away, node.known["ConfigMap", "web"] = False, core.ConfigMap(data={"a": "1"})
    home = node.home(pod)
    await prepare(node.host(), home, pod.spec.containers[0], 0, "run")
    node.away = True
    again = await prepare(node.host(), home, pod.spec.containers[0], 1, "run")
    assert Path(again.program.env["PODIUM_VOLUME_MY_DATA"], "a").read_text() == "1"


@pytest.mark.parametrize(
    ("uid", "allow_root", "change", "words"),
    [
        (0, False, lambda spec: None, "pods may not run as root here"),
        (0, True, lambda spec: setattr(spec.securityContext, "runAsNonRoot", True), "would run as root"),
        (1000, True, lambda spec: setattr(spec.securityContext, "runAsUser", 7), "it asks for user 7"),
        (1000, True, lambda spec: setattr(spec.securityContext, "runAsUser", 0), "it asks for user 0"),
    ],
)
async def test_nobody_runs_as_somebody_else_in_silence(
    node: Node, uid: int, allow_root: bool, change: Callable[[core.Container], None], words: str
) -> None:
    pod = make_pod(uid="uid")
    change(pod.spec.containers[0])
    reason, message = await refusal(node, pod, uid=uid, allow_root=allow_root)
    assert reason == "CreateContainerConfigError"
    assert words in message


async def test_files_are_kept_while_the_pod_runs(node: Node) -> None:
    clock, evicted = VirtualClock(), []
    pod = with_volume(
        core.VolumeSource(configMap=core.ConfigMapVolumeSource(localObjectReference={"name": "web"}, defaultMode=0o644))
    )
    found = core.ConfigMap(data={"a": "1"})
    found.metadata.resourceVersion = "1"
    node.known["ConfigMap", "web"] = found
    home = node.home(pod)
    ready = await prepare(node.host(), home, pod.spec.containers[0], 0, "run")
    file = Path(ready.program.env["PODIUM_VOLUME_MY_DATA"], "a")
    assert needs_keeping(pod)

    async def evict(message: str) -> None:
        evicted.append(message)

    import asyncio

    keeping = asyncio.ensure_future(keep_volumes(node.host(), home, clock, evict))
    await clock.run_for(KEEP_S)
    changed = core.ConfigMap(data={"a": "2"})
    changed.metadata.resourceVersion = "2"
    node.known["ConfigMap", "web"] = changed
    await clock.run_for(KEEP_S)
    assert file.read_text() == "2"
    del node.known["ConfigMap", "web"]
    await clock.run_for(2 * KEEP_S)
    assert file.read_text() == "2", "what was there stays there"
    node.known["ConfigMap", "web"] = found
    await clock.run_for(KEEP_S)
    assert file.read_text() == "1"
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert evicted == []
    assert not needs_keeping(make_pod())


SERVER = Names("127.7.0.253:53")
MACHINE = ResolvConf(("192.0.2.1",))


async def names_of(node: Node, pod: core.Pod, *, shares: bool, names: Names = SERVER) -> tuple[list[str], str | None]:
    """What is mounted at /etc/resolv.conf, line by line, and LOCALDOMAIN."""
    host = replace(node.host(), names=names, machine_names=lambda: MACHINE, shares_names=lambda: shares)
    program = (await prepare(host, node.home(pod), pod.spec.containers[0], 0, "run")).program
    mounts = [each for each in program.confinement.mounts if each.target == os.path.realpath("/etc/resolv.conf")]
    assert all(each.read_only for each in mounts)
    return [line for each in mounts for line in Path(each.source).read_text().splitlines()], program.env.get(
        "LOCALDOMAIN"
    )


SEARCH = "default.svc.cluster.local svc.cluster.local cluster.local"
FIRST = ["nameserver 127.7.0.253", "nameserver 192.0.2.1", f"search {SEARCH}", "options ndots:5"]


async def test_names_cost_a_mount_only_where_there_are_mounts_anyway(node: Node) -> None:
    plain = make_pod(uid="uid")
    assert await names_of(node, plain, shares=True) == ([], SEARCH)
    assert await names_of(node, plain, shares=False) == (FIRST, None)
    volume = with_volume(core.VolumeSource(dataDirectory=core.DataDirectoryVolumeSource(name="db")))
    assert await names_of(node, volume, shares=True) == (FIRST, SEARCH)
    restricted = make_pod(uid="uid")
    restricted.spec.securityProfile = "restricted"
    assert (await names_of(node, restricted, shares=True))[0] == FIRST
    assert await names_of(node, plain, shares=False, names=Names("127.7.0.253:10053")) == ([], None)
    assert await names_of(node, plain, shares=False, names=Names()) == ([], None)


async def test_policies_of_names(node: Node) -> None:
    other = make_pod(uid="uid")
    other.spec.dnsPolicy = "Default"
    assert await names_of(node, other, shares=True) == (["nameserver 192.0.2.1"], None)
    assert await names_of(node, other, shares=False) == ([], None), "it has the machine's anyway"
    other.spec.dnsPolicy = "None"
    other.spec.dnsConfig.nameservers.append("192.0.2.9")
    for shares in (True, False):
        assert await names_of(node, other, shares=shares) == (["nameserver 192.0.2.9"], None)
    node.can_mount = False
    assert await refusal(node, other) == (
        "CreateContainerConfigError",
        "container c1: dnsConfig cannot be kept: this kernel lets the node agent mount nothing",
    )


async def test_a_trusted_pod_has_the_machines_names_and_the_variables(node: Node) -> None:
    trusted = make_pod(uid="uid")
    trusted.spec.securityProfile = "trusted"
    assert await names_of(node, trusted, shares=True) == ([], None)
