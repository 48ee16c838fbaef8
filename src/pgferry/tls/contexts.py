"""From settings to OpenSSL's contexts: who we are, whom we believe, which versions and ciphers we speak."""

import contextlib
import os
import ssl
import warnings
from collections.abc import Iterator

from pgferry.tls import files as tls_files
from pgferry.tls.certificate import end_point_hash
from pgferry.tls.files import TlsFault, TlsFiles, TlsSettings
from pgferry.tls.hello import PROTOCOL
from pgferry.tls.suites import set_suites

_V = ssl.TLSVersion
_VERSIONS = {"tlsv1.0": _V.TLSv1, "tlsv1.1": _V.TLSv1_1, "tlsv1.2": _V.TLSv1_2, "tlsv1.3": _V.TLSv1_3}
_WITHOUT = {
    _V.TLSv1: ssl.OP_NO_TLSv1,
    _V.TLSv1_1: ssl.OP_NO_TLSv1_1,
    _V.TLSv1_2: ssl.OP_NO_TLSv1_2,
    _V.TLSv1_3: ssl.OP_NO_TLSv1_3,
}
_SECURE = frozenset({_V.TLSv1_2, _V.TLSv1_3})
_ALL = frozenset(_WITHOUT)
_PROTOCOLS = {name: frozenset({version}) for name, version in _VERSIONS.items()} | {
    "tlsv1": _ALL,
    "all": _ALL,
    "secure": _SECURE,
    "default": _SECURE,
}
_DEFAULT_CIPHERS = ("default", "secure", "normal", "fast")
# The group ffdhe2048 of RFC 7919, for DHE up to TLS 1.2.
_DH_GROUP = b"""-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


class AcceptContext(ssl.SSLContext):
    """A context towards clients; `end_point` is its certificate's end_point_hash()."""

    end_point: bytes | None = None


