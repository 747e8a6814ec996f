"""The flags of `python -m node_agent.hollow`, and what is wrong with them.

Those that say what is played are also options of `podium hollow` and `podium up`, which hand them on as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cluster.api import hollow
from cluster.api.labels import label_key_problems, label_value_problems
from cluster.api.quantities import parse_quantity
from cluster.config import flags as common
from cluster.config.profiles import PROFILES
from cluster.pb.v1 import core_pb2 as core
from node_agent.hollow.settings import HollowSettings

_EXAMPLE = """example:
  python -m node_agent.hollow --prefix hollow --count 2500 --master 127.7.0.1:6443 --listen 127.7.0.250:0 \\
      --credentials DIR/pki/hollow-hollow --zones 3 --start-delay 0.5-2"""
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
MOST_NODES = 50_000
"""Of one prefix: more than any cluster of this kind can hold."""


class FlagError(ValueError):
    """An option that makes no sense; the message names it and says why."""


def parse(argv: Sequence[str]) -> tuple[HollowSettings, argparse.Namespace]:
    """Settings from flags. Exits with 2 on bad ones."""
    parser = make_parser()
    flags = parser.parse_args(argv)
    try:
        return settings_of(flags), flags
    except FlagError as error:
        parser.error(str(error))


OWN = (
    *("master", "listen", "credentials", "prefix", "first", "count", "profile", "keep"),
    *("metrics-socket", "lifeline-fd"),
)
"""Options that whoever starts these processes for a cluster sets, and nobody else."""


class _Strict(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FlagError(message)


def check_further_flags(nodes: int, argv: Sequence[str], *, prefix: str = "hollow") -> None:
    """Raises FlagError for options that a process would not take beside those that its starter gives it."""
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("--") and (name in OWN or name in ("h", "help")):
            raise FlagError(f"{name} is not to be set here")
    needed = ["--master=x:1", "--listen=x:1", "--credentials=x", f"--prefix={prefix}", f"--count={max(nodes, 1)}"]
    settings_of(make_parser(_Strict).parse_args([*needed, *argv]))


def make_parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options of one process."""
    form = argparse.RawDescriptionHelpFormatter
    parser = kind(
        "python -m node_agent.hollow",
        description="Plays nodes: they register, beat and report their pods Running, and nothing runs.",
        epilog=_EXAMPLE,
        formatter_class=form,
        allow_abbrev=False,
    )
    common.add_master(parser)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="where logs and exec are refused")
    common.add_credentials(parser)
    parser.add_argument("--prefix", default="hollow", help="nodes are named PREFIX-1, PREFIX-2 ... (default: hollow)")
    parser.add_argument("--first", default=1, type=int, metavar="N", help="number of the first node (default: 1)")
    parser.add_argument("--count", default=1, type=int, metavar="N", help="how many nodes (default: 1)")
    common.add_profile(parser)
    defaults = HollowSettings("", "", Path(), PROFILES["laptop"])
    parser.add_argument("--cpu", default=defaults.cpu, help=f"capacity of each node (default: {defaults.cpu})")
    parser.add_argument("--memory", default=defaults.memory, help=f"(default: {defaults.memory})")
    parser.add_argument("--storage", default=defaults.storage, help=f"ephemeral-storage (default: {defaults.storage})")
    parser.add_argument("--pods", default=defaults.pods, type=int, help=f"at a time (default: {defaults.pods})")
    parser.add_argument("--resource", action="append", default=[], metavar="NAME=AMOUNT", help="a further resource")
    parser.add_argument("--zones", default=0, type=int, metavar="N", help="spread the nodes over zone-1 to zone-N")
    parser.add_argument("--racks", default=0, type=int, metavar="N", help="spread them over rack-1 to rack-N")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="of each node")
    parser.add_argument("--taint", action="append", default=[], metavar="KEY[=VALUE]:EFFECT", help="of each node")
    parser.add_argument(
        "--start-delay", default="0", metavar="S[-S]", help="seconds that a container takes to start, or a range"
    )
    parser.add_argument("--seed", default=0, type=int, metavar="N", help="of the start delays (default: 0)")
    parser.add_argument("--events", action="store_true", help="tell all events of real agents, not warnings alone")
    parser.add_argument("--keep", action="store_true", help="leave the nodes behind at the end")
    common.add_metrics_socket(parser)
    common.add_log_level(parser)
    common.add_lifeline(parser, then="end when this descriptor ends, and leave the nodes behind")
    return parser


