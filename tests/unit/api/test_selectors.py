"""Selectors in objects, beside a plain reading of Kubernetes' rules, one condition at a time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.labels import EVERYTHING, NOTHING, parse_selector
from cluster.api.selectors import (
    label_selector,
    node_is_allowed,
    node_selector_matches,
    node_term_matches,
    pod_selector_of,
    pod_term,
    requirement_matches,
    whole_number,
)
from cluster.pb.v1 import core_pb2 as core

KEYS = ["a", "b", "zone"]
VALUES = ["x", "y", "", "5", "7", "-1", "+7", "007", " 7", "7_0", "٧", str(2**63), str(2**63 - 1)]
labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))


def some(kind: type, operators: list[str]) -> st.SearchStrategy:
    return st.builds(
        lambda key, operator, values: kind(key=key, operator=operator, values=values),
        st.sampled_from(KEYS),
        st.sampled_from(operators),
        st.lists(st.sampled_from(VALUES), max_size=2),
    )


SET_OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"]
label_selectors = st.builds(
    lambda wanted, expressions: core.LabelSelector(matchLabels=wanted, matchExpressions=expressions),
    labels,
    st.lists(some(core.LabelSelectorRequirement, SET_OPERATORS), max_size=3),
)
node_requirements = some(core.NodeSelectorRequirement, [*SET_OPERATORS, "Gt", "Lt"])
field_requirements = st.builds(
    lambda operator, value: core.NodeSelectorRequirement(key="metadata.name", operator=operator, values=[value]),
    st.sampled_from(["In", "NotIn"]),
    st.sampled_from(["n1", "n2"]),
)
node_terms = st.builds(
    lambda expressions, fields: core.NodeSelectorTerm(matchExpressions=expressions, matchFields=fields),
    st.lists(node_requirements, max_size=2),
    st.lists(field_requirements, max_size=1),
)


def plainly(key: str, operator: str, values: list[str], found: Mapping[str, str]) -> bool:
    """The reference: each operator as Kubernetes' documents say it."""
    if operator == "Exists":
        return key in found
    if operator == "DoesNotExist":
        return key not in found
    if operator == "In":
        return key in found and found[key] in values
    if operator == "NotIn":
        return key not in found or found[key] not in values
    assert operator in ("Gt", "Lt")
    if key not in found or len(values) != 1:
        return False
    numbers = []
    for text in (found[key], values[0]):
        digits = text[1:] if text[:1] in ("+", "-") else text
        if not digits or any(digit not in "0123456789" for digit in digits):
            return False
        number = -int(digits) if text.startswith("-") else int(digits)
        if number < -(2**63) or number > 2**63 - 1:
            return False
        numbers.append(number)
    return numbers[0] > numbers[1] if operator == "Gt" else numbers[0] < numbers[1]


@given(label_selectors, labels)
def test_a_label_selector_selects_what_meets_all_of_it(selector: core.LabelSelector, found: dict[str, str]) -> None:
    expected = all(found.get(key) == value for key, value in selector.matchLabels.items()) and all(
        plainly(each.key, each.operator, list(each.values), found) for each in selector.matchExpressions
    )
    assert label_selector(selector).matches(found) is expected


@given(label_selectors, labels)
def test_its_text_selects_the_same(selector: core.LabelSelector, found: dict[str, str]) -> None:
    """But for what a text cannot say: a value that is none of a label."""
    values = [*selector.matchLabels.values(), *(v for each in selector.matchExpressions for v in each.values)]
    without = [each for each in selector.matchExpressions if each.operator in ("In", "NotIn") and not each.values]
    if without or any(value not in ("x", "y", "5", "7", "007") for value in values):
        return
    compiled = label_selector(selector)
    assert parse_selector(str(compiled)).matches(found) is compiled.matches(found)


