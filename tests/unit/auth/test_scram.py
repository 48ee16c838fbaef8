"""SCRAM: the RFC's example, scramp as oracle on both sides, and malformed messages of every kind."""

import base64
import hmac
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramClient, ScramMechanism

from pgferry.auth.errors import AuthError, ServerAuthError
from pgferry.auth.scram import (
    MAX_ITERATIONS,
    ClientExchange,
    Keys,
    SaltSource,
    ServerExchange,
    Verifier,
    derive_keys,
    make_verifier,
    parse_verifier,
    verify_password,
)

SALT = b"0123456789abcdef"
KEYS = derive_keys("pencil", SALT, 4096)
VERIFIER = KEYS.verifier(SALT, 4096)
CBIND = bytes(range(32))

# RFC 7677, section 3
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC_CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
RFC_SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
RFC_CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
RFC_SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_rfc_7677_example_on_both_sides() -> None:
    keys = derive_keys("pencil", RFC_SALT, 4096)
    server = ServerExchange(keys.verifier(RFC_SALT, 4096), nonce=b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    client = ClientExchange(nonce=b"rOprNGfwEbeRWgbNEkqO")
    assert client.first(b"user") == RFC_CLIENT_FIRST
    assert server.client_first(RFC_CLIENT_FIRST) == RFC_SERVER_FIRST
    assert client.server_first(RFC_SERVER_FIRST) == (RFC_SALT, 4096)
    assert client.final(*keys) == RFC_CLIENT_FINAL
    assert server.client_final(RFC_CLIENT_FINAL) == RFC_SERVER_FINAL
    assert not client.done
    client.verify(RFC_SERVER_FINAL)
    assert client.done
    assert server.client_key == keys.client_key


@settings(max_examples=20, deadline=None)
@given(st.text(min_size=1, max_size=20, alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_scramp_client_against_our_server(password: str) -> None:
    client = ScramClient(["SCRAM-SHA-256"], "someone", password)
    server = ServerExchange(make_verifier(password, SALT, 4096))
    client.set_server_first(server.client_first(client.get_client_first().encode()).decode())
    client.set_server_final(server.client_final(client.get_client_final().encode()).decode())


@settings(max_examples=20, deadline=None)
@given(st.text(min_size=1, max_size=20, alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_our_client_against_scramp_server(password: str) -> None:
    mechanism = ScramMechanism("SCRAM-SHA-256")
    server = mechanism.make_server(lambda _: mechanism.make_auth_info(password, salt=SALT))
    client = ClientExchange()
    server.set_client_first(client.first(b"a,b=c").decode())
    salt, iterations = client.server_first(server.get_server_first().encode())
    server.set_client_final(client.final(*derive_keys(password, salt, iterations)).decode())
    client.verify(server.get_server_final().encode())
    assert client.done


def test_scramp_agrees_on_channel_binding() -> None:
    binding = ("tls-server-end-point", CBIND)
    client = ScramClient(["SCRAM-SHA-256-PLUS"], "u", "pencil", channel_binding=binding)
    server = ServerExchange(VERIFIER, cbind=CBIND, plus=True)
    client.set_server_first(server.client_first(client.get_client_first().encode()).decode())
    client.set_server_final(server.client_final(client.get_client_final().encode()).decode())
    ours = ClientExchange(cbind=CBIND, plus=True)
    mechanism = ScramMechanism("SCRAM-SHA-256-PLUS")
    theirs = mechanism.make_server(
        lambda _: mechanism.make_auth_info("pencil", salt=SALT), channel_binding=binding
    )
    theirs.set_client_first(ours.first(b"u").decode())
    ours.server_first(theirs.get_server_first().encode())
    theirs.set_client_final(ours.final(*KEYS).decode())
    ours.verify(theirs.get_server_final().encode())


def test_channel_binding_rules() -> None:
    ok = b"n=,r=abc"
    ServerExchange(VERIFIER).client_first(b"n,," + ok)
    ServerExchange(VERIFIER).client_first(b"y,," + ok)
    ServerExchange(VERIFIER, cbind=CBIND).client_first(b"n,," + ok)
    for server, flag in (
        (ServerExchange(VERIFIER), b"p=tls-server-end-point"),
        (ServerExchange(VERIFIER), b"x"),
        (ServerExchange(VERIFIER), b""),
        (ServerExchange(VERIFIER, cbind=CBIND), b"y"),  # the offer was removed on its way: downgrade
        (ServerExchange(VERIFIER, cbind=CBIND), b"p=tls-server-end-point"),
        (ServerExchange(VERIFIER, cbind=CBIND, plus=True), b"n"),
        (ServerExchange(VERIFIER, cbind=CBIND, plus=True), b"p=tls-unique"),
        (ServerExchange(VERIFIER, plus=True), b"p=tls-server-end-point"),
    ):
        with pytest.raises(AuthError) as caught:
            server.client_first(flag + b",," + ok)
        assert caught.value.message == "SASL authentication failed"


def test_wrong_certificate_fails_channel_binding() -> None:
    client = ClientExchange(cbind=bytes(32), plus=True)
    server = ServerExchange(VERIFIER, cbind=CBIND, plus=True)
    client.server_first(server.client_first(client.first()))
    with pytest.raises(AuthError) as caught:
        server.client_final(client.final(*KEYS))
    assert "channel binding" in caught.value.detail


def test_gs2_header_must_be_repeated_in_client_final() -> None:
    server = ServerExchange(VERIFIER)
    client = ClientExchange()
    client.server_first(server.client_first(b"y" + client.first()[1:]))
    with pytest.raises(AuthError):
        server.client_final(client.final(*KEYS))  # says c=biws, which is the header "n,,"


def test_pass_through_with_keys_of_a_clients_login() -> None:
    first = ServerExchange(VERIFIER)
    client = ClientExchange()
    client.server_first(first.client_first(client.first()))
    first.client_final(client.final(*KEYS))
    postgres = ServerExchange(VERIFIER)
    ours = ClientExchange()
    assert ours.server_first(postgres.client_first(ours.first())) == (SALT, 4096)
    ours.verify(postgres.client_final(ours.final(first.client_key, VERIFIER.server_key)))
    assert ours.done


def _client_final(server: ServerExchange, keys: Keys = KEYS) -> bytes:
    client = ClientExchange()
    client.server_first(server.client_first(client.first()))
    return client.final(*keys)


def test_wrong_password_and_doomed_exchange_fail_alike() -> None:
    source = SaltSource()
    mock = source.mock("nobody", 4096)
    wrong = derive_keys("wrong", SALT, 4096)
    right_but_doomed = ServerExchange(VERIFIER, doomed=True)
    for server, keys in (
        (ServerExchange(VERIFIER), wrong),
        (ServerExchange(mock, doomed=True), derive_keys("x", mock.salt, 4096)),
        (right_but_doomed, KEYS),
    ):
        final = _client_final(server, keys)
        with pytest.raises(AuthError) as caught:
            server.client_final(final)
        assert (caught.value.message, caught.value.sqlstate) == ("SASL authentication failed", "08P01")
        with pytest.raises(AuthError):
            _ = server.client_key


def test_mock_salt_is_stable_and_depends_on_name_and_secret() -> None:
    a = SaltSource(b"k" * 32)
    assert a.mock("u", 4096) == SaltSource(b"k" * 32).mock(b"u", 4096)
    assert a.mock("u", 4096).salt == a.salt("u") != a.salt("v")
    assert a.salt("u") != SaltSource().salt("u")
    assert len(a.salt("u")) == 16
    assert a.mock("u", 7).iterations == 7


CLIENT_FIRST_REFUSED = [
    b"",
    b",",
    b",,",
    b"n",
    b"n,",
    b"n,,",
    b"n,,n",
    b"n,,n=",
    b"n,,n=u",
    b"n,,n=u,",
    b"n,,n=u,r",
    b"n,,n=u,r=",
    b"n,,r=abc,n=u",
    b"n,,n=u,s=abc",
    b"n,,n=u,r=a\x7fb",
    b"n,,n=u,r=a b",
    b"n,,n=u,r=a\0b",
    b"n,,n=u,r=\xc3\xa9",
    b"n,a=other,n=u,r=abc",
    b"n,,m=must,n=u,r=abc",
    b"n,,n=u,r=abc,",
    b"n,,n=u,r=abc,x",
    b"n,,n=u,r=abc,=x",
    b"n,,n=u,r=abc,1=x",
    b"N,,n=u,r=abc",
    b"n,,n=u,r=" + b"a" * 1024,
]


@pytest.mark.parametrize("message", CLIENT_FIRST_REFUSED)
def test_malformed_client_first(message: bytes) -> None:
    with pytest.raises(AuthError):
        ServerExchange(VERIFIER).client_first(message)


def test_unknown_extensions_are_ignored_but_signed() -> None:
    server = ServerExchange(VERIFIER, nonce=b"S")
    server_first = server.client_first(b"n,,n=u,r=C,x=whatever,Y=")
    assert server_first.startswith(b"r=CS,s=")
    without_proof = b"c=biws,r=CS,z=more"
    signed = b"n=u,r=C,x=whatever,Y=," + server_first + b"," + without_proof
    signature = hmac.digest(VERIFIER.stored_key, signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(KEYS.client_key, signature, strict=True))
    assert server.client_final(without_proof + b",p=" + base64.b64encode(proof)).startswith(b"v=")


PROOF = base64.b64encode(bytes(32))
CLIENT_FINAL_REFUSED = [
    b"",
    b",p=",
    b"p=" + PROOF,
    b",p=" + PROOF,
    b"c=biws,p=" + PROOF,
    b"r=CS,p=" + PROOF,
    b"c=biws,,p=" + PROOF,
    b"c=biws,r=,p=" + PROOF,
    b"c=biws,r=C,p=" + PROOF,
    b"c=biws,r=CSx,p=" + PROOF,
    b"c=biws,r=\xff,p=" + PROOF,
    b"c=eSws,r=CS,p=" + PROOF,
    b"c=,r=CS,p=" + PROOF,
    b"c,r=CS,p=" + PROOF,
    b"c=biws,r=CS",
    b"c=biws,r=CS,p=",
    b"c=biws,r=CS,p=" + PROOF[:-1],
    b"c=biws,r=CS,p=" + PROOF + b"=",
    b"c=biws,r=CS,p=" + PROOF + b",x=y",
    b"c=biws,r=CS,p=" + base64.b64encode(bytes(31)),
    b"c=biws,r=CS,p=" + base64.b64encode(bytes(33)),
    b"c=biws,r=CS,p=\n" + PROOF,
    b"c=biws,r=CS,p=\xff" + PROOF[1:],
    b"c=biws,r=CS,x,p=" + PROOF,
    b"c=biws,r=CS,p=" + PROOF + b"\0",
    b"r=CS,c=biws,p=" + PROOF,
    b"c=biws,r=CS,p=" + PROOF,  # well formed, wrong
    b"c=biws,r=CS," + b"x=" + b"y" * 1024 + b",p=" + PROOF,
]


@pytest.mark.parametrize("message", CLIENT_FINAL_REFUSED)
def test_malformed_client_final(message: bytes) -> None:
    server = ServerExchange(VERIFIER, nonce=b"S")
    server.client_first(b"n,,n=,r=C")
    with pytest.raises(AuthError):
        server.client_final(message)


def test_server_messages_out_of_order() -> None:
    with pytest.raises(AuthError):
        ServerExchange(VERIFIER).client_final(b"c=biws,r=CS,p=" + PROOF)
    server = ServerExchange(VERIFIER)
    server.client_first(b"n,,n=,r=C")
    with pytest.raises(AuthError):
        server.client_first(b"n,,n=,r=C")
    server = ServerExchange(VERIFIER)
    final = _client_final(server)
    server.client_final(final)
    with pytest.raises(AuthError):
        server.client_final(final)


def test_a_failed_exchange_stays_failed() -> None:
    server = ServerExchange(VERIFIER)
    final = _client_final(server)
    with pytest.raises(AuthError):
        server.client_final(b"nonsense")
    with pytest.raises(AuthError):
        server.client_final(final)


_PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"n,,",
                b"y",
                b"p=",
                b"n=",
                b"r=",
                b"c=biws",
                b"c=",
                b"p=" + PROOF,
                b",",
                b"CS",
                b"a=",
                b"m=",
                b"=",
            ]
        ),
        st.binary(max_size=8),
    ),
    max_size=12,
).map(b"".join)


@given(_PIECES)
def test_garbage_from_clients_raises_only_auth_errors(message: bytes) -> None:
    server = ServerExchange(VERIFIER)
    try:
        server.client_first(message)
    except AuthError:
        pass
    server = ServerExchange(VERIFIER, nonce=b"S")
    server.client_first(b"n,,n=,r=C")
    with pytest.raises(AuthError):
        server.client_final(message)


@given(st.data())
def test_one_changed_byte_is_noticed(data: st.DataObject) -> None:
    server = ServerExchange(VERIFIER)
    final = bytearray(_client_final(server))
    # Not the last digit of the proof: its two lowest bits mean nothing in base64.
    place = data.draw(st.integers(0, len(final) - 3))
    final[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AuthError):
        server.client_final(bytes(final))


def _server_first_of(template: bytes) -> ClientExchange:
    client = ClientExchange(nonce=b"C")
    client.first()
    client.server_first(template)
    return client


SALT_B64 = base64.b64encode(SALT)
SERVER_FIRST_REFUSED = [
    b"",
    b"e=other-error",
    b"e=\xff\0\n" + b"x" * 300,
    b"r=CS",
    b"r=CS,s=" + SALT_B64,
    b"s=" + SALT_B64 + b",r=CS,i=1",
    b"r=C,s=" + SALT_B64 + b",i=4096",
    b"r=XS,s=" + SALT_B64 + b",i=4096",
    b"r=,s=" + SALT_B64 + b",i=4096",
    b"r=C\x01,s=" + SALT_B64 + b",i=4096",
    b"r=CS,s=,i=4096",
    b"r=CS,s=!!,i=4096",
    b"r=CS,s=" + SALT_B64[:-1] + b",i=4096",
    b"r=CS,s=" + SALT_B64 + b",i=",
    b"r=CS,s=" + SALT_B64 + b",i=0",
    b"r=CS,s=" + SALT_B64 + b",i=-1",
    b"r=CS,s=" + SALT_B64 + b",i=+1",
    b"r=CS,s=" + SALT_B64 + b",i= 1",
    b"r=CS,s=" + SALT_B64 + b",i=1_0",
    b"r=CS,s=" + SALT_B64 + b",i=1000001",
    b"r=CS,s=" + SALT_B64 + b",i=" + b"9" * 4000,
    b"m=x,r=CS,s=" + SALT_B64 + b",i=4096",
    b"r=C" + b"S" * 4096 + b",s=" + SALT_B64 + b",i=4096",
]


@pytest.mark.parametrize("message", SERVER_FIRST_REFUSED)
def test_malformed_server_first(message: bytes) -> None:
    with pytest.raises(ServerAuthError) as caught:
        _server_first_of(message)
    assert caught.value.message.startswith("server login failed: ")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 128


def test_iteration_bounds_are_inclusive() -> None:
    for count in (1, MAX_ITERATIONS):
        client = ClientExchange(nonce=b"C")
        client.first()
        assert client.server_first(b"r=CS,s=%b,i=%d" % (SALT_B64, count)) == (SALT, count)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"v=",
        b"v=x",
        b"v=" + PROOF,
        b"e=invalid-proof",
        b"x=" + PROOF,
        b"v=" + b"A" * 5000,
        b"v=\xff\xff",
    ],
)
def test_server_signature_is_required(message: bytes) -> None:
    client = _server_first_of(b"r=CS,s=" + SALT_B64 + b",i=4096")
    client.final(*KEYS)
    with pytest.raises(ServerAuthError):
        client.verify(message)
    assert not client.done


