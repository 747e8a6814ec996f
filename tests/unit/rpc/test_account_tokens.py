"""Tokens of service accounts: whose they are, and what is none."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cluster.api.errors import Unauthenticated
from cluster.rpc.account_tokens import Account, AccountTokens
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.rpc.tokens import TokenChecker, issue_token
from tests.kit.clock import VirtualClock

ROBOT = Account(Identity("serviceaccount", "default/robot"), "uid-1")


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    make_ca(tmp_path / "ca", "demo")
    return issue(tmp_path / "ca", tmp_path / "kubernetes", Identity("kubernetes"))


async def test_a_token_says_whose_it_is_until_it_expires(credentials: Credentials) -> None:
    clock = VirtualClock()
    tokens = AccountTokens(credentials.key, "demo", clock)
    token, expires_s = tokens.issue("default", "robot", "uid-1", 600)
    assert expires_s == int(clock.wall()) + 600
    await clock.run_for(599)
    assert tokens.account_of(token) == ROBOT
    await clock.run_for(1)
    with pytest.raises(Unauthenticated, match="expired; get another: kubectl create token robot -n default"):
        tokens.account_of(token)


def test_it_counts_nowhere_else(credentials: Credentials, tmp_path: Path) -> None:
    token, _ = AccountTokens(credentials.key, "demo").issue("default", "robot", "uid-1", 600)
    with pytest.raises(Unauthenticated):
        TokenChecker(credentials.ca, "demo").identity_of(token)
    other = issue(tmp_path / "ca", tmp_path / "another", Identity("kubernetes"))
    with pytest.raises(Unauthenticated):
        AccountTokens(other.key, "demo").account_of(token)
    assert AccountTokens(credentials.key, "other").account_of(token) is None


def test_one_of_the_authority_is_somebody_elses(credentials: Credentials, tmp_path: Path) -> None:
    token = issue_token(tmp_path / "ca", Identity("admin"), lifetime_s=60)
    assert AccountTokens(credentials.key, "demo").account_of(token) is None


def test_what_is_no_token_of_ours(credentials: Credentials) -> None:
    tokens = AccountTokens(credentials.key, "demo")
    good, _ = tokens.issue("default", "robot", "uid-1", 600)
    claims = jwt.decode(good, options={"verify_signature": False})
    key = load_pem_private_key(credentials.key, None)
    head, _, signature = good.split(".")
    bad = [
        "",
        "nonsense",
        "x" * 5000,
        good[:-6] + "AAAAAA",
        jwt.encode(claims, "secret" * 8, algorithm="HS256"),
        jwt.encode(claims, None, algorithm="none"),  # type: ignore[arg-type]
        jwt.encode({**claims, "aud": "elsewhere"}, key, algorithm="ES256"),  # type: ignore[arg-type]
        jwt.encode({**claims, "kubernetes.io": {"namespace": "default"}}, key, algorithm="ES256"),  # type: ignore[arg-type]
        jwt.encode({**claims, "kubernetes.io": "x"}, key, algorithm="ES256"),  # type: ignore[arg-type]
        jwt.encode({k: v for k, v in claims.items() if k != "exp"}, key, algorithm="ES256"),  # type: ignore[arg-type]
        f"{head}.e30.{signature}",
    ]
    for token in bad[:-1]:
        with pytest.raises(Unauthenticated):
            tokens.account_of(token)
    assert tokens.account_of(bad[-1]) is None, "it does not even say that it is one"