def test_an_absent_selector_selects_nothing_and_an_empty_one_everything() -> None:
    assert label_selector(None) is NOTHING
    assert not NOTHING.matches({})
    assert not NOTHING.matches({"a": "x"})
    assert not NOTHING.is_empty
    assert label_selector(core.LabelSelector()) == EVERYTHING
    for make in (core.PodDisruptionBudgetSpec, core.TopologySpreadConstraint, core.PodAffinityTerm):
        absent = make()
        field = "selector" if make is core.PodDisruptionBudgetSpec else "labelSelector"
        assert pod_selector_of(absent) is NOTHING
        getattr(absent, field).SetInParent()
        assert pod_selector_of(absent) == EVERYTHING


def test_an_operator_that_does_not_exist_selects_nothing() -> None:
    odd = core.LabelSelectorRequirement(key="a", operator="Like", values=["x"])
    assert label_selector(core.LabelSelector(matchExpressions=[odd])) is NOTHING
    assert not requirement_matches(core.NodeSelectorRequirement(key="a", operator="Like", values=["x"]), "x")


@given(node_terms, st.sampled_from(["n1", "n2"]), labels)
def test_a_term_selects_nodes_that_meet_all_of_it(
    term: core.NodeSelectorTerm, name: str, found: dict[str, str]
) -> None:
    everything = [*term.matchExpressions, *term.matchFields]
    expected = bool(everything) and all(
        plainly(each.key, each.operator, list(each.values), {**found, "metadata.name": name}) for each in everything
    )
    assert node_term_matches(term, name, found) is expected


@given(st.lists(node_terms, max_size=3), st.sampled_from(["n1", "n2"]), labels)
def test_one_term_is_enough(terms: list[core.NodeSelectorTerm], name: str, found: dict[str, str]) -> None:
    selector = core.NodeSelector(nodeSelectorTerms=terms)
    expected = any(node_term_matches(term, name, found) for term in terms)
    assert node_selector_matches(selector, name, found) is expected


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("+7", 7), ("-7", -7), ("007", 7), ("0" * 62 + "1", 1), (str(2**63 - 1), 2**63 - 1)]
    + [(text, None) for text in ("", "+", "7.0", " 7", "7 ", "7\n", "0x7", "7_0", "٧", str(2**63), "9" * 5000)],
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_a_pods_node_selector_and_its_required_affinity_both_count() -> None:
    spec = core.PodSpec(nodeSelector={"disk": "ssd"})
    assert node_is_allowed(spec, "n1", {"disk": "ssd"})
    assert not node_is_allowed(spec, "n1", {"disk": "hdd"})
    required = spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    term = required.nodeSelectorTerms.add()
    term.matchExpressions.add(key="cores", operator="Gt", values=["4"])
    assert node_is_allowed(spec, "n1", {"disk": "ssd", "cores": "8"})
    assert not node_is_allowed(spec, "n1", {"disk": "ssd", "cores": "4"})
    assert not node_is_allowed(spec, "n1", {"cores": "8"})
    required.nodeSelectorTerms.add().matchFields.add(key="metadata.name", operator="In", values=["n2"])
    assert node_is_allowed(spec, "n2", {"disk": "ssd"})


def test_where_the_pods_of_a_term_live() -> None:
    term = core.PodAffinityTerm(topologyKey="zone")
    term.labelSelector.matchLabels["app"] = "db"
    db = {"app": "db"}
    own = pod_term(term, "mine")
    assert own.topology_key == "zone"
    assert own.matches(db, "mine", {})
    assert not own.matches({"app": "web"}, "mine", {})
    assert not own.matches(db, "other", {})
    term.namespaces.append("other")
    named = pod_term(term, "mine")
    assert named.matches(db, "other", {})
    assert not named.matches(db, "mine", {})
    term.namespaceSelector.matchLabels["team"] = "a"
    both = pod_term(term, "mine")
    assert both.matches(db, "other", {})
    assert both.matches(db, "third", {"team": "a"})
    assert not both.matches(db, "mine", {"team": "b"})
    del term.namespaces[:]
    term.namespaceSelector.ClearField("matchLabels")
    term.namespaceSelector.SetInParent()
    assert pod_term(term, "mine").matches(db, "anywhere", {}), "an empty selector selects every namespace"
