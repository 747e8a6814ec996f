"""Names of runs, and whose they are."""

from __future__ import annotations

import random

from node_agent.run_ids import CommandId, RunId, pod_of


def test_of_containers_runs() -> None:
    for run_id in (RunId("a-b", "web", 3), RunId("a-b", "web", 3, 2)):
        assert RunId.parse(str(run_id)) == run_id
        assert CommandId.parse(str(run_id)) is None
    assert RunId.parse("nonsense") is None


def test_of_commands() -> None:
    command_id = CommandId.new("a-b", "web", random.Random(1))
    assert CommandId.parse(str(command_id)) == command_id
    assert RunId.parse(str(command_id)) is None
    rng = random.Random(1)
    assert len({str(CommandId.new("a-b", "web", rng)) for _ in range(100)}) == 100, "each has its own"


def test_whose_they_are() -> None:
    texts = ["a-b.web.3", "a-b.web.3.1", "a-b.web.exec-x7k2p", "trial-77", "a.b", "a.b.c"]
    assert [pod_of(text) for text in texts] == ["a-b", "a-b", "a-b", "", "", ""]
