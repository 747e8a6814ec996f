"""The directories and files of volumes, and how they are kept."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from cluster.pb.v1 import core_pb2 as core
from node_agent.confine import NOBODY
from node_agent.environment import MissingConfiguration, Place
from node_agent.ownership import furnish
from node_agent.volume_mounts import within_volume
from node_agent.volumes import (
    DATA,
    Shelves,
    UnfitPath,
    bytes_in,
    make_volume,
    over_limit,
    remove_volumes,
    write_files,
)
from tests.unit.node_agent.kit import make_pod

ME = (os.geteuid(), os.getegid())

PLACE = Place("node-1", "127.7.0.10", "127.7.16.3", "/var/pod", "/usr/bin:/bin")


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    for name in ("pod", "memory", "data"):
        (tmp_path / name).mkdir(mode=0o700)
    return Shelves(tmp_path / "pod", tmp_path / "memory" / "uid", tmp_path / "data")


def make(shelves: Shelves, source: core.VolumeSource, **found: core.ConfigMap | core.Secret) -> Path:
    volume = core.Volume(name="v", volumeSource=source)
    configuration = {(type(value).__name__, name): value for name, value in found.items()}
    return make_volume(volume, make_pod(uid="uid"), shelves, PLACE, configuration)


def config_map_source(name: str = "web", **fields: object) -> core.VolumeSource:
    source = core.ConfigMapVolumeSource(localObjectReference={"name": name}, defaultMode=0o644, **fields)  # type: ignore[arg-type]
    return core.VolumeSource(configMap=source)


# --- hostPath


@pytest.mark.parametrize("type", ["", "Directory", "DirectoryOrCreate"])
def test_a_directory_of_the_machine(shelves: Shelves, tmp_path: Path, type: str) -> None:
    there = tmp_path / "there"
    there.mkdir()
    source = core.VolumeSource(hostPath=core.HostPathVolumeSource(path=str(there), type=type))
    assert make(shelves, source) == there


@pytest.mark.parametrize(("type", "is_right"), [("DirectoryOrCreate", Path.is_dir), ("FileOrCreate", Path.is_file)])
def test_what_is_not_there_is_made_if_asked_for(shelves: Shelves, tmp_path: Path, type: str, is_right: object) -> None:
    path = tmp_path / "new"
    source = core.VolumeSource(hostPath=core.HostPathVolumeSource(path=str(path), type=type))
    made = make(shelves, source)
    assert made == path
    assert is_right(made)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("type", "what", "message"),
    [
        ("", "nothing", "does not exist"),
        ("Directory", "file", "is not a directory"),
        ("File", "directory", "is not a file"),
        ("Socket", "file", "is not a socket file"),
        ("Socket", "nothing", "is not a socket file"),
    ],
)
def test_what_is_not_what_it_should_be(shelves: Shelves, tmp_path: Path, type: str, what: str, message: str) -> None:
    path = tmp_path / "there"
    if what == "file":
        path.touch()
    elif what == "directory":
        path.mkdir()
    source = core.VolumeSource(hostPath=core.HostPathVolumeSource(path=str(path), type=type))
    with pytest.raises(UnfitPath, match=message):
        make(shelves, source)
    assert path.exists() == (what != "nothing")


def test_a_socket(shelves: Shelves, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        source = core.VolumeSource(hostPath=core.HostPathVolumeSource(path=str(path), type="Socket"))
        assert make(shelves, source) == path


# --- parts of volumes


def test_a_part_of_a_volume_is_made_and_does_not_lead_out(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "out").symlink_to(tmp_path)
    (volume / "in").symlink_to("sub")
    assert within_volume(volume, "sub/deep", ME) == volume / "sub" / "deep"
    assert (volume / "sub" / "deep").is_dir()
    assert within_volume(volume, "in", ME) == volume / "sub"
    for outside in ("out", "out/volume/../x", "../other"):
        with pytest.raises(UnfitPath, match="leads out of its volume"):
            within_volume(volume, outside, ME)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["volume"]


# --- files of keys


def test_files_change_all_at_once_and_nothing_is_left_of_what_was(shelves: Shelves) -> None:
    web = core.ConfigMap(data={"a": "1", "b": "2"}, binaryData={"c": b"\xff"})
    volume = make(shelves, config_map_source(), web=web)
    assert {each.name: each.read_bytes() for each in volume.iterdir() if each.is_file()} == {
        "a": b"1",
        "b": b"2",
        "c": b"\xff",
    }
    first = (volume / DATA).resolve()
    make(shelves, config_map_source(), web=web)
    assert (volume / DATA).resolve() == first, "what is the same is not written anew"
    web = core.ConfigMap(data={"a": "new"})
    make(shelves, config_map_source(), web=web)
    assert sorted(each.name for each in volume.iterdir()) == sorted([DATA, (volume / DATA).resolve().name, "a"])
    assert (volume / "a").read_text() == "new"


def test_keys_get_the_paths_and_modes_that_are_asked_for(shelves: Shelves) -> None:
    web = core.Secret(data={"a": b"1", "b": b"2"})
    items = [core.KeyToPath(key="a", path="x/y"), core.KeyToPath(key="b", path="z", mode=0o440)]
    web_source = core.SecretVolumeSource(secretName="web", defaultMode=0o400, items=items)
    volume = make(shelves, core.VolumeSource(secret=web_source), web=web)
    assert volume.is_relative_to(shelves.memory), "values of secrets do not reach a disk"
    assert [(volume / name).stat().st_mode & 0o777 for name in ("x/y", "z")] == [0o400, 0o440]
    web_source.items.add(key="absent", path="absent")
    with pytest.raises(MissingConfiguration, match="non-existent config key: absent"):
        make(shelves, core.VolumeSource(secret=web_source), web=web)
    web_source.optional = True
    make(shelves, core.VolumeSource(secret=web_source), web=web)
    with pytest.raises(MissingConfiguration, match='configmap "web" not found'):
        make(shelves, config_map_source())
    assert list(make(shelves, config_map_source(optional=True)).glob("[!.]*")) == []


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": (b"1", 0o644)})
    before = sorted(each.name for each in tmp_path.iterdir())
    for _ in range(3):
        with pytest.raises(OSError, match="a"):
            write_files(tmp_path, {"a": (b"2", 0o644), "a/b": (b"3", 0o644)})
    assert sorted(each.name for each in tmp_path.iterdir()) == before
    assert (tmp_path / "a").read_bytes() == b"1", "what was there stays there"


def test_fields_of_the_pod_become_files(shelves: Shelves) -> None:
    source = core.VolumeSource(downwardAPI=core.DownwardAPIVolumeSource(defaultMode=0o644))
    source.downwardAPI.items.add(path="name").fieldRef.fieldPath = "metadata.name"
    cpu = source.downwardAPI.items.add(path="cpu", mode=0o600)
    cpu.resourceFieldRef.containerName, cpu.resourceFieldRef.resource = "c1", "limits.cpu"
    volume = make(shelves, source)
    assert [(volume / name).read_text() for name in ("name", "cpu")] == ["web", "0"]
    assert (volume / "cpu").stat().st_mode & 0o777 == 0o600


# --- sizes and ends


def test_what_a_directory_holds(shelves: Shelves) -> None:
    source = core.EmptyDirVolumeSource(sizeLimit=core.Quantity(string="1Mi"))
    volume = core.Volume(name="v", volumeSource=core.VolumeSource(emptyDir=source))
    directory = make(shelves, volume.volumeSource)
    (directory / "half").write_bytes(os.urandom(600_000))
    os.link(directory / "half", directory / "same")
    assert 600_000 <= bytes_in(directory) < 700_000, "hard links count once"
    assert over_limit([volume], shelves) == ""
    (directory / "more").write_bytes(os.urandom(600_000))
    assert over_limit([volume], shelves) == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi".'
    data = make(shelves, core.VolumeSource(dataDirectory=core.DataDirectoryVolumeSource(name="db")))
    assert data == shelves.data / "default" / "db"
    (data / "kept").touch()
    remove_volumes(shelves)
    assert not directory.exists()
    assert (data / "kept").exists()


# --- of root, for others


def test_what_is_an_ordinary_users_is_theirs_and_cannot_mislead_the_agent(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give something away")
    shelves = Shelves(tmp_path / "pod", tmp_path / "memory" / "uid", tmp_path / "data", (NOBODY, NOBODY))
    (tmp_path / "pod").mkdir(mode=0o700)
    furnish(shelves.pod, (NOBODY, NOBODY))
    web = core.ConfigMap(data={"a": "1"})
    files = make(shelves, config_map_source(), web=web)
    assert (files.stat().st_uid, files.stat().st_mode & 0o777) == (0, 0o755), "nothing can be put there"
    assert ((files / DATA).stat().st_uid, (files / DATA).stat().st_mode & 0o777) == (0, 0o755)
    assert (files / "a").stat().st_uid == NOBODY
    (tmp_path / "other").mkdir(mode=0o700)
    other = Shelves(tmp_path / "other", tmp_path / "memory" / "other", tmp_path / "data", (NOBODY, NOBODY))
    empty = make(other, core.VolumeSource(emptyDir=core.EmptyDirVolumeSource()))
    assert (empty.stat().st_uid, empty.stat().st_mode & 0o777) == (NOBODY, 0o700)
    source = core.VolumeSource(dataDirectory=core.DataDirectoryVolumeSource(name="db"))
    data = make(shelves, source)
    (data / "file").write_text("root's before")
    os.link(data / "file", data / "link")
    (data / "away").symlink_to(tmp_path / "pod")
    assert data.stat().st_uid == NOBODY
    again = Shelves(shelves.pod, shelves.memory, shelves.data)
    make(again, source)
    assert {each.lstat().st_uid for each in (data, *data.iterdir())} == {0}
    make(shelves, source)
    assert {each.lstat().st_uid for each in (data, *data.iterdir())} == {NOBODY}
    assert shelves.pod.stat().st_uid == 0, "through no link"
