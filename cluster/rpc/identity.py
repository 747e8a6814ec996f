"""Who is calling: an identity is what the certificate says, as a SPIFFE URI, and nothing else.

`spiffe://<cluster>/admin`, `spiffe://<cluster>/node/<name>` and so on stand in the URI field of the certificate's
subject alternative names. Common names, addresses and metadata identify nobody.

Each cluster has an authority of its own (`make_ca`), which signs one certificate per identity (`issue`). What a daemon
is given is a directory with ca.crt, tls.crt and tls.key (`Credentials.load`), and a key that anyone but its owner can
read is refused. Elliptic keys (P-256), because they take a millisecond to make. `cryptography` is imported when first
needed: a command that only calls a master never pays for it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.actor.clock import Clock, SystemClock
from cluster.api.hollow import is_prefix

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

KINDS = (
    "admin",
    "controllers",
    "scheduler",
    "node",
    "hollow",
    "proxy",
    "dns",
    "master",
    "kubernetes",
    "serviceaccount",
)
"""Who there is. A node's identity carries the node's name, that of who plays hollow nodes their prefix, that of a
service account its namespace and name; of each other kind there is one. `kubernetes` serves Kubernetes' REST API: it
may read definitions of kinds, and speaks for those whose certificate or token it has checked. Service accounts have
tokens only."""

_CLUSTER = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_ACCOUNT = re.compile(rf"{_CLUSTER.pattern}/{_NODE.pattern}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. As text: "admin", "node:node-1", "hollow:hollow", "serviceaccount:default/robot"."""

    kind: str
    name: str = ""
    """The node's name, the prefix of hollow nodes, or namespace/name of an account; empty for every other kind."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'"{self.kind}" is not a kind of identity; there are {", ".join(KINDS)}')
        if self.kind == "node":
            if not _NODE.fullmatch(self.name):
                raise ValueError(f'"{self.name}" is not a name of a node')
        elif self.kind == "hollow":
            if not is_prefix(self.name):
                raise ValueError(f'"{self.name}" is not a prefix of hollow nodes')
        elif self.kind == "serviceaccount":
            if not _ACCOUNT.fullmatch(self.name):
                raise ValueError(f'"{self.name}" is not namespace/name of a service account')
        elif self.name:
            raise ValueError(f"the identity {self.kind} has no name, but was given {self.name!r}")

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind

    @classmethod
    def parse(cls, text: str) -> Identity:
        """From "admin" or "node:node-1". Raises ValueError."""
        kind, _, name = text.partition(":")
        return cls(kind, name)

    def uri(self, cluster: str) -> str:
        """The SPIFFE URI, such as spiffe://demo/node/node-1."""
        check_cluster_name(cluster)
        return f"spiffe://{cluster}/{self.kind}/{self.name}" if self.name else f"spiffe://{cluster}/{self.kind}"


@lru_cache(maxsize=1024)
def parse_spiffe(uri: str) -> tuple[str, Identity]:
    """The cluster and the identity that a URI names. Raises ValueError unless it is exactly one of ours."""
    scheme, _, rest = uri.partition("://")
    cluster, _, path = rest.partition("/")
    kind, _, name = path.partition("/")
    if scheme != "spiffe" or not _CLUSTER.fullmatch(cluster):
        raise ValueError(f"{uri!r} is not a SPIFFE URI of a cluster")
    identity = Identity(kind, name)
    if identity.uri(cluster) != uri:
        raise ValueError(f"{uri!r} is not written as this cluster writes identities")
    return cluster, identity


def check_cluster_name(cluster: str) -> None:
    """Raises ValueError unless it is a DNS-1123 label."""
    if not _CLUSTER.fullmatch(cluster):
        raise ValueError(f'"{cluster}" is not a name of a cluster: small letters, digits and "-", at most 63')


CA_LIFETIME_S = 10 * 365 * 86400
CERTIFICATE_LIFETIME_S = 365 * 86400
_BACKDATE_S = 86400
"""Certificates are valid from a day before now: clocks differ, and may be set back (by 14 hours, if somebody took the
time zone for another one) while daemons are to reach each other."""


