"""`podium fault`: something goes wrong on purpose, for a while."""

from __future__ import annotations

import re

import click

from cluster.cli.exits import ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import targets

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_RATE = re.compile(r"(\d+)(k|M|G|)")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000}
_FACTORS = {"": 1, "k": 1000, "M": 1000_000, "G": 1000_000_000}


def milliseconds(text: str, option: str) -> int:
    """200ms, 1.5s, 2m. Raises UsageError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise click.UsageError(f"{option} {text}: a time is a number with ms, s or m, such as 200ms")
    return round(float(match[1]) * _UNITS[match[2]])


def bytes_per_second(text: str) -> int:
    """5000, 64k, 2M. Raises UsageError."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise click.UsageError(f"--bandwidth {text}: bytes per second, such as 5000, 64k or 2M")
    return int(match[1]) * _FACTORS[match[2]]


@click.command(
    "fault",
    epilog="\b\nExamples:\n  podium fault service/web --delay 200ms --jitter 50ms --for 30s\n"
    "  podium fault service/web --pod web-x7k2p --reset --for 5s\n"
    "  podium fault node/node-2 --partition --for 30s\n"
    "  podium get faults; podium delete fault NAME     ends it now",
)
@click.argument("what", nargs=-1, required=True, metavar="service/NAME|node/NAME")
@click.option("--for", "duration", required=True, metavar="TIME", help="How long, up to 1h: 500ms counts as 1s.")
@click.option("--pod", default="", metavar="NAME", help="Only the link from the service to this pod.")
@click.option("--delay", default="", metavar="TIME", help="Everything arrives so much later.")
@click.option("--jitter", default="", metavar="TIME", help="And up to so much later than that.")
@click.option("--bandwidth", default="", metavar="RATE", help="Bytes per second of each connection: 64k.")
@click.option("--loss", type=click.IntRange(1, 100), metavar="PERCENT", help="Of new connections, reset.")
@click.option("--half-open", is_flag=True, help="Nothing arrives, nobody is told.")
@click.option("--refuse", is_flag=True, help="New connections are refused.")
@click.option("--reset", is_flag=True, help="Connections break off.")
@click.option("--partition", is_flag=True, help="The node and its pods are cut off.")
@click.option("--pause", is_flag=True, help="The processes of the node's pods stand still.")
@click.option("--seed", type=int, help="Of the dice; the same seed, the same luck.")
@click.option("--name", default="", help="Of the fault; default: that of the target, and some letters.")
@namespace_option
@cluster_option
@click.pass_context
def fault_command(
    ctx: click.Context,
    what: tuple[str, ...],
    duration: str,
    pod: str,
    delay: str,
    jitter: str,
    bandwidth: str,
    loss: int | None,
    half_open: bool,
    refuse: bool,
    reset: bool,
    partition: bool,
    pause: bool,
    seed: int | None,
    name: str,
    namespace: str,
) -> int:
    """Let something go wrong with a service or a node for a while. It ends by itself."""
    wanted = targets(what)
    if len(wanted) != 1 or wanted[0][0].name not in ("Service", "Node") or not wanted[0][1]:
        raise click.UsageError(
            "a fault is about one service or one node: podium fault service/NAME --delay 200ms --for 30s"
        )
    kind, target = wanted[0]
    seconds = -(-milliseconds(duration, "--for") // 1000)
    delay_ms = milliseconds(delay, "--delay") if delay else 0
    jitter_ms = milliseconds(jitter, "--jitter") if jitter else 0
    rate = bytes_per_second(bandwidth) if bandwidth else 0

    async def body(session: Session) -> int:
        from cluster.api.faults import fault_target, fault_words
        from cluster.client import operations
        from cluster.pb.v1 import core_pb2 as core

        spec = core.FaultSpec(durationSeconds=seconds)
        if kind.name == "Service":
            spec.target.service = target
        else:
            spec.target.node = target
        for field, value in (
            ("seed", seed), ("delayMilliseconds", delay_ms), ("jitterMilliseconds", jitter_ms),
            ("bandwidthBytesPerSecond", rate), ("lossPercent", loss), ("halfOpen", half_open), ("refuse", refuse),
            ("reset", reset), ("partition", partition), ("pause", pause),
        ):  # fmt: skip
            if value:
                setattr(spec, field, value)
        if pod:
            spec.target.pod = pod
        meta = core.ObjectMeta(namespace=namespace, name=name, generateName="" if name else f"{target}-")
        fault = core.Fault(metadata=meta, spec=spec)
        written = await session.client.write([operations.create(fault)], cause=core.Cause(reason="fault"))
        made = written.outcomes[0].unwrap()
        assert isinstance(made, core.Fault)
        click.echo(f"fault/{made.metadata.name}: {fault_target(made)}: {fault_words(made)}, for {seconds} s")
        return ExitCode.OK

    return run(ctx, body)
