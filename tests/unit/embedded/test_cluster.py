"""The private PostgreSQL: what it promises about starting, ending, accounts and configuration."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from pgferry.client import QueryError
from pgferry.embedded import Account, Cluster, EmbeddedError
from pgferry.embedded.guard import alive
from support import cluster as clusters


def test_is_the_version_asked_for(server: Cluster) -> None:
    assert int(server.sql("SHOW server_version_num")[0][0] or 0) // 10000 == server.version


def test_never_runs_as_root(server: Cluster) -> None:
    assert server.pid is not None
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="others run it as themselves")
def test_as_root_its_account_is_no_other_servers() -> None:
    """`postgres` is let in by the machine's own cluster, and whoever is superuser here can run programs."""
    assert Account.choose().name in ("pgferry-demo", "nobody")


def test_a_private_one_is_for_its_account_only() -> None:
    with Cluster(server=clusters.server(clusters.versions()[0]), private=True) as server:
        assert server.sql("SHOW listen_addresses") == [("",)]
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(server.conninfo())
        with psycopg.connect(server.conninfo(host=str(server.socket_dir))) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_listens_on_ipv4_and_unix_socket(server: Cluster) -> None:
    for host in ("127.0.0.1", str(server.socket_dir)):
        with psycopg.connect(server.conninfo(host=host)) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_results_and_errors_of_the_small_client(server: Cluster) -> None:
    result = server.query("SELECT 1 AS a, NULL AS b, 'x' AS c; SELECT 'last' AS d")
    assert (result.columns, result.rows) == (["d"], [("last",)])
    assert server.sql("SELECT 1, NULL, ''") == [("1", None, "")]
    with pytest.raises(QueryError) as caught:
        server.sql("SELECT nothing")
    assert caught.value.fields["C"] == "42703"


def test_data_survive_kill_and_restart() -> None:
    with clusters.new_cluster(clusters.versions()[0]) as server:
        server.sql("CREATE TABLE kept AS SELECT 1 AS x; CHECKPOINT")
        port = server.port
        server.kill()
        assert server.pid is None
        server.start()
        server.restart()
        assert (server.sql("SELECT x FROM kept"), server.port) == ([("1",)], port)


def test_stopping_and_starting_twice_is_harmless() -> None:
    with clusters.new_cluster(clusters.versions()[0]) as server:
        server.start()
        server.stop()
        server.stop()
        with pytest.raises(EmbeddedError, match="cannot be reached"):
            server.sql("SELECT 1")


def test_settings_and_hba_are_in_effect_at_once() -> None:
    with clusters.new_cluster(clusters.versions()[0], settings={"work_mem": "5MB"}) as server:
        assert server.sql("SHOW work_mem") == [("5MB",)]
        server.configure(work_mem="6MB", application_name="it's")
        assert server.sql("SHOW work_mem") == [("6MB",)]
        server.sql("CREATE ROLE someone LOGIN PASSWORD 'secret'")
        server.set_hba(["host all someone all scram-sha-256", "host all all all reject"])
        with psycopg.connect(server.conninfo(user="someone", password="secret")) as conn:
            assert conn.info.user == "someone"
        with pytest.raises(psycopg.OperationalError, match="rejects"):
            psycopg.connect(server.conninfo())


def test_a_start_that_fails_says_why_and_leaves_nothing() -> None:
    server = Cluster(settings={"shared_buffers": "nonsense"}, server=clusters.server(clusters.versions()[0]))
    with pytest.raises(EmbeddedError, match='invalid value for parameter "shared_buffers"'):
        server.start()
    server.close()
    assert not server.directory.exists()


def test_two_at_once_do_not_meet() -> None:
    one, two = (clusters.new_cluster(clusters.versions()[-1]) for _ in range(2))
    with one, two:
        assert one.port != two.port
        assert one.sql("SELECT pg_backend_pid()") != two.sql("SELECT pg_backend_pid()")


ORPHAN = """
from pgferry.embedded import Cluster
import sys, time
c = Cluster(int(sys.argv[1])).start()
print(c.pid, c.directory, flush=True)
time.sleep(60)
"""


def test_ends_with_its_killed_parent() -> None:
    argv = [sys.executable, "-c", ORPHAN, str(clusters.versions()[0])]
    parent = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, directory = parent.stdout.readline().split()
    assert alive(int(pid))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    limit = time.monotonic() + 10.0
    while (alive(int(pid)) or Path(directory).exists()) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not alive(int(pid))
    assert not Path(directory).exists()
