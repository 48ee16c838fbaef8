"""Is a pooler as well as it was? Counts, descriptors, memory, and a query that works."""

from pathlib import Path
from typing import Any

import psycopg

from support.pooler import Pooler, eventually

BUSY = (
    "cl_waiting",
    "cl_active_cancel_req",
    "cl_waiting_cancel_req",
    "sv_active",
    "sv_active_cancel",
    "sv_being_canceled",
    "sv_tested",
    "sv_login",
)


def private_kb(pid: int) -> int:
    """Memory that only this process holds, in KB (its share of what the kernel counts, without libraries)."""
    fields = dict(
        line.split()[:2]
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        if line.endswith("kB")
    )
    return int(fields["Private_Dirty:"]) + int(fields["Private_Clean:"])


def descriptors(pid: int) -> int:
    """How many file descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Health:
    """The state of a pooler at rest, taken when made (after a query, so that everything is loaded)."""

    def __init__(self, pooler: Pooler, db: str = "postgres", user: str = "postgres") -> None:
        self.pooler = pooler
        self.db = db
        self.user = user
        self._query()
        self.surplus = min(self._figures()["surplus"] for _ in range(3))

    def recovered(self, timeout: float = 10.0, clients: int = 0) -> None:
        """Wait (seconds) until nobody waits, nothing is under way, all counts agree and a query works.

        `clients`: so many of the test's own are still connected.
        """
        last: dict[str, Any] = {}

        def well() -> bool:
            last.clear()
            try:
                self._query()
            except psycopg.Error as error:
                last["query"] = str(error)
                return False
            last.update(self._figures())
            return (
                not last["busy"]
                # Each worker may have come to read each database's catalog since, by connections that are not shown.
                and last["surplus"] <= self.surplus + len(self.pooler.worker_pids) * last["databases"]
                and last["counted_servers"] == last["servers"]
                and last["counted_clients"] == last["clients"] == clients
                and last["cancels"] == 0
            )

        try:
            eventually(well, timeout)
        except AssertionError as error:
            raise AssertionError(
                f"the pooler did not recover: {last} (surplus was {self.surplus})"
            ) from error

    def _query(self) -> None:
        with self.pooler.connect(self.db, self.user) as conn:
            assert conn.execute("SELECT 6 * 7").fetchone() == (42,)

    def _figures(self) -> dict[str, Any]:
        with self.pooler.console() as console:

            def show(what: str) -> list[dict[str, Any]]:
                return console.execute(f"SHOW {what}".encode()).fetchall()

            pools = [row for row in show("POOLS") if row["database"] != "pgbouncer"]
            sockets = show("SOCKETS")
            databases = [row for row in show("DATABASES") if row["name"] != "pgbouncer"]
            memory = {row["name"]: row["used"] for row in show("MEM")}
            open_now = sum(descriptors(pid) for pid in self.pooler.worker_pids)
        clients = [r for r in sockets if r["type"] == "C" and r["database"] != "pgbouncer"]
        return {
            "busy": {k: row[k] for row in pools for k in BUSY if row[k]},
            "servers": sum(row["type"] == "S" and row["state"] != "sv_internal" for row in sockets),
            "clients": len(clients),
            "databases": len(databases),
            "counted_servers": sum(row["current_connections"] for row in databases),
            "counted_clients": sum(row["current_client_connections"] for row in databases),
            "cancels": memory.get("outstanding_request_cache", 0),
            # Descriptors that no listed connection explains: listeners, pipes, and what has leaked.
            "surplus": open_now - len(sockets),
        }
