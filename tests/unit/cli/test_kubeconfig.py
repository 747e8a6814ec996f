"""What a kubeconfig holds, and that merging one leaves everything else as it is."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from cluster.cli import kubeconfig
from cluster.cli.exits import CommandError
from cluster.rpc.identity import Identity, issue, make_ca
from cluster.rpc.tokens import TokenChecker
from cluster.up.layout import ClusterDir


@pytest.fixture
def directory(tmp_path: Path) -> ClusterDir:
    found = ClusterDir(tmp_path / "demo")
    make_ca(found.credentials("ca"), "demo")
    issue(found.credentials("ca"), found.credentials("admin"), Identity("admin"))
    return found


def test_it_holds_the_admins_certificate(directory: ClusterDir) -> None:
    config = kubeconfig.kubeconfig(directory, "127.1.0.251:6443", None)
    assert config["clusters"][0]["cluster"]["server"] == "https://127.1.0.251:6443"
    user = config["users"][0]["user"]
    key = (directory.credentials("admin") / "tls.key").read_bytes()
    assert base64.b64decode(user["client-key-data"]) == key
    assert config["current-context"] == config["contexts"][0]["name"] == "podium-demo"


def test_or_a_token(directory: ClusterDir) -> None:
    config = kubeconfig.kubeconfig(directory, "127.1.0.251:6443", 60.0)
    user = config["users"][0]["user"]
    assert list(user) == ["token"]
    ca = (directory.credentials("ca") / "ca.crt").read_bytes()
    assert str(TokenChecker(ca, "demo").identity_of(user["token"])) == "admin"


def test_merging_replaces_entries_of_the_same_name_and_keeps_all_others(directory: ClusterDir) -> None:
    existing: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {"colors": True},
        "clusters": [{"name": "prod", "cluster": {"server": "https://prod"}}, {"name": "podium-demo", "cluster": {}}],
        "users": None,
        "contexts": [],
        "current-context": "prod",
    }
    config = kubeconfig.kubeconfig(directory, "127.1.0.251:6443", None)
    merged = kubeconfig.merged(existing, config)
    assert merged["preferences"] == {"colors": True}
    assert merged["clusters"] == [existing["clusters"][0], *config["clusters"]]
    assert merged["users"] == config["users"]
    assert merged["current-context"] == "podium-demo"
    assert kubeconfig.merged(merged, config) == merged


def test_the_file_is_for_its_owner_alone_and_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config"
    kubeconfig._write(path, "a: 1\n")
    kubeconfig._write(path, "a: 2\n")
    assert yaml.safe_load(path.read_text()) == {"a": 2}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["config"]


def test_times_stay_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("users: [{name: a, user: {auth-provider: {config: {expiry: 2018-05-15T17:29:36Z}}}}]\n")
    found = kubeconfig._read(path)
    assert found["users"][0]["user"]["auth-provider"]["config"]["expiry"] == "2018-05-15T17:29:36Z"
    kubeconfig._write(path, yaml.safe_dump(found))
    assert kubeconfig._read(path) == found


def test_who_writes_it_locks_it_as_kubectl_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, lock = tmp_path / "new" / "config", tmp_path / "new" / "config.lock"
    monkeypatch.setattr(kubeconfig, "_LOCK_TIMEOUT_S", 0.05)
    with kubeconfig._locked(path):
        assert lock.exists()
        with pytest.raises(CommandError, match="is locked"), kubeconfig._locked(path):
            pass
        assert lock.exists(), "it is the other one's"
    assert not lock.exists()


def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "config", tmp_path / "file" / "deeper" / "config"):
        with pytest.raises(CommandError, match="cannot be written"), kubeconfig._locked(path):
            pass


@pytest.mark.parametrize("text", ["[]", "a: b: c", "clusters: [7]", "\x00"])
def test_a_file_that_is_something_else_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(CommandError, match="left as it is"):
        kubeconfig._read(path)
    assert kubeconfig._read(tmp_path / "none") == {}


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("8h", 28800), ("365d", 365 * 86400)])
def test_lifetimes(text: str, seconds: float) -> None:
    assert kubeconfig._seconds(text) == seconds
    for wrong in ("", "h", "8", "-8h", "1.5h", "366d", "0m", "8w"):
        with pytest.raises(click.UsageError):
            kubeconfig._seconds(wrong)
