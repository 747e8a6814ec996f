"""Identities as text and URIs, and the files that credentials live in."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from cluster.rpc.identity import KINDS, Credentials, CredentialsError, Identity, issue, make_ca, parse_spiffe

NODE_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
IDENTITIES = st.one_of(
    st.sampled_from([kind for kind in KINDS if kind not in ("node", "hollow", "serviceaccount")]).map(Identity),
    NODE_NAMES.map(lambda name: Identity("node", name)),
    NODE_NAMES.map(lambda name: Identity("hollow", name)),
    NODE_NAMES.map(lambda name: Identity("serviceaccount", f"{name}/{name}")),
)


@given(identity=IDENTITIES, cluster=NODE_NAMES)
def test_text_and_uri_lead_back(identity: Identity, cluster: str) -> None:
    assert Identity.parse(str(identity)) == identity
    assert parse_spiffe(identity.uri(cluster)) == (cluster, identity)


def test_the_words() -> None:
    assert str(Identity("node", "node-1")) == "node:node-1"
    assert Identity("node", "node-1").uri("demo") == "spiffe://demo/node/node-1"
    assert Identity("admin").uri("demo") == "spiffe://demo/admin"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://demo",
        "spiffe://demo/",
        "spiffe://demo/janitor",
        "spiffe://demo/node",
        "spiffe://demo/node/",
        "spiffe://demo/node/a/b",
        "spiffe://demo/node/../admin",
        "spiffe://demo/node/a\nb",
        "spiffe://demo/hollow",
        "spiffe://demo/hollow/a.b",
        "spiffe://demo/hollow/a/b",
        "spiffe://demo/admin/",
        "spiffe://demo/admin/x",
        "spiffe://demo/admin?x=1",
        "spiffe://DEMO/admin",
        "spiffe:///admin",
        "SPIFFE://demo/admin",
        "https://demo/admin",
    ],
)
def test_only_our_own_uris_are_read(uri: str) -> None:
    with pytest.raises(ValueError):
        parse_spiffe(uri)


def test_files_are_private_and_are_refused_when_they_are_not(tmp_path: Path) -> None:
    make_ca(tmp_path / "ca", "demo")
    issue(tmp_path / "ca", tmp_path / "admin", Identity("admin"))
    assert stat.S_IMODE((tmp_path / "admin").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*/*")} == {0o600}
    assert {path.name for path in (tmp_path / "admin").iterdir()} == {"ca.crt", "tls.crt", "tls.key"}
    key = tmp_path / "admin" / "tls.key"
    key.chmod(0o640)
    with pytest.raises(CredentialsError, match="chmod 600"):
        Credentials.load(tmp_path / "admin")
    key.chmod(0o600)
    assert Credentials.load(tmp_path / "admin").who() == ("demo", Identity("admin"))
    (tmp_path / "ca" / "ca.key").chmod(0o604)
    with pytest.raises(CredentialsError, match="may be used by others"):
        issue(tmp_path / "ca", tmp_path / "proxy", Identity("proxy"))


def test_a_link_in_place_of_a_key_is_refused(tmp_path: Path) -> None:
    make_ca(tmp_path / "ca", "demo")
    issue(tmp_path / "ca", tmp_path / "admin", Identity("admin"))
    key = tmp_path / "admin" / "tls.key"
    key.rename(tmp_path / "elsewhere")
    key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CredentialsError, match="cannot read"):
        Credentials.load(tmp_path / "admin")


def test_missing_credentials_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"ca\.crt"):
        Credentials.load(tmp_path)


def test_a_second_authority_does_not_replace_the_first(tmp_path: Path) -> None:
    make_ca(tmp_path / "ca", "demo")
    with pytest.raises(FileExistsError):
        make_ca(tmp_path / "ca", "demo")


def test_a_new_certificate_replaces_the_old_one(tmp_path: Path) -> None:
    make_ca(tmp_path / "ca", "demo")
    first = issue(tmp_path / "ca", tmp_path / "node", Identity("node", "node-1"), hosts=["127.9.0.10"])
    second = issue(tmp_path / "ca", tmp_path / "node", Identity("node", "node-1"), hosts=["127.9.0.10", "localhost"])
    assert first.key != second.key
    assert Credentials.load(tmp_path / "node") == second
    found = x509.load_pem_x509_certificate(second.certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.9.0.10"]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]


@pytest.mark.parametrize("cluster", ["", "Demo", "a.b", "a/b", "-a", "x" * 64])
def test_bad_names_of_clusters_are_refused(tmp_path: Path, cluster: str) -> None:
    with pytest.raises(ValueError, match="name of a cluster"):
        make_ca(tmp_path / "ca", cluster)
