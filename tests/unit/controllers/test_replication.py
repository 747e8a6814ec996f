"""Claims, plans and reports of a replication controller."""

from __future__ import annotations

import pytest

from cluster.api.conditions import get_condition
from cluster.api.meta import Key, key_of, to_time
from cluster.controllers.expectations import Expectations
from cluster.controllers.replication import (
    Failure,
    Ledger,
    batch_status,
    claim,
    new_pod,
    next_available_in,
    plan,
    significant_change,
    slow_start,
    status_of,
)
from cluster.pb.v1 import core_pb2 as core
from tests.unit.controllers.objects import NOW_S, controller, names, owned_by, pod

RC = controller()


def test_claims_follow_owner_and_selector() -> None:
    stray = pod("stray", owner=RC, labels={"app": "other"})
    claims = claim(
        RC,
        owned=[
            pod("mine", owner=RC),
            stray,
            pod("done", owner=RC, phase="Failed"),
            pod("off", owner=RC, terminating=True),
        ],
        orphans=[pod("free"), pod("foreign", labels={"app": "db"}), pod("gone", phase="Succeeded")],
    )
    assert (names(claims.kept), names(claims.adopt), names(claims.release)) == (["mine"], ["free"], ["stray"])


def test_a_terminating_controller_adopts_and_releases_nothing() -> None:
    going = controller()
    going.metadata.deletionTimestamp.CopyFrom(to_time(NOW_S))
    claims = claim(going, [pod("stray", owner=going, labels={"x": "y"})], [pod("free")])
    assert (names(claims.kept), claims.adopt, claims.release) == (["stray"], [], [])
    assert plan(going, []).create == 0


def test_an_empty_selector_claims_nothing() -> None:
    rc = controller()
    rc.spec.selector.clear()
    assert claim(rc, [], [pod("free")]).adopt == []


@pytest.mark.parametrize(
    ("replicas", "active", "create", "delete"),
    [(3, 0, 3, 0), (3, 3, 0, 0), (3, 5, 0, 2), (0, 4, 0, 4), (2000, 0, 500, 0), (0, 700, 0, 500)],
)
def test_plans(replicas: int, active: int, create: int, delete: int) -> None:
    todo = plan(controller(replicas=replicas), [pod(f"p{i}", owner=RC) for i in range(active)])
    assert (todo.create, len(todo.delete)) == (create, delete)


@pytest.mark.parametrize(
    ("count", "batches"),
    [(0, []), (1, [1]), (3, [1, 2]), (10, [1, 2, 4, 3]), (500, [1, 2, 4, 8, 16, 32, 64, 128, 245])],
)
def test_slow_start(count: int, batches: list[int]) -> None:
    assert list(slow_start(count)) == batches


def test_a_new_pod_is_the_template_with_an_owner() -> None:
    made = new_pod(RC)
    assert made.metadata.generateName == "web-"
    assert dict(made.metadata.labels) == {"app": "web"}
    assert list(made.metadata.ownerReferences) == [owned_by(RC)]
    assert made.spec == RC.spec.template.spec


def test_status_counts() -> None:
    rc = controller()
    rc.spec.minReadySeconds = 10
    rc.spec.template.metadata.labels["extra"] = "1"
    rc.metadata.generation = 7
    pods = [
        pod("a", owner=rc, labels={"app": "web", "extra": "1"}, ready_since_s=NOW_S - 20),
        pod("b", owner=rc, ready_since_s=NOW_S - 4),
        pod("c", owner=rc),
    ]
    status = status_of(rc, pods, now_s=NOW_S)
    assert (status.replicas, status.fullyLabeledReplicas, status.readyReplicas, status.availableReplicas) == (
        3,
        1,
        2,
        1,
    )
    assert status.observedGeneration == 7
    assert next_available_in(pods, 10, NOW_S) == pytest.approx(6)
    assert next_available_in(pods, 0, NOW_S) is None


def test_created_pods_count_before_they_are_seen() -> None:
    status = status_of(RC, [pod("a", owner=RC)], now_s=NOW_S, unseen=2)
    assert (status.replicas, status.fullyLabeledReplicas, status.readyReplicas) == (3, 3, 0)
    after = batch_status(status, 4)
    assert (after.replicas, after.createdReplicas) == (7, 4)


