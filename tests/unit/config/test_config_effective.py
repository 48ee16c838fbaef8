"""Precedence: user before database before global."""

from __future__ import annotations

import pytest

from pgferry.config import Config, Database, Settings, User, effective

CONFIG = Config(
    settings=Settings(
        pool_mode="session", default_pool_size=20, min_pool_size=4, reserve_pool_size=1, query_timeout=10.0,
        query_wait_timeout=120.0, idle_transaction_timeout=11.0, transaction_timeout=12.0,
        client_idle_timeout=13.0, server_lifetime=3600.0, max_db_connections=-1, max_user_connections=7,
        max_db_client_connections=8, max_user_client_connections=9,
        session_state="track", max_pinned=10, pin_timeout=14.5,
    ),
    users={"app": User(name="app", secret="stored"), "bob": User(name="bob")},
)  # fmt: skip
PLAIN = Database(name="d", dbname="d")
DATABASE = Database(
    name="d", dbname="d", hosts=("h",), user="app", password="given", pool_mode="transaction", pool_size=5,
    min_pool_size=9, reserve_pool_size=2, query_wait_timeout=0.0, server_lifetime=60.0, max_db_connections=3,
    max_db_client_connections=30, session_state="ignore", max_pinned=0, pin_timeout=0.0,
)  # fmt: skip
USER = User(
    name="u", pool_mode="statement", pool_size=3, reserve_pool_size=0, query_timeout=1.0,
    query_wait_timeout=2.0,
    idle_transaction_timeout=3.0, transaction_timeout=4.0, client_idle_timeout=5.0, max_user_connections=6,
    max_user_client_connections=60, session_state="refuse",
)  # fmt: skip
NOBODY = User(name="n")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pool_mode", ("session", "transaction", "statement")),
        ("pool_size", (20, 5, 3)),
        ("reserve_pool_size", (1, 2, 0)),
        ("min_pool_size", (4, 5, 3)),
        ("query_wait_timeout", (120.0, 0.0, 2.0)),
        ("session_state", ("track", "ignore", "refuse")),
    ],
)
def test_user_before_database_before_global(name: str, expected: tuple[object, object, object]) -> None:
    function = getattr(effective, name)
    for user in (None, NOBODY):
        assert function(CONFIG, PLAIN, user) == expected[0]
        assert function(CONFIG, DATABASE, user) == expected[1]
    assert function(CONFIG, DATABASE, USER) == expected[2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("query_timeout", (10.0, 1.0)),
        ("idle_transaction_timeout", (11.0, 3.0)),
        ("transaction_timeout", (12.0, 4.0)),
        ("client_idle_timeout", (13.0, 5.0)),
        ("max_user_connections", (7, 6)),
        ("max_user_client_connections", (9, 60)),
    ],
)
def test_user_before_global(name: str, expected: tuple[object, object]) -> None:
    function = getattr(effective, name)
    assert function(CONFIG, None) == function(CONFIG, NOBODY) == expected[0]
    assert function(CONFIG, USER) == expected[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("server_lifetime", (3600.0, 60.0)),
        ("max_db_connections", (0, 3)),
        ("max_db_client_connections", (8, 30)),
        ("max_pinned", (10, 0)),
        ("pin_timeout", (14.5, 0.0)),
        ("hosts", (("/tmp",), ("h",))),
    ],
)
def test_database_before_global(name: str, expected: tuple[object, object]) -> None:
    function = getattr(effective, name)
    assert (function(CONFIG, PLAIN), function(CONFIG, DATABASE)) == expected


def test_min_pool_size_without_a_pool_limit() -> None:
    unlimited = Database(name="d", dbname="d", pool_size=0, min_pool_size=9)
    assert effective.min_pool_size(CONFIG, unlimited, None) == 9


def test_secret_for_the_server() -> None:
    assert effective.server_secret(CONFIG, DATABASE, "app") == "given"
    assert effective.server_secret(CONFIG, PLAIN, "app") == "stored"
    assert effective.server_secret(CONFIG, DATABASE, "bob") is None
    assert effective.server_secret(CONFIG, DATABASE, "stranger") is None
