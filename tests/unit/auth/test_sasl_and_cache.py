"""SASL message bodies and the bounded caches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.auth.cache import KeyCache, VerifierCache
from pgferry.auth.errors import AuthError, ServerAuthError
from pgferry.auth.sasl import build_initial_response, choose_mechanism, initial_response, mechanism_list
from pgferry.auth.scram import Keys, make_verifier


def test_mechanism_lists() -> None:
    assert mechanism_list() == b"SCRAM-SHA-256\0\0"
    assert mechanism_list(plus=True) == b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    assert choose_mechanism(mechanism_list(plus=True)) == b"SCRAM-SHA-256"
    assert choose_mechanism(mechanism_list(plus=True), can_bind=True) == b"SCRAM-SHA-256-PLUS"
    assert choose_mechanism(mechanism_list(), can_bind=True) == b"SCRAM-SHA-256"


@pytest.mark.parametrize("offered", [b"", b"\0", b"OAUTHBEARER\0\0", b"SCRAM-SHA-1\0\0", b"x\0" * 600])
def test_no_common_mechanism(offered: bytes) -> None:
    with pytest.raises(ServerAuthError) as caught:
        choose_mechanism(offered)
    assert caught.value.message == (
        "server login failed: none of the server's SASL authentication mechanisms are supported"
    )


def test_initial_response() -> None:
    body = build_initial_response(b"SCRAM-SHA-256", b"n,,n=,r=x")
    assert initial_response(body) == (b"SCRAM-SHA-256", b"n,,n=,r=x")
    plus = build_initial_response(b"SCRAM-SHA-256-PLUS", b"x")
    assert initial_response(plus, plus=True)[0] == b"SCRAM-SHA-256-PLUS"
    with pytest.raises(AuthError, match="client selected an invalid SASL authentication mechanism"):
        initial_response(plus)
    for bad in (
        b"",
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        body[:-1],
        body + b"x",
        b"SCRAM-SHA-256\0\xff\xff\xff\xff",
    ):
        with pytest.raises(AuthError):
            initial_response(bad)


@given(st.binary(max_size=40))
def test_garbage_raises_only_auth_errors(body: bytes) -> None:
    for data in (body, b"SCRAM-SHA-256\0" + body):
        try:
            initial_response(data)
        except AuthError:
            pass


def test_caches_are_bounded_and_drop_the_least_recently_used() -> None:
    cache = KeyCache(2)
    keys = [Keys(bytes([n]) * 32, b"") for n in range(3)]
    cache.put("a", b"s", 1, keys[0])
    cache.put("b", b"s", 1, keys[1])
    assert cache.get("a", b"s", 1) == keys[0]
    cache.put("c", b"s", 1, keys[2])
    assert len(cache) == 2
    assert cache.get("b", b"s", 1) is None
    assert cache.get("a", b"s", 1) == keys[0]
    assert cache.get("a", b"t", 1) is None
    assert cache.get("a", b"s", 2) is None
    cache.put("a", b"s", 1, keys[2])
    assert (len(cache), cache.get("a", b"s", 1)) == (2, keys[2])
    cache.clear()
    assert len(cache) == 0
    verifiers = VerifierCache()
    verifier = make_verifier("x", b"s", 1)
    verifiers.put("x", b"s", 1, verifier)
    assert verifiers.get("x", b"s", 1) is verifier
