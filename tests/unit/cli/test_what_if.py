"""What is typed after `what-if`, and what a report looks like."""

from __future__ import annotations

import json

import click
import pytest

from cluster.cli import forecast
from cluster.cli import main as cli
from cluster.cli.exits import ExitCode
from cluster.cli.what_if import rearranged
from cluster.simulation import Report, document
from cluster.simulation.report import AppliedObject, NodeStory, Outage, Pending, Placed, Removed, Restless, Stuck

VALUED = frozenset({"--scale", "-o"})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("n2 --down", "--down n2"),
        ("--down n2", "--down n2"),
        ("n2 n3 --down n4 --cordon", "--down n2 --down n3 --cordon n4"),
        ("--down n2 n3 --cordon n4", "--down n2 --down n3 --cordon n4"),
        ("n2 --down --scale rc/web=10 n3 --uncordon", "--down n2 --scale rc/web=10 --uncordon n3"),
        ("n2 --scale=rc/web=10 --down -o json", "--scale=rc/web=10 --down n2 -o json"),
        ("n1 n2 --down n3", "--down n1 --down n2 n3"),
        ("-h", "-h"),
    ],
)
def test_a_fate_means_the_nodes_before_it_or_else_those_after_it(typed: str, meant: str) -> None:
    assert rearranged(typed.split(), VALUED) == meant.split()


