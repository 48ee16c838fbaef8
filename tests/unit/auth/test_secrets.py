"""Stored secrets: classification and the whole table of COMPAT 2.4, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.auth.md5 import md5_response, md5_secret
from pgferry.auth.scram import make_verifier
from pgferry.auth.secrets import (
    NO_SECRET,
    Method,
    Secret,
    SecretKind,
    can_log_in_to_server,
    check_cleartext,
    check_md5,
    classify,
    client_method,
)
from pgferry.auth.text import to_bytes

PLAIN = classify("pw")
MD5 = classify(md5_secret("pw", "joe"))
SCRAM = classify(str(make_verifier("pw", b"salt", 10)))
SALT = b"abcd"


def test_classification() -> None:
    assert PLAIN == (SecretKind.PLAIN, "pw", None)
    assert MD5.kind is SecretKind.MD5
    assert SCRAM.kind is SecretKind.SCRAM
    assert SCRAM.verifier is not None and SCRAM.verifier.iterations == 10
    assert classify(None) is classify("") is NO_SECRET
    assert classify("md5short").kind is SecretKind.PLAIN
    assert classify("SCRAM-SHA-256$nonsense").kind is SecretKind.PLAIN


@pytest.mark.parametrize(
    ("secret", "configured", "expected"),
    [
        (PLAIN, Method.PLAIN, (Method.PLAIN, True)),
        (PLAIN, Method.MD5, (Method.MD5, True)),
        (PLAIN, Method.SCRAM, (Method.SCRAM, True)),
        (MD5, Method.PLAIN, (Method.PLAIN, True)),
        (MD5, Method.MD5, (Method.MD5, True)),
        (MD5, Method.SCRAM, (Method.SCRAM, False)),
        (SCRAM, Method.PLAIN, (Method.PLAIN, True)),
        (SCRAM, Method.MD5, (Method.SCRAM, True)),
        (SCRAM, Method.SCRAM, (Method.SCRAM, True)),
        (NO_SECRET, Method.PLAIN, (Method.PLAIN, False)),
        (NO_SECRET, Method.MD5, (Method.MD5, False)),
        (NO_SECRET, Method.SCRAM, (Method.SCRAM, False)),
    ],
)
def test_exchange_with_clients(secret: Secret, configured: Method, expected: tuple[Method, bool]) -> None:
    assert client_method(configured, secret) == expected


@pytest.mark.parametrize(
    ("secret", "plain", "md5", "scram", "scram_with_key"),
    [
        (PLAIN, True, True, True, True),
        (MD5, False, True, False, False),
        (SCRAM, False, False, False, True),
        (NO_SECRET, True, True, True, True),
    ],
)
def test_logins_to_servers(secret: Secret, plain: bool, md5: bool, scram: bool, scram_with_key: bool) -> None:
    assert can_log_in_to_server(secret, Method.PLAIN) is plain
    assert can_log_in_to_server(secret, Method.MD5) is md5
    assert can_log_in_to_server(secret, Method.MD5, has_client_key=True) is md5
    assert can_log_in_to_server(secret, Method.SCRAM) is scram
    assert can_log_in_to_server(secret, Method.SCRAM, has_client_key=True) is scram_with_key


@pytest.mark.parametrize("secret", [PLAIN, MD5, SCRAM])
def test_cleartext_passwords(secret: Secret) -> None:
    assert check_cleartext(secret, "joe", b"pw")
    assert not check_cleartext(secret, "joe", b"pW")
    assert not check_cleartext(secret, "joe", b"")
    assert not check_cleartext(secret, "joe", b"\xff")
    assert not check_cleartext(secret, "joe", secret.text.encode() + b"x")


def test_a_hash_is_not_a_password() -> None:
    assert not check_cleartext(MD5, "joe", MD5.text.encode())
    assert not check_cleartext(SCRAM, "joe", SCRAM.text.encode())


def test_md5_answers() -> None:
    right = md5_response(md5_secret("pw", "joe")[3:].encode(), SALT)
    assert check_md5(PLAIN, "joe", SALT, right)
    assert check_md5(MD5, "joe", SALT, right)
    assert not check_md5(PLAIN, "jane", SALT, right)
    assert not check_md5(PLAIN, "joe", b"abce", right)
    assert not check_md5(SCRAM, "joe", SALT, md5_response(md5_secret(SCRAM.text, "joe")[3:].encode(), SALT))


@given(st.binary(max_size=40))
def test_without_secret_nothing_is_right(password: bytes) -> None:
    assert not check_cleartext(NO_SECRET, "joe", password)
    assert not check_md5(NO_SECRET, "joe", SALT, password)
    assert not check_md5(NO_SECRET, "joe", SALT, md5_response(md5_secret("", "joe")[3:].encode(), SALT))


@given(st.binary())
def test_bytes_survive_surrogateescape(raw: bytes) -> None:
    assert to_bytes(raw.decode("utf-8", "surrogateescape")) == raw
    assert to_bytes(raw) is raw


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_has_bytes(text: str) -> None:
    to_bytes(text)
    classify(text)
