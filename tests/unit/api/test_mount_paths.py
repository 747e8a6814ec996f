"""Where volumes may appear in a container."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.api.pods import mount_target
from cluster.api.problems import Report
from cluster.api.validation_volumes import validate_volumes
from cluster.pb.v1 import core_pb2 as core


def problems(*mount_paths: str) -> list[str]:
    spec = core.PodSpec()
    spec.volumes.add(name="v").volumeSource.emptyDir.SetInParent()
    container = spec.containers.add(name="main")
    for path in mount_paths:
        container.volumeMounts.add(name="v", mountPath=path)
    report = Report()
    validate_volumes(report, spec, "spec")
    return [f"{error.path}: {error.message}" for error in report.errors]


@pytest.mark.parametrize("path", ["/data", "/data/", "/a/b", "//data", "/./data", "/proc2", "/dev/shm", "/system"])
def test_where_a_volume_may_appear(path: str) -> None:
    assert problems(path) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "Required value"),
        ("data", "must be an absolute path, not / or /dev, and not within /proc or /sys"),
        (".", "must be an absolute path"),
        ("/", "must be an absolute path"),
        ("//", "must be an absolute path"),
        ("///", "must be an absolute path"),
        ("/.", "must be an absolute path"),
        ("//./", "must be an absolute path"),
        ("/proc", "not within /proc or /sys"),
        ("/proc/.", "not within /proc or /sys"),
        ("//proc", "not within /proc or /sys"),
        ("/proc/self", "not within /proc or /sys"),
        ("/./sys", "not within /proc or /sys"),
        ("/sys/fs/cgroup", "not within /proc or /sys"),
        ("/dev//", "not / or /dev"),
        ("/a/../proc", "within /proc or /sys"),
        ("/a/../b", "must not contain '..'"),
        ("/a:b", "must not contain"),
    ],
)
def test_where_it_may_not(path: str, words: str) -> None:
    (problem,) = problems(path)
    assert problem.startswith("spec.containers[0].volumeMounts[0].mountPath: ")
    assert words in problem


def test_two_volumes_at_one_path_however_it_is_written() -> None:
    (problem,) = problems("/data", "//data/.")
    assert "must be unique" in problem


@given(st.text(alphabet="/.ab", max_size=12))
@example("//")
@example("///.//")
def test_a_target_is_absolute_if_the_path_is_and_has_one_way_to_be_written(path: str) -> None:
    target = mount_target(path)
    assert target.startswith("/") == path.startswith("/")
    assert mount_target(target) == target
    assert "//" not in target
    assert target == "/" or not target.endswith("/")
