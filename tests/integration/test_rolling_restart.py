"""so_reuseport: a new pgferry on the same port, then the old one is told to wait for its clients and go."""

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from support.pooler import Pooler, eventually

MakePooler = Callable[..., Pooler]
pytestmark = pytest.mark.usefixtures("cluster")


class Load:
    """Clients that connect anew for each few queries, and clients that stay until they are asked to leave."""

    def __init__(self, pooler: Pooler) -> None:
        self.pooler = pooler
        self.stop = threading.Event()
        self.leave = threading.Event()
        self.wrong: list[str] = []
        self.logins = 0
        self.threads = [threading.Thread(target=self._come_and_go) for _ in range(6)]
        self.threads += [threading.Thread(target=self._stay) for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def _come_and_go(self) -> None:
        while not self.stop.is_set():
            self._session(2)
            self.logins += 1

    def _stay(self) -> None:
        try:
            with self.pooler.connect() as conn:
                while not self.leave.is_set():
                    conn.execute("SELECT 1")
        except psycopg.Error as error:
            self.wrong.append(repr(error))

    def _session(self, queries: int) -> None:
        try:
            with self.pooler.connect() as conn:
                for number in range(queries):
                    assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)
        except (psycopg.Error, AssertionError) as error:
            self.wrong.append(repr(error))

    def end(self) -> None:
        self.stop.set()
        self.leave.set()
        for thread in self.threads:
            thread.join()


def test_no_client_sees_an_error(make_pooler: MakePooler) -> None:
    """Three generations under load: new connections and those that stay are all served."""
    settings = {"so_reuseport": 1, "listen_addr": "127.0.0.1", "max_client_conn": 1000}
    generation = make_pooler(settings=settings)
    load = Load(generation)
    try:
        for _ in range(3):
            before = load.logins
            eventually(lambda before=before: load.logins > before + 30)  # type: ignore[misc]
            following = make_pooler(settings=settings, port=generation.port)
            generation.expect_end()
            generation.admin("SHUTDOWN WAIT_FOR_CLIENTS", host=str(generation.socket_dir))
            staying = load.threads[6:]
            assert generation.pid is not None
            # Those that stay are with the old one for as long as they like.
            time.sleep(0.5)
            assert generation.pid is not None or not any(t.is_alive() for t in staying)
            load.leave.set()
            assert generation.wait(20) == 0
            load.leave.clear()
            for number in range(6, 10):
                load.threads[number].join()
                load.threads[number] = threading.Thread(target=load._stay)
                load.threads[number].start()
            generation = following
    finally:
        load.end()
    assert not load.wrong, (len(load.wrong), load.logins, load.wrong[:3])