def test_wrong_signature_has_pgbouncers_text() -> None:
    client = _server_first_of(b"r=CS,s=" + SALT_B64 + b",i=4096")
    client.final(*KEYS)
    with pytest.raises(ServerAuthError, match=r"^server login failed: invalid server signature$"):
        client.verify(b"v=" + PROOF)


def test_client_messages_out_of_order() -> None:
    good = b"r=CS,s=" + SALT_B64 + b",i=4096"
    with pytest.raises(ServerAuthError):
        ClientExchange().server_first(good)
    with pytest.raises(ServerAuthError):
        ClientExchange().final(*KEYS)
    with pytest.raises(ServerAuthError):
        ClientExchange().verify(b"v=" + PROOF)
    client = _server_first_of(good)
    with pytest.raises(ServerAuthError):
        client.server_first(good)
    with pytest.raises(ServerAuthError):
        _server_first_of(good).final(b"short", b"short")
    with pytest.raises(ServerAuthError):
        ClientExchange(plus=True)


@given(st.one_of(_PIECES, st.binary(max_size=64).map(lambda b: b"r=CS," + b)))
def test_garbage_from_servers_raises_only_auth_errors(message: bytes) -> None:
    try:
        _server_first_of(message)
    except ServerAuthError:
        pass
    client = _server_first_of(b"r=CS,s=" + SALT_B64 + b",i=4096")
    client.final(*KEYS)
    with pytest.raises(ServerAuthError):
        client.verify(message)


