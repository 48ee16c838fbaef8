"""Contexts: lists of protocols, what cannot be used and why, what changes nothing."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from pgferry.config import Settings
from pgferry.tls.contexts import Accept, Connect, prepare, protocol_versions
from pgferry.tls.files import TlsFault
from support.certificates import authority_pem, pair

V = ssl.TLSVersion
ALL = {V.TLSv1, V.TLSv1_1, V.TLSv1_2, V.TLSv1_3}


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        ("secure", {V.TLSv1_2, V.TLSv1_3}),
        ("default", {V.TLSv1_2, V.TLSv1_3}),
        ("all", ALL),
        ("tlsv1", ALL),
        ("TLSv1.3", {V.TLSv1_3}),
        ("tlsv1.2,tlsv1.3", {V.TLSv1_2, V.TLSv1_3}),
        ("tlsv1.0:tlsv1.2", {V.TLSv1, V.TLSv1_2}),
        ("all, !tlsv1.0, !tlsv1.1", {V.TLSv1_2, V.TLSv1_3}),
        ("!tlsv1.3", ALL - {V.TLSv1_3}),
        ("secure:!tlsv1.2:!tlsv1.3", set()),
    ],
)
def test_protocols(text: str, versions: set[ssl.TLSVersion]) -> None:
    assert protocol_versions(text) == versions


@pytest.mark.parametrize("text", ["legacy", "", "tlsv1.4", "secure,", "sslv3", "!"])
def test_unknown_protocols(text: str) -> None:
    with pytest.raises(ValueError):
        protocol_versions(text)


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Any]:
    made = pair()
    for name, content in (
        ("cert", made.cert),
        ("key", made.key),
        ("ca", authority_pem()),
        ("bad", b"rubbish"),
    ):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "other").write_bytes(pair().key)
    return {
        "client_tls_sslmode": "require",
        "client_tls_cert_file": str(tmp_path / "cert"),
        "client_tls_key_file": str(tmp_path / "key"),
    }


@pytest.mark.parametrize(
    ("change", "setting", "words"),
    [
        ({"client_tls_key_file": ""}, "client_tls_key_file", "needs it"),
        ({"client_tls_cert_file": ""}, "client_tls_cert_file", "needs it"),
        ({"client_tls_cert_file": "/nowhere"}, "client_tls_cert_file", "cannot read /nowhere"),
        ({"client_tls_cert_file": "bad"}, "client_tls_cert_file", "cannot be used"),
        ({"client_tls_key_file": "other"}, "client_tls_cert_file", "mismatch"),
        ({"client_tls_sslmode": "verify-full"}, "client_tls_ca_file", "needs it"),
        ({"client_tls_ca_file": "bad"}, "client_tls_ca_file", "cannot be used"),
        ({"client_tls_protocols": "legacy"}, "client_tls_protocols", "unknown protocol 'legacy'"),
        ({"client_tls_protocols": "secure:!all"}, "client_tls_protocols", "no protocol is left"),
        ({"client_tls_ciphers": "ROT13"}, "client_tls_ciphers", "ROT13"),
        ({"client_tls13_ciphers": "ROT13"}, "client_tls13_ciphers", "ROT13"),
        ({"client_tls_ecdhcurve": "round"}, "client_tls_ecdhcurve", "round"),
        ({"server_tls_ca_file": "bad"}, "server_tls_ca_file", "cannot be used"),
        ({"server_tls_cert_file": "/nowhere"}, "server_tls_cert_file", "cannot read"),
    ],
)
def test_faults(
    base: dict[str, Any], tmp_path: Path, change: dict[str, str], setting: str, words: str
) -> None:
    named = {k: str(tmp_path / v) if v in ("bad", "other") else v for k, v in change.items()}
    with pytest.raises(TlsFault, match=words) as caught:
        prepare(Settings(**{**base, **named}), {"prefer"})
    assert caught.value.setting == setting


def test_files_of_sides_that_are_not_used_are_not_read() -> None:
    settings = Settings(client_tls_cert_file="/nowhere", server_tls_ca_file="/nowhere")
    assert not any(getattr(prepare(settings, {"disable"}), name) for name in ("client_cert", "server_ca"))
    with pytest.raises(TlsFault):
        prepare(settings, {"disable", "require"})


def test_what_is_asked_of_the_other_side(base: dict[str, Any], tmp_path: Path) -> None:
    for mode, ca, verify, required in (
        ("prefer", "", ssl.CERT_NONE, False),
        ("allow", "ca", ssl.CERT_OPTIONAL, False),
        ("require", "ca", ssl.CERT_OPTIONAL, True),
        ("verify-ca", "ca", ssl.CERT_REQUIRED, True),
        ("verify-full", "ca", ssl.CERT_REQUIRED, True),
    ):
        path = str(tmp_path / ca) if ca else ""
        settings = Settings(**{**base, "client_tls_sslmode": mode, "client_tls_ca_file": path})
        accept = Accept(settings, prepare(settings, set()))
        assert (accept.context.verify_mode, accept.required) == (verify, required)
    for mode, verify, name in (
        ("prefer", ssl.CERT_NONE, False),
        ("require", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ):
        settings = Settings(server_tls_ca_file=str(tmp_path / "ca"))
        context = Connect(settings, prepare(settings, {mode})).context(mode)
        assert (context.verify_mode, context.check_hostname) == (verify, name)


def test_secrets_are_not_shown(base: dict[str, Any]) -> None:
    files = prepare(Settings(**base), set())
    assert repr(files) == "TlsFiles(client_key, client_cert)"
    assert "PRIVATE" in files.client_key.decode()
