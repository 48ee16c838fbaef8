"""Differences that stay, each with its reason: a pattern of test names, and of what differs, for a suite."""

import re

_PID = "takes the process id of BackendKeyData for the server's; a client's key is pgferry's own"
_POOLED = "drops a database that idle servers of the pool are connected to, or makes one from such a template"

# suite -> [(regular expression for the whole name of a test, reason, perhaps one for all that differs)]
KNOWN: dict[str, list[tuple[str, ...]]] = {
    "regress": [
        (
            "guc",
            "PL/pgSQL is loaded already in a server connection that others have used",
            r'[-+](~|DETAIL: ).*"plpgsql(\.extra_foo_warnings)?".*',
        ),
        (
            "stats",
            "sessions of pg_stat_database are server connections, and each tells its figures when it is idle: "
            "pg_stat_force_next_flush() concerns one of them",
        ),
        (
            "temp",
            "the server connection has its temporary schema already, empty: the transaction does not make it",
            r"-~ERROR:  cannot PREPARE a transaction that has operated on temporary objects",
        ),
    ],
    "psycopg2": [
        (r".*::TestConnectionInfo::test_backend_pid", _PID),
        (
            r".*::CursorTests::test_external_close_(a?sync)",
            "ends the server process of its last transaction, which may be that of the connection it ends it from",
        ),
    ],
    "asyncpg": [
        (
            r".*::TestExecuteMany::test_executemany_server_failure_during_writes",
            "counts what fits into the buffers on the way to the server: there are two more",
        ),
        (r".*::TestListeners::test_listen_(01|02|notletters)", _PID),
        (r".*::TestIntrospection::test_introspection_sticks_for_ps", f"its class {_POOLED}"),
    ],
}


def reason(suite: str, test: str, difference: str = "") -> str | None:
    """Why this test may differ in this way (its last words, or lines of a diff), None when it may not."""
    for pattern, why, *lines in KNOWN.get(suite, []):
        wanted = re.compile(lines[0]) if lines else None
        if re.fullmatch(pattern, test) and (
            wanted is None or all(wanted.fullmatch(x) for x in difference.splitlines())
        ):
            return why
    return None
