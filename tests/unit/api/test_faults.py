"""What a fault may say, and how it is said."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.faults import fault_target, fault_words
from cluster.api.validation import validate, validate_update
from tests.unit.api.test_validation import FAULT, made, meta, spec


@pytest.mark.parametrize(
    "patch",
    [
        spec(delayMilliseconds=60_000, jitterMilliseconds=1, bandwidthBytesPerSecond=100, lossPercent=100, seed=-5),
        spec(delayMilliseconds=None, halfOpen=True, durationSeconds=1),
        spec(target={"pod": "web-x2"}, refuse=True, durationSeconds=3600),
        spec(target={"service": None, "node": "n1"}, delayMilliseconds=None, partition=True),
    ],
)
def test_what_it_may_say(patch: dict[str, Any]) -> None:
    assert validate(made(FAULT, patch)) == []


@pytest.mark.parametrize(
    ("patch", "path", "message"),
    [
        (spec(durationSeconds=None), "spec.durationSeconds", "a fault has an end"),
        (spec(durationSeconds=0), "spec.durationSeconds", "from 1 to 3600"),
        (spec(durationSeconds=3601), "spec.durationSeconds", "from 1 to 3600"),
        (spec(target=None), "spec.target", "exactly one of"),
        (spec(target={"node": "n"}), "spec.target", "exactly one of"),
        (spec(target={"service": "a/b"}), "spec.target.service", "DNS-1035"),
        (spec(target={"service": None, "node": "n", "pod": "p"}, partition=True), "spec.target.pod", "goes with"),
        (spec(delayMilliseconds=None), "spec", "at least one of delayMilliseconds"),
        (spec(delayMilliseconds=60_001), "spec.delayMilliseconds", "from 1 to 60000"),
        (spec(delayMilliseconds=0), "spec.delayMilliseconds", "from 1 to 60000"),
        (spec(lossPercent=101), "spec.lossPercent", "from 1 to 100"),
        (spec(bandwidthBytesPerSecond=1), "spec.bandwidthBytesPerSecond", "from 100"),
        (spec(partition=True), "spec.partition", "goes with the target `node`"),
        (spec(target={"service": None, "node": "n"}), "spec.delayMilliseconds", "goes with the target `service`"),
        (spec(refuse=True, reset=True), "spec.reset", "together with `refuse`"),
        (
            meta(ownerReferences=[{"apiVersion": "v1", "kind": "Service", "name": "n", "uid": "u"}]),
            "metadata.ownerReferences",
            "goes at its end",
        ),
    ],
)
def test_what_it_may_not_say(patch: dict[str, Any], path: str, message: str) -> None:
    problems = {error.path: error.message for error in validate(made(FAULT, patch))}
    assert path in problems, problems
    assert message in problems[path]


def test_it_is_what_it_was_made_as() -> None:
    assert validate_update(made(FAULT, meta(labels={"a": "b"})), made(FAULT)) == []
    (problem,) = validate_update(made(FAULT, spec(durationSeconds=60)), made(FAULT))
    assert problem.path == "spec"


def test_in_words() -> None:
    fault = made(FAULT, spec(target={"pod": "web-1"}, jitterMilliseconds=50, lossPercent=5, halfOpen=True))
    assert fault_target(fault) == "service/web -> pod/web-1"
    assert fault_words(fault) == "delay 200ms, jitter 50ms, loss 5%, half-open"
    node = made(FAULT, spec(target={"service": None, "node": "n1"}, delayMilliseconds=None, partition=True))
    assert (fault_target(node), fault_words(node)) == ("node/n1", "partition")
    assert fault_words(made(FAULT, spec(bandwidthBytesPerSecond=5000, reset=True))) == (
        "delay 200ms, bandwidth 5000B/s, reset"
    )
