"""Noise and witness in one: clients that keep no state, shuffle the servers, and ask what they find there."""

import threading
import time
from collections import Counter
from typing import Any

import psycopg

# All that somebody else could have left behind. A client that keeps no state has one right answer to it.
QUESTION = """
SELECT pg_catalog.current_setting('search_path') AS search_path, CURRENT_USER AS current_user,
    SESSION_USER AS session_user, pg_catalog.current_setting('TimeZone') AS timezone,
    pg_catalog.current_setting('DateStyle') AS datestyle,
    pg_catalog.current_setting('IntervalStyle') AS intervalstyle,
    pg_catalog.current_setting('statement_timeout') AS statement_timeout,
    pg_catalog.current_setting('extra_float_digits') AS extra_float_digits,
    pg_catalog.current_setting('bytea_output') AS bytea_output,
    pg_catalog.current_setting('default_transaction_read_only') AS default_read_only,
    pg_catalog.current_setting('default_transaction_isolation') AS default_isolation,
    pg_catalog.current_setting('client_encoding') AS client_encoding,
    pg_catalog.current_setting('enable_seqscan') AS enable_seqscan,
    pg_catalog.current_setting('application_name') AS application_name,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class
      WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) AS temporary,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels()) AS listening,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_cursors WHERE is_holdable) AS cursors,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements WHERE from_sql) AS prepared,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks
      WHERE locktype OPERATOR(pg_catalog.=) 'advisory'
        AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) AS advisory_locks
"""
PAUSE = 0.004  # seconds between two questions of one client: some hundred transactions a second


class Bystanders:
    """`number` clients in threads, between start() and stop(). What they saw is in `report()`.

    The right answers are those of a direct connection at the start. The first client uses the simple protocol,
    the second prepared statements, and so on.
    """

    def __init__(self, direct: str, pooled: str, number: int = 2) -> None:
        self._direct, self._pooled = direct, pooled
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._asked = 0
        self._wrong: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(number)]

    def start(self) -> "Bystanders":
        """Ask the right answers and begin."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> dict[str, object]:
        """End it; how often they asked, what was wrong, how often, and what errors they got."""
        self._over.set()
        for thread in self._threads:
            thread.join(20.0)
        wrong = dict(self._wrong.most_common(30))
        return {
            "asked": self._asked,
            "wrong": sum(self._wrong.values()),
            "which": wrong,
            "errors": dict(self._errors.most_common(10)),
        }

    def _work(self, number: int) -> None:
        name = {"application_name": f"bystander-{number}", "connect_timeout": 10}
        with psycopg.connect(self._direct, autocommit=True, **name) as connection:  # type: ignore[arg-type]
            right = _ask(connection, number)
        while not self._over.is_set():
            try:
                with psycopg.connect(self._pooled, autocommit=True, **name) as connection:  # type: ignore[arg-type]
                    while not self._over.is_set():
                        self._judge(right, _ask(connection, number))
                        time.sleep(PAUSE)
            except psycopg.Error as e:
                with self._lock:
                    self._errors[f"{type(e).__name__}: {str(e).splitlines()[0]}"] += 1
                time.sleep(0.05)

    def _judge(self, right: dict[str, Any], seen: dict[str, Any]) -> None:
        with self._lock:
            self._asked += 1
            for name, value in seen.items():
                if value != right[name]:
                    self._wrong[f"{name} = {value!r}, not {right[name]!r}"] += 1


def _ask(connection: "psycopg.Connection[Any]", number: int) -> dict[str, Any]:
    kind = psycopg.ClientCursor if number % 2 == 0 else psycopg.Cursor
    with kind(connection) as cursor:
        cursor.execute(QUESTION, prepare=None if number % 2 == 0 else True)
        row = cursor.fetchone()
        return dict(zip([c.name for c in cursor.description or ()], row or (), strict=True))
