"""What a fault is about and does, in the words of the command line. Pure."""

from __future__ import annotations

from cluster.pb.v1 import core_pb2 as core

_SWITCHES = (
    ("halfOpen", "half-open"),
    ("refuse", "refuse"),
    ("reset", "reset"),
    ("partition", "partition"),
    ("pause", "pause"),
)


def fault_target(fault: core.Fault) -> str:
    """service/web, service/web -> pod/web-1, node/node-2."""
    target = fault.spec.target
    if target.node:
        return f"node/{target.node}"
    return f"service/{target.service}" + (f" -> pod/{target.pod}" if target.pod else "")


def fault_words(fault: core.Fault) -> str:
    """delay 200ms, jitter 50ms."""
    spec = fault.spec
    words = []
    if spec.delayMilliseconds:
        words.append(f"delay {spec.delayMilliseconds}ms")
    if spec.jitterMilliseconds:
        words.append(f"jitter {spec.jitterMilliseconds}ms")
    if spec.bandwidthBytesPerSecond:
        words.append(f"bandwidth {spec.bandwidthBytesPerSecond}B/s")
    if spec.lossPercent:
        words.append(f"loss {spec.lossPercent}%")
    words += [word for name, word in _SWITCHES if getattr(spec, name)]
    return ", ".join(words)
