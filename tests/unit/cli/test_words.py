"""What users type, and what they are told when it makes no sense."""

import re

import click
import pytest

from cluster.api.errors import DeadlineExceeded, FieldError, Invalid, NotFound, TooManyRequests, Unavailable
from cluster.cli import main as cli
from cluster.cli.exits import CommandError, ExitCode, report
from cluster.cli.wait import parse_condition, parse_path
from cluster.cli.words import one_target, targets
from cluster.pb.v1 import core_pb2 as core


def names(words: list[str]) -> list[tuple[str, str]]:
    return [(kind.name, name) for kind, name in targets(words)]


def test_kinds_and_names() -> None:
    assert names(["po"]) == [("Pod", "")]
    assert names(["rc,svc"]) == [("ReplicationController", ""), ("Service", "")]
    assert names(["pod", "a", "b"]) == [("Pod", "a"), ("Pod", "b")]
    assert names(["pod/a", "rc/b"]) == [("Pod", "a"), ("ReplicationController", "b")]
    assert names(["all"]) == [("Pod", ""), ("ReplicationController", ""), ("Service", "")]


def test_an_unknown_kind_is_told_the_known_ones() -> None:
    assert names(["lease/a", "Lease/b"]) == [("Lease", "a"), ("Lease", "b")]
    with pytest.raises(
        Invalid,
        match=r"secrets, priorityclasses \(pc\), poddisruptionbudgets \(pdb\), serviceaccounts \(sa\), faults, "
        r"customresourcedefinitions \(crd, crds\), customobjects$",
    ):
        targets(["leas"])


@pytest.mark.parametrize("words", [[], ["pod/a", "b"], ["pod/"], ["/a"]])
def test_words_that_make_no_sense(words: list[str]) -> None:
    with pytest.raises((click.UsageError, Invalid)):
        targets(words)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("podd", ' (did you mean "pod"?)'),
        ("Nodess", ' (did you mean "nodes"?)'),
        ("deploy", " (what keeps a number of pods here is a ReplicationController)"),
        ("gizmos", ""),
    ],
)
def test_an_unknown_kind_is_told_what_may_have_been_meant(word: str, hint: str) -> None:
    with pytest.raises(Invalid, match=re.escape(f'there is no kind "{word}"{hint}; known are pods (po), ')):
        targets([word])


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("gett", '; did you mean "get"? See: podium --help'),
        ("pods", "; to see pods: podium get pods. See: podium --help"),
        ("xyzzy", ". See: podium --help"),
    ],
)
def test_an_unknown_command_is_told_what_may_have_been_meant(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([word]) == ExitCode.USAGE
    assert f'there is no command "{word}"{hint}' in capsys.readouterr().err


def test_one_object_is_named_with_its_kind() -> None:
    with pytest.raises(click.UsageError):
        one_target("pods")


def test_conditions_to_wait_for() -> None:
    ready = core.Pod(
        status=core.PodStatus(phase="Running", conditions=[core.PodCondition(type="Ready", status="True")])
    )
    assert parse_condition("condition=Ready")(ready)
    assert not parse_condition("condition=Ready=False")(ready)
    assert not parse_condition("condition=Ready")(None)
    assert parse_condition("delete")(None)
    assert parse_condition("jsonpath='{.status.phase}'=Running")(ready)
    assert parse_condition("jsonpath={.status.conditions[0].status}=True")(ready)
    assert not parse_condition("jsonpath={.status.podIP}")(ready)
    for text in ("Ready", "condition=", "jsonpath=.status", "jsonpath={.a[?(@.b)]}=1"):
        with pytest.raises(click.UsageError):
            parse_condition(text)


def test_paths() -> None:
    assert parse_path(".a[0].b") == ["a", 0, "b"]
    assert parse_path(".metadata.labels['app.kubernetes.io/name']") == ["metadata", "labels", "app.kubernetes.io/name"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("x"), ExitCode.NOT_FOUND),
        (DeadlineExceeded("x"), ExitCode.TIMEOUT),
        (Unavailable("x"), ExitCode.UNREACHABLE),
        (Invalid("x"), ExitCode.ERROR),
        (TooManyRequests("x"), ExitCode.ERROR),
        (CommandError("x", ExitCode.SURVIVORS), ExitCode.SURVIVORS),
        (FileNotFoundError(2, "No such file", "x.yaml"), ExitCode.ERROR),
    ],
)
def test_each_error_has_its_exit_code(error: Exception, code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(error) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")


def test_a_refused_eviction_names_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    report(TooManyRequests("Cannot evict pod.", causes=[FieldError("", "The disruption budget a", "DisruptionBudget")]))
    assert capsys.readouterr().err.splitlines() == ["error: Cannot evict pod.", "  The disruption budget a"]


def test_every_cause_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    report(Invalid("2 problems", causes=[FieldError("a.yaml:3: spec.x", "unknown field"), FieldError("b", "bad")]))
    assert capsys.readouterr().err.splitlines() == [
        "error: 2 problems",
        "  a.yaml:3: spec.x: unknown field",
        "  b: bad",
    ]


@pytest.mark.parametrize("verb", list(cli.COMMANDS))
def test_every_help_has_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == ExitCode.OK
    text = capsys.readouterr().out
    examples = text.partition("Examples:")[2].splitlines()
    assert sum("podium " in line for line in examples) >= 3, text
    assert len(text.splitlines()) <= 48


def test_a_typo_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gte", "pods"]) == ExitCode.USAGE
    assert 'did you mean "get"' in capsys.readouterr().err


def test_the_option_version_is_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == ExitCode.OK
    said = capsys.readouterr().out
    assert cli.main(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out == said != ""
