"""Bearer tokens: an identity for some time, signed by the cluster's authority, for those who cannot show a certificate.

A token is a JSON Web Token (RFC 7519) with an ES256 signature. It is bound to one cluster and one use, so that it is
worth nothing elsewhere, and whoever has ca.crt can check it: no secret is shared, and nothing is stored. It cannot be
taken back before it expires, so it should not live long.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from cluster.actor.clock import Clock, SystemClock, new_uid
from cluster.api.errors import Unauthenticated
from cluster.rpc.identity import Identity, check_cluster_name, parse_spiffe, read_authority

DEFAULT_LIFETIME_S = 24 * 3600.0
MAX_LIFETIME_S = 365 * 86400.0
MAX_LENGTH = 4096
"""Of a token, in characters."""
MAX_KEPT = 256
"""Tokens that were found good and are remembered; of more, those that were used last."""
AUDIENCE = "podium/kubernetes"
"""Where tokens count."""
_ALGORITHM = "ES256"


def issue_token(
    ca_directory: str | Path,
    identity: Identity,
    *,
    lifetime_s: float = DEFAULT_LIFETIME_S,
    clock: Clock | None = None,
) -> str:
    """A token of that identity. Raises CredentialsError if the authority cannot be read, ValueError for a lifetime that
    is none."""
    import jwt

    if not 0 < lifetime_s <= MAX_LIFETIME_S:
        raise ValueError(f"a token lives for more than 0 and at most {MAX_LIFETIME_S:g} s, not {lifetime_s:g}")
    cluster, key = read_authority(ca_directory)
    now_s = int((clock or SystemClock()).wall())
    claims = {
        "iss": f"spiffe://{cluster}",
        "sub": identity.uri(cluster),
        "aud": AUDIENCE,
        "iat": now_s,
        "exp": now_s + int(lifetime_s),
        "jti": new_uid(),
    }
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


@lru_cache(maxsize=MAX_KEPT)
def is_of(token: str, cluster: str) -> bool:
    """Whether a token says that it was made in this cluster. It may be lying: that is for others to find out."""
    import jwt

    try:
        issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss", ""))
    except jwt.PyJWTError:
        return False
    return f"{issuer}/".startswith(f"spiffe://{cluster}/")


class TokenChecker:
    """Checks tokens of one cluster."""

    def __init__(self, ca: bytes, cluster: str, clock: Clock | None = None) -> None:
        """`ca` is the authority's certificate (PEM)."""
        from cryptography import x509

        check_cluster_name(cluster)
        self._key = x509.load_pem_x509_certificate(ca).public_key()
        self._cluster = cluster
        self._clock = clock or SystemClock()
        self._verified = lru_cache(maxsize=MAX_KEPT)(self._verify)  # to check a signature takes as long as most calls

    def identity_of(self, token: str) -> Identity:
        """Whose token that is. Raises Unauthenticated."""
        if len(token) > MAX_LENGTH:
            raise Unauthenticated("the token is too long to be one of ours")
        identity, expires_s = self._verified(token)
        if self._clock.wall() >= expires_s:
            raise Unauthenticated("the token has expired; get another: podium kubeconfig --token")
        return identity

    def _verify(self, token: str) -> tuple[Identity, float]:
        """Whose it is, and when it expires. Raises Unauthenticated."""
        import jwt

        try:
            claims = jwt.decode(
                token,
                self._key,  # type: ignore[arg-type]
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=f"spiffe://{self._cluster}",
                # It is checked for every call, by the clock that was handed in.
                options={"require": ["sub", "exp", "aud", "iss"], "verify_exp": False, "verify_iat": False},
            )
            cluster, identity = parse_spiffe(str(claims["sub"]))
            expires_s = float(claims["exp"])
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthenticated("the token is not valid here") from error
        if cluster != self._cluster:
            raise Unauthenticated("the token is of another cluster")
        return identity, expires_s
