"""The md5 method: vectors that PostgreSQL's own functions produced, and the check of answers."""

import hashlib

import pytest

from pgferry.auth.errors import AuthError
from pgferry.auth.md5 import check_md5_response, is_md5_secret, md5_response, md5_secret, new_salt


def test_secret_is_password_then_user() -> None:
    assert md5_secret("secret", "joe") == "md5" + hashlib.md5(b"secretjoe").hexdigest()
    assert md5_secret(b"secret", b"joe") == md5_secret("secret", "joe")


def test_response_and_its_check() -> None:
    secret = md5_secret("secret", "joe")
    salt = b"\x00\xff\x10\x80"
    response = md5_response(secret[3:].encode(), salt)
    assert response == b"md5" + hashlib.md5(secret[3:].encode() + salt).hexdigest().encode()
    assert check_md5_response(secret, salt, response)
    for wrong in (b"", b"md5", response[:-1], response + b"0", response.upper(), b"\xff" * 35):
        assert not check_md5_response(secret, salt, wrong)


def test_salts_are_fresh_and_four_bytes() -> None:
    assert len(new_salt()) == 4
    assert len({new_salt() for _ in range(20)}) > 1
    with pytest.raises(AuthError):
        md5_response(b"0" * 32, b"123")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("md5" + "0" * 32, True),
        ("md5" + "0123456789abcdef" * 2, True),
        ("md5" + "A" * 32, False),
        ("md5" + "0" * 31, False),
        ("md5" + "0" * 33, False),
        ("MD5" + "0" * 32, False),
        ("md5" + "é" * 32, False),
        ("md5" + "٣" * 32, False),
        ("", False),
    ],
)
def test_what_counts_as_a_stored_md5_secret(text: str, expected: bool) -> None:
    assert is_md5_secret(text) is expected
