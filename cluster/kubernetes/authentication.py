"""Who asks: by the certificate that a client shows, or by the bearer token that it sends. Without either, nobody.

Both are the cluster's own: a certificate that its authority signed and that names an identity (`cluster.rpc.identity`),
or a token of it (`cluster.rpc.tokens`). A certificate counts before a token. TLS has checked a certificate's signature
and dates before this file sees it. Nobody may act as somebody else (`kubectl --as`): who says so is refused, for
otherwise it would act as itself, with other rights than it meant to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cluster.api.errors import Forbidden, Unauthenticated
from cluster.rpc.identity import Identity, parse_spiffe
from cluster.rpc.tokens import TokenChecker

_IMPERSONATE = "impersonate-"
"""How the names of headers begin by which a caller would be somebody else."""


def refuse_impersonation(identity: Identity, headers: Iterable[str]) -> None:
    """Raises Forbidden if the caller wants to act as somebody else. `headers`: the names of those that it sent."""
    if any(name.lower().startswith(_IMPERSONATE) for name in headers):
        raise Forbidden(f'User "{identity}" cannot impersonate others: in this cluster everybody acts as itself')


class Authentication:
    """Finds the identity of who asks."""

    def __init__(self, cluster: str, tokens: TokenChecker) -> None:
        self._cluster = cluster
        self._tokens = tokens

    def who(self, certificate: Mapping[str, Any] | None, authorization: str) -> Identity:
        """The caller, by what `ssl` says of its certificate and by the header Authorization. Raises Unauthenticated."""
        if certificate:
            return self._by_certificate(certificate)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("show a client certificate of this cluster, or send a bearer token of it")
        return self._tokens.identity_of(token.strip())

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
