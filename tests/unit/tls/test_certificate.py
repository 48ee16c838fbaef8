"""Certificates: the hash that SCRAM binds to, names and distinguished names; the cryptography package is the oracle."""

import datetime
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from pgferry.tls.certificate import Certificate, distinguished_name, end_point_hash, peer_certificate

HASHES = {
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def signed(key: Any, kind: Any, **options: Any) -> bytes:
    """A self-signed certificate in DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, kind, **options).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("name", HASHES)
@pytest.mark.parametrize("how", ["rsa", "pss", "ecdsa"])
def test_the_hash_is_the_signatures(how: str, name: str) -> None:
    options = {}
    if how == "pss":
        options["rsa_padding"] = padding.PSS(padding.MGF1(HASHES[name]), padding.PSS.DIGEST_LENGTH)
    der = signed(EC if how == "ecdsa" else RSA, HASHES[name], **options)
    assert end_point_hash(der) == hashlib.new(name, der).digest()


def test_ed25519_has_none() -> None:
    assert end_point_hash(signed(ed25519.Ed25519PrivateKey.generate(), None)) is None


def test_old_hashes_count_as_sha256() -> None:
    der = signed(RSA, hashes.SHA256())
    sha1 = der.replace(bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105"))
    assert sha1 != der
    assert end_point_hash(sha1) == hashlib.sha256(sha1).digest()


def test_rubbish_has_none() -> None:
    der = signed(EC, hashes.SHA256())
    for size in range(len(der) - 1):
        end_point_hash(der[:size])
    for place in range(0, len(der), 3):
        end_point_hash(der[:place] + b"\xff" + der[place + 1 :])
    assert end_point_hash(b"") is None
    assert end_point_hash(b"\x30\x80") is None


@pytest.mark.parametrize(
    "parts",
    [
        [(NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "A, B + C"), (NameOID.COMMON_NAME, "bob")],
        [(NameOID.COMMON_NAME, ' #x"<>;\\ ')],
        [(NameOID.COMMON_NAME, "#5"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "eng")],
        [(NameOID.DOMAIN_COMPONENT, "org"), (NameOID.LOCALITY_NAME, "Zürich"), (NameOID.USER_ID, "u1")],
    ],
)
def test_distinguished_names(parts: list[Any]) -> None:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
    subject = tuple(((LONG[oid], value),) for oid, value in parts)
    assert distinguished_name(subject) == name.rfc4514_string()


LONG = {
    NameOID.COUNTRY_NAME: "countryName",
    NameOID.ORGANIZATION_NAME: "organizationName",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "organizationalUnitName",
    NameOID.COMMON_NAME: "commonName",
    NameOID.DOMAIN_COMPONENT: "domainComponent",
    NameOID.LOCALITY_NAME: "localityName",
    NameOID.USER_ID: "userId",
}


class Peer:
    """What peer_certificate() asks an ssl object for."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def getpeercert(self) -> Any:
        return self._found


def test_whose_it_is() -> None:
    found = {
        "subject": ((("organizationName", "o"),), (("commonName", "bob"),)),
        "subjectAltName": (("DNS", "bob.test"), ("email", "x@y"), ("DNS", "alice")),
    }
    certificate = peer_certificate(Peer(found))
    assert certificate == Certificate("CN=bob,O=o", ("bob",), ("bob.test", "alice"))
    assert [
        user for user in ("bob", "alice", "Bob", "o", "x@y", "", "bob.tes") if certificate.fits(user)
    ] == [
        "bob",
        "alice",
    ]


def test_a_zero_byte_fits_nobody() -> None:
    found = {"subject": ((("commonName", "bob\0.evil.test"),),), "subjectAltName": (("DNS", "alice\0.evil"),)}
    certificate = peer_certificate(Peer(found))
    assert certificate is not None
    assert certificate.names() == ()
    assert certificate.dn == "CN=bob\\00.evil.test"


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_certificate(nothing: Any) -> None:
    assert peer_certificate(Peer(nothing)) is None
