"""The manager's words: what it takes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import manager

NEEDED = ["--master", "127.0.0.1:1", "--credentials", "c", "--scheduler-credentials", "s"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--identity", "one"], "--identity NAME goes with --leader-elect"),
        (["--leader-elect", "--identity", ""], "--identity NAME goes with --leader-elect"),
        (["--run", "cooks"], "the parts are controllers and scheduler"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        manager.main([*NEEDED, *words])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_scheduler_config_that_makes_no_sense_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scheduler.toml"
    file.write_text("[profiles.mine.weights]\nSpraed = 2\n")
    assert manager.main([*NEEDED, "--scheduler-config", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"manager: {file}: profiles.mine.weights: 'Spraed' is not a score (known are LeastAllocated")


def test_the_help_says_when_leases_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        manager.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--leader-elect, --no-leader-elect" in text
    assert "needed when there is more than one, on every one of them" in text
