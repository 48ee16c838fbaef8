"""The verdict on a text against what PostgreSQL did: whatever really changed in a session must be in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import pq

from pgferry.embedded import Cluster
from pgferry.session.classify import classify
from pgferry.session.verdict import HARMLESS, Touch, Verdict
from support.session_statements import PROGRAMS, Program

CATALOG = {
    b"tenant_setter": int(Touch.SETTINGS | Touch.UNNAMED),
    b"tenant_view": int(Touch.SETTINGS | Touch.UNNAMED),
    b"tenant_procedure": int(Touch.SETTINGS | Touch.UNNAMED),
}
SETUP = """
    CREATE TABLE things (id int, name text);
    INSERT INTO things VALUES (1, 'one');
    CREATE FUNCTION tenant_setter(text) RETURNS text LANGUAGE sql VOLATILE
        AS $$ SELECT set_config('app.tenant', $1, false) $$;
    CREATE PROCEDURE tenant_procedure(text) LANGUAGE plpgsql
        AS $$ BEGIN PERFORM set_config('app.tenant', $1, false); END $$;
    CREATE VIEW tenant_view AS SELECT 1 AS id, tenant_setter('v') AS t;
"""
# Seen as settings, but no state that outlives a transaction, or told by others.
NOT_STATE = {b"transaction_isolation", b"transaction_read_only", b"transaction_deferrable", b"is_superuser"}
CUSTOM = sorted(
    {
        name.lower().encode()
        for program in PROGRAMS
        for name in re.findall(r"\b[a-z_]+(?:\.[a-z_]+)+\b", " ".join(program).lower())
    }
    | {b"app.a", b"app.z", b"app.tenant", b"app.Tenant".lower()}
)


@dataclass
class Session:
    """What a session holds."""

    settings: dict[bytes, tuple[bytes | None, ...]]
    custom: dict[bytes, bytes | None]
    prepared: set[bytes]
    channels: set[bytes]
    temporary: set[bytes]
    locks: int
    cursors: set[bytes]
    slots: int


class Client:
    """One connection that speaks the simple protocol with bytes, whatever the encoding is set to."""

    def __init__(self, conninfo: str) -> None:
        self.connection = pq.PGconn.connect(conninfo.encode())
        assert self.connection.status == pq.ConnStatus.OK, self.connection.error_message

    def run(self, text: bytes) -> pq.abc.PGresult:
        return self.connection.exec_(text)

    def rows(self, text: str) -> list[tuple[bytes | None, ...]]:
        result = self.run(text.encode())
        assert result.status == pq.ExecStatus.TUPLES_OK, (text, result.error_message)
        return [
            tuple(result.get_value(row, column) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    def first(self, text: str) -> set[bytes]:
        return {row[0] or b"" for row in self.rows(text)}

    def look(self) -> Session:
        """Everything the session holds now."""
        if self.connection.transaction_status != pq.TransactionStatus.IDLE:
            self.run(b"ROLLBACK")
        settings = self.rows("SELECT name, setting, source FROM pg_catalog.pg_settings")
        settings += self.rows(
            "SELECT n, pg_catalog.current_setting(n), '' FROM (VALUES ('role'), ('session_authorization')) AS v(n)"
        )
        names = ", ".join(f"('{name.decode()}')" for name in CUSTOM)
        custom = self.rows(f"SELECT n, pg_catalog.current_setting(n, true) FROM (VALUES {names}) AS v(n)")
        return Session(
            {row[0] or b"": row[1:] for row in settings if row[0] not in NOT_STATE},
            {row[0] or b"": row[1] for row in custom},
            self.first("SELECT name FROM pg_catalog.pg_prepared_statements"),
            self.first("SELECT pg_catalog.pg_listening_channels()"),
            self.first(
                "SELECT 'c' || oid FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()"
                " UNION ALL SELECT 'p' || oid FROM pg_catalog.pg_proc"
                " WHERE pronamespace = pg_catalog.pg_my_temp_schema()"
                " UNION ALL SELECT 't' || oid FROM pg_catalog.pg_type"
                " WHERE typnamespace = pg_catalog.pg_my_temp_schema()"
            ),
            len(
                self.rows(
                    "SELECT 1 FROM pg_catalog.pg_locks"
                    " WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()"
                )
            ),
            self.first("SELECT name FROM pg_catalog.pg_cursors WHERE is_holdable"),
            len(
                self.rows(
                    "SELECT 1 FROM pg_catalog.pg_replication_slots"
                    " WHERE temporary AND active_pid = pg_catalog.pg_backend_pid()"
                )
            ),
        )

    def close(self) -> None:
        self.connection.finish()


@dataclass
class Allowed:
    """The union of the verdicts on all texts of a program."""

    verdicts: list[Verdict]

    @property
    def touch(self) -> int:
        touch = 0
        for verdict in self.verdicts:
            touch |= verdict.touch
        return touch

    def name(self, name: bytes, custom: bool) -> bool:
        """Whether some verdict lets this setting change."""
        for verdict in self.verdicts:
            if not verdict.touch & Touch.SETTINGS:
                continue
            if verdict.names is None:
                if not custom or verdict.resets is None or verdict.touch & Touch.UNNAMED:
                    return True
            elif name in verdict.names:
                return True
        return False


@pytest.fixture
def conninfo(cluster: Cluster, database: str) -> Iterator[str]:
    cluster.sql(SETUP, database)
    cluster.sql("CREATE ROLE alice NOLOGIN" if not _has_alice(cluster) else "SELECT 1")
    yield cluster.conninfo(database)


def _has_alice(cluster: Cluster) -> bool:
    return bool(cluster.sql("SELECT 1 FROM pg_roles WHERE rolname = 'alice'"))


def misses(before: Session, after: Session, allowed: Allowed) -> list[str]:
    """What changed without a verdict that says so."""
    found = []
    for name in before.settings.keys() & after.settings.keys():
        if before.settings[name] != after.settings[name] and not allowed.name(name.lower(), False):
            found.append(f"setting {name.decode()}: {before.settings[name]} to {after.settings[name]}")
    for name, value in after.custom.items():
        # A custom setting that was ever set, be it locally, stays as '' in the server for good.
        if (before.custom[name] or b"") != (value or b"") and not allowed.name(name, True):
            found.append(f"custom setting {name.decode()}: {value!r}")
    for bit, old, new in (
        (Touch.PREPARED, before.prepared, after.prepared),
        (Touch.LISTEN, before.channels, after.channels),
        (Touch.TEMP, before.temporary, after.temporary),
        (Touch.LOCKS, before.locks, after.locks),
        (Touch.CURSORS, before.cursors, after.cursors),
        (Touch.FOREVER, before.slots, after.slots),
    ):
        if old != new and not allowed.touch & bit:
            found.append(f"{bit.name}: {old} to {new}")
    return found


def play(client: Client, program: Program) -> tuple[list[str], Session, list[Verdict]]:
    before = client.look()
    verdicts = []
    for text in program:
        verdict = classify(text.encode(), CATALOG)
        verdicts += [verdict] if verdict is not HARMLESS else []
        client.run(text.encode())
    after = client.look()
    return misses(before, after, Allowed(verdicts)), after, verdicts


def test_whatever_changes_is_in_the_verdict(conninfo: str) -> None:
    problems = []
    for program in PROGRAMS:
        client = Client(conninfo)
        try:
            missed, after, verdicts = play(client, program)
        finally:
            client.close()
        problems += [f"{program}: {miss}" for miss in missed]
        listens = {name for verdict in verdicts for name in verdict.listens}
        if not any("DO" in text for text in program) and not after.channels <= listens:
            problems.append(f"{program}: listens to {after.channels}, said {listens}")
        prepares = {name for verdict in verdicts for name in verdict.prepares}
        if not any("DO" in text for text in program) and not after.prepared <= prepares:
            problems.append(f"{program}: prepared {after.prepared}, said {prepares}")
    assert not problems, "\n".join(problems)


def test_the_plain_text_does_what_the_statement_did(conninfo: str) -> None:
    problems, count = [], 0
    for program in PROGRAMS:
        verdict = classify(program[0].encode())
        if len(program) != 1 or verdict.plain is None:
            continue
        count += 1
        name, text = verdict.plain
        show = f"SELECT pg_catalog.current_setting('{name.decode()}', true)"
        values = []
        for statement in (program[0].encode(), text):
            client = Client(conninfo)
            client.run(statement)
            values.append(client.rows(show))
            client.close()
        if values[0] != values[1]:
            problems.append(f"{program[0]}: {values[0]}, but {text!r} gives {values[1]}")
    assert not problems, "\n".join(problems)
    assert count > 20


def test_constant_arguments_of_the_extended_protocol(conninfo: str) -> None:
    """$n as the name of the setting: the number in the verdict is the one the client binds."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT set_config(%s, %s, false)", ("app.bound", "x"))
        assert connection.execute("SELECT current_setting('app.bound')").fetchone() == ("x",)
    verdict = classify(b"SELECT set_config($1, $2, false)")
    assert (verdict.params, verdict.names) == ((1,), ())