@given(
    st.integers(1, 2**31 - 1),
    st.binary(min_size=1, max_size=40),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
def test_verifier_survives_its_stored_form(
    iterations: int, salt: bytes, stored: bytes, server: bytes
) -> None:
    verifier = Verifier(iterations, salt, stored, server)
    assert parse_verifier(str(verifier)) == verifier


GOOD = str(VERIFIER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$",
        "SCRAM-SHA-256$4096",
        "SCRAM-SHA-256$4096:$:",
        GOOD + "$",
        GOOD[:-1],
        GOOD.replace("4096", "0"),
        GOOD.replace("4096", "-1"),
        GOOD.replace("4096", "²"),
        GOOD.replace("4096", "99999999999"),
        GOOD.replace("4096", "2147483648"),
        GOOD.replace("SHA-256", "SHA-1"),
        GOOD.lower(),
        " " + GOOD,
        GOOD + "\n",
        GOOD.replace(":", "", 1),
    ],
)
def test_what_is_no_verifier(text: str) -> None:
    assert parse_verifier(text) is None


@given(st.text(max_size=80).map(lambda t: "SCRAM-SHA-256$" + t))
def test_parse_verifier_never_raises(text: str) -> None:
    parse_verifier(text)


def test_verify_password_checks_and_is_bounded() -> None:
    assert verify_password(VERIFIER, b"pencil")
    assert not verify_password(VERIFIER, b"pencils")
    assert VERIFIER.stored_key == sha256(KEYS.client_key).digest()
    with pytest.raises(AuthError):
        verify_password(VERIFIER._replace(iterations=MAX_ITERATIONS + 1), b"pencil")
