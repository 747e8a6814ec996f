"""How the report of a simulation looks on a terminal. Pure.

Data for programs is `cluster.simulation.report.document`; here is what people read: first what was asked, then what
would be applied, tables of what moves, comes, goes and stays pending, and when all is quiet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cluster.api.columns import NONE, age
from cluster.api.kinds import BY_NAME
from cluster.cli.exits import ExitCode
from cluster.cli.past import object_text
from cluster.cli.printers import align, clean
from cluster.simulation.report import (
    AppliedObject,
    NodeStory,
    Outage,
    Pending,
    Placed,
    Removed,
    Report,
    Restless,
    Stuck,
)

MOST_ROWS = 40
"""Of one table; -o json has all."""
MOST_CHANGES = 10
"""In the first line."""
_REFUSED = "refused"


def exit_code(report: Report) -> ExitCode:
    """0: it fits; 1: manifests were refused; 4: it did not become quiet in time; 5: something stays pending."""
    if report.ending == _REFUSED:
        return ExitCode.ERROR
    if not report.is_quiet:
        return ExitCode.TIMEOUT
    return ExitCode.OK if report.fits else ExitCode.UNSCHEDULABLE


def text(report: Report) -> str:
    """The report, for people."""
    asked = "; ".join(_first(report.changes, MOST_CHANGES)) or "nothing is changed"
    parts = [f"if {asked} (the cluster is at revision {report.revision}):"]
    if report.applied:
        parts.append("\n".join(line for applied in report.applied for line in _applied(applied)))
    if report.ending == _REFUSED:
        parts.append("apply would write nothing of it, because of what is refused")
    else:
        parts += [part for part in _consequences(report) if part]
        parts.append(_end(report))
    parts += [f"note: {clean(note)}" for note in report.notes]
    return "\n\n".join(parts)


def _consequences(report: Report) -> Iterable[str]:
    moved = [removed for removed in report.removed if removed.replaced_by]
    gone = [removed for removed in report.removed if not removed.replaced_by]
    placed = [placed for placed in report.placed if not placed.replaces]
    yield "\n".join(_first([_node(story) for story in report.nodes], MOST_ROWS))
    yield _table("moved", ("POD", "FROM", "WHY", "LEFT", "REPLACED BY", "ON", "READY"), map(_moved, moved))
    yield _table("gone", ("POD", "FROM", "WHY", "LEFT", "GONE"), map(_gone, gone))
    yield _table("placed", ("POD", "ON", "BOUND", "READY"), map(_placed, placed))
    yield _table("pending", ("POD", "SINCE", "WHY"), map(_pending, report.pending))
    yield _table("do not run", ("OF", "PODS", "REASON", "MESSAGE"), map(_stuck, report.stuck))
    yield _table("services without endpoints", ("SERVICE", "FROM", "UNTIL"), map(_outage, report.outages))
    if not (report.nodes or report.placed or report.removed or report.pending or report.stuck or report.outages):
        yield "no pod moves, comes or goes"


def _end(report: Report) -> str:
    if report.is_quiet:
        rest_s = report.elapsed_s - report.quiet_at_s
        end = f"quiet after {_time(report.quiet_at_s)}; then nothing happened for {_time(rest_s)}"
    else:
        limit = "virtual" if report.ending == "limit" else "real"
        end = f"not quiet after {_time(report.elapsed_s)}, when the {limit} time was over: this is how it was then"
    lines = [f"{end}. Nothing was written."]
    if report.passing:
        pods = "pods were" if report.passing > 1 else "pod was"
        lines.insert(0, f"{report.passing} more {pods} made and had to go again")
    lines.append(_table("still changing", ("WHAT", "CHANGES IN THE LAST MINUTE"), map(_restless, report.restless)))
    return "\n".join(line for line in lines if line)


# --- lines and rows


def _applied(applied: AppliedObject) -> Iterable[str]:
    name = _name(applied.namespace, applied.name)
    yield f"{BY_NAME[applied.kind].field}/{name} {applied.verb}" + (
        f": {applied.source}:{applied.line}: {clean(applied.message)}" if applied.message else ""
    )
    for difference in applied.differences:
        yield f"  {clean(_cut(difference))}"


def _node(story: NodeStory) -> str:
    told = []
    if story.joined_s is not None:
        told.append(f"joins after {_time(story.joined_s)}")
    if story.cordoned is not None:
        told.append("is cordoned" if story.cordoned else "is uncordoned")
    if story.failed_s is not None:
        told.append(f"is NotReady after {_time(story.failed_s)}")
        told.append(
            f"its pods are evicted from {_time(story.evicted_s)} on"
            if story.evicted_s is not None
            else "its pods are not evicted, because too many nodes have failed, or it is not its turn yet"
        )
    return f"node/{story.name} {', '.join(told)}"


def _moved(removed: Removed) -> Sequence[str]:
    ready = _time(removed.ready_s) if removed.ready_s is not None else NONE
    return (
        _name(removed.namespace, removed.pod),
        removed.node or NONE,
        _why(removed),
        _time(removed.left_s),
        removed.replaced_by,
        removed.replaced_on or "(pending)",
        ready,
    )


def _gone(removed: Removed) -> Sequence[str]:
    gone = _time(removed.gone_s) if removed.gone_s is not None else "(terminating)"
    pod = _name(removed.namespace, removed.pod)
    return pod, removed.node or NONE, _why(removed), _time(removed.left_s), gone


def _why(removed: Removed) -> str:
    if removed.why == "preempted" and removed.because:
        return f"preempted by {object_text(removed.because, removed.namespace)}"
    return removed.why


def _placed(placed: Placed) -> Sequence[str]:
    ready = _time(placed.ready_s) if placed.ready_s is not None else "(not ready)"
    return _name(placed.namespace, placed.pod), placed.node, _time(placed.bound_s), ready


def _pending(pending: Pending) -> Sequence[str]:
    since = "before" if pending.was_pending else _time(pending.since_s)
    return _name(pending.namespace, pending.pod), since, clean(pending.message) or NONE


def _stuck(stuck: Stuck) -> Sequence[str]:
    return _object(stuck.owner, stuck.namespace), str(len(stuck.pods)), stuck.reason, clean(stuck.message)


def _outage(outage: Outage) -> Sequence[str]:
    until = _time(outage.until_s) if outage.until_s is not None else "(it stays so)"
    return _name(outage.namespace, outage.service), _time(outage.from_s), until


def _restless(restless: Restless) -> Sequence[str]:
    return _object(restless.what, restless.namespace), str(restless.changes)


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with its title; empty if it has no rows."""
    found = [list(row) for row in rows]
    if not found:
        return ""
    table = align([list(head), *found[:MOST_ROWS]])
    return "\n".join([f"{title}: {len(found)}", table, *_first(found, MOST_ROWS)[MOST_ROWS:]])


def _first(lines: Sequence[Any], most: int) -> list[Any]:
    """As many as are shown, and how many are not."""
    if len(lines) <= most:
        return [*lines]
    return [*lines[:most], f"... and {len(lines) - most} more (-o json has all)"]


def _object(text: str, namespace: str) -> str:
    """ "ReplicationController/web" as users name it: rc/web."""
    kind, _, name = text.partition("/")
    path = "/".join(part for part in (BY_NAME[kind].plural, namespace, name) if part)
    return object_text(path, "default")


def _name(namespace: str, name: str) -> str:
    return name if namespace in ("", "default") else f"{namespace}/{name}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 120 else age(seconds)


def _cut(line: str, width: int = 160) -> str:
    return line if len(line) <= width else f"{line[: width - 3]}..."
