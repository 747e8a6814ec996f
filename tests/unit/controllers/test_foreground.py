"""What an owner that is deleted in the foreground waits for."""

from __future__ import annotations

from cluster.api.kinds import AnyObject
from cluster.api.meta import to_time
from cluster.api.owners import FOREGROUND
from cluster.controllers.foreground import Step, step
from cluster.pb.v1 import core_pb2 as core


def thing(uid: str, *owners: str, going: bool = False, foreground: bool = False, blocks: bool = True) -> core.Pod:
    found = core.Pod(metadata=core.ObjectMeta(name=uid, uid=uid))
    for owner in owners:
        found.metadata.ownerReferences.add(uid=owner, blockOwnerDeletion=blocks)
    if going or foreground:
        found.metadata.deletionTimestamp.CopyFrom(to_time(1))
    if foreground:
        found.metadata.finalizers.append(FOREGROUND)
    return found


def next_of(owner: core.Pod, *others: core.Pod) -> Step:
    def owned_by(uid: str) -> list[AnyObject]:
        found: list[AnyObject] = [
            each for each in (owner, *others) if uid in [r.uid for r in each.metadata.ownerReferences]
        ]
        return found

    return step(owner.metadata.uid, owned_by(owner.metadata.uid), owned_by)


OWNER = thing("o", foreground=True)


def test_what_owns_nothing_goes() -> None:
    assert next_of(OWNER) == Step([], [], may_go=True)


def test_what_blocks_is_deleted_and_waited_for() -> None:
    assert next_of(OWNER, thing("a", "o"), thing("b", "o", going=True)) == Step([thing("a", "o")], [], may_go=False)


def test_what_does_not_block_waits_for_the_owners_end() -> None:
    assert next_of(OWNER, thing("a", "o", blocks=False)) == Step([], [], may_go=True)


def test_a_tree_goes_from_its_leaves() -> None:
    a, b = thing("a", "o"), thing("b", "a")
    assert next_of(OWNER, a, b) == Step([], [a], may_go=False)
    a = thing("a", "o", foreground=True)
    assert next_of(a, OWNER, b) == Step([b], [], may_go=False)


def test_those_who_own_each_other_do_not_wait_for_ever() -> None:
    a = thing("a", "c", foreground=True)
    assert not next_of(a, thing("b", "a"), thing("c", "b")).may_go
    b, c = thing("b", "a", foreground=True), thing("c", "b", foreground=True)
    assert next_of(a, b, c).may_go
    assert not next_of(a, b, c, thing("d", "a")).may_go
