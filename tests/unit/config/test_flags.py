"""The options that daemons have in common: what argparse refuses, and what it leaves to the settings."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from cluster.config import flags


def make(*, as_setting: bool) -> ArgumentParser:
    parser = ArgumentParser()
    flags.add_master(parser, as_setting=as_setting)
    flags.add_credentials(parser, as_setting=as_setting)
    flags.add_profile(parser, as_setting=as_setting)
    flags.add_log_level(parser, as_setting=as_setting)
    flags.add_metrics_socket(parser)
    flags.add_lifeline(parser)
    return parser


def test_of_a_daemon_with_options_alone_argparse_knows_the_defaults() -> None:
    found = make(as_setting=False).parse_args(["--master", "h:1,i:2", "--credentials", "d", "--lifeline-fd", "3"])
    assert vars(found) == {
        "master": "h:1,i:2",
        "credentials": Path("d"),
        "profile": "laptop",
        "log_level": "info",
        "metrics_socket": None,
        "lifeline_fd": 3,
    }


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--master h:1",
        "--credentials d",
        "--master h --credentials d",
        "--master h:1 --credentials d --profile desk",
        "--master h:1 --credentials d --log-level loud",
        "--master h:1 --credentials d --lifeline-fd x",
    ],
)
def test_and_it_refuses_what_makes_no_sense(line: str) -> None:
    with pytest.raises(SystemExit) as ended:
        make(as_setting=False).parse_args(line.split())
    assert ended.value.code == 2


def test_of_one_with_settings_it_says_nothing_of_its_own() -> None:
    assert set(vars(make(as_setting=True).parse_args([])).values()) == {None}
    found = make(as_setting=True).parse_args(["--master", "h", "--profile", "desk", "--log-level", "loud"])
    assert (found.master, found.profile, found.log_level) == ("h", "desk", "loud"), "the settings refuse them"
