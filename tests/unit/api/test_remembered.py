"""What is worked out once must be what would be worked out each time."""

from __future__ import annotations

from cluster.api import remembered as module
from cluster.api.defaults import apply_defaults, default_pod_spec
from cluster.api.remembered import remembered
from cluster.api.validation import validate
from cluster.pb.v1 import core_pb2 as core


def _pod(name: str, *, image: str = "host") -> core.Pod:
    pod = core.Pod(metadata=core.ObjectMeta(name=name, namespace="default"))
    container = pod.spec.containers.add(name="c", image=image, command=["true"])
    container.resources.limits["cpu"].string = "1000m"
    return pod


def test_a_function_of_bytes_is_asked_once() -> None:
    asked: list[tuple[bytes, int]] = []

    @remembered
    def length(data: bytes, plus: int) -> int:
        asked.append((data, plus))
        return len(data) + plus

    assert [length(b"abc", 1), length(b"abc", 1), length(b"abc", 2), length(b"ab", 1)] == [4, 4, 5, 3]
    assert asked == [(b"abc", 1), (b"abc", 2), (b"ab", 1)]


def test_what_is_large_is_not_kept() -> None:
    asked: list[int] = []

    @remembered
    def length(data: bytes) -> int:
        asked.append(len(data))
        return len(data)

    large = bytes(module.LARGE_BYTES + 1)
    assert length(large) == length(large) == len(large)
    assert asked == [len(large)] * 2


def test_defaults_are_the_same_the_second_time_and_belong_to_their_object() -> None:
    first, second = _pod("a"), _pod("b")
    apply_defaults(first)
    first.spec.containers[0].name = "changed"
    apply_defaults(second)
    assert second.spec.containers[0].name == "c"
    assert second.spec.containers[0].resources.requests["cpu"].string == "1"
    assert second.spec.restartPolicy == "Always"
    again = second.spec.SerializeToString(deterministic=True)
    default_pod_spec(second.spec)
    assert second.spec.SerializeToString(deterministic=True) == again


def test_an_empty_specification_gets_its_defaults_too() -> None:
    for _ in range(2):
        pod = core.Pod()
        apply_defaults(pod)
        assert pod.HasField("spec")
        assert pod.spec.terminationGracePeriodSeconds == 30


def test_errors_are_told_each_time_with_the_path_of_the_object() -> None:
    for _ in range(2):
        pod = _pod("a", image=" odd ")
        apply_defaults(pod)
        assert [error.path for error in validate(pod)] == ["spec.containers[0].image"]
        rc = core.ReplicationController(metadata=core.ObjectMeta(name="rc", namespace="default"))
        rc.spec.template.metadata.labels["app"] = "a"
        rc.spec.template.spec.CopyFrom(pod.spec)
        apply_defaults(rc)
        assert [error.path for error in validate(rc)] == ["spec.template.spec.containers[0].image"]


def test_what_is_fine_in_a_pod_need_not_be_in_a_template() -> None:
    pod = _pod("a")
    pod.spec.restartPolicy = "Never"
    rc = core.ReplicationController(metadata=core.ObjectMeta(name="rc", namespace="default"))
    rc.spec.template.metadata.labels["app"] = "a"
    rc.spec.template.spec.CopyFrom(pod.spec)
    for obj in (pod, rc):
        apply_defaults(obj)
    assert validate(pod) == []
    assert [error.path for error in validate(rc)] == ["spec.template.spec.restartPolicy"]
