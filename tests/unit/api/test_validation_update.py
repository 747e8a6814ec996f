"""What an update may change, and what is the master's, the scheduler's or nobody's to change."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

from cluster.api.validation import validate_update
from cluster.pb.v1 import core_pb2 as core
from tests.unit.api.test_validation import NODE, POD, SERVICE, made


def updated(data: dict[str, Any], change: Callable[[Any], None], old: Callable[[Any], None] | None = None) -> list[str]:
    before = made(data)
    before.metadata.uid = "u1"
    before.metadata.generation = 3
    before.metadata.creationTimestamp.seconds = 100
    if old is not None:
        old(before)
    after = deepcopy(before)
    change(after)
    return [str(error) for error in validate_update(after, before)]


def set_time(field: str, obj: Any) -> None:
    getattr(obj.metadata, field).seconds = 7


def paths(errors: list[str]) -> list[str]:
    return [error.partition(": ")[0] for error in errors]


def test_metadata_that_the_master_owns() -> None:
    assert paths(updated(POD, lambda pod: pod.metadata.MergeFrom(core.ObjectMeta(uid="u2")))) == ["metadata.uid"]
    assert paths(updated(POD, lambda pod: pod.metadata.MergeFrom(core.ObjectMeta(generation=2)))) == [
        "metadata.generation"
    ]
    for field in ("creationTimestamp", "deletionTimestamp"):
        assert paths(updated(POD, partial(set_time, field))) == [f"metadata.{field}"]
    grace = core.ObjectMeta(deletionGracePeriodSeconds=1)
    assert paths(updated(POD, lambda pod: pod.metadata.MergeFrom(grace))) == ["metadata.deletionGracePeriodSeconds"]
    assert paths(updated(POD, lambda pod: pod.metadata.MergeFrom(core.ObjectMeta(name="x")))) == ["metadata.name"]


def test_leaving_out_what_the_master_owns_is_fine_and_so_is_losing_the_nanoseconds() -> None:
    def leave_out(pod: core.Pod) -> None:
        for field in ("uid", "generation", "creationTimestamp"):
            pod.metadata.ClearField(field)

    assert updated(POD, leave_out) == []
    assert updated(POD, lambda pod: pod.metadata.creationTimestamp.MergeFrom(core.Time(nanos=5))) == []


def test_finalizers_of_an_object_being_deleted_can_only_go() -> None:
    def deleting(pod: core.Pod) -> None:
        pod.metadata.deletionTimestamp.seconds = 5
        pod.metadata.finalizers.extend(["a.b/c", "a.b/d"])

    assert updated(POD, lambda pod: pod.metadata.finalizers.pop(), deleting) == []
    errors = updated(POD, lambda pod: pod.metadata.finalizers.append("a.b/e"), deleting)
    assert paths(errors) == ["metadata.finalizers"]
    assert updated(POD, lambda pod: pod.metadata.finalizers.append("a.b/e")) == []


def test_a_pod_of_an_older_version_that_had_no_security_context_can_be_written() -> None:
    assert updated(POD, lambda pod: pod.spec.securityContext.SetInParent()) == []


def test_a_pod_may_change_its_labels_and_images_and_nothing_else() -> None:
    assert updated(POD, lambda pod: pod.metadata.labels.update({"a": "b"})) == []
    assert updated(POD, lambda pod: pod.spec.containers[0].MergeFrom(core.Container(image="x"))) == []
    assert paths(updated(POD, lambda pod: pod.spec.MergeFrom(core.PodSpec(nodeName="n")))) == ["spec.nodeName"]
    errors = updated(POD, lambda pod: pod.spec.containers[0].command.append("x"))
    assert errors == [
        (
            "spec.containers[0].command: Forbidden: pod updates may not change fields other than"
            " `spec.containers[*].image`, `spec.activeDeadlineSeconds` or `spec.tolerations`"
            " (only additions to existing tolerations)"
        )
    ]
    assert paths(updated(POD, lambda pod: pod.spec.MergeFrom(core.PodSpec(restartPolicy="Never")))) == [
        "spec.restartPolicy"
    ]
    assert paths(updated(POD, lambda pod: pod.spec.containers.add(name="b"))) == ["spec.containers"]
    assert updated(POD, lambda pod: pod.status.MergeFrom(core.PodStatus(phase="Running"))) == []


def test_the_time_that_a_pod_may_be_active_can_be_set_and_become_shorter() -> None:
    def limit(seconds: int) -> Callable[[core.Pod], None]:
        return lambda pod: pod.spec.MergeFrom(core.PodSpec(activeDeadlineSeconds=seconds))

    assert updated(POD, limit(60)) == []
    assert updated(POD, limit(60), limit(60)) == updated(POD, limit(59), limit(60)) == []
    (longer,) = updated(POD, limit(61), limit(60))
    assert longer == "spec.activeDeadlineSeconds: Invalid value: 61: must be less than or equal to previous value"
    (gone,) = updated(POD, lambda pod: pod.spec.ClearField("activeDeadlineSeconds"), limit(60))
    assert gone.endswith(": Invalid value: null: must not update from a positive integer to nil value")


def test_tolerations_can_be_added_and_their_seconds_changed() -> None:
    def tolerant(pod: core.Pod) -> None:
        pod.spec.tolerations.add(key="a", operator="Exists", effect="NoExecute", tolerationSeconds=300)

    assert updated(POD, lambda pod: pod.spec.tolerations.add(operator="Exists"), tolerant) == []
    longer = core.Toleration(tolerationSeconds=1)
    assert updated(POD, lambda pod: pod.spec.tolerations[0].MergeFrom(longer), tolerant) == []
    assert paths(updated(POD, lambda pod: pod.spec.tolerations.pop(), tolerant)) == ["spec.tolerations"]


def set_address(address: str, service: core.Service) -> None:
    service.spec.clusterIP = address


def set_cidr(cidr: str, node: core.Node) -> None:
    node.spec.podCIDR = cidr


def test_addresses_are_given_once() -> None:
    one, two = partial(set_address, "127.3.1.1"), partial(set_address, "127.3.1.2")
    assert updated(SERVICE, one) == []
    assert paths(updated(SERVICE, two, one)) == ["spec.clusterIP"]
    assert updated(SERVICE, lambda service: service.spec.ClearField("clusterIP"), one) == []
    assert paths(updated(SERVICE, partial(set_address, "None"), one)) == ["spec.clusterIP"]
    assert updated(SERVICE, lambda service: service.spec.MergeFrom(core.ServiceSpec(type="NodePort")), one) == []
    external = core.ServiceSpec(type="ExternalName", externalName="db.example")
    assert updated(SERVICE, lambda service: service.spec.CopyFrom(external), one) == [], "it has no address then"
    assert updated(NODE, partial(set_cidr, "127.3.16.0/25")) == []
    cidrs = partial(set_cidr, "127.3.17.0/25"), partial(set_cidr, "127.3.16.0/25")
    assert paths(updated(NODE, *cidrs)) == ["spec.podCIDR"]


def test_kinds_do_not_change() -> None:
    assert [error.path for error in validate_update(made(NODE), made(POD))] == ["kind"]
