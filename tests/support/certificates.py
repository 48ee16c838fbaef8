"""Certificates for tests: CAs of our own, and what they sign, as PEM texts."""

import datetime
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pgferry.embedded import Account
from pgferry.embedded.account import remove_tree

HOSTS = ("localhost", "127.0.0.1", "::1")
PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate (with its chain) and its key."""

    cert: bytes
    key: bytes


@cache
def authority(name: str = "pgferry tests") -> trustme.CA:
    """The CA of this name; the same one in each call."""
    return trustme.CA(organization_name=name)


def authority_pem(name: str = "pgferry tests") -> bytes:
    """The CA's own certificate."""
    return authority(name).cert_pem.bytes()


def pair(
    *hosts: str,
    common_name: str | None = None,
    ca: str = "pgferry tests",
    expired: bool = False,
    rsa: bool = False,
) -> Pair:
    """A new certificate for these hosts (HOSTS if none are given)."""
    made = authority(ca).issue_cert(
        *(hosts or HOSTS),
        common_name=common_name,
        not_after=PAST if expired else None,
        not_before=PAST - datetime.timedelta(days=1) if expired else None,
        key_type=trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA,
    )
    chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    return Pair(chain, made.private_key_pem.bytes())


def revocations(*revoked: Pair, ca: str = "pgferry tests") -> bytes:
    """The list of revoked certificates of a CA."""
    key = serialization.load_pem_private_key(authority(ca).private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    issuer = x509.load_pem_x509_certificate(authority_pem(ca)).subject
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer)
    builder = builder.last_update(now - datetime.timedelta(days=1)).next_update(
        now + datetime.timedelta(days=9)
    )
    for each in revoked:
        number = x509.load_pem_x509_certificate(each.cert).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class PemFiles:
    """PEM files in a directory of the account that reads them."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.directory = account.make_dir("pgferry-tls-")
        self.directory.chmod(0o711)

    def write(self, name: str, content: bytes) -> Path:
        """Write (or replace) a file; its path."""
        path = self.directory / name
        self._account.write(path, content.decode())
        return path

    def pair(self, prefix: str, pair: Pair) -> tuple[Path, Path]:
        """Write certificate and key; their paths."""
        return self.write(f"{prefix}.pem", pair.cert), self.write(f"{prefix}-key.pem", pair.key)

    def close(self) -> None:
        remove_tree(self.directory)
