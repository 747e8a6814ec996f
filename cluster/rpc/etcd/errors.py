"""What can go wrong when etcd is asked, by what the caller has to know: was it done, was it not, or can nobody tell.

    Unreachable        nobody was asked, or a question was not answered in time: nothing was changed
    OutcomeUnknown     a change was sent and not answered: it may have been made, may yet be made, or never
    everything else    definite: nothing was changed, and the message says why (but see NoSpace)

Pure.
"""

from __future__ import annotations


class EtcdError(Exception):
    """Something that was asked of etcd was not done; the message says what and why."""


class Unreachable(EtcdError):
    """No endpoint could be asked, or none answered in time. Nothing was sent that changes anything."""


class OutcomeUnknown(EtcdError):
    """A change was sent, and no answer came. The caller finds out by reading, or repeats what is harmless when done
    twice."""


class Refused(EtcdError):
    """etcd has understood and said no (a key that is empty, two puts of one key, a future revision ...)."""


class Compacted(EtcdError):
    """A revision that was asked for is no longer kept."""

    def __init__(self, message: str, compact_revision: int = 0) -> None:
        super().__init__(message)
        self.compact_revision = compact_revision
        """Revisions below this one are gone; 0: etcd did not say."""


class TooLarge(EtcdError):
    """The request is larger than etcd takes, or has more operations than etcd takes."""


class NoSpace(EtcdError):
    """The alarm NOSPACE is raised: etcd takes deletions and reads only, until its operator makes room and disarms it.

    A put (also within a transaction, and a grant of a lease) is refused then. Of the very change that fills the space
    etcd may say so and make it all the same: whoever must know, reads.
    """


class Corrupt(EtcdError):
    """The alarm CORRUPT is raised, or a member has found its data damaged."""


class LeaseNotFound(EtcdError):
    """There is no such lease (any more)."""


class PermissionDenied(EtcdError):
    """etcd wants to know who is asking (it has authentication switched on), or does not let this identity."""


class ClusterChanged(EtcdError):
    """What answers is not the cluster that answered before: another cluster id, or its revisions have gone back."""
