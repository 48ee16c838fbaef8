"""What a certificate says: whose it is (for logins with it), and its hash (for SCRAM's channel binding)."""

import hashlib
from typing import Any, Final, NamedTuple

_SEQUENCE: Final = 0x30
_OID: Final = 0x06
_CONTEXT_0: Final = 0xA0
_RSA: Final = "1.2.840.113549.1.1."
_PSS: Final = _RSA + "10"
_ECDSA: Final = "1.2.840.10045.4."
_SHA2: Final = "2.16.840.1.101.3.4.2."
# Signature algorithm -> its hash; MD5 and SHA-1 count as SHA-256 (RFC 5929, 4.1).
_HASHES: Final = {
    _RSA + "4": "sha256",
    _RSA + "5": "sha256",
    _RSA + "11": "sha256",
    _RSA + "12": "sha384",
    _RSA + "13": "sha512",
    _RSA + "14": "sha224",
    _ECDSA + "1": "sha256",
    _ECDSA + "3.1": "sha224",
    _ECDSA + "3.2": "sha256",
    _ECDSA + "3.3": "sha384",
    _ECDSA + "3.4": "sha512",
    "2.16.840.1.101.3.4.3.1": "sha224",
    "2.16.840.1.101.3.4.3.2": "sha256",
    _SHA2 + "1": "sha256",
    _SHA2 + "2": "sha384",
    _SHA2 + "3": "sha512",
    _SHA2 + "4": "sha224",
}
# Attribute types by the short names of RFC 2253 and OpenSSL.
_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "streetAddress": "street",
    "domainComponent": "DC",
    "userId": "UID",
    "emailAddress": "emailAddress",
    "surname": "SN",
    "givenName": "GN",
}


class Certificate(NamedTuple):
    """A verified certificate of a client: `dn` as RFC 2253 writes it, its common names, its DNS names."""

    dn: str
    common_names: tuple[str, ...]
    dns_names: tuple[str, ...]

    def names(self) -> tuple[str, ...]:
        """Return the names that may be a user's (or a system user's, for a map)."""
        return self.common_names + self.dns_names

    def fits(self, user: str) -> bool:
        """Tell whether the certificate is this user's: one of its names is the user's, letter for letter."""
        return user in self.names()


def peer_certificate(ssl_object: Any) -> Certificate | None:
    """Return the certificate that a peer has shown and that has been verified; None when there is none.

    Names with a zero byte are left out: a CA may have signed something else than what is read up to there.
    """
    found = ssl_object.getpeercert()
    if not found:
        return None
    parts = [part for rdn in found.get("subject", ()) for part in rdn]
    common = tuple(value for name, value in parts if name == "commonName" and "\0" not in value)
    dns = tuple(
        value for kind, value in found.get("subjectAltName", ()) if kind == "DNS" and "\0" not in value
    )
    return Certificate(distinguished_name(found.get("subject", ())), common, dns)


def distinguished_name(subject: Any) -> str:
    """Write a subject, as ssl.getpeercert() gives it, in the form of RFC 2253: the last part comes first."""
    rdns = ["+".join(f"{_SHORT.get(name, name)}={_escaped(value)}" for name, value in rdn) for rdn in subject]
    return ",".join(reversed(rdns))


def _escaped(value: str) -> str:
    text = "".join(f"\\{char}" if char in ',+"\\<>;' else "\\00" if char == "\0" else char for char in value)
    if text.startswith(("#", " ")):
        text = "\\" + text
    if value.endswith(" ") and len(value) > 1:
        text = text[:-1] + "\\ "
    return text


def end_point_hash(der: bytes) -> bytes | None:
    """Return the tls-server-end-point binding of a certificate; None when its signature has no hash of its own."""
    try:
        certificate, _ = _element(der, 0, _SEQUENCE)
        _, after_content = _element(certificate, 0, _SEQUENCE)
        algorithm, _ = _element(certificate, after_content, _SEQUENCE)
        name, after_name = _element(algorithm, 0, _OID)
        oid = _oid(name)
        if oid == _PSS:
            oid = _pss_hash(algorithm, after_name)
    except (IndexError, ValueError):
        return None
    kind = _HASHES.get(oid)
    return None if kind is None else hashlib.new(kind, der).digest()


def _pss_hash(algorithm: bytes, at: int) -> str:
    """The OID of the hash in RSASSA-PSS-params; without one it is SHA-1, which counts as SHA-256."""
    params, _ = _element(algorithm, at, _SEQUENCE)
    if not params or params[0] != _CONTEXT_0:
        return _SHA2 + "1"
    tagged, _ = _element(params, 0, _CONTEXT_0)
    identifier, _ = _element(tagged, 0, _SEQUENCE)
    oid = _oid(_element(identifier, 0, _OID)[0])
    return oid if oid.startswith(_SHA2) else _SHA2 + "1"


def _element(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """The content of the DER element at `at`, and where it ends. Raises ValueError, IndexError."""
    if data[at] != tag:
        raise ValueError("unexpected element")
    size = data[at + 1]
    start = at + 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4:
            raise ValueError("unexpected length")
        size = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + size > len(data):
        raise ValueError("the element is cut off")
    return data[start : start + size], start + size


def _oid(content: bytes) -> str:
    numbers = [min(content[0] // 40, 2)]
    numbers.append(content[0] - 40 * numbers[0])
    value = 0
    for byte in content[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(map(str, numbers))
