"""The options that daemons have in common: where the master is, who one is, timers, metrics, the log, when to stop.

Most daemons have their options from the command line alone: argparse knows the defaults, and refuses what makes no
sense. Of some, each option is a setting, too, that may come from a file or from the environment (`as_setting`): then
argparse must not know a default, or it would win over those, and the settings refuse what makes no sense (settings.py).
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from cluster.config.addresses import masters_argument
from cluster.config.profiles import PROFILES

_LOG_LEVELS = ("debug", "info", "warning", "error")


def add_master(parser: ArgumentParser, *, as_setting: bool = False) -> None:
    """--master: an address, or several with commas between."""
    parser.add_argument(
        "--master",
        required=not as_setting,
        type=str if as_setting else masters_argument,
        metavar="HOST:PORT[,...]",
        help="where the master listens, or each of several",
    )


def add_credentials(parser: ArgumentParser, *, as_setting: bool = False, whose: str = "") -> None:
    """--credentials: a directory. `whose` says what there is to know about the identity."""
    parser.add_argument(
        "--credentials",
        required=not as_setting,
        type=Path,
        metavar="DIR",
        help=f"directory with ca.crt, tls.crt, tls.key{whose}",
    )


def add_profile(parser: ArgumentParser, *, as_setting: bool = False) -> None:
    """--profile: the name of a profile."""
    parser.add_argument(
        "--profile",
        default=None if as_setting else "laptop",
        choices=None if as_setting else sorted(PROFILES),
        help="timers: laptop (default), kubernetes or test",
    )


def add_metrics_socket(parser: ArgumentParser) -> None:
    """--metrics-socket: a path, or None."""
    parser.add_argument(
        "--metrics-socket", type=Path, metavar="PATH", help="Unix socket that serves metrics and health"
    )


def add_log_level(parser: ArgumentParser, *, as_setting: bool = False) -> None:
    """--log-level: a word."""
    parser.add_argument(
        "--log-level",
        default=None if as_setting else "info",
        choices=None if as_setting else _LOG_LEVELS,
        help="debug, info (default), warning or error",
    )


def add_lifeline(parser: ArgumentParser, *, then: str = "stop when this descriptor ends") -> None:
    """--lifeline-fd: the number of a descriptor, or None. `then` says what happens."""
    parser.add_argument("--lifeline-fd", type=int, metavar="FD", help=then)
