"""Silence, and everything that looks like it."""

from __future__ import annotations

import pytest

from cluster.controllers.heartbeats import Freshness, Heartbeats

GRACE_S, STARTUP_S, BEAT_S = 2.0, 5.0, 0.5
FRESH, SUSPECT, SILENT = Freshness.FRESH, Freshness.SUSPECT, Freshness.SILENT


class Story:
    """A clock, ticks every quarter of a second, a stream that says something every half second."""

    def __init__(self, *nodes: str) -> None:
        self.now = 100.0
        self.beats = Heartbeats(grace_s=GRACE_S, startup_grace_s=STARTUP_S)
        self.sequence = 0
        for node in nodes:
            self.beats.track(node, f"uid-{node}", self.now)
        self.beats.stream_opened(self.now)
        self.judging: bool = False

    def run(self, seconds: float, *alive: str, stream: bool = True, ticks: bool = True) -> None:
        for step in range(round(seconds / 0.25)):
            self.now += 0.25
            if stream and step % 2 == 0:
                self.sequence += 1
                self.beats.batch([(node, self.sequence) for node in alive], self.now)
            if ticks:
                self.judging = self.beats.tick(self.now)

    def is_judging(self) -> bool:
        return self.judging

    def freshness(self, node: str, *, was_ready: bool = True) -> Freshness:
        return self.beats.freshness(node, self.now, was_ready=was_ready)


def test_a_node_that_beats_is_fresh_and_one_that_stops_falls_silent() -> None:
    story = Story("a", "b")
    story.run(3, "a", "b")
    assert (story.freshness("a"), story.freshness("b")) == (FRESH, FRESH)
    story.run(1.5, "a")
    assert (story.freshness("a"), story.freshness("b")) == (FRESH, SUSPECT)
    story.run(1, "a")
    assert story.is_judging()
    assert (story.freshness("a"), story.freshness("b")) == (FRESH, SILENT)


def test_a_repeated_old_heartbeat_is_no_sign_of_life() -> None:
    story = Story("a")
    story.run(1, "a")
    for _ in range(12):
        story.now += 0.25
        story.beats.batch([("a", story.sequence)], story.now)
        story.beats.tick(story.now)
    assert story.freshness("a") is SILENT


def test_a_restarted_agent_counts_from_one_again_and_is_alive() -> None:
    story = Story("a")
    story.run(3, "a")
    story.sequence = 0
    story.run(1, "a")
    assert story.freshness("a") is FRESH


def test_a_posted_status_is_a_sign_of_life() -> None:
    story = Story("a")
    story.run(2.5)
    story.beats.sign_of_life("a", story.now)
    assert story.freshness("a") is FRESH


def test_a_node_that_never_was_ready_has_the_startup_grace() -> None:
    story = Story("a")
    story.run(4)
    assert story.freshness("a", was_ready=False) is not SILENT
    story.run(1.5)
    assert story.freshness("a", was_ready=False) is SILENT


def test_nothing_is_judged_while_the_stream_is_mute_and_timers_restart_after() -> None:
    story = Story("a")
    story.run(3, "a")
    story.run(10, stream=False)
    assert not story.is_judging(), "the master is suspended, or we are cut off"
    story.run(1.5)
    assert story.is_judging()
    assert story.freshness("a") is not SILENT
    story.run(1)
    assert story.freshness("a") is SILENT


def test_a_lost_stream_stops_judgement_and_a_new_one_restarts_timers() -> None:
    story = Story("a")
    story.run(1.75, "a")
    story.run(1.5)
    story.beats.stream_lost()
    assert not story.beats.tick(story.now)
    story.beats.stream_opened(story.now)
    story.run(1.75)
    assert story.freshness("a") is not SILENT


def test_a_beat_does_not_take_back_what_a_new_stream_grants() -> None:
    story = Story("n1")
    story.beats.stream_lost()
    story.beats.stream_opened(story.now + 4.0)
    story.run(0.5, "n1")
    story.beats.sign_of_life("n1", story.now)
    story.run(5.0)
    assert story.is_judging()
    assert story.freshness("n1") is SUSPECT
    story.run(1.0)
    assert story.freshness("n1") is SILENT


@pytest.mark.parametrize("gap_s", [1.25, 10.0, 3600.0])
def test_our_own_suspension_is_not_the_nodes_death(gap_s: float) -> None:
    story = Story("a", "b")
    story.run(3, "a", "b")
    story.now += gap_s
    assert not story.beats.tick(story.now), "the stream has not been heard of since"
    story.run(1.5, "a", "b")
    assert (story.freshness("a"), story.freshness("b")) == (FRESH, FRESH)


def test_a_suspension_does_not_hide_a_death_for_longer_than_a_grace() -> None:
    story = Story("a")
    story.run(3, "a")
    story.now += 60
    story.run(1.75)
    assert story.freshness("a") is not SILENT
    story.run(0.75)
    assert story.freshness("a") is SILENT


def test_short_gaps_alone_never_make_a_node_silent() -> None:
    story = Story("a")
    story.run(3, "a")
    for _ in range(20):
        # The tick comes before the heartbeats that piled up meanwhile.
        story.now += 0.99
        story.beats.tick(story.now)
        assert story.freshness("a") is not SILENT
        story.sequence += 1
        story.beats.batch([("a", story.sequence)], story.now)


def test_a_new_object_of_the_same_name_is_a_new_node() -> None:
    story = Story("a")
    story.run(3)
    assert story.freshness("a") is SILENT
    story.beats.track("a", "uid-other", story.now)
    assert story.freshness("a") is FRESH
    story.beats.forget("a")
    assert story.freshness("a") is FRESH


def test_settled_a_grace_after_the_last_restart() -> None:
    story = Story("a")
    story.run(1.75, "a")
    assert not story.beats.is_settled(story.now)
    story.run(0.75, "a")
    assert story.beats.is_settled(story.now)
