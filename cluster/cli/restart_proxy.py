"""`podium restart proxy`: a successor of the proxy, without a connection that fails."""

from __future__ import annotations

import time

import click

from cluster.cli.exits import CommandError, ExitCode
from cluster.cli.session import chosen_cluster

_LOOK_S = 0.05


def restart_proxy(ctx: click.Context, timeout_s: float) -> int:
    """Returns when the successor serves. Raises CommandError if it does not in time."""
    from cluster.up import control
    from cluster.up.layout import find_cluster

    directory, _ = find_cluster(chosen_cluster(ctx))
    before = _proxy(control.ask(directory.control_socket, {"op": "status"}))["pid"]
    answer = control.ask(directory.control_socket, {"op": "replace", "name": "proxy"})
    if "error" in answer:
        raise CommandError(f"the proxy was not restarted: {answer['error']}")
    deadline = time.perf_counter() + timeout_s
    while time.perf_counter() < deadline:
        child = _proxy(control.ask(directory.control_socket, {"op": "status"}))
        if child["state"] == "running" and child["pid"] != before:
            click.echo(f"proxy restarted (pid {child['pid']}); connections of the old one finish there (pid {before})")
            return ExitCode.OK
        time.sleep(_LOOK_S)
    raise CommandError(
        f"the new proxy does not serve after {timeout_s:g} s; the old one goes on. See {directory.log('proxy')}",
        ExitCode.TIMEOUT,
    )


def _proxy(status: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    return next(child for child in status["children"] if child["name"] == "proxy")
