"""SASLprep: verifiers that PostgreSQL made for awkward passwords, RFC 4013's examples, scramp as oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp.utils import saslprep as reference

from pgferry.auth.saslprep import saslprep
from pgferry.auth.scram import parse_verifier, verify_password

# ALTER ROLE r PASSWORD '...', then rolpassword from pg_authid (UTF-8 database).
MADE_BY_POSTGRESQL = [
    (
        "I\xadX",
        "SCRAM-SHA-256$4096:Db9fpDYetEsJCLJRPzzw3A==$0n4PkoFpzqawpILHSJXPNkEmfp0NB101kuMbONtBgXg=:lZ4cYLPZisRGjlVX7ZSN9i/vLJBHRH6wDQnQXr39qoM=",
    ),
    (
        "\u2168",
        "SCRAM-SHA-256$4096:D350nRgbXo6p66zZBktdsA==$Tg5GKXOP/dsKxoQpTuqyq1Kyqf0+QYBkGoCa6G8khE8=:5Qc3oxMjQ23iYDmm5a5xEmIaidlyF12xKv1XA57dxWs=",
    ),
    (
        "a\u200b\xe9",
        "SCRAM-SHA-256$4096:/1CYoAry8xDK+oyeu83vLg==$WUnzW24/pCzyapLVRG50ZdtnQIE5GnfuWjxs4SV90AY=:qMDCgEvNbJOy3ntv9D4sknOqiOSNCWx5RlLEUJpbvsc=",
    ),
    (
        "\xa0\xe9",
        "SCRAM-SHA-256$4096:fTipp12ECukwQo8b7Nojfw==$5WYevYhvTJ9hLUmg3XeynbzwVNTYgeJPDDoGOMg8BbU=:pty8fG0f981FaI5fNH4LiTCo8X/WqxwcLULfqo1hRYM=",
    ),
    (
        "a\x07\xe9",
        "SCRAM-SHA-256$4096:11Bg5aCbsCq89hr7T89W/w==$mME2UfnJt3eVw8hS6ST2EqIeKwkb0wmp16ocbv3wiSE=:6AOTH3TfeHfLrc1DkvFXckQBwjn5B7gnPZtFg/OCHp8=",
    ),
    (
        "\u06271",
        "SCRAM-SHA-256$4096:KqslGR148+FzYcnLV109Xg==$XNwC1NiXJZ0vaXW9HuJWVEBNYbniY94z75cjYnae6YE=:mFfaak8jKZ23QOnopGfQ15mKOFplKrcJM6wX6EdnqAw=",
    ),
    (
        "\u0627\xe9",
        "SCRAM-SHA-256$4096:4AmQSgdq7fRhfdyGWrkCxQ==$7XaXv4zyhOoAZ8ZSeSmq/ska2B6em1/x8NPLAt0kpS8=:fz2XdDpVpg7aeoRON/QI07pZFnKH2ZorXYrARC+hma4=",
    ),
    (
        "\u0221",
        "SCRAM-SHA-256$4096:F6gdX1xQTTVMpGz/gT6y8A==$TkpJtqqB+41fyeRXCsi+EQNz18ApoMwqyVDzIoq4f3s=:oeM7sxSAVRLCSSjGq949NUTBX5Usps6MnftMMrFMPFY=",
    ),
    (
        "\xad",
        "SCRAM-SHA-256$4096:Ca9J45wCo1TrRVczjHJabQ==$K6ns1yXwT8xTcBePLpEgo9orsAXsUpG90ccvCvK3nB8=:PtoPnj7h4e1dE5soC/Vx6oXWOkZVIiCsI+ptoPGO0Ss=",
    ),
    (
        "e\u0301",
        "SCRAM-SHA-256$4096:RozhSdOIXPzWh2iH8NHttQ==$M80FPf+gPIYZsK18yateJZ6qazyfp1pdh2c0t8eYaqw=:PkeCpAqZoS318IH6iD1P3wDa4h3usW8ustmS1sv2cUM=",
    ),
    (
        "\ufb01x\xad",
        "SCRAM-SHA-256$4096:Bb4V1CP7mIgGih8idBccGw==$u2rU1ychH3VKa1sFjvJv2WHXS1QvCOZEZATFwR0wqAo=:XgKGwEpMsv1aaw/vGN5B8A10cx2QFBn6QNzDHfIQlL4=",
    ),
    (
        "\u06271\u0628",
        "SCRAM-SHA-256$4096:LS+GV389SbFovhxZC6duKg==$01v1LP2EQVLqNMsHHHGsV44GZwVnFCeHYBzbE3jBtcc=:y2fD5K0zZx6JZit5Euw8XSi8J2/0ZB3zVCFp1KPFND8=",
    ),
    (
        "\u03a9\u2126",
        "SCRAM-SHA-256$4096:3VI6oFsA/P5srTfjGxBkIg==$0/1toU4LoQ+aW8PTBzR1t05sCtgM+aPV1EknTUgrnkg=:GOVshhIVko9H3atU8+pQcsydVzL+tZV5lqa1aBeDnRg=",
    ),
    (
        "\U0001f600",
        "SCRAM-SHA-256$4096:O45+q3dFLID4tLhmcATH1g==$h9tQuE3Mwk1IzNzfVeDHGsYwkLtu+NTS9A6D13+Lhuk=:bGqXdhk/wTJdBrmlm70Q1xTtkG9Cy6Ec+NUYnS1cRmQ=",
    ),
]


@pytest.mark.parametrize(("password", "stored"), MADE_BY_POSTGRESQL)
def test_same_keys_as_postgresql(password: str, stored: str) -> None:
    verifier = parse_verifier(stored)
    assert verifier is not None
    assert verify_password(verifier, password)
    assert verify_password(verifier, password.encode())


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # What the RFC refuses is used as it is.
        ("\u0007", "\u0007"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("\u00ad", "\u00ad"),
        ("\u0221", "\u0221"),
        ("\u00a0é", " é"),
        ("", ""),
    ],
)
def test_examples(password: str, prepared: str) -> None:
    assert saslprep(password) == prepared.encode()


def test_bytes_that_are_not_utf8_are_used_as_they_are() -> None:
    assert saslprep(b"\xff\xfe") == b"\xff\xfe"
    assert saslprep("caf\udce9") == b"caf\xe9"


# Latin letters, accents and soft hyphens: there the RFC (scramp) and PostgreSQL agree.
@given(st.text(alphabet=st.characters(min_codepoint=0xA0, max_codepoint=0x1FF), min_size=1))
def test_like_scramp_for_latin_text(password: str) -> None:
    expected = reference(password)
    assert saslprep(password) == (expected or password).encode()


@given(st.one_of(st.text(alphabet=st.characters(exclude_categories=())), st.binary()))
def test_never_raises(password: str | bytes) -> None:
    assert isinstance(saslprep(password), bytes)
