"""Tokens of service accounts: who serves Kubernetes' REST API signs them with its own key, and believes them.

    iss  spiffe://demo/kubernetes      aud  podium/kubernetes
    sub  system:serviceaccount:NS:NAME
    kubernetes.io  {"namespace": NS, "serviceaccount": {"name": NAME, "uid": UID}}

They are JSON Web Tokens, as Kubernetes' are. They say who somebody is at that API and nowhere else, and never more than
a service account: the key is not the authority's. As every start of a cluster makes new keys, they end with it, and
whoever reads one has to see whether the account, by its uid, is still there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cluster.actor.clock import Clock, SystemClock, new_uid
from cluster.api.errors import Unauthenticated
from cluster.rpc.identity import Identity, check_cluster_name
from cluster.rpc.tokens import AUDIENCE, MAX_KEPT, MAX_LENGTH

_ALGORITHM = "ES256"
_SUBJECT = "system:serviceaccount"


@dataclass(frozen=True, slots=True)
class Account:
    """Whose token that is."""

    identity: Identity
    uid: str
    """Of the ServiceAccount that it was made for."""


class AccountTokens:
    """Makes and reads them."""

    def __init__(self, key: bytes, cluster: str, clock: Clock | None = None) -> None:
        """`key`: the private key (PEM) of the identity `kubernetes`."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        check_cluster_name(cluster)
        self._key: Any = load_pem_private_key(key, None)
        self._issuer = f"spiffe://{cluster}/kubernetes"
        self._clock = clock or SystemClock()
        self._verified = lru_cache(maxsize=MAX_KEPT)(self._verify)

    def issue(self, namespace: str, name: str, uid: str, lifetime_s: int) -> tuple[str, int]:
        """A token of the account, and when it expires, in seconds since 1970."""
        import jwt

        now_s = int(self._clock.wall())
        expires_s = now_s + lifetime_s
        claims = {
            "iss": self._issuer,
            "sub": f"{_SUBJECT}:{namespace}:{name}",
            "aud": [AUDIENCE],
            "iat": now_s,
            "nbf": now_s,
            "exp": expires_s,
            "jti": new_uid(),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM), expires_s

    def account_of(self, token: str) -> Account | None:
        """Whose token it is; None if it says that it was made by somebody else. Raises Unauthenticated."""
        if len(token) > MAX_LENGTH:
            raise Unauthenticated("the token is too long to be one of ours")
        found = self._verified(token)
        if found is None:
            return None
        account, expires_s = found
        if self._clock.wall() >= expires_s:
            namespace, _, name = account.identity.name.partition("/")
            raise Unauthenticated(f"the token has expired; get another: kubectl create token {name} -n {namespace}")
        return account

    def _verify(self, token: str) -> tuple[Account, float] | None:
        """The same, and when it expires."""
        import jwt

        try:
            # Believed of nothing but where it says that it comes from.
            unread = jwt.decode(token, options={"verify_signature": False})
            if unread.get("iss") != self._issuer:
                return None
            claims = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                # Its time is checked for every call, by the clock that was handed in.
                options={
                    "require": ["sub", "exp", "aud", "iss", "kubernetes.io"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            about = claims["kubernetes.io"]
            namespace, name, uid = about["namespace"], about["serviceaccount"]["name"], about["serviceaccount"]["uid"]
            identity = Identity("serviceaccount", f"{namespace}/{name}")
            return Account(identity, str(uid)), float(claims["exp"])
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            raise Unauthenticated("the token is not valid here") from error
