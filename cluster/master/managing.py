"""Who answers for which fields of an object that is written (metadata.managedFields).

Of objects that nobody has applied by the server nothing is kept, and nothing is spent on them. Of the others every
update and status update is noted under the name that its operation gives, or else under that of who writes. What is
applied by the server says it all itself (`applied`): it was reckoned where it was merged. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.api.aside import plain
from cluster.api.errors import Invalid
from cluster.api.json import message_from_json
from cluster.api.kinds import AnyObject
from cluster.api.managers import UPDATE, Manager, check_name, noted
from cluster.api.problems import Report
from cluster.api.shapes import Shape
from cluster.api.times import format_time
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

_OF_USERS = "podium"
"""Whose own name says less than the program that they use: a user's."""


def check(given: wire.FieldManager) -> None:
    """Raises Invalid for a name that managedFields cannot hold."""
    report = Report()
    check_name(report, "manager.name", given.name)
    if report.errors:
        raise Invalid("; ".join(map(str, report.errors)), causes=report.errors)


def note(
    new: AnyObject,
    old: AnyObject,
    shape: Callable[[AnyObject], Shape],
    given: wire.FieldManager,
    writer: str,
    now_s: float,
    subresource: str = "",
) -> None:
    """Brings the managedFields of `new`, which belongs to us, up to date; where nothing is changed, they are those of
    `old`. `shape` is asked for that of the object; `writer`: the identity, as text."""
    mine, before = new.metadata.managedFields, old.metadata.managedFields
    if given.applied or not (mine or before):
        return
    if not mine:
        mine.extend(before)
    if new == old:
        return
    name = given.name or (_OF_USERS if writer == "admin" else writer)
    manager = Manager(name, UPDATE, given.subresource or subresource)
    now = format_time(int(now_s))
    entries = noted(plain(old, exact=True), plain(new, exact=True), shape(new), manager, now=now)
    del mine[:]
    mine.extend(message_from_json(core.ManagedFieldsEntry, entry) for entry in entries)
