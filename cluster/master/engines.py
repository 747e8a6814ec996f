"""Where the log is: in a directory of this machine (SQLite), or in etcd, shared by several masters."""

from __future__ import annotations

import logging
import random

from cluster.actor.clock import Clock, new_uid
from cluster.config.errors import ConfigError
from cluster.master.settings import MasterSettings
from cluster.rpc.etcd import EtcdClient, load_credentials, parse_etcd_url, warn_about_plaintext
from cluster.rpc.identity import CredentialsError
from cluster.store import failpoints
from cluster.store.etcd.journal import EtcdJournal
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.interface import Journal
from cluster.store.journal import SqliteJournal

_log = logging.getLogger("podium.master")


def journal_of(settings: MasterSettings, cluster: str, clock: Clock, rng: random.Random) -> Journal:
    """The journal that the settings name, not opened; in etcd, the prefix is the cluster's if none is named.

    Raises ConfigError.
    """
    if not settings.store_url:
        return SqliteJournal(settings.dir, lambda: new_uid(rng), ballast_bytes=settings.ballast_bytes, clock=clock)
    url = parse_etcd_url(settings.store_url)
    try:
        credentials = None if settings.etcd_credentials is None else load_credentials(settings.etcd_credentials)
    except CredentialsError as error:
        raise ConfigError(f"etcd_credentials: {error}") from error
    if credentials is None:
        for warning in warn_about_plaintext(url.endpoints):
            _log.warning("%s", warning)
    client = EtcdClient(url.endpoints, credentials, clock=clock, rng=rng, failpoint=failpoints.hit)
    limits = EtcdSettings(lease_ttl_s=settings.timers.master_lease_s)
    return EtcdJournal(client, url.prefix or f"/podium/{cluster}/", limits, clock, rng, lambda: new_uid(rng))
