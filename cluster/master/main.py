"""`python -m cluster master`: flags to settings to a supervised master."""

from __future__ import annotations

import argparse
import gc
import os
import sys

from cluster.actor import daemon
from cluster.actor.supervisor import Supervisor
from cluster.config import flags as common
from cluster.config.errors import ConfigError
from cluster.config.profiles import PROFILES
from cluster.config.settings import load
from cluster.master.server import build
from cluster.master.settings import MasterSettings
from cluster.telemetry import log

_GARBAGE_OBJECTS = 20_000
"""Made since the last look for garbage that goes in circles: 700, Python's own, is one write of a hundred objects."""


def main(argv: list[str]) -> int:
    """Runs a master until a signal, or the end of its lifeline, stops it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cluster master", description="Keeps the state of a cluster.")
    parser.add_argument("--listen", metavar="HOST:PORT", required=True, help="address to serve at")
    parser.add_argument("--dir", metavar="DIR", help="where the store is; made if it is missing")
    parser.add_argument(
        "--store",
        dest="store_url",
        metavar="URL",
        help="instead of --dir, for several masters: etcd://HOST:PORT,HOST:PORT,.../PREFIX (default: /podium/CLUSTER)",
    )
    parser.add_argument(
        "--etcd-credentials", metavar="DIR", help="ca.crt, tls.crt and tls.key for etcd (default: no TLS)"
    )
    parser.add_argument(
        "--advertise", metavar="HOST:PORT", help="where other masters reach this one (default: where it serves)"
    )
    common.add_credentials(parser)
    parser.add_argument("--profile", choices=sorted(PROFILES), help="timers (default: laptop)")
    parser.add_argument("--service-cidr", metavar="NETWORK", help="addresses of services, but for the first 256")
    parser.add_argument("--pod-cidr-base", metavar="ADDRESS", help="where the nodes' blocks of pod addresses begin")
    common.add_lifeline(parser)
    common.add_log_level(parser)
    flags = vars(parser.parse_args(argv))
    lifeline_fd, log_level = flags.pop("lifeline_fd"), flags.pop("log_level")
    log.setup("master", log_level)
    if flags["dir"] is None and flags["store_url"] is not None:
        flags["dir"] = ""  # nothing is kept there
    try:
        settings = load(MasterSettings, flags=flags, env_prefix="PODIUM_MASTER_", environ=os.environ)
    except ConfigError as error:
        print(f"master: {error}", file=sys.stderr)
        return 2
    bound: dict[str, str] = {}
    gc.set_threshold(_GARBAGE_OBJECTS)

    async def make() -> Supervisor:
        return build(settings, on_bound=lambda address: bound.update(address=address))

    def ready() -> dict[str, str]:
        # What was read at the start is no garbage: to look through it would stop a master with 150,000 pods for 0.15 s,
        # again and again.
        gc.freeze()
        return bound

    return daemon.run(
        make,
        name="master",
        ready=ready,
        lifeline_fd=lifeline_fd,
        stop_grace_s=settings.stop_grace_s + 5.0,
    )
