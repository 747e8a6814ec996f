"""Faults are removed at their end."""

from __future__ import annotations

from cluster.api.meta import key_of, to_time
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import meta
from tests.unit.controllers.rig import running


def fault(name: str, ends_at: float, uid: str = "") -> core.Fault:
    made = core.Fault(metadata=meta(name), spec=core.FaultSpec(durationSeconds=5, refuse=True))
    made.spec.target.service = "web"
    made.status.endsAt.CopyFrom(to_time(ends_at))
    return made


async def test_each_goes_at_its_end_and_not_before() -> None:
    async with running() as rig:
        now = rig.clock.wall()
        for name, seconds in (("soon", 5), ("later", 50), ("over", -1)):
            rig.cluster.put(fault(name, now + seconds))
        await rig.run(1.0)
        assert {each.metadata.name for each in rig.cluster.objects(core.Fault)} == {"soon", "later"}
        await rig.run(5.0)
        assert {each.metadata.name for each in rig.cluster.objects(core.Fault)} == {"later"}
        (later,) = rig.cluster.objects(core.Fault)
        rig.cluster.remove(later)
        rig.cluster.put(fault("later", now + 500))
        await rig.run(60.0)
        assert [key_of(each).name for each in rig.cluster.objects(core.Fault)] == ["later"], "another of the same name"
