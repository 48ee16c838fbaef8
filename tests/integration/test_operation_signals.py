"""The process: signals, files it writes and reads, its end, the death of its parts, its command line."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2

import psycopg
import pytest

from pgferry.embedded import Cluster
from pgferry.embedded.guard import alive, descendants
from support.clients import begin, fatal, one_of_each, pid_of, raw, raw_soon, refusal, worker_of
from support.pooler import Pooler, eventually
from support.ports import take_port
from support.wire import Wire, query, startup, types

Make = Callable[..., Pooler]
LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[\d+\] (FATAL|ERROR|WARNING|LOG|DEBUG|NOISE) \S|\t"
)


# --- signals


def test_terminate_waits_for_clients(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    begin(wires[0])
    pooler.signal(SIGTERM)
    pooler.wait_log("got SIGTERM, shutting down, waiting for all client connections to be released")
    eventually(lambda: _refused(pooler))
    time.sleep(0.3)
    assert pooler.pid
    assert types(wires[0].query("COMMIT")) == "CZ"
    for wire in wires:
        assert types(wire.query("SELECT 1")) == "TDCZ"
        wire.close()
    assert pooler.wait() == 0
    assert not list(pooler.socket_dir.glob(".s.PGSQL*"))


def test_interrupt_waits_for_servers(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    for wire in wires:
        begin(wire)
    idle = raw(pooler)
    pooler.signal(SIGINT)
    eventually(lambda: _refused(pooler))
    idle.send(query("SELECT 1"))
    assert fatal(idle) == "server shutting down"
    for wire in wires:
        assert types(wire.query("COMMIT")) == "CZ"
    assert pooler.wait() == 0


@pytest.mark.parametrize(("first", "second"), [(SIGTERM, SIGTERM), (SIGINT, SIGTERM), (SIGQUIT, None)])
def test_immediate_end(pooler: Pooler, first: object, second: object) -> None:
    wire = raw(pooler)
    begin(wire)
    pooler.signal(first)  # type: ignore[arg-type]
    if second is not None:
        pooler.wait_log("shutting down")
        assert types(wire.query("SELECT 1")) == "TDCZ"
        pooler.signal(second)  # type: ignore[arg-type]
    assert pooler.wait(5) == 0
    assert wire.at_end()


def test_pause_and_resume_by_signal(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    for wire in wires:
        pid_of(wire)
    pooler.signal(SIGUSR1)
    eventually(lambda: not pooler.show("SERVERS"))
    for wire in wires:
        wire.send(query("SELECT 1"))
    assert all(wire.silent(0.1) for wire in wires)
    pooler.signal(SIGUSR2)
    for wire in wires:
        assert types(wire.until()) == "TDCZ"


def _refused(pooler: Pooler) -> bool:
    try:
        Wire((pooler.host, pooler.port)).close()
    except OSError:
        return True
    return False


# --- files


def test_pid_file_log_file_and_log_format(cluster: Cluster) -> None:
    pooler = Pooler(cluster)
    log_file, pid_file = pooler.directory / "the.log", pooler.directory / "the.pid"
    pooler.set({"logfile": log_file, "pidfile": pid_file, "stats_period": 1}, reload=False)
    pooler.start()
    try:
        assert pid_file.read_text() == f"{pooler.pid}\n"
        with raw(pooler) as wire:
            wire.query("SELECT 1")
        assert "authentication failed" in refusal(pooler, user="nobody")
        pooler.wait_log(r"LOG stats: \d+ xacts/s, \d+ queries/s, \d+ client parses/s, \d+ server parses/s, ")
        moved = pooler.directory / "the.log.1"
        log_file.rename(moved)
        pooler.signal(SIGHUP)
        eventually(lambda: log_file.exists())
        raw(pooler).close()
        eventually(
            lambda: "login attempt: db=postgres user=postgres tls=no replication=no" in log_file.read_text()
        )
        lines = [x for x in (moved.read_text() + log_file.read_text()).splitlines() if x]
        assert [x for x in lines if not LINE.match(x)] == []
        text = "\n".join(lines)
        for pattern in (
            r"process up: ",
            r"listening on 127\.0\.0\.1:\d+",
            r"listening on unix:",
            r"C-0x[0-9a-f]+: postgres/postgres@127\.0\.0\.1:\d+ login attempt: db=postgres",
            r"S-0x[0-9a-f]+: postgres/postgres@127\.0\.0\.1:\d+ "
            r"new connection to server \(from 127\.0\.0\.1:\d+\)",
            r"C-0x[0-9a-f]+: postgres/postgres@127\.0\.0\.1:\d+ closing because: client .* \(age=\d+s\)",
            r"WARNING C-0x[0-9a-f]+: .*pooler error: \"trust\" authentication failed",
        ):
            assert re.search(pattern, text), pattern
        pooler.stop(SIGTERM)
        assert not pid_file.exists()
    finally:
        pooler.finish()


def test_unix_socket_clients_in_the_log(pooler: Pooler) -> None:
    with Wire.login(f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}"):
        pooler.wait_log(
            rf"C-0x[0-9a-f]+: postgres/postgres@unix\({os.getpid()}\):{pooler.port} login attempt"
        )


# --- death of parts


@pytest.mark.workers(2)
def test_killed_worker_is_replaced(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(
        cluster,
        ignore="died",
        settings={"default_pool_size": 4, "max_client_conn": 12},
        databases={
            "postgres": f"host=127.0.0.1 port={cluster.port} max_db_connections=4 max_db_client_connections=8"
        },
        users={"app": "max_user_client_connections=3"},
    )
    crowd = [raw(pooler) for _ in range(8)]
    for wire in crowd:
        pid_of(wire)
    pids = pooler.worker_pids
    by_worker: dict[int, list[Wire]] = {0: [], 1: []}
    for wire in crowd:
        by_worker[worker_of(wire)].append(wire)
    inside = {w: begin(wires[0]) for w, wires in by_worker.items() if wires}
    assert inside
    victim_index, victim = 0, None
    for pid in pids:
        if b"--index\x000\x00" in Path(f"/proc/{pid}/cmdline").read_bytes():
            victim = pid
    assert victim is not None
    os.kill(victim, SIGKILL)
    pooler.wait_log("worker 0 .*died: signal 9")
    pooler.wait_log("worker 0 restarted")
    for wire in by_worker[victim_index]:
        assert wire.at_end()
    for i, wire in enumerate(by_worker[1]):
        assert types(wire.query("SELECT 1" if i else "COMMIT")) in ("TDCZ", "CZ")
    # The counts are those of the living: the limits are neither passed nor eaten up.
    room = 8 - len(by_worker[1])
    fresh = [raw_soon(pooler) for _ in range(room)]
    assert refusal(pooler) == "FATAL 08P01 client connections exceeded (max_db_client_connections)"
    living = [*by_worker[1], *fresh]
    waiting = [w for w in living if w.send(query("BEGIN")) is None]
    eventually(lambda: len(pooler.show("SERVERS")) == 4)
    limit = time.monotonic() + 1
    begun = [w for w in waiting if not w.silent(max(0.01, limit - time.monotonic()))]
    assert len(begun) == 4
    assert pooler.show("DATABASES", name="postgres")[0]["current_connections"] == 4
    assert pooler.show("DATABASES", name="postgres")[0]["current_client_connections"] == 8


def test_workers_end_with_their_supervisor(pooler: Pooler, workers: int) -> None:
    wires = one_of_each(pooler, workers)
    for wire in wires:
        begin(wire)
    pids = pooler.worker_pids
    assert len(pids) == workers
    pooler.signal(SIGKILL)
    eventually(lambda: not any(alive(pid) for pid in pids), 5)
    for wire in wires:
        assert wire.at_end()


def test_paused_worker_that_dies(make_pooler: Make, cluster: Cluster) -> None:
    """kill -9 in the middle of a PAUSE: the new worker is paused, too."""
    pooler = make_pooler(cluster, ignore="died")
    wire = raw(pooler)
    with pooler.console() as console:
        console.execute("PAUSE")
        for pid in pooler.worker_pids:
            os.kill(pid, SIGKILL)
    assert wire.at_end()
    pooler.wait_log("restarted")
    late = Wire((pooler.host, pooler.port))
    late.send(startup("postgres", "postgres"))
    assert late.silent(0.7)
    pooler.signal(SIGUSR2)
    late.until()
    assert types(late.query("SELECT 1")) == "TDCZ"


# --- reload under load


def test_reload_under_load(make_pooler: Make, cluster: Cluster, workers: int) -> None:
    server = f"host=127.0.0.1 port={cluster.port} dbname=postgres"
    with take_port() as dead:
        pooler = make_pooler(
            databases={
                "keep": f"{server} pool_size=4",
                "drop": server,
                "move": f"host=127.0.0.1 port={dead}",
            },
            settings={"server_login_retry": 0.2},
        )
        crowd = one_of_each(pooler, workers, "keep")
        for wire in crowd:
            begin(wire)
        doomed = raw(pooler, "drop")
        begin(doomed)
        moving = Wire((pooler.host, pooler.port))
        moving.send(startup("postgres", "move"))
        with_load = [raw(pooler, "keep") for _ in range(2)]
        for wire in with_load:
            wire.send(query("SELECT pg_sleep(0.5)"))
        assert 'trust" authentication failed' in refusal(pooler, "keep", "newcomer")
        pooler.set(
            databases={"drop": None, "keep": f"{server} pool_size=3", "move": server, "new": server},
            userlist={"newcomer": ""},
        )
        assert fatal(doomed) == "database removed"
        assert refusal(pooler, "drop") == "FATAL 08P01 no such database: drop"
        for wire in with_load:
            assert types(wire.until()) == "TDCZ"
        for wire in crowd:
            assert types(wire.query("COMMIT")) == "CZ"
            assert types(wire.query("SELECT 1")) == "TDCZ"
        moving.until()
        assert types(moving.query("SELECT 1")) == "TDCZ"
        with raw(pooler, "new") as wire:
            assert types(wire.query("SELECT 1")) == "TDCZ"
        cluster.sql(
            "DO $$ BEGIN CREATE ROLE newcomer LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        assert refusal(pooler, "keep", "newcomer") == "logged in"
        eventually(lambda: len(pooler.show("SERVERS", database="keep", user="postgres")) <= 3)
        # Another database behind the same name: servers are replaced, clients stay.
        before = pid_of(crowd[0])
        pooler.set(databases={"keep": f"host=localhost port={cluster.port} dbname=template1"})
        assert crowd[0].rows("SELECT current_database()") == [[b"template1"]]
        assert pid_of(crowd[0]) != before
        # A user that is gone cannot log in any more.
        pooler.set(userlist={"newcomer": None})
        assert 'trust" authentication failed' in refusal(pooler, "new", "newcomer")


# --- command line


def program(*arguments: str, **more: object) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PGFERRY_ALLOW_ROOT": "1", **{k: str(v) for k, v in more.items()}}
    return subprocess.run(
        [sys.executable, "-m", "pgferry", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
    )


def test_check(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.ini", tmp_path / "bad.ini"
    good.write_text("[databases]\na = host=/tmp\n[pgbouncer]\nlisten_addr = 127.0.0.1\n")
    done = program("check", str(good))
    assert done.returncode == 0, done.stdout + done.stderr
    bad.write_text(
        "[databases]\na = hots=/tmp\n[pgbouncer]\npool_mod = session\nmax_client_conn = 10 ; many\n"
    )
    done = program("check", str(bad))
    assert done.returncode == 1
    output = done.stdout + done.stderr
    for part in (
        "bad.ini:2",
        "hots",
        "host",
        "bad.ini:4",
        "pool_mod",
        "pool_mode",
        "bad.ini:5",
        "max_client_conn",
    ):
        assert part in output, (part, output)
    done = program(str(bad))
    assert done.returncode == 1
    assert "FATAL" in done.stderr
    assert "bad.ini:4" in done.stderr
    assert "Traceback" not in done.stderr + output


@pytest.mark.pg(18)
def test_run_with_a_url(cluster: Cluster) -> None:
    with take_port() as port:
        url = f"postgresql://postgres:hunter2@127.0.0.1:{cluster.port}/postgres"
        environment = {**os.environ, "PGFERRY_ALLOW_ROOT": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "pgferry", "run", "--url", url, "--listen", f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        try:

            def works() -> bool:
                if process.poll() is not None:
                    assert process.stdout is not None
                    raise AssertionError(process.stdout.read())
                try:
                    conninfo = f"host=127.0.0.1 port={port} user=postgres password=hunter2 dbname=postgres"
                    with psycopg.connect(conninfo) as conn:
                        return conn.execute("SELECT 1").fetchone() == (1,)
                except psycopg.OperationalError:
                    return False

            eventually(works, 15)
            family = [process.pid, *descendants(process.pid)]
            assert len(family) > 1
            shown = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family]
            assert b"postgresql://postgres:*******@" in shown[0], "the password is not for every account's ps"
            assert not any(b"hunter2" in each for each in shown)
            process.send_signal(SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_daemon(cluster: Cluster) -> None:
    pooler = Pooler(cluster)
    pid_file = pooler.directory / "pid"
    pooler.set({"pidfile": pid_file, "logfile": pooler.directory / "daemon.log"}, reload=False)
    try:
        subprocess_done = _as(pooler, "-d", str(pooler.config_file))
        assert subprocess_done.returncode == 0, subprocess_done.stdout + subprocess_done.stderr
        pid = int(pid_file.read_text())
        with raw(pooler) as wire:
            assert types(wire.query("SELECT 1")) == "TDCZ"
        second = _as(pooler, "-d", str(pooler.config_file))
        assert second.returncode == 1
        os.kill(pid, SIGTERM)
        eventually(lambda: not alive(pid))
        assert not pid_file.exists()
    finally:
        pooler.close()


def _as(pooler: Pooler, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """pgferry as the account that owns the pooler's files."""
    owner = pooler.config_file.stat().st_uid
    source = str(Path(sys.modules["pgferry"].__file__ or "").parents[1])
    return subprocess.run(
        [sys.executable, "-m", "pgferry", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        user=owner if os.geteuid() == 0 and owner else None,
        cwd="/",
        env={**os.environ, "PGFERRY_ALLOW_ROOT": "1", "PYTHONPATH": source},
    )
