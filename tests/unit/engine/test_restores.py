"""What is sent in front of a client's message: after unlisted settings, and when a restore fails."""

from collections.abc import Iterator

import pytest

from pgferry.engine.ops import harness
from support.rig import Rig
from support.wire import query

ANEW = [b"BEGIN", b"RESET SESSION AUTHORIZATION", b"RESET ROLE", b"RESET ALL"]


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.check()
    made.close()


def asked(rig: Rig, port: object, sql: str) -> list[bytes]:
    """What the backend has executed for a Query of this client."""
    backend = rig.backend()
    before = len(backend.executed)
    rig.feed(port, query(sql))  # type: ignore[arg-type]
    return backend.executed[before:]


def test_unlisted_settings_are_reset_for_others_only(rig: Rig) -> None:
    """Everything that the next client has is set, whether the server had it or not; then all is known again."""
    owner = rig.login(application_name="owner", TimeZone="UTC")
    other = rig.login(application_name="other", TimeZone="UTC")
    assert asked(rig, owner, "SELECT a")[-1] == b"SELECT a"
    harness.leave_unlisted(rig.servers[0])
    assert asked(rig, owner, "SELECT b") == [b"SELECT b"]
    sent = asked(rig, other, "SELECT c")
    assert sent[:4] == ANEW
    assert sent[-2:] == [b"COMMIT", b"SELECT c"]
    names = {sql.split(b'"')[1] for sql in sent[4:-2]}
    assert names >= {b"application_name", b"TimeZone", b"DateStyle", b"client_encoding"}
    assert rig.backend().parameters["application_name"] == "other"
    assert asked(rig, owner, "SELECT d")[:2] == [b"SET \"application_name\"='owner'", b"SELECT d"]
    assert asked(rig, owner, "SELECT e") == [b"SELECT e"]


def test_same_parameters_do_not_hide_unlisted_settings(rig: Rig) -> None:
    owner, other = rig.login(), rig.login()
    asked(rig, owner, "SELECT a")
    harness.leave_unlisted(rig.servers[0])
    assert asked(rig, other, "SELECT b")[:4] == ANEW
    assert asked(rig, owner, "SELECT c") == [b"SELECT c"]


def test_unlisted_settings_stay_noted_until_the_answer(rig: Rig) -> None:
    """The client that the reset is for leaves before it is answered: the server is closed, not reused."""
    owner, other = rig.login(), rig.login()
    asked(rig, owner, "SELECT a")
    harness.leave_unlisted(rig.servers[0])
    rig.auto = False
    rig.feed(other, query("SELECT b"))
    first = rig.servers[0]
    harness.end(other.stream)
    rig.pump()
    assert first not in rig.servers
    rig.auto = True
