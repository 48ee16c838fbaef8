"""A client or server of another process that cannot be taken over leaves nothing: no count, no descriptor."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pgferry.engine.ops import handover
from support.rig import Rig
from support.wire import query


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()
    assert not made.bugs


def counts(rig: Rig) -> list[int]:
    names = [
        ("clients",),
        ("db-clients", "db"),
        ("db-servers", "db"),
        ("user-servers", "app"),
        ("pool", "db", "app"),
    ]
    return [rig.ledger.counter(*name).value() for name in names]


SERVER: dict[str, Any] = {
    "kind": "server",
    "database": "db",
    "pool_user": "app",
    "vars": {},
    "welcome": None,
    "base_vars": None,
    "reset_vars": None,
    "start_settings": {},
    "start_sql": None,
    "kept": {},
    "sql": None,
    "version": 15,
    "statements": [],
    "strained": [],
    "key": b"12345678",
    "family": 2,
    "address": ["127.0.0.1", 5432],
    "host": "far",
    "peer": ["127.0.0.1", 5432],
    "own": ["127.0.0.1", 6000],
    "connected": 0.0,
    "created": 0.0,
    "since": 0.0,
    "last_user": None,
}


@pytest.mark.parametrize("kind", ["client", "server"])
def test_nothing_is_left(rig: Rig, kind: str) -> None:
    port = rig.login()
    rig.feed(port, query("SELECT 1"))
    about = handover.describe_client(port.stream) if kind == "client" else SERVER  # type: ignore[arg-type]
    accept = handover.accept_client if kind == "client" else handover.accept_server
    before = counts(rig)
    failed = set()
    for key in about:
        ours, theirs = socket.socketpair()
        try:
            accept(rig.engine, {**about, key: object()}, ours.fileno())
        except Exception:
            failed.add(key)
            assert counts(rig) == before, key
            ours.close()  # it is still this one's
        else:  # nobody looks at that before it is used
            ours.detach()
            before = counts(rig)
        theirs.close()
    assert len(failed) > len(about) // 3, failed
