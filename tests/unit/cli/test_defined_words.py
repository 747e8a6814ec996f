"""Words that may mean kinds that users have defined."""

from __future__ import annotations

import random

import click
import pytest

from cluster.api.errors import Invalid, Unavailable
from cluster.cli.at import AsOf, Moment
from cluster.cli.words import Target, Wanted, WantedOne, named, names_or, narrowed
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryClient, MemoryCluster
from tests.kit.widgets import WIDGETS, definition

SERVICES = "services.serving.example.com"


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster(clock=VirtualClock(), rng=random.Random(1))
    cluster.put(definition(shortNames=["wd"], singular="widget"))
    cluster.put(definition("services", "Service", group="serving.example.com", singular="service"))
    return cluster


@pytest.fixture
def client(cluster: MemoryCluster) -> MemoryClient:
    return cluster.client("test")


def told(targets: list[Target]) -> list[tuple[str, str]]:
    return [(kind.plural, name) for kind, name in targets]


async def test_our_own_kinds_come_first_and_nobody_is_asked(cluster: MemoryCluster, client: MemoryClient) -> None:
    cluster.fail_next(Unavailable("asked"))
    assert told(await Wanted(["service/a"]).targets(client)) == [("services", "a")]
    kind, _ = await WantedOne("service/a").target(client)
    assert (narrowed(kind, "metadata.name=a"), named(kind, "a")) == ("metadata.name=a", "service/a")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([SERVICES, "a", "b"], [(SERVICES, f"{SERVICES}/a"), (SERVICES, f"{SERVICES}/b")]),
        (["service/a", "wd/b"], [("services", "a"), (WIDGETS, f"{WIDGETS}/b")]),
        (
            ["all,wd"],
            [("pods", ""), ("replicationcontrollers", ""), ("services", ""), (WIDGETS, "")],
        ),
        (
            ["svc,wd", "a", "b"],
            [("services", "a"), ("services", "b"), (WIDGETS, f"{WIDGETS}/a"), (WIDGETS, f"{WIDGETS}/b")],
        ),
    ],
)
async def test_words(client: MemoryClient, words: list[str], found: list[tuple[str, str]]) -> None:
    assert told(await Wanted(words).targets(client)) == found


async def test_how_objects_of_a_defined_kind_are_selected_and_told(client: MemoryClient) -> None:
    kind, name = await WantedOne("wd/blue").target(client)
    assert narrowed(kind, "") == f"resource={WIDGETS}"
    assert narrowed(kind, "metadata.name=a") == f"resource={WIDGETS},metadata.name=a"
    assert named(kind, name) == "widget.example.com/blue"


async def test_a_word_that_means_nothing(client: MemoryClient) -> None:
    with pytest.raises(Invalid, match='there is no kind "gizmos"'):
        await Wanted(["wd,gizmos"]).targets(client)


async def test_what_makes_no_sense_is_told_before_anybody_is_asked() -> None:
    for words in (["wd/a", "pods"], ["wd/"], ["/a"], [","], []):
        with pytest.raises(click.UsageError):
            Wanted(words)
    with pytest.raises(click.UsageError, match="names and selectors exclude each other"):
        Wanted(["pod/a"], names_or("app=web"))
    for word in ("pods", "web", "gizmos"):
        with pytest.raises(click.UsageError, match=f'"{word}": give KIND/NAME, such as pod/{word}'):
            WantedOne(word)


async def test_and_as_soon_as_it_is_known_of_a_defined_kind(client: MemoryClient) -> None:
    with pytest.raises(click.UsageError, match="names and selectors exclude each other"):
        await Wanted(["wd/a"], names_or("app=web")).targets(client)
    with pytest.raises(click.UsageError, match="give one KIND/NAME"):
        await WantedOne("wd,wd/a").target(client)


async def test_as_it_was_then(cluster: MemoryCluster, client: MemoryClient) -> None:
    then = (await client.list(core.CustomResourceDefinition)).revision
    gone = definition(shortNames=["wd"], singular="widget")
    cluster.remove(gone)
    with pytest.raises(Invalid):
        await Wanted(["wd"]).targets(client)
    assert told(await Wanted(["wd"]).targets(AsOf(client, Moment(revision=then)))) == [(WIDGETS, "")]
