"""Differences that stay, each with its reason: a pattern of test names for a suite."""

import re

_PID = "takes the process id of BackendKeyData for the server's; a client's key is pgferry's own"
_POOLED = "drops a database that idle servers of the pool are connected to, or makes one from such a template"

# suite -> [(regular expression for the whole name of a test, reason)]
KNOWN: dict[str, list[tuple[str, str]]] = {
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


def reason(suite: str, test: str) -> str | None:
    """Why this test may differ, None when it may not."""
    for pattern, why in KNOWN.get(suite, []):
        if re.fullmatch(pattern, test):
            return why
    return None
