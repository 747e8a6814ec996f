"""The disk of a node is full: its pods run on, what is lost is said, and all is well when there is room again."""

from __future__ import annotations

import os
from pathlib import Path

from cluster.actor.clock import SystemClock
from cluster.testing import Cluster
from node_agent.runtime.process import ProcessRuntime
from tests.e2e.workloads import pod
from tests.kit.disks import mounted_disk
from tests.kit.processes import mentioning
from tests.unit.node_agent.kit import until
from tests.unit.node_agent.spawner_scene import Make, program, within

__all__ = ["program"]

MIB = 1 << 20


async def test_output_that_the_disk_does_not_take_is_counted_and_the_program_does_not_wait(
    program: Make, tmp_path: Path
) -> None:
    with mounted_disk(tmp_path / "disk", 4 * MIB) as disk:
        runtime = ProcessRuntime(disk.directory, clock=SystemClock(), log_max_bytes=MIB, log_files=2)
        await runtime.start()
        try:
            script = "echo begin; read a; yes lost | head -c 500000; echo half > mark; read b; echo end; exit 3"
            one = program("sh", "-c", script)
            log = disk.directory / "0.log"
            named = type(one)(one.run_id, one.argv, one.env, one.cwd, str(log), stdin=True)
            await runtime.run(named)
            await until(lambda: log.read_text() == "begin\n")
            disk.fill()
            await runtime.write_stdin(one.run_id, b"a\n")
            await until((tmp_path / "mark").exists)
            disk.empty()
            await runtime.write_stdin(one.run_id, b"b\n")
            ended = await within(runtime.wait(one.run_id))
            assert ended.exit_code == 3
            text = log.read_text()
            assert text.startswith("begin\n")
            assert "bytes of output were lost here, the disk did not take them]" in text
            assert text.endswith("end\n")
            assert ended.tail.endswith("end\n")
        finally:
            await runtime.stop()


def test_pods_run_on_and_are_reported_when_there_is_room_again(tmp_path: Path) -> None:
    """Restarts are local, and neither a master nor a checkpoint that cannot be written keeps them from it."""
    with mounted_disk(tmp_path / "disk", 96 * MIB) as disk:
        options = ["--agent-arg", "eviction-hard=none"]
        with Cluster.start(nodes=1, home=disk.directory, options=options) as cluster:
            token = f"0.7{os.getpid()}"
            crash = f"sleep {token}; exit 1"
            cluster.apply(pod("stays", "sleep 1000"))
            cluster.apply(pod("again", crash, restart="Always"))
            cluster.wait("pod/stays")
            kept = cluster.get("pod", "stays").status.containerStatuses[0].containerID
            before = cluster.get("pod", "again").status.containerStatuses[0].restartCount
            disk.fill()
            agent, seen = cluster.pid("node-1"), set[int]()

            def restarts() -> bool:
                seen.update(found.pid for found in mentioning(f"sleep {token}") if found.title.startswith("sleep"))
                return len(seen) >= 3

            cluster.wait_until(restarts, "it is started again and again")
            disk.empty()
            cluster.wait_until(
                lambda: cluster.get("pod", "again").status.containerStatuses[0].restartCount > before,
                "what happened meanwhile is reported",
            )
            assert cluster.pid("node-1") == agent
            assert cluster.get("pod", "stays").status.containerStatuses[0].containerID == kept
            cluster.apply(pod("fresh", "sleep 1000"))
            cluster.wait("pod/fresh")