def settings_of(flags: argparse.Namespace) -> HollowSettings:
    """Raises FlagError."""
    if not hollow.is_prefix(flags.prefix):
        raise FlagError(f'--prefix "{flags.prefix}": must be small letters, digits and "-", at most 50')
    if flags.first < 1 or not 1 <= flags.count <= MOST_NODES:
        raise FlagError(f"--count {flags.count}: from 1 to {MOST_NODES}, and --first is at least 1")
    if flags.zones < 0 or flags.racks < 0:
        raise FlagError("--zones and --racks must not be negative")
    if flags.racks and flags.zones > flags.racks:
        raise FlagError(f"--racks {flags.racks}: a rack lies in one zone, so there are at least as many as --zones")
    if not 1 <= flags.pods <= 125:
        raise FlagError(f"--pods {flags.pods}: a node has addresses for 1 to 125 pods")
    for name in ("cpu", "memory", "storage"):
        _check_amount(f"--{name}", getattr(flags, name))
    resources = dict(_pair("--resource", text) for text in flags.resource)
    for name, amount in resources.items():
        _check_key(f"--resource {name}", name)
        _check_amount(f"--resource {name}", amount)
    return HollowSettings(
        master=flags.master,
        listen=flags.listen,
        credentials=flags.credentials,
        profile=PROFILES[flags.profile],
        prefix=flags.prefix,
        first=flags.first,
        count=flags.count,
        cpu=flags.cpu,
        memory=flags.memory,
        storage=flags.storage,
        pods=flags.pods,
        resources=resources,
        zones=flags.zones,
        racks=flags.racks,
        labels=dict(_label(text) for text in flags.label),
        taints=tuple(_taint(text) for text in flags.taint),
        start_delay_s=_delay(flags.start_delay),
        seed=flags.seed,
        events=flags.events,
        keep=flags.keep,
        metrics_socket=flags.metrics_socket,
    )


def _pair(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise FlagError(f'{option} "{text}": write NAME=VALUE')
    return key, value


def _label(text: str) -> tuple[str, str]:
    key, value = _pair("--label", text)
    _check_key(f"--label {key}", key)
    if problems := label_value_problems(value):
        raise FlagError(f'--label {key}: "{value}": {problems[0]}')
    if key in hollow.HOLLOW_LABELS:
        raise FlagError(f"--label {key}: is set by itself")
    return key, value


def _taint(text: str) -> core.Taint:
    rest, colon, effect = text.rpartition(":")
    key, _, value = rest.partition("=")
    if not colon or effect not in EFFECTS:
        raise FlagError(f'--taint "{text}": write KEY:EFFECT or KEY=VALUE:EFFECT, with {", ".join(EFFECTS)}')
    _check_key(f'--taint "{text}"', key)
    if problems := label_value_problems(value):
        raise FlagError(f'--taint "{text}": "{value}": {problems[0]}')
    return core.Taint(key=key, value=value or None, effect=effect)


def _check_key(option: str, key: str) -> None:
    if problems := label_key_problems(key):
        raise FlagError(f'{option}: "{key}": {problems[0]}')


def _check_amount(option: str, text: str) -> None:
    try:
        if parse_quantity(text) <= 0:
            raise ValueError("must be greater than 0")
    except ValueError as error:
        raise FlagError(f'{option} "{text}": {error}') from error


def _delay(text: str) -> tuple[float, float]:
    least, dash, most = text.partition("-")
    try:
        delays = float(least), float(most) if dash else float(least)
    except ValueError:
        delays = (1.0, 0.0)
    if not 0 <= delays[0] <= delays[1] < 1e6:
        raise FlagError(f'--start-delay "{text}": write seconds, such as 0.5, or a range, such as 0.5-2')
    return delays
