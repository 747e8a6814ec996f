"""The credentials directory for etcd: ca.crt, and tls.crt and tls.key unless etcd lets anybody in who trusts it.

The files are called as those of the cluster's own daemons are, but come from etcd's authority, which is another one.
"""

from __future__ import annotations

from pathlib import Path

from cluster.rpc.identity import Credentials, CredentialsError


def load_credentials(directory: str | Path) -> Credentials:
    """Reads the directory. Without tls.crt and tls.key, the certificate and the key are empty: TLS, and no identity.

    Raises CredentialsError: a file is missing, others may read the key, or one of the two is there without the other.
    """
    directory = Path(directory)
    found = [name for name in ("tls.crt", "tls.key") if (directory / name).exists()]
    if len(found) == 1:
        raise CredentialsError(f"{directory} has {found[0]}, but of tls.crt and tls.key both or none are needed")
    if found:
        return Credentials.load(directory)
    try:
        return Credentials((directory / "ca.crt").read_bytes(), b"", b"")
    except OSError as error:
        raise CredentialsError(f"cannot read {directory / 'ca.crt'}: {error.strerror}") from error
