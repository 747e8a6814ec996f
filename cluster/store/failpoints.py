"""Places where a test may make a process die, fail, stop or dawdle: the crash points of the kill tests.

`PODIUM_FAILPOINTS="store.before_commit=exit:1in50;store.after_commit=sleep:200ms"`:

    exit            the process ends as if killed: exit code 137, nothing flushed
    raise           OSError, as from a disk that fails
    freeze          the process stops (SIGSTOP) until somebody continues it
    sleep:200ms     the thread waits

each time the place is reached, or once in fifty times (`:1in50`), or the seventh time only (`:nth7`). Without the
variable a failpoint costs one look into an empty dictionary. All places are in KNOWN, so that a test can try each; a
name that is not there, or an action that does not parse, stops the process at once, for a test that tests nothing is
worse than one that fails.

Called from the thread that does the work (the writer's), so that waiting delays just that work.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "PODIUM_FAILPOINTS"
EXIT_CODE = 137


KNOWN: Mapping[str, str] = {
    # name: where
    "store.before_create": "schema.create: the file is there and empty",
    "store.after_create": "schema.create: the tables are there, the high-water mark is not",
    "store.before_migrate": "schema.migrate: the copy is there, the transaction is not committed",
    "store.after_migrate": "schema.migrate: committed",
    "store.before_commit": "SqliteJournal.append: nothing is written yet",
    "store.after_commit": "SqliteJournal.append: durable, the high-water mark is not moved",
    "store.after_mark": "SqliteJournal.append: durable and marked, not acknowledged",
    "store.before_checkpoint": "SqliteJournal: the WAL is about to be copied into the database",
    "store.after_checkpoint": "SqliteJournal: the WAL has been copied",
    "store.before_compact": "SqliteJournal.compact: a piece is about to be forgotten",
    "store.after_compact": "SqliteJournal.compact: a piece is forgotten, nobody knows",
    "store.before_mark_sync": "SqliteJournal: the high-water mark is about to be synced",
    "store.after_mark_sync": "SqliteJournal: the high-water mark is synced",
    "store.before_ballast": "SqliteJournal: the disk is full, the ballast is about to be given back",
    "store.after_ballast": "SqliteJournal: the ballast is given back, the write is not tried again yet",
    "backup.before_begin": "Backups: a backup is about to be made, nothing of it is sent",
    "backup.between_pieces": "Backups: a piece was sent, and not the last",
    "backup.before_end": "Backups: all was sent but its end",
    "restore.before_stage": "restoring.stage: nothing of the new store is there",
    "restore.after_stage": "restoring.stage: the new store is there, beside the old one",
    "restore.before_switch": "restoring.switch: nothing has changed places, and nothing says that it should",
    "restore.after_mark": "restoring: it is written what is to be done next, and nothing of that is done",
    "restore.between_aside": "restoring: a file of the old store is aside, maybe not the last",
    "restore.between_install": "restoring: a file of the new store is in its place, maybe not the last",
    "restore.after_install": "restoring: the new store is in its place",
    "restore.before_remove": "restoring.put_back: the new store is to go, and nothing says so",
    "restore.between_remove": "restoring: a file of the new store is gone, maybe not the last",
    "restore.between_return": "restoring: a file of the old store is back, maybe not the last",
    "restore.before_done": "restoring: all is in its place, and it is still written that it is not",
    "restore.after_done": "restoring: all is in its place",
    "store.before_head": "Store.head: the end of the log is about to be asked for, for a read",
    "store.after_head": "Store.head: it is known, the read is not answered",
    "master.before_commit": "WriterActor: a group is staged, nothing of it is on its way",
    "master.after_commit": "WriterActor: a group is durable and visible, nobody is answered",
    "master.before_campaign": "Leadership: this master follows, and is about to ask for the right to append",
    "master.after_campaign": "Leadership: it has the right, and has not caught up",
    "master.after_catch_up": "Leadership: it has caught up, the writer has not begun",
    "master.before_forward": "GrpcPeer: a write is about to be handed on to the leader",
    "master.after_forward": "GrpcPeer: the leader has answered, the caller has not been",
    "etcd.before_ask": "EtcdClient: something is about to be asked, or asked again of another member",
    "etcd.after_ask": "EtcdClient: it is answered, or it failed, and nobody knows",
    "etcd.before_change": "EtcdClient: something is about to be changed; a member is not chosen yet",
    "etcd.after_change": "EtcdClient: it is changed, or it failed, and nobody knows",
    "etcd.before_watch": "Watch: it is about to be made, or made again at another member",
    "etcd.after_watch": "Watch: changes were read, and nobody has them",
    "etcd.before_create": "EtcdJournal.open: there is no store yet",
    "etcd.after_create": "EtcdJournal.open: the store is there",
    "etcd.before_read": "Front: head and leader are about to be read",
    "etcd.after_read": "Front: head and leader were read, nobody has been told",
    "etcd.before_grant": "Candidate: nobody leads, a lease is about to be asked for",
    "etcd.after_grant": "Candidate: there is a lease, the leader's key is not there",
    "etcd.before_claim": "Candidate: the leader's key is about to be created",
    "etcd.after_claim": "Candidate: it may lead, and does not know",
    "etcd.before_clean": "Writer: it leads, what a former leader has staged may be there",
    "etcd.after_clean": "Writer: what was staged is gone",
    "etcd.before_renew": "EtcdTerm: the lease is about to be renewed",
    "etcd.after_renew": "EtcdTerm: the lease is renewed, the leader's key was not looked at",
    "etcd.before_resign": "EtcdTerm: the leader's key is about to be removed",
    "etcd.after_resign": "EtcdTerm: nobody leads, the lease is still there",
    "etcd.before_append": "Writer: the last part of an append is about to be written, with the head",
    "etcd.between_parts": "Writer: a part of a large append is staged, and not the last",
    "etcd.after_append": "Writer: durable, not acknowledged",
    "restore.etcd_between_chunks": "restoring in etcd: a chunk of the new log is staged, and not the last",
    "restore.etcd_before_switch": "restoring in etcd: the new log is staged and verified, the old one is the cluster's",
    "restore.etcd_after_switch": "restoring in etcd: the new log is the cluster's, the old one is there still",
    "etcd.before_promise": "Sweeper: more is about to be declared compacted",
    "etcd.after_promise": "Sweeper: it is declared compacted, nothing is rewritten",
    "etcd.before_rewrite": "Sweeper: chunks are about to be rewritten",
    "etcd.after_rewrite": "Sweeper: some chunks are rewritten, maybe not the last",
    "etcd.before_forget": "Sweeper: old requests are about to be removed",
    "etcd.after_forget": "Sweeper: old requests are gone",
    "etcd.before_compact": "Sweeper: etcd is about to forget its old revisions",
    "etcd.after_compact": "Sweeper: etcd has forgotten its old revisions",
}


@dataclass(frozen=True, slots=True)
class Failpoint:
    """What happens at one place."""

    action: str
    """exit, raise, freeze or sleep."""
    sleep_s: float = 0.0
    one_in: int = 1
    nth: int = 0
    """Only this time, counted from 1; 0: whenever the dice say so."""


def parse(text: str) -> dict[str, Failpoint]:
    """The failpoints of a variable's value. Raises ValueError naming the part that does not parse."""
    failpoints: dict[str, Failpoint] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, action = part.partition("=")
        word, *arguments = action.split(":")
        one_in, nth, sleep_s = 1, 0, 0.0
        try:
            for argument in arguments:
                if argument.startswith("1in"):
                    one_in = int(argument[3:])
                elif argument.startswith("nth"):
                    nth = int(argument[3:])
                else:
                    sleep_s = float(argument.removesuffix("ms")) / 1000
            known = word in ("exit", "raise", "freeze", "sleep")
            if not known or one_in < 1 or nth < 0 or (word == "sleep") != (sleep_s > 0):
                raise ValueError
        except ValueError:
            actions = "exit, raise, freeze or sleep:NNNms, and :1inN or :nthN"
            raise ValueError(f"{VARIABLE}: {part!r} is not NAME=ACTION, with {actions}") from None
        if name not in KNOWN:
            raise ValueError(f"{VARIABLE}: there is no {name!r}; there are {', '.join(KNOWN)}")
        failpoints[name] = Failpoint(word, sleep_s, one_in, nth)
    return failpoints


_active: dict[str, Failpoint] = parse(os.environ.get(VARIABLE, ""))
_dice = random.Random()
os.register_at_fork(after_in_child=_dice.seed)  # or all children of a warm parent would die at the same throw
_pause = threading.Event()
_reached: dict[str, int] = {}


def hit(name: str) -> None:
    """Does here what the environment asked for: nothing, usually."""
    if not _active:
        return
    failpoint = _active.get(name)
    if failpoint is None:
        return
    if failpoint.nth:
        _reached[name] = _reached.get(name, 0) + 1
        if _reached[name] != failpoint.nth:
            return
    elif _dice.randrange(failpoint.one_in) != 0:
        return
    if failpoint.action == "exit":
        os._exit(EXIT_CODE)
    elif failpoint.action == "raise":
        raise OSError(errno.EIO, f"failpoint {name}")
    elif failpoint.action == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        _pause.wait(failpoint.sleep_s)
