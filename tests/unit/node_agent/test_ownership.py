"""Files of pods in directories that pods can write: made and read without being led elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node_agent.ownership import furnish, make_file, open_beneath, take_text

ME = (os.geteuid(), os.getegid())


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    pod = tmp_path / "pod"
    pod.mkdir(mode=0o700)
    return pod


def test_a_pods_directory_can_be_added_to_and_holds_what_is_not_the_pods(pod: Path) -> None:
    for _ in range(2):
        furnish(pod, ME)
        assert pod.stat().st_mode & 0o7777 == 0o1770
        modes = {each.name: each.stat().st_mode & 0o7777 for each in pod.iterdir()}
        assert modes == {"logs": 0o711, "volumes": 0o711, "tmp": 0o1777}


def test_last_words_are_taken_once(pod: Path) -> None:
    file = pod / "logs" / "main" / "words"
    make_file(pod, file, ME)
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("good bye, cruel world")
    make_file(pod, file, ME)
    assert take_text(pod, file, ME[0], 8) == b"good bye"
    assert not file.exists()
    assert take_text(pod, file, ME[0], 8) == b""
    assert take_text(pod, pod / "no" / "such" / "directory", ME[0], 8) == b""


def test_nothing_leads_the_agent_elsewhere(pod: Path, tmp_path: Path) -> None:
    """A pod puts links, and worse, where the agent looks for its last words, or makes directories."""
    (tmp_path / "key").write_text("the cluster's key")
    (pod / "out").symlink_to(tmp_path)
    (pod / "words").symlink_to(tmp_path / "key")
    os.mkfifo(pod / "pipe")
    (pod / "foreign").write_text("another user's")
    assert take_text(pod, pod / "out" / "key", ME[0], 100) == b""
    assert take_text(pod, pod / "words", ME[0], 100) == b""
    assert take_text(pod, pod / "pipe", ME[0], 100) == b""
    assert take_text(pod, pod / "foreign", ME[0] + 1, 100) == b""
    with pytest.raises(NotADirectoryError):
        open_beneath(pod, "out/new", ME)
    with pytest.raises(OSError, match="out"):
        make_file(pod, pod / "out" / "new", ME)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["key", "pod"]
    assert (tmp_path / "key").read_text() == "the cluster's key"
