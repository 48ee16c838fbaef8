"""Lists of names that are restored by SET come out as they went in; what would not is not restored that way."""

import random

import pytest

from pgferry.embedded import Cluster
from pgferry.session.lists import KEYWORDS, as_literals
from support.wire import Wire

PARTS = [
    "public",
    '"$user"',
    "a_1",
    "_x",
    '"A"',
    '"a b"',
    '"a, b"',
    '"a""b"',
    "Upper",
    '"plain"',
    "user",
    '"user"',
    "1a",
]
PARTS += [
    "",
    '""',
    " ",
    '"',
    "'",
    '"it\'s"',
    '"a\\b"',
    "json",
    "caf\u00e9",
    '"caf\u00e9"',
    "a$b",
    '"a$b"',
    "x" * 70,
]


def test_keywords(cluster: Cluster) -> None:
    found = cluster.sql("SELECT word FROM pg_get_keywords() WHERE catcode <> 'U'")
    assert {word.encode() for (word,) in found if word} <= KEYWORDS


def test_set_and_show(cluster: Cluster) -> None:
    seed = random.randrange(1 << 32)
    pick, used = random.Random(seed), 0
    with Wire.login(("127.0.0.1", cluster.port)) as wire:
        for _ in range(400):
            value = pick.choice([", ", ", ", ",", ",  "]).join(pick.choices(PARTS, k=pick.randint(1, 4)))
            literals = as_literals(value.encode())
            if literals is not None:
                used += 1
                assert wire.query(f"SET search_path = {literals.decode()}")[-1].text == "I", (seed, value)
                assert wire.rows("SHOW search_path") == [[value.encode()]], seed
    assert used > 20


@pytest.mark.parametrize(
    ("value", "literals"),
    [
        (b'"$user", public', b"'$user','public'"),
        (b"tenant_1, public", b"'tenant_1','public'"),
        (b'"it\'s", "a, b"', b"'it''s','a, b'"),
        (b'""', b"''"),
        (b"", None),
        (b"a,b", None),
        (b'"public"', None),
        (b"Public", None),
        (b"user", None),
        (b'"user"', None),
        (b'"a\\b"', None),
        ("caf\u00e9".encode(), None),
    ],
)
def test_what_is_a_list(value: bytes, literals: bytes | None) -> None:
    assert as_literals(value) == literals
