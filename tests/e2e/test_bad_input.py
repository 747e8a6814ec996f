"""Wrong manifests are refused whole, with file, line, path and reason; nothing is written."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from cluster.api.errors import Invalid
from cluster.client import operations
from cluster.client.interface import ClusterClient, WriteOutcome
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster

GOOD = "apiVersion: v1\nkind: Service\nmetadata: {name: good}\nspec: {ports: [{port: 80}]}\n---\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {labels}}}\nspec: {spec}\n"


def manifest(spec: str = "{containers: [{name: a, command: [x]}]}", name: str = "bad", labels: str = "{}") -> str:
    return POD.format(spec=spec, name=name, labels=labels)


CASES = {
    "unknown field": (manifest("{containers: [{name: a, comand: [x]}]}"), "spec.containers[0].comand"),
    "kubernetes' field": (manifest("{containers: [{name: a, command: [x]}], hostNetwork: true}"), "spec.hostNetwork"),
    "wrong type": (manifest("{containers: [{name: a, command: x}]}"), "spec.containers[0].command"),
    "text for a number": (
        manifest("{containers: [{name: a, command: [x]}], terminationGracePeriodSeconds: soon}"),
        "spec.terminationGracePeriodSeconds",
    ),
    "bad quantity": (
        manifest("{containers: [{name: a, command: [x], resources: {requests: {cpu: 1 core}}}]}"),
        "spec.containers[0].resources.requests",
    ),
    "bad label": (manifest(labels="{app: 'no spaces please'}"), "metadata.labels"),
    "bad name": (manifest(name="Not_A_Name"), "metadata.name"),
    "duplicate port": (
        manifest(
            "{containers: [{name: a, command: [x], ports: [{name: p, containerPort: 1}, {name: p, containerPort: 2}]}]}"
        ),
        "spec.containers[0].ports[1].name",
    ),
    "duplicate key": ("apiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: bad}\n", "kind"),
    "no command": (manifest("{containers: [{name: a}]}"), "spec.containers[0]"),
    "unknown kind": ("apiVersion: v1\nkind: Gizmo\nmetadata: {name: bad}\n", "Gizmo"),
    "no object": ("- just\n- a list\n", ""),
    "alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
        "alias",
    ),
    "deep nesting": ("[" * 100_000, "deep"),
    "huge": ("apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\n#" + "x" * 2_000_000, "1048576 bytes"),
    "not yaml": ("a: [1, 2\nb: }", ""),
    "not text": ("\x00\x01\x02", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_whole(shared_cluster: Cluster, namespace: str, tmp_path: Path, case: str) -> None:
    text, path = CASES[case]
    file = tmp_path / "bad.yaml"
    file.write_text((GOOD if case not in ("deep nesting", "huge", "alias bomb") else "") + text)
    result = shared_cluster.podium("apply", "-f", str(file), "-n", namespace, check=False)
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert "bad.yaml" in result.stderr, result.stderr
    assert path.lower() in result.stderr.lower(), result.stderr
    assert "Traceback" not in result.stderr
    assert shared_cluster.list("services", namespace) == [], "nothing was written"


def test_every_problem_of_every_file_is_told_at_once(shared_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest("{containers: [{name: a, comand: [x]}]}"))
    (tmp_path / "b.yaml").write_text(manifest("{containers: [{name: B!, command: [x]}]}"))
    result = shared_cluster.podium("apply", "-f", str(tmp_path), "-n", namespace, check=False)
    assert "a.yaml" in result.stderr
    assert "comand" in result.stderr
    assert result.returncode == 1


def test_the_master_refuses_what_it_would_have_to_ignore(shared_cluster: Cluster, namespace: str) -> None:
    """A client that skips the manifest checks is checked by the master all the same."""
    bad = core.Pod(metadata=core.ObjectMeta(name="bad", namespace=namespace), spec=core.PodSpec())
    unknown = core.Pod.FromString(
        core.Pod(
            metadata=core.ObjectMeta(name="odd", namespace=namespace),
            spec=core.PodSpec(containers=[core.Container(name="a", command=["x"])]),
        ).SerializeToString()
        + b"\xd2\x85\xd8\xcc\x04\x01x"
    )
    for obj in (bad, unknown):
        outcome = shared_cluster.run(partial(_create, obj=obj))
        assert isinstance(outcome.outcomes[0].error, Invalid)
    assert shared_cluster.list("pods", namespace) == []


async def _create(client: ClusterClient, obj: core.Pod) -> WriteOutcome:
    return await client.write([operations.create(obj)])