@pytest.mark.parametrize("typed", ["--down", "n1 --down --cordon", "--cordon --scale rc/web=1"])
def test_a_fate_that_means_no_node(typed: str) -> None:
    with pytest.raises(click.UsageError, match="name the nodes"):
        rearranged(typed.split(), VALUED)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("what-if", "if what?"),
        ("what-if node/n1", "say what befalls it: --down, --cordon, --uncordon"),
        ("what-if rc/web --down", '"rc/web" is no node'),
        ("what-if node/ --down", '"node/" is no node'),
        ("what-if --add-nodes 3", "--add-nodes N and --like NODE go together"),
        ("what-if --add-nodes 0 --like n1", "0 is not in the range"),
        ("what-if --scale web=3", "give --scale rc/NAME=NUMBER"),
        ("what-if --scale rc/web=many", "give --scale rc/NAME=NUMBER"),
        ("what-if --scale svc/web=3", "only replication controllers can be scaled"),
        ("what-if n1 --down --limit never", '"never" is not a time'),
        ("what-if n1 --down --pod-start 0", '"0" is too short: at least 0.01s'),
        ("plan", "Missing option '-f'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(
    typed: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODIUM_HOME", "/nonexistent")
    assert cli.main(typed.split()) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_a_bad_manifest_is_told_with_its_line(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    file = f"{tmp_path}/web.yaml"
    with open(file, "w") as out:
        out.write("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{nam: main}]}\n")
    for typed in (["plan", "-f", file], ["what-if", "n1", "--down", "-f", file]):
        assert cli.main(typed) == ExitCode.ERROR
        assert f'{file}:4: spec.containers[0].nam: unknown field; did you mean "name"?' in capsys.readouterr().err


REPORT = Report(
    revision=431,
    seed=0,
    changes=("node/n2 goes down", "2 manifests of web.yaml are applied"),
    ending="quiet",
    quiet_at_s=3.25,
    elapsed_s=26.5,
    applied=(
        AppliedObject("ReplicationController", "default", "web", "configured", ("spec.replicas: 2 -> 3",)),
        AppliedObject("Service", "shop", "web", "created"),
    ),
    nodes=(NodeStory("n2", failed_s=2.25, evicted_s=2.25), NodeStory("n3", cordoned=True)),
    placed=(Placed("default", "web-c", "n1", 2.25, 3.25, "ReplicationController/web", "web-b"),),
    removed=(
        Removed("default", "web-b", "n2", "evicted", "nodes/n2", 2.25, None, "", "web-c", "n1", 3.25),
        Removed("shop", "small", "n1", "preempted", "pods/shop/big", 0.0, 1.0),
    ),
    pending=(Pending("default", "web-d", "0/3 nodes are available: 3 Insufficient cpu.", 2.5),),
    stuck=(Stuck("default", "ReplicationController/api", "OutOfcpu", "no room", ("api-a", "api-b")),),
    outages=(Outage("default", "db", 2.25, 3.5), Outage("default", "web", 2.25, None)),
    passing=1,
    notes=("a note",),
)


def test_a_report_reads_from_what_was_asked_to_when_it_is_quiet() -> None:
    assert forecast.text(REPORT).split("\n") == [
        "if node/n2 goes down; 2 manifests of web.yaml are applied (the cluster is at revision 431):",
        "",
        "replicationcontroller/web configured",
        "  spec.replicas: 2 -> 3",
        "service/shop/web created",
        "",
        "node/n2 is NotReady after 2.2s, its pods are evicted from 2.2s on",
        "node/n3 is cordoned",
        "",
        "moved: 1",
        "POD     FROM   WHY       LEFT   REPLACED BY   ON   READY",
        "web-b   n2     evicted   2.2s   web-c         n1   3.2s",
        "",
        "gone: 1",
        "POD          FROM   WHY                    LEFT   GONE",
        "shop/small   n1     preempted by pod/big   0.0s   1.0s",
        "",
        "pending: 1",
        "POD     SINCE   WHY",
        "web-d   2.5s    0/3 nodes are available: 3 Insufficient cpu.",
        "",
        "do not run: 1",
        "OF       PODS   REASON     MESSAGE",
        "rc/api   2      OutOfcpu   no room",
        "",
        "services without endpoints: 2",
        "SERVICE   FROM   UNTIL",
        "db        2.2s   3.5s",
        "web       2.2s   (it stays so)",
        "",
        "1 more pod was made and had to go again",
        "quiet after 3.2s; then nothing happened for 23.2s. Nothing was written.",
        "",
        "note: a note",
    ]


def test_exit_codes() -> None:
    quiet = Report(1, 0, (), "quiet")
    assert forecast.exit_code(quiet) == ExitCode.OK
    assert forecast.exit_code(REPORT) == ExitCode.UNSCHEDULABLE
    assert forecast.exit_code(Report(1, 0, (), "limit")) == ExitCode.TIMEOUT
    assert forecast.exit_code(Report(1, 0, (), "refused")) == ExitCode.ERROR
    assert "no pod moves, comes or goes" in forecast.text(quiet)


def test_what_is_not_quiet_says_who_goes_on() -> None:
    text = forecast.text(
        Report(1, 0, (), "limit", elapsed_s=1800.0, restless=(Restless("ReplicationController/web", "shop", 240),))
    )
    assert "not quiet after 30m, when the virtual time was over: this is how it was then. Nothing was written." in text
    assert "rc/shop/web   240" in text


def test_what_is_refused_has_no_consequences() -> None:
    refused = AppliedObject("Pod", "x", "web", "refused", message="no \x1b[31m such", source="web.yaml", line=3)
    lines = forecast.text(Report(1, 0, ("1 manifest of web.yaml is applied",), "refused", applied=(refused,))).split(
        "\n"
    )
    assert lines[2:] == [
        "pod/x/web refused: web.yaml:3: no \\x1b[31m such",
        "",
        "apply would write nothing of it, because of what is refused",
    ]


def test_long_tables_end() -> None:
    many = tuple(Placed("default", f"web-{number}", "n1", 0.0, 1.0) for number in range(100))
    lines = forecast.text(Report(1, 0, (), "quiet", placed=many)).split("\n")
    assert lines[2] == "placed: 100"
    assert "... and 60 more (-o json has all)" in lines
    nodes = tuple(NodeStory(f"n{number}", cordoned=True) for number in range(50))
    lines = forecast.text(Report(1, 0, tuple(f"change {n}" for n in range(12)), "quiet", nodes=nodes)).split("\n")
    assert lines[0].endswith("change 9; ... and 2 more (-o json has all) (the cluster is at revision 1):")
    assert lines[42] == "... and 10 more (-o json has all)"


def test_programs_get_everything() -> None:
    data = json.loads(json.dumps(document(REPORT)))
    assert data["fits"] is False
    assert data["removed"][0] == {
        "namespace": "default",
        "pod": "web-b",
        "node": "n2",
        "why": "evicted",
        "because": "nodes/n2",
        "leftSeconds": 2.25,
        "replacedBy": "web-c",
        "replacedOn": "n1",
        "readySeconds": 3.25,
    }
    assert data["nodes"][1] == {"name": "n3", "cordoned": True}
    assert data["restless"] == []
