"""What `podium doctor` finds on this machine, and on ones that lack something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.cli import doctor, main
from cluster.cli.doctor import OK, PROBLEM, WARNING, Finding


def test_it_looks_at_everything_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path))
    assert main.main(["doctor", "-o", "json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert [each["what"] for each in findings] == [
        *("kernel", "addresses of 127.0.0.0/8", "state", "isolation", "limits", "profiles", "secrets", "open files"),
    ]
    assert all(each["level"] in (OK, WARNING) for each in findings)
    assert not list(tmp_path.iterdir())


def test_what_is_missing_comes_with_the_command_that_adds_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        doctor,
        "LOOKS",
        (
            lambda: Finding("air", OK, "there is some"),
            lambda: Finding("water", PROBLEM, "none", "sudo apt install rain"),
        ),
    )
    assert main.main(["doctor"]) == 1
    assert capsys.readouterr().out == (
        "ok     air     there is some\nFAIL   water   none\n       to change that: sudo apt install rain\n"
    )


def test_a_state_directory_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = doctor._state()
    assert (found.level, found.cure) == (PROBLEM, "set PODIUM_HOME to a directory of yours")
