"""How nodes that are played are shared out."""

from __future__ import annotations

import pytest

from cluster.up.hollow import arguments, names, parts, processes_for


@pytest.mark.parametrize(("nodes", "processes"), [(0, 0), (1, 1), (2_500, 1), (2_501, 2), (5_000, 2), (12_000, 5)])
def test_a_process_for_so_many_nodes(nodes: int, processes: int) -> None:
    assert processes_for(nodes) == processes


@pytest.mark.parametrize(("nodes", "processes"), [(10, 1), (10, 3), (5_000, 2), (3, 8), (1, 1), (0, 2), (0, 0)])
def test_every_node_is_played_by_one_process(nodes: int, processes: int) -> None:
    shared = parts(nodes, processes)
    assert [number for first, count in shared for number in range(first, first + count)] == [*range(1, nodes + 1)]
    assert len(shared) == min(nodes, processes)
    counts = [count for _, count in shared]
    assert not counts or max(counts) - min(counts) <= 1


def test_processes_of_several_prefixes_have_different_names() -> None:
    assert names(40, 1) == ["hollow"]
    assert names(40, 2) == ["hollow.1", "hollow.2"]
    assert names(40, 2, "gpu") == ["hollow-gpu.1", "hollow-gpu.2"]
    assert names(1, 2, "gpu") == ["hollow-gpu"]
    assert names(0, 0) == []


def test_what_the_user_adds_comes_last() -> None:
    given = arguments(
        (11, 10), prefix="gpu", master="m:1", host="h", credentials="/c", profile="test", further=["--zones=3"]
    )
    assert " ".join(given) == (
        "--prefix gpu --first 11 --count 10 --master m:1 --listen h:0 --credentials /c --profile test --zones=3"
    )