class CredentialsError(Exception):
    """Credentials that are missing, unreadable, or readable by others; the message names the file and the cure."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one identity needs to call and to be called: its certificate and key, and whom it trusts (all PEM)."""

    ca: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def load(cls, directory: str | Path) -> Credentials:
        """Reads ca.crt, tls.crt and tls.key. Raises CredentialsError, also if others may read the key."""
        directory = Path(directory)
        return cls(
            ca=_read(directory / "ca.crt", secret=False),
            certificate=_read(directory / "tls.crt", secret=False),
            key=_read(directory / "tls.key", secret=True),
        )

    def who(self) -> tuple[str, Identity]:
        """The cluster and the identity that the certificate names. Raises CredentialsError."""
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(self.certificate)
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
            if len(uris) != 1:
                raise ValueError(f"it names {len(uris)} URIs instead of one")
            return parse_spiffe(uris[0])
        except (x509.ExtensionNotFound, ValueError) as error:
            raise CredentialsError(f"the certificate names no identity: {error}") from error


def make_ca(directory: str | Path, cluster: str, *, clock: Clock | None = None) -> None:
    """Makes the authority of a cluster: ca.crt and ca.key in `directory` (0700, made if need be).

    Raises FileExistsError if there is one: a new authority would lock everybody out.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    check_cluster_name(cluster)
    directory = _private_directory(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"podium {cluster}")])
    builder = _builder(name, name, key, (clock or SystemClock()).wall(), CA_LIFETIME_S)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{cluster}")]), critical=False
    )
    builder = builder.add_extension(_key_usage(sign_certificates=True), critical=True)
    _write_pair(directory, "ca", key, builder, key)


def read_authority(directory: str | Path) -> tuple[str, EllipticCurvePrivateKey]:
    """The cluster that an authority is of, and its key. Raises CredentialsError if they cannot be read."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    directory = Path(directory)
    key = serialization.load_pem_private_key(_read(directory / "ca.key", secret=True), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    ca = x509.load_pem_x509_certificate(_read(directory / "ca.crt", secret=False))
    (root,) = ca.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    )
    return root.removeprefix("spiffe://"), key


def issue(
    ca_directory: str | Path,
    directory: str | Path,
    identity: Identity,
    *,
    hosts: Sequence[str] = (),
    lifetime_s: float = CERTIFICATE_LIFETIME_S,
    clock: Clock | None = None,
) -> Credentials:
    """Makes the credentials of an identity in `directory` (0700, made if need be), and returns them.

    `hosts` are the addresses and names under which it serves; with none, the certificate is good for calling only.
    An earlier certificate in the directory is replaced. Raises CredentialsError if the authority cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    ca_directory = Path(ca_directory)
    ca_pem = _read(ca_directory / "ca.crt", secret=False)
    cluster, ca_key = read_authority(ca_directory)
    ca = x509.load_pem_x509_certificate(ca_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    # A common name has room for 64 characters, and identifies nobody anyway.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(identity)[:64])])
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri(cluster))]
    names.extend(_host(host) for host in hosts)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
    builder = _builder(subject, ca.subject, key, (clock or SystemClock()).wall(), lifetime_s)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    directory = _private_directory(directory)
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (directory / name).unlink(missing_ok=True)
    _write_pair(directory, "tls", key, builder, ca_key)
    _write(directory / "ca.crt", ca_pem)
    return Credentials.load(directory)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now_s: float, lifetime_s: float
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.fromtimestamp(int(now_s), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=_BACKDATE_S))
        .not_valid_after(now + timedelta(seconds=lifetime_s))
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_pair(
    directory: Path,
    stem: str,
    key: EllipticCurvePrivateKey,
    builder: x509.CertificateBuilder,
    signer: EllipticCurvePrivateKey,
) -> None:
    from cryptography.hazmat.primitives import hashes, serialization

    certificate = builder.sign(signer, hashes.SHA256())
    encoding = serialization.Encoding.PEM
    key_pem = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(directory / f"{stem}.key", key_pem)
    _write(directory / f"{stem}.crt", certificate.public_bytes(encoding))


def _private_directory(path: str | Path) -> Path:
    path = Path(path)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise CredentialsError(f"cannot read {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if secret and found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = stat.S_IMODE(found.st_mode)
            raise CredentialsError(f"{path} may be used by others (mode {mode:04o}); run: chmod 600 {path}")
        if secret and found.st_uid not in (os.geteuid(), 0):
            raise CredentialsError(f"{path} belongs to another user (uid {found.st_uid})")
        return file.read()
