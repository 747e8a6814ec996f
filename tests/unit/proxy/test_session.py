"""Session affinity, on a clock of its own."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.session import Affinity


def test_the_time_counts_from_the_last_use() -> None:
    table: Affinity[str] = Affinity(timeout_s=10, limit=10)
    table.put("client", "a", now=0)
    assert table.get("client", now=9) == "a"
    assert table.get("client", now=18) == "a"
    assert table.get("client", now=28) is None
    assert len(table) == 0


def test_when_full_the_one_longest_away_is_forgotten() -> None:
    table: Affinity[str] = Affinity(timeout_s=100, limit=2)
    table.put("one", "a", now=0)
    table.put("two", "b", now=1)
    table.get("one", now=2)
    table.put("three", "c", now=3)
    assert [table.get(client, now=4) for client in ("one", "two", "three")] == ["a", None, "c"]


def test_a_shorter_timeout_holds_at_once() -> None:
    table: Affinity[str] = Affinity(timeout_s=100, limit=2)
    table.put("client", "a", now=0)
    table.timeout_s = 5
    assert table.get("client", now=6) is None


def test_forgetting() -> None:
    table: Affinity[str] = Affinity(timeout_s=100, limit=10)
    for client, target in (("one", "a"), ("two", "b"), ("three", "a")):
        table.put(client, target, now=0)
    table.forget("one")
    table.forget("nobody")
    table.keep_only({"b"})
    assert [table.get(client, now=0) for client in ("one", "two", "three")] == [None, "b", None]


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 20), st.booleans()), max_size=60),
    st.integers(1, 5),
)
@settings(max_examples=100)
def test_it_is_what_a_plain_table_would_say(steps: list[tuple[str, float, bool]], limit: int) -> None:
    table: Affinity[int] = Affinity(timeout_s=30, limit=limit)
    plain: dict[str, tuple[int, float]] = {}
    now = 0.0
    for number, (client, pause, write) in enumerate(steps):
        now += pause
        plain = {name: entry for name, entry in plain.items() if now - entry[1] < 30}
        if write:
            # The real table forgets the expired when somebody asks; so does everyone who chooses a target.
            table.get("nobody", now)
            table.put(client, number, now)
            plain.pop(client, None)
            plain[client] = (number, now)
            if len(plain) > limit:
                del plain[min(plain, key=lambda name: plain[name][1])]
        else:
            expected = plain.get(client)
            assert table.get(client, now) == (expected[0] if expected else None)
            if expected:
                plain[client] = (plain.pop(client)[0], now)
        assert len(table) <= limit