# Literals, comments and names with contents that try to end them early or late.
SET = "; SET t.m = 1; COMMIT; "
HIDDEN = f"{SET}select '"
INSIDE = st.lists(
    st.sampled_from([*"'\\\"/*-$\n 1aé", "''", "\\'", "\\\\", '""', "$$", "$a$", "/*", "*/", "--", "\\0061"])
    | st.sampled_from([SET, HIDDEN, HIDDEN, "'\n'", "'--\n'", "'/**/'", "\\''", "\\\\'", "''\\"]),
    max_size=3,
).map("".join)
# In place of | the contents are put in.
STRINGS = [
    "'|'",
    "E'|'",
    "e'|'",
    "U&'|'",
    "b'1|'",
    "N'|'",
    "'a' \n'|'",
    "E'a'--\n'|'",
    "'a' --\\'\n'|'",
    "'\\''|'",
]
OTHERS = ["$$|$$", "$a$|$a$", "1 a$a$|", "1 /*|*/", "1 /*/**/|*/", "1--|\n", "-|", "1|", "- --\n1|"]
NAMES = ['1 as a"|"', '1 as "a|"', '1 as U&"a|"', "1 as U&\"a|\" UESCAPE '!'"]
AROUND = st.sampled_from(STRINGS) | st.sampled_from(OTHERS) | st.sampled_from(NAMES)
CLOSING = st.sampled_from(["", "", "'", "--'", "*/", "--$$", "/*'*/", "$a$"])
TEXT = st.builds(
    lambda pieces, closing: (
        ";".join("select " + around.replace("|", inside) for around, inside in pieces) + closing
    ),
    st.lists(st.tuples(AROUND, INSIDE), min_size=1, max_size=2),
    CLOSING,
)


@pytest.mark.parametrize("standard", ["on", "off"])
def test_quoting_is_read_as_the_server_reads_it(conninfo: str, standard: str) -> None:
    """A SET that the server finds outside all quotes and comments is found by the classifier too."""
    client = Client(conninfo)
    start = f"SET standard_conforming_strings = {standard}; SET escape_string_warning = off; SET t.m = 0"
    seen = 0

    @settings(max_examples=800, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(TEXT, st.booleans())
    def check(text: str, tail: bool) -> None:
        nonlocal seen
        text += SET * tail
        client.run(start.encode())
        client.run(text.encode())
        if client.connection.transaction_status != pq.TransactionStatus.IDLE:
            client.run(b"ROLLBACK")
        if client.rows("SELECT pg_catalog.current_setting('t.m')") == [(b"1",)]:
            seen += 1
            verdict = classify(text.encode())
            assert verdict.touch & Touch.SETTINGS, text

    check()
    client.close()
    assert seen > 30
