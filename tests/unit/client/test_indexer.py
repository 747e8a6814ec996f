"""Objects by key and by index, whatever is put and removed in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.meta import Key, key_of
from cluster.client.indexer import Indexer
from cluster.pb.v1 import core_pb2 as core


def pod(name: str, node: str = "", version: str = "") -> core.Pod:
    return core.Pod(
        metadata=core.ObjectMeta(namespace="default", name=name, resourceVersion=version),
        spec=core.PodSpec(nodeName=node),
    )


def by_node(found: core.Pod) -> list[str]:
    return [found.spec.nodeName] if found.spec.nodeName else []


def test_an_object_moves_between_the_words_of_an_index() -> None:
    indexer = Indexer[core.Pod](indexes={"node": by_node})
    assert indexer.put(pod("a", "node-1")) is None
    first = indexer.get(Key("Pod", "default", "a"))
    assert indexer.put(pod("a", "node-2")) is first
    assert indexer.by_index("node", "node-1") == []
    assert indexer.by_index("node", "node-2") == [pod("a", "node-2")]
    assert indexer.index_values("node") == ["node-2"]
    assert indexer.remove(Key("Pod", "default", "a")) == pod("a", "node-2")
    assert indexer.remove(Key("Pod", "default", "a")) is None
    assert indexer.index_values("node") == []
    assert len(indexer) == 0


def test_an_unknown_index_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Indexer[core.Pod]().by_index("node", "x")


STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.sampled_from(["", "n1", "n2"])), max_size=30)


@given(steps=STEPS)
def test_indexes_agree_with_the_objects(steps: list[tuple[bool, str, str]]) -> None:
    indexer, model = Indexer[core.Pod](indexes={"node": by_node}), dict[Key, core.Pod]()
    for is_put, name, node in steps:
        obj = pod(name, node)
        if is_put:
            assert indexer.put(obj) == model.get(key_of(obj))
            model[key_of(obj)] = obj
        else:
            assert indexer.remove(key_of(obj)) == model.pop(key_of(obj), None)
    assert sorted(indexer.keys()) == sorted(model)
    for node in ("n1", "n2"):
        found = sorted(found.metadata.name for found in indexer.by_index("node", node))
        assert found == sorted(key.name for key, obj in model.items() if obj.spec.nodeName == node)
