"""Profiles and settings from a file: what they become, and that every refusal names key, file and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.config.profiles import PROFILES
from cluster.scheduler.configuration import load_settings, profiles_of
from cluster.scheduler.profiles import SchedulingProfile, score_name
from cluster.scheduler.scoring import weighted
from cluster.scheduler.settings import SchedulerSettings, Weights

LAPTOP = PROFILES["laptop"]


def profiles(tmp_path: Path, text: str) -> dict[str, SchedulingProfile]:
    return profiles_of(settings(tmp_path, text))


def settings(tmp_path: Path, text: str) -> SchedulerSettings:
    file = tmp_path / "scheduler.toml"
    file.write_text(text)
    return load_settings(LAPTOP, file)


def test_without_a_file_the_timer_profile_decides_and_two_profiles_ship() -> None:
    made = load_settings(PROFILES["kubernetes"])
    assert (made.backoff_initial_s, made.backoff_max_s) == (1.0, 10.0)
    shipped = profiles_of(made)
    assert shipped["default-scheduler"].weights == Weights()
    packs = shipped["binpack"].weights
    assert (packs.binpack, packs.least_allocated, packs.spread) == (1, 0, 0)


def test_a_file_wins_over_the_timer_profile(tmp_path: Path) -> None:
    made = settings(tmp_path, "backoff_max_s = 4\nbind_batch = 500\n")
    assert (made.backoff_initial_s, made.backoff_max_s, made.bind_batch) == (LAPTOP.scheduler_backoff_initial_s, 4, 500)


def test_a_profile_says_what_is_different(tmp_path: Path) -> None:
    text = """
        [profiles.default-scheduler.weights]
        Spread = 5
        [profiles.gpu]
        based_on = "binpack"
        without_filters = ["PodTopologySpread"]
        filters = ["cluster.scheduler.plugins:node_only"]
        [profiles.gpu.weights]
        NodeAffinity = 7
        "cluster.scheduler.plugins:node_only" = 3
        [profiles.plain]
        """
    found = profiles(tmp_path, text)
    assert sorted(found) == ["binpack", "default-scheduler", "gpu", "plain"]
    assert found["default-scheduler"].weights == Weights(spread=5)
    assert found["plain"].weights == Weights()
    gpu = found["gpu"]
    assert (gpu.weights.binpack, gpu.weights.node_affinity, gpu.weights.least_allocated) == (1, 7, 0)
    assert gpu.without_filters == {"PodTopologySpread"}
    assert [plugin.name for plugin in gpu.plugins] == ["cluster.scheduler.plugins:node_only"] * 2
    assert [weight for _, weight in gpu.scores] == [3]


SCORES = ", ".join(score_name(field) for field in Weights.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bind_bacth = 1", "there is no setting 'bind_bacth'; known are"),
        ("bind_batch = 0", "bind_batch is 0, but must be from 1 to 2000"),
        ("bind_batch = 'x'", "bind_batch is 'x', but must be a whole number"),
        ("backoff_max_s = -1.5", "backoff_max_s is -1.5, but must be at least 0"),
        (
            "[profiles.x]\nbased_on = 'spread'",
            "profiles.x.based_on is 'spread', but must be one of default-scheduler, binpack",
        ),
        ("[profiles.x]\nwieghts = {}", "there is no setting 'profiles.x.wieghts'; known are based_on, filters"),
        ("[profiles.x.weights]\nSpread = 1001", "profiles.x.weights.Spread is 1001, but must be from 0 to 1000"),
        ("[profiles.x.weights]\nSpread = -1", "profiles.x.weights.Spread is -1, but must be from 0 to 1000"),
        ("[profiles.x.weights]\nSpread = 1.5", "profiles.x.weights.Spread is 1.5, but must be a whole number"),
        (
            "[profiles.x.weights]\nSpreda = 1",
            f"profiles.x.weights: 'Spreda' is not a score (known are {SCORES}) nor a plug-in: ",
        ),
        ("[profiles.x]\nfilters = ['a:b']", "profiles.x.filters: 'a:b' is not a plug-in: importing a failed: "),
        ("[profiles.x]\nwithout_filters = ['Resuorces']", "profiles.x.without_filters: there is no filter 'Resuorces'"),
        ("[profiles.x]\nwithout_filters = ['Resources']", "profiles.x.without_filters: Resources cannot be left out"),
        ("[profiles.'a b']", "profiles.a b: 'a b' is not a name that spec.schedulerName could be"),
        ("profiles = 3", "profiles is 3, but must be a table"),
        ("][", "Invalid statement"),
    ],
)
def test_what_is_wrong_is_said_with_key_and_file_and_what_is_allowed(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(tmp_path, text)
    assert complaint in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'scheduler.toml'}: ")


def test_scores_are_named_as_people_see_them() -> None:
    everything = Weights(**dict.fromkeys(Weights.__dataclass_fields__, 1))
    assert ", ".join(score.name for score, _ in weighted(everything)) == SCORES


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(LAPTOP, tmp_path / "nothing.toml")