def test_failure_condition_comes_stays_and_goes() -> None:
    rc = controller()
    rc.status.CopyFrom(status_of(rc, [], now_s=NOW_S, failure=Failure("FailedCreate", "no")))
    condition = get_condition(rc.status, "ReplicaFailure")
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == ("True", "FailedCreate", "no")
    assert status_of(rc, [], now_s=NOW_S + 9, failure=Failure("FailedCreate", "still no")) == rc.status
    assert get_condition(status_of(rc, [], now_s=NOW_S), "ReplicaFailure") is None


def test_a_report_of_nothing_new_is_equal() -> None:
    rc = controller()
    rc.status.CopyFrom(status_of(rc, [pod("a", owner=rc)], now_s=NOW_S))
    assert status_of(rc, [pod("a", owner=rc)], now_s=NOW_S + 5) == rc.status


def test_ledger_prefers_its_own_newer_version_until_the_cache_has_it() -> None:
    ledger = Ledger("uid-web", latest=controller(version=9))
    assert ledger.newest(controller(version=5)).metadata.resourceVersion == "9"
    assert ledger.is_echo(controller(version=9))
    assert not ledger.is_echo(controller(version=10))
    assert ledger.newest(controller(version=10)).metadata.resourceVersion == "10"


def test_ledger_notices_foreign_creations() -> None:
    ledger = Ledger("uid-web")
    assert not ledger.must_recount(controller())
    assert ledger.must_recount(controller(created=2))
    assert Ledger("uid-web").must_recount(controller(created=2)), "after a restart nothing is known"


def test_what_can_change_the_number_of_pods() -> None:
    running, ready = pod("a", owner=RC), pod("a", owner=RC, ready_since_s=1)
    assert not significant_change(running, ready)
    assert significant_change(running, pod("a", owner=RC, phase="Failed"))
    assert significant_change(running, pod("a", owner=RC, terminating=True))
    assert significant_change(running, pod("a", owner=RC, labels={"app": "x"}))
    assert significant_change(running, pod("a"))
    assert significant_change(running, None)
    assert not significant_change(pod("a", terminating=True), None)


class TestExpectations:
    """The worked example of the file, and its corners."""

    def cache(self, *pods: core.Pod) -> dict[Key, core.Pod]:
        return {key_of(pod): pod for pod in pods}

    def test_worked_example(self) -> None:
        expectations = Expectations()
        c = pod("c")
        expectations.expect_created([pod("a", version=7), pod("b", version=8)])
        expectations.expect_deleted([c])
        assert not expectations.settle(self.cache(c).get, 6)
        assert expectations.unseen_creations == 2
        assert expectations.staying([c, pod("d")]) == [pod("d")]
        assert not expectations.settle(self.cache(c).get, 8)
        assert expectations.unseen_creations == 0
        assert expectations.settle(self.cache(pod("c", terminating=True)).get, 9)

    def test_a_created_pod_is_seen_when_the_cache_holds_it_or_has_passed_it(self) -> None:
        expectations = Expectations()
        expectations.expect_created([pod("a", version=7)])
        assert expectations.settle(self.cache(pod("a", version=7)).get, 6)
        expectations.expect_created([pod("a", version=7)])
        assert expectations.settle(self.cache().get, 7), "it came and went"

    def test_a_change_is_not_seen_in_an_older_version(self) -> None:
        expectations = Expectations()
        expectations.expect_written([pod("a", version=7)])
        assert not expectations.settle(self.cache(pod("a", version=3)).get, 6)
        assert expectations.unseen_creations == 0
        assert expectations.settle(self.cache(pod("a", version=8)).get, 6)

    def test_a_pod_of_the_same_name_is_another_pod(self) -> None:
        expectations = Expectations()
        expectations.expect_deleted([pod("a")])
        other = pod("a")
        other.metadata.uid = "another"
        assert expectations.staying([other]) == [other]
        assert expectations.settle(self.cache(other).get, 0)
