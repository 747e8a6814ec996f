"""TLS between us and etcd: who gets in, and whether the error of those who do not says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.rpc.etcd import EtcdClient, Unreachable, load_credentials
from cluster.rpc.identity import Credentials, CredentialsError, Identity, issue, make_ca
from tests.kit.chaos_proxy import ChaosProxy
from tests.kit.etcd import CLIENT_PORT, EtcdCluster, running_etcd

pytestmark = pytest.mark.usefixtures("tls_etcd", "shared_etcd", "no_leaks")


@pytest.fixture(scope="session")
async def tls_etcd() -> AsyncIterator[EtcdCluster]:
    async with running_etcd(tls=True) as cluster:
        yield cluster


async def assert_refused(endpoint: str, credentials: Credentials | None, why: str) -> None:
    """A client that does not get in is told so, with this reason, by a read and a change; a watch hears nothing."""
    client = EtcdClient([endpoint], credentials)
    try:
        read, change = await asyncio.gather(
            client.range(b"a", timeout_s=1.5), client.put(b"a", b"", timeout_s=1.5), return_exceptions=True
        )
        assert isinstance(read, Unreachable), read
        assert isinstance(change, Unreachable), change
        async with client.watch(b"a", start_revision=1) as watch:
            assert await watch.next(0.1) is None
        # Behind the reason they quote gRPC, and two calls may have met the same end of a connection differently.
        assert why in str(read), read
        assert why in str(change), change
    finally:
        await client.close()


async def test_a_certificate_of_its_authority_gets_in(tls_etcd: EtcdCluster, key: bytes) -> None:
    client = EtcdClient(tls_etcd.endpoints, load_credentials(tls_etcd.credentials_directory()))
    try:
        revision = (await client.put(key, b"1")).header.revision
        assert (await client.range(key)).kvs[0].value == b"1"
        async with asyncio.timeout(30), client.watch(key, start_revision=revision) as watch:
            assert (await anext(watch)).revision == revision
        async with asyncio.timeout(30):
            assert await client.lease_keep_alive((await client.lease_grant(5)).id) == 5
    finally:
        await client.close()


@pytest.mark.parametrize("name", ["etcd", "other"])
async def test_an_etcd_of_another_authority_is_not_believed(tls_etcd: EtcdCluster, tmp_path: Path, name: str) -> None:
    """Also one of the same name."""
    make_ca(tmp_path / "ca", name)
    foreign = issue(tmp_path / "ca", tmp_path / "client", Identity("admin"))
    await assert_refused(tls_etcd.endpoints[0], foreign, "not signed by the ca.crt of the credentials")


async def test_etcd_does_not_let_foreigners_in(tls_etcd: EtcdCluster, tmp_path: Path) -> None:
    make_ca(tmp_path / "ca", "etcd")
    foreign = issue(tmp_path / "ca", tmp_path / "client", Identity("admin"))
    ours = tls_etcd.credentials()
    for stranger in (Credentials(ours.ca, foreign.certificate, foreign.key), Credentials(ours.ca, b"", b"")):
        await assert_refused(tls_etcd.endpoints[0], stranger, "wants another certificate")


async def test_plaintext_to_an_etcd_with_tls(tls_etcd: EtcdCluster) -> None:
    await assert_refused(tls_etcd.endpoints[0], None, "may want TLS: give credentials")


async def test_tls_to_an_etcd_without(tls_etcd: EtcdCluster, shared_etcd: EtcdCluster) -> None:
    why = "does not speak TLS; leave the credentials out"
    await assert_refused(shared_etcd.endpoints[0], tls_etcd.credentials(), why)


async def test_a_host_that_the_certificate_does_not_name(tls_etcd: EtcdCluster) -> None:
    async with ChaosProxy((tls_etcd.members[0].host, CLIENT_PORT)) as proxy:
        await assert_refused(proxy.address, tls_etcd.credentials(), "does not name this host")


def test_the_directory_of_credentials(tls_etcd: EtcdCluster, tmp_path: Path) -> None:
    ours = tls_etcd.credentials_directory()
    assert load_credentials(ours) == tls_etcd.credentials()
    with pytest.raises(CredentialsError, match=r"ca\.crt"):
        load_credentials(tmp_path)
    (tmp_path / "ca.crt").write_bytes((ours / "ca.crt").read_bytes())
    anonymous = load_credentials(tmp_path)
    assert (anonymous.ca, anonymous.certificate, anonymous.key) == (tls_etcd.credentials().ca, b"", b"")
    (tmp_path / "tls.crt").write_bytes((ours / "tls.crt").read_bytes())
    with pytest.raises(CredentialsError, match="both or none"):
        load_credentials(tmp_path)
    (tmp_path / "tls.key").write_bytes((ours / "tls.key").read_bytes())
    (tmp_path / "tls.key").chmod(0o644)
    with pytest.raises(CredentialsError, match="chmod 600"):
        load_credentials(tmp_path)
