"""Rules in CEL that a definition asks for, with kubectl: what they refuse on each way in."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.kit.customs import definition, version
from tests.kit.kubectl import Kubectl, Story

GAUGE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "min": {"type": "integer", "default": 1},
                "max": {"type": "integer"},
                "unit": {"type": "string", "maxLength": 10},
                "replicas": {"type": "integer", "x-kubernetes-validations": [{"rule": "self <= 10"}]},
            },
            "x-kubernetes-validations": [
                {
                    "rule": "self.min <= self.max",
                    "messageExpression": "'min is more than max: %d > %d'.format([self.min, self.max])",
                },
                {
                    "rule": "self.unit == oldSelf.unit",
                    "message": "the unit stays",
                    "reason": "FieldValueForbidden",
                    "fieldPath": ".unit",
                },
            ],
        },
        "status": {"type": "object", "properties": {"value": {"type": "integer"}, "replicas": {"type": "integer"}}},
    },
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.status) || !has(self.status.value) || self.status.value <= self.spec.max",
            "message": "the value is beyond the scale",
        }
    ],
}


def gauges(schema: dict[str, Any]) -> dict[str, Any]:
    """The definition of a kind with rules."""
    known = version(schema={"openAPIV3Schema": schema})
    del known["additionalPrinterColumns"], known["selectableFields"]
    return definition(known, plural="gauges")


def gauge(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Gauge", "metadata": {"name": "g"}, "spec": spec}


def with_rule(rule: str, **fields: Any) -> dict[str, Any]:
    """The definition with one rule, in spec."""
    spec = {"type": "object", "properties": fields, "x-kubernetes-validations": [{"rule": rule}]}
    return gauges({"type": "object", "properties": {"spec": spec}})


FILES = {
    "rules": gauges(GAUGE),
    "norules": with_rule("self.lowest > 1", low={"type": "integer"}),
    "dear": with_rule("self.l.all(a, a in self.l)", l={"type": "array", "items": {"type": "string"}}),
    "gauge": gauge(max=5, unit="kg", replicas=1),
    "low": gauge(min=9, max=5, unit="kg"),
}
STORY: Story = [
    ("apply -f rules.yaml", r"customresourcedefinition.apiextensions.k8s.io/gauges.example.com created"),
    ("apply -f rules.yaml", r"gauges.example.com unchanged"),
    (
        "apply -f norules.yaml",
        r"(?s)x-kubernetes-validations\[0\].rule: Invalid value: .*compilation failed: .*undefined field 'lowest'",
        1,
    ),
    ("apply -f dear.yaml", r"x-kubernetes-validations\[0\].rule: Forbidden: estimated rule cost exceeds budget", 1),
    (
        "create -f low.yaml",
        r'The Gauge "g" is invalid: spec: Invalid value: "object": min is more than max: 9 > 5',
        1,
    ),
    ("create -f low.yaml --dry-run=server", r"min is more than max", 1),
    ("get gauges", r"No resources found"),
    ("apply -f gauge.yaml", r"gauge.example.com/g created"),
    ('patch gauge g --type=merge -p \'{"spec":{"unit":"m"}}\'', r"spec.unit: Forbidden: the unit stays", 1),
    (
        'patch gauge g --type=json -p \'[{"op":"replace","path":"/spec/max","value":0}]\'',
        r"min is more than max: 1 > 0",
        1,
    ),
    ('patch gauge g --type=merge -p \'{"spec":{"max":7}}\'', r"gauge.example.com/g patched"),
    ("apply --server-side --force-conflicts -f low.yaml", r"min is more than max: 9 > 5", 1),
    ("scale gauge g --replicas=11", r'spec.replicas: Invalid value: "integer": failed rule: self <= 10', 1),
    ("scale gauge g --replicas=10", r"gauge.example.com/g scaled"),
    (
        'patch gauge g --subresource=status --type=merge -p \'{"status":{"value":8}}\'',
        r"the value is beyond the scale",
        1,
    ),
    ('patch gauge g --subresource=status --type=merge -p \'{"status":{"value":6}}\'', r"patched"),
    ("get gauge g -o jsonpath={.spec.max}:{.status.value}", r"^7:6$"),
    ("delete -f rules.yaml --timeout=20s", r'"gauges.example.com" deleted'),
]


@pytest.fixture(scope="module")
def ruled(kubectl: Kubectl) -> Kubectl:
    """kubectl beside the manifests of gauges."""
    for name, content in FILES.items():
        (kubectl.directory / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return kubectl


def test_what_people_type(ruled: Kubectl) -> None:
    ruled.tell(STORY)


def test_an_editor_is_told_which_rule_forbids_a_change(ruled: Kubectl) -> None:
    ruled.expect("apply -f rules.yaml", "created")
    ruled.expect("apply -f gauge.yaml", "created")
    editor, told = ruled.directory / "unit", ruled.directory / "told"
    editor.write_text(f'#!/bin/sh\ngrep "unit stays" "$1" >{told} && exit 1\nsed -i "s/  unit: kg/  unit: m/" "$1"\n')
    editor.chmod(0o700)
    output = ruled.run("edit", "gauge", "g", environment={"KUBE_EDITOR": str(editor)})
    assert output.code == 1, output
    assert told.read_text() == "# * spec.unit: Forbidden: the unit stays\n"
    ruled.expect("get gauge g -o jsonpath={.spec.unit}", "^kg$")
    ruled.expect("delete -f rules.yaml --timeout=20s", "deleted")