class Accept:
    """TLS towards clients. `required`: a client without it is refused."""

    def __init__(self, settings: TlsSettings, files: TlsFiles) -> None:
        mode = settings.client_tls_sslmode
        self.required = mode not in ("disable", "allow", "prefer")
        for kind, content in (("key", files.client_key), ("cert", files.client_cert)):
            if not content:
                raise TlsFault(f"client_tls_{kind}_file", f"client_tls_sslmode = {mode} needs it")
        if mode == "verify-full" and not files.client_ca:
            raise TlsFault("client_tls_ca_file", "client_tls_sslmode = verify-full needs it")
        context = AcceptContext(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_DH_USE | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0  # clients of a pooler stay; a ticket is never used
        _common(context, "client", settings, files)
        if mode.startswith("verify-"):
            context.verify_mode = ssl.CERT_REQUIRED
        elif files.client_ca:
            context.verify_mode = ssl.CERT_OPTIONAL  # who shows a certificate must show a valid one
        if settings.client_tls_dheparams == "auto":
            with _as_file(_DH_GROUP) as path:
                context.load_dh_params(path)
        _set_curve(context, settings.client_tls_ecdhcurve)
        self.context = context
        context.end_point = end_point_hash(_first_certificate(files.client_cert))


class Connect:
    """TLS towards servers: one context for each sslmode, since databases may have their own."""

    def __init__(self, settings: TlsSettings, files: TlsFiles) -> None:
        self._settings = settings
        self._files = files
        self._contexts: dict[str, ssl.SSLContext] = {}

    def context(self, mode: str) -> ssl.SSLContext:
        """Return the context for one sslmode (not disable). Raises TlsFault."""
        made = self._contexts.get(mode)
        if made is None:
            made = self._contexts[mode] = self._make(mode)
        return made

    def _make(self, mode: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        _common(context, "server", self._settings, self._files)
        if mode.startswith("verify-"):
            context.verify_mode = ssl.CERT_REQUIRED
            context.check_hostname = mode == "verify-full"
            if not self._files.server_ca:
                context.load_default_certs()
        return context


def prepare(settings: TlsSettings, server_modes: set[str]) -> TlsFiles:
    """Read the files and try all that workers will make of them. Raises TlsFault.

    `server_modes`: every sslmode towards servers, the databases' own ones among them.
    """
    sides = ["client"] if settings.client_tls_sslmode != "disable" else []
    modes = server_modes - {"disable"}
    files = tls_files.read(settings, [*sides, "server"] if modes else sides)
    if sides:
        Accept(settings, files)
    connect = Connect(settings, files)
    for mode in modes:
        connect.context(mode)
    return files


def protocol_versions(text: str) -> frozenset[ssl.TLSVersion]:
    """Return the versions of a list such as `secure`, `tlsv1.2,tlsv1.3` or `all:!tlsv1.0`. Raises ValueError."""
    chosen: frozenset[ssl.TLSVersion] = frozenset()
    words = [word.strip().lower() for word in text.replace(":", ",").split(",")]
    for number, word in enumerate(words):
        name = word.removeprefix("!").strip()
        if name not in _PROTOCOLS:
            raise ValueError(name)
        if word.startswith("!"):
            chosen = (_ALL if number == 0 else chosen) - _PROTOCOLS[name]
        else:
            chosen = chosen | _PROTOCOLS[name]
    return chosen


def _common(context: ssl.SSLContext, side: str, settings: TlsSettings, files: TlsFiles) -> None:
    """What both directions have: versions, ciphers, our certificate, CAs and lists of revoked ones."""
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([PROTOCOL.decode()])
    _set_versions(context, f"{side}_tls_protocols", getattr(settings, f"{side}_tls_protocols"))
    _set_ciphers(context, side, settings)
    key, cert, ca, crl = (getattr(files, f"{side}_{kind}") for kind in tls_files.KINDS)
    if cert:
        _load_certificate(context, side, key or cert, cert)
    for kind, content in (("ca", ca), ("crl", crl)):
        if content:
            try:
                with _as_file(content) as path:
                    context.load_verify_locations(path)
            except ssl.SSLError as error:
                raise TlsFault(f"{side}_tls_{kind}_file", f"cannot be used: {_reason(error)}") from error
    if crl:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _set_versions(context: ssl.SSLContext, setting: str, text: str) -> None:
    try:
        versions = protocol_versions(text)
    except ValueError as error:
        raise TlsFault(setting, f"unknown protocol '{error}'; known: {', '.join(_PROTOCOLS)}") from None
    if not versions:
        raise TlsFault(setting, "no protocol is left")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of old versions: an operator has asked for them
        context.minimum_version = min(versions)
        context.maximum_version = max(versions)
        for version, option in _WITHOUT.items():
            if min(versions) < version < max(versions) and version not in versions:
                context.options |= option


def _set_ciphers(context: ssl.SSLContext, side: str, settings: TlsSettings) -> None:
    ciphers = getattr(settings, f"{side}_tls_ciphers")
    if ciphers.lower() not in _DEFAULT_CIPHERS:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as error:
            raise TlsFault(f"{side}_tls_ciphers", f"'{ciphers}': {_reason(error)}") from error
    suites = getattr(settings, f"{side}_tls13_ciphers")
    if suites:
        try:
            set_suites(context, suites)
        except ValueError as error:
            raise TlsFault(f"{side}_tls13_ciphers", str(error)) from error


def _set_curve(context: ssl.SSLContext, curve: str) -> None:
    if curve == "auto":
        return
    if curve == "none":
        context.set_ciphers(":".join(c["name"] for c in context.get_ciphers() if "ECDHE" not in c["name"]))
        return
    try:
        context.set_ecdh_curve(curve)
    except (ValueError, ssl.SSLError) as error:
        raise TlsFault("client_tls_ecdhcurve", f"'{curve}' is no curve that OpenSSL knows") from error


def _load_certificate(context: ssl.SSLContext, side: str, key: bytes, cert: bytes) -> None:
    def no_password() -> str:
        raise TlsFault(f"{side}_tls_key_file", "the key is encrypted with a password")

    try:
        with _as_file(cert) as cert_path, _as_file(key) as key_path:
            context.load_cert_chain(cert_path, key_path, no_password)
    except ssl.SSLError as error:
        what = f"{side}_tls_cert_file and {side}_tls_key_file"
        raise TlsFault(f"{side}_tls_cert_file", f"{what} cannot be used: {_reason(error)}") from error


def _first_certificate(pem: bytes) -> bytes:
    """The certificate that is ours, in DER; OpenSSL has accepted the file already."""
    text = pem.decode("latin-1")
    start = text.index("-----BEGIN CERTIFICATE-----")
    end = text.index("-----END CERTIFICATE-----", start)
    return ssl.PEM_cert_to_DER_cert(text[start : end + len("-----END CERTIFICATE-----")])


def _reason(error: ssl.SSLError) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path for OpenSSL, which reads keys and lists from files only; the content never reaches a disk."""
    fd = os.memfd_create("pgferry-tls", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
