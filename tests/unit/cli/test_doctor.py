"""What `podium doctor` finds on this machine, and on ones that lack something."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from cluster.cli import doctor, main
from cluster.cli.doctor import (
    OK,
    PROBLEM,
    WARNING,
    Finding,
    _limits_cure,
    _namespace_cure,
    _profiles_cure,
    _sandbox_problem,
)
from node_agent.restrict import landlock_version
from tests.kit.without_namespaces import NO_NAMESPACE, without_namespaces


def test_it_looks_at_everything_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path))
    assert main.main(["doctor", "-o", "json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert [each["what"] for each in findings] == [
        *("kernel", "addresses of 127.0.0.0/8", "port 53 for names", "state", "isolation", "limits", "profiles"),
        *("secrets", "open files"),
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


@pytest.mark.parametrize(
    ("files", "cure"),
    [
        ({}, "user.max_user_namespaces=10000"),
        ({"kernel/apparmor_restrict_unprivileged_userns": "1\n"}, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ({"kernel/apparmor_restrict_unprivileged_userns": "0\n"}, "user.max_user_namespaces=10000"),
        ({"kernel/unprivileged_userns_clone": "0\n"}, "kernel.unprivileged_userns_clone=1"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "0\n", "kernel/unprivileged_userns_clone": "0\n"},
            "kernel.unprivileged_userns_clone=1",
        ),
    ],
)
def test_the_switch_of_namespaces_that_stands_in_the_way(tmp_path: Path, files: dict[str, str], cure: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _namespace_cure(tmp_path) == f"sudo sysctl -w {cure}"


def test_how_control_groups_can_be_had(tmp_path: Path) -> None:
    delegated = "systemd-run --user --scope -p Delegate=yes podium up"
    assert _limits_cure(tmp_path, uid=0) == f"mount -o remount,rw {tmp_path}"
    assert _limits_cure(tmp_path, uid=1000).endswith(f"(control groups v2), then: {delegated}")
    (tmp_path / "cgroup.controllers").touch()
    assert _limits_cure(tmp_path, uid=1000) == delegated


def test_how_profiles_can_be_had() -> None:
    assert "install bubblewrap" in _profiles_cure(["profile sandbox: bubblewrap is not installed (apt-get install x)"])
    assert "lsm=" in _profiles_cure(["profile restricted: this kernel has no Landlock"])
    assert "sysctl" in _profiles_cure(["profile sandbox: bubblewrap: No space left on device"])


def test_a_sandbox_is_tried() -> None:
    with tempfile.TemporaryDirectory() as public:  # of root, an ordinary user tries it
        os.chmod(public, 0o755)
        broken = Path(public) / "bwrap"
        broken.write_text("#!/bin/sh\necho bwrap: no permissions to create a new namespace >&2\nexit 1\n")
        broken.chmod(0o755)
        assert _sandbox_problem(str(broken)) == "bwrap: no permissions to create a new namespace"


def test_without_namespaces_it_says_how_keys_are_kept_and_what_that_costs() -> None:
    if not landlock_version():
        pytest.skip("this kernel has no Landlock")
    arguments = without_namespaces("-m", "cluster.cli.main", "doctor", "-o", "json")
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == NO_NAMESPACE:
        pytest.skip("there is no namespace to be had at all")
    assert done.returncode == 0, done.stderr
    found = {each["what"]: each for each in json.loads(done.stdout)}
    assert found["isolation"]["level"] == WARNING
    assert "no mount namespace" in found["isolation"]["found"]
    assert "closed by Landlock" in found["isolation"]["found"]
    assert "sysctl" in found["isolation"]["cure"]
    assert "profile sandbox: bubblewrap" in found["profiles"]["found"]
