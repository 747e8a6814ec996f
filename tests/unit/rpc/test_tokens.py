"""Bearer tokens: whose they are, where they count, and for how long."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from cluster.api.errors import Unauthenticated
from cluster.rpc.identity import CredentialsError, Identity, make_ca, read_authority
from cluster.rpc.tokens import MAX_LIFETIME_S, TokenChecker, issue_token
from tests.kit.clock import VirtualClock


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    make_ca(tmp_path / "ca", "demo")
    return tmp_path / "ca"


def checker(authority: Path, clock: VirtualClock, cluster: str = "demo") -> TokenChecker:
    return TokenChecker((authority / "ca.crt").read_bytes(), cluster, clock)


@pytest.mark.parametrize("who", ["admin", "node:node-1", "controllers"])
def test_a_token_says_whose_it_is(authority: Path, who: str) -> None:
    clock = VirtualClock()
    token = issue_token(authority, Identity.parse(who), lifetime_s=60, clock=clock)
    assert str(checker(authority, clock).identity_of(token)) == who


async def test_until_it_expires(authority: Path) -> None:
    clock = VirtualClock()
    token = issue_token(authority, Identity("admin"), lifetime_s=60, clock=clock)
    check = checker(authority, clock)
    for left_s in (59, 0):
        late = VirtualClock()
        late.wall = lambda left_s=left_s: clock.wall() + 60 - left_s  # type: ignore[method-assign, misc]
        if left_s:
            assert str(checker(authority, late).identity_of(token)) == "admin"
        else:
            with pytest.raises(Unauthenticated, match="expired"):
                checker(authority, late).identity_of(token)
    assert str(check.identity_of(token)) == "admin"


def test_a_token_is_verified_once_and_its_time_is_looked_at_again_and_again(
    authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    token = issue_token(authority, Identity("admin"), lifetime_s=60, clock=clock)
    check = checker(authority, clock)
    assert str(check.identity_of(token)) == "admin"
    monkeypatch.setattr(jwt, "decode", None)
    assert str(check.identity_of(token)) == "admin"
    now_s = clock.wall()
    monkeypatch.setattr(clock, "wall", lambda: now_s + 60)
    with pytest.raises(Unauthenticated, match="expired"):
        check.identity_of(token)


def test_one_of_another_cluster_or_authority_does_not_count(authority: Path, tmp_path: Path) -> None:
    clock = VirtualClock()
    token = issue_token(authority, Identity("admin"), lifetime_s=60, clock=clock)
    make_ca(tmp_path / "other", "demo")
    for check in (checker(tmp_path / "other", clock), checker(authority, clock, "other")):
        with pytest.raises(Unauthenticated):
            check.identity_of(token)


def test_what_is_no_token_of_ours(authority: Path) -> None:
    clock = VirtualClock()
    check = checker(authority, clock)
    _, key = read_authority(authority)
    now = int(clock.wall())
    good = {
        "iss": "spiffe://demo",
        "sub": "spiffe://demo/admin",
        "aud": "podium/kubernetes",
        "exp": now + 60,
    }
    assert str(check.identity_of(jwt.encode(good, key, algorithm="ES256"))) == "admin"
    for change in (
        {"iss": "spiffe://x"},
        {"sub": "spiffe://x/admin"},
        {"sub": "spiffe://demo/root"},
        {"sub": ""},
        {"aud": "x"},
        {"exp": "soon"},
        {"exp": None},
    ):
        claims = {key: value for key, value in {**good, **change}.items() if value is not None}
        with pytest.raises(Unauthenticated):
            check.identity_of(jwt.encode(claims, key, algorithm="ES256"))
    unsigned = jwt.encode(good, "", algorithm="none")
    shared = jwt.encode(good, "x" * 64, algorithm="HS256")
    for text in ("", "a.b.c", unsigned, shared, "x" * 100_000):
        with pytest.raises(Unauthenticated):
            check.identity_of(text)


def test_lifetimes_have_a_limit(authority: Path, tmp_path: Path) -> None:
    for lifetime_s in (0, -1, MAX_LIFETIME_S + 1):
        with pytest.raises(ValueError, match="a token lives"):
            issue_token(authority, Identity("admin"), lifetime_s=lifetime_s)
    with pytest.raises(CredentialsError, match=r"ca\.key"):
        issue_token(tmp_path / "nowhere", Identity("admin"))
