"""What can be asked of a process that plays nodes, and what is wrong with what cannot."""

from __future__ import annotations

import pytest

from node_agent.hollow.flags import parse
from node_agent.hollow.settings import HollowSettings

NEEDED = ["--master", "127.7.0.1:6443", "--listen", "127.7.0.250:0", "--credentials", "/c"]


def settings(*words: str) -> HollowSettings:
    return parse([*NEEDED, *words])[0]


def test_what_is_played_unless_it_is_said_otherwise() -> None:
    made = settings()
    assert (made.prefix, list(made.numbers), made.pods, made.start_delay_s) == ("hollow", [1], 110, (0.0, 0.0))
    assert made.host == "127.7.0.250"
    assert made.labels_of(1) == {"podium.dev/hollow": "true", "podium.dev/hollow-prefix": "hollow"}


def test_words() -> None:
    made = settings(
        *("--count", "3", "--first", "11", "--resource", "gpu=2", "--label", "disk=ssd", "--start-delay", "0.5-2"),
        *("--taint", "played=yes:NoSchedule", "--taint", "slow:PreferNoSchedule", "--keep", "--seed", "4"),
    )
    assert list(made.numbers) == [11, 12, 13]
    assert made.resources == {"gpu": "2"}
    assert made.labels_of(11)["disk"] == "ssd"
    assert made.start_delay_s == (0.5, 2.0)
    assert [(t.key, t.value, t.effect) for t in made.taints] == [
        ("played", "yes", "NoSchedule"),
        ("slow", "", "PreferNoSchedule"),
    ]
    assert (made.keep, made.seed) == (True, 4)
    assert settings("--start-delay", "3").start_delay_s == (3.0, 3.0)


def test_racks_lie_in_one_zone_each_whoever_plays_their_nodes() -> None:
    together = settings("--count", "12", "--zones", "3", "--racks", "6")
    places = {
        n: (together.labels_of(n)["podium.dev/rack"], together.labels_of(n)["topology.kubernetes.io/zone"])
        for n in together.numbers
    }
    assert len(set(places.values())) == 6, "a rack has one zone"
    assert len({rack for rack, _ in places.values()}) == 6
    assert len({zone for _, zone in places.values()}) == 3
    part = settings("--first", "7", "--count", "6", "--zones", "3", "--racks", "6")
    assert {n: part.labels_of(n) for n in part.numbers} == {n: together.labels_of(n) for n in part.numbers}
    assert "podium.dev/rack" not in settings("--zones", "2").labels_of(1)
    assert [settings("--zones", "2").labels_of(n)["topology.kubernetes.io/zone"] for n in (1, 2, 3)] == [
        "zone-1",
        "zone-2",
        "zone-1",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prefix", "Big"), "--prefix"),
        (("--prefix", "x" * 51), "--prefix"),
        (("--count", "0"), "--count"),
        (("--count", "50001"), "--count"),
        (("--first", "0"), "--first"),
        (("--zones", "-1"), "--zones"),
        (("--zones", "4", "--racks", "3"), "a rack lies in one zone"),
        (("--pods", "0"), "--pods"),
        (("--pods", "126"), "--pods"),
        (("--cpu", "0"), "--cpu"),
        (("--cpu", "many"), "--cpu"),
        (("--memory", "1Xi"), "--memory"),
        (("--storage", ""), "--storage"),
        (("--resource", "gpu"), "--resource"),
        (("--resource", "gpu=x"), "--resource gpu"),
        (("--resource", "a b=1"), "--resource a b"),
        (("--label", "disk"), "--label"),
        (("--label", "disk=a b"), "--label disk"),
        (("--label", "podium.dev/hollow=false"), "is set by itself"),
        (("--taint", "played"), "--taint"),
        (("--taint", "played:Never"), "NoSchedule"),
        (("--taint", ":NoSchedule"), "--taint"),
        (("--taint", "a=b c:NoSchedule"), "--taint"),
        (("--start-delay", "soon"), "--start-delay"),
        (("--start-delay", "-1"), "--start-delay"),
        (("--start-delay", "2-1"), "--start-delay"),
        (("--start-delay", "nan"), "--start-delay"),
        (("--seed", "x"), "--seed"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        settings(f"{words[0]}={words[1]}", *words[2:])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
