"""Who asks: by the certificate that a client shows, or by the bearer token that it sends. Without either, nobody.

Both are the cluster's own: a certificate that its authority signed and that names an identity (`cluster.rpc.identity`),
or a token of it (`cluster.rpc.tokens`), or one of a service account (`cluster.rpc.account_tokens`), as long as that is
there. A token of this cluster counts before a certificate: it is what somebody chose to send; with a certificate, any
other is for somebody else (a program behind `kubectl proxy`). TLS has checked a certificate's signature and dates
before this file sees it. Nobody may act as somebody else (`kubectl --as`): who says so is refused, for otherwise it
would act as itself, with other rights than it meant to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cluster.actor.clock import Clock
from cluster.api.errors import Forbidden, NotFound, Unauthenticated
from cluster.api.meta import is_terminating
from cluster.api.rights import TABLE
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.account_tokens import Account, AccountTokens
from cluster.rpc.identity import Identity, parse_spiffe
from cluster.rpc.tokens import MAX_LENGTH, TokenChecker, is_of

BELIEVED_S = 5.0
"""So long a token may count after its account was deleted."""
MAX_SEEN = 1_000
"""Accounts that are remembered to be there; of more, the latest."""
_IMPERSONATE = "impersonate-"
"""How the names of headers begin by which a caller would be somebody else."""


def refuse_impersonation(identity: Identity, headers: Iterable[str]) -> None:
    """Raises Forbidden if the caller wants to act as somebody else. `headers`: the names of those that it sent."""
    if any(name.lower().startswith(_IMPERSONATE) for name in headers):
        raise Forbidden(f'User "{identity}" cannot impersonate others: in this cluster everybody acts as itself')


class Authentication:
    """Finds the identity of who asks."""

    def __init__(self, cluster: str, tokens: TokenChecker, accounts: AccountTokens) -> None:
        self._cluster = cluster
        self._tokens = tokens
        self._accounts = accounts

    def mint(self, identity: Identity, account: core.ServiceAccount, lifetime_s: int) -> tuple[str, int]:
        """A token of an account, if this identity may have one, and when it expires. Raises Forbidden."""
        if "token" not in TABLE.get((identity.kind, "ServiceAccount"), {}):
            raise Forbidden(f"{identity} may not make tokens of serviceaccounts")
        meta = account.metadata
        return self._accounts.issue(meta.namespace, meta.name, meta.uid, lifetime_s)

    def who(self, certificate: Mapping[str, Any] | None, authorization: str) -> Identity | Account:
        """The caller, by what `ssl` says of its certificate and by the header Authorization; of an account it is still
        to be seen whether it is there. Raises Unauthenticated."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        if certificate and not (token and is_of(token[:MAX_LENGTH], self._cluster)):
            return self._by_certificate(certificate)
        if not token:
            raise Unauthenticated("show a client certificate of this cluster, or send a bearer token of it")
        account = self._accounts.account_of(token)
        return account if account is not None else self._tokens.identity_of(token)

    def _by_certificate(self, certificate: Mapping[str, Any]) -> Identity:
        uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        if len(uris) != 1:
            raise Unauthenticated("the certificate names no identity (a single SPIFFE URI)")
        try:
            cluster, identity = parse_spiffe(uris[0])
        except ValueError as error:
            raise Unauthenticated(str(error)) from error
        if cluster != self._cluster:
            raise Unauthenticated(f'the certificate is of cluster "{cluster}", this is "{self._cluster}"')
        return identity


class Accounts:
    """Sees whether service accounts are still there, and believes it for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[Account, float] = {}

    async def check(self, account: Account, client: ClusterClient) -> None:
        """`client` has the account's own rights. Raises Unauthenticated if it is gone, or what the master says."""
        now = self._clock.monotonic()
        if now - self._seen.get(account, now - BELIEVED_S) < BELIEVED_S:
            return
        self._seen.pop(account, None)
        namespace, _, name = account.identity.name.partition("/")
        try:
            found = await client.get(core.ServiceAccount, name, namespace)
        except NotFound:
            found = None
        if found is None or found.metadata.uid != account.uid or is_terminating(found):
            raise Unauthenticated(f'the service account "{namespace}/{name}" of this token is gone')
        while len(self._seen) >= MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[account] = now
