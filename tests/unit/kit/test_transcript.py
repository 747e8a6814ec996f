"""The checkers of transcripts see what they are there for."""

from __future__ import annotations

import pytest

from cluster.pb.v1 import core_pb2 as core
from tests.kit.transcript import Change, bound_once, never_too_many, removed


def rc(revision: int, replicas: int) -> Change:
    metadata = core.ObjectMeta(name="web", namespace="default", uid="rc")
    spec = core.ReplicationControllerSpec(replicas=replicas)
    return Change(revision, core.ReplicationController(metadata=metadata, spec=spec))


def pod(revision: int, uid: str, *, node: str = "", phase: str = "Pending", deleted: bool = False) -> Change:
    owner = core.OwnerReference(kind="ReplicationController", name="web", uid="rc", controller=True)
    metadata = core.ObjectMeta(name=uid, namespace="default", uid=uid, ownerReferences=[owner])
    obj = core.Pod(metadata=metadata, spec=core.PodSpec(nodeName=node), status=core.PodStatus(phase=phase))
    return Change(revision, obj, deleted)


def test_as_many_as_asked_for_are_fine_also_when_fewer_are_asked_for_later() -> None:
    changes = [rc(5, 2), pod(6, "a"), pod(6, "b"), rc(7, 1), pod(8, "b", deleted=True), pod(9, "a", phase="Running")]
    assert never_too_many(changes) == 2


def test_a_failed_pod_makes_room() -> None:
    assert never_too_many([rc(1, 1), pod(2, "a"), pod(3, "a", phase="Failed"), pod(4, "b")]) == 2


def test_one_too_many_is_seen_with_its_revision() -> None:
    with pytest.raises(AssertionError, match="revision 9: 2 active pods, 1 asked for"):
        never_too_many([rc(5, 1), pod(6, "a"), pod(9, "c")])
    with pytest.raises(AssertionError, match="revision 8: 2 active pods, 1 asked for"):
        never_too_many([rc(5, 2), pod(6, "a"), rc(7, 1), pod(8, "b")])


def test_a_pod_that_moves_is_seen() -> None:
    assert bound_once([pod(1, "a"), pod(2, "a", node="n1"), pod(3, "a", node="n1"), pod(4, "b", node="n2")]) == 2
    with pytest.raises(AssertionError, match="went from n1 to 'n2'"):
        bound_once([pod(2, "a", node="n1"), pod(3, "a", node="n2")])


def test_removed_are_those_deleted() -> None:
    assert set(removed([pod(1, "a"), pod(2, "b"), pod(3, "a", deleted=True)])) == {"a"}
