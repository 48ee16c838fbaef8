"""Start, stop, signals, pid file, daemon, death of a worker: with fake workers, but real processes."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from unit.supervisor.running import Running, alive, wait_gone

Make = Callable[..., Running]


def test_starts_and_ends_by_each_signal(make: Make) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        pooler = make(workers=2)
        pooler.logfile.unlink(missing_ok=True)
        pooler.start()
        pids = pooler.worker_pids()
        assert pooler.pidfile.read_text() == f"{pooler.process.pid}\n"
        assert len(pids) == 2
        pooler.signal(number)
        assert pooler.wait_exit() == 0
        wait_gone(pids)
        assert not pooler.pidfile.exists()
        assert not list(Path(str(pooler.settings["unix_socket_dir"])).iterdir())


def test_second_signal_ends_at_once(make: Make) -> None:
    pooler = make().start(FAKE_DRAIN="never")
    pooler.signal(signal.SIGTERM)
    pooler.wait_log("op shutdown mode=wait_for_clients")
    assert pooler.process.poll() is None
    pooler.signal(signal.SIGTERM)
    assert pooler.wait_exit() == 0


def test_shutdown_closes_tcp_and_keeps_the_unix_socket(make: Make) -> None:
    pooler = make(workers=2).start(FAKE_DRAIN="never")
    pooler.signal(signal.SIGINT)
    pooler.wait_log("op shutdown mode=wait_for_servers", 2)
    time.sleep(0.1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", pooler.port), timeout=5)
    directory = pooler.settings["unix_socket_dir"]
    text = f"host={directory} port={pooler.port} dbname=pgbouncer user=boss"
    with psycopg.connect(text, autocommit=True) as console:
        assert ("paused", "yes") in console.execute("SHOW STATE").fetchall()
        with pytest.raises(psycopg.Error, match="pooler is shutting down"):
            console.execute("RESUME")
        with pytest.raises(psycopg.Error, match="already shutting down"):
            console.execute("SHUTDOWN WAIT_FOR_CLIENTS")
        with pytest.raises(psycopg.OperationalError):
            console.execute("SHUTDOWN")
    assert pooler.wait_exit() == 0


def test_a_dead_worker_is_replaced(pooler: Running) -> None:
    with pooler.console() as console:
        console.execute("DISABLE shop")
        console.execute("SET max_client_conn = 55")
    first = pooler.worker_pids()
    os.kill(first[1], signal.SIGKILL)
    pooler.wait_log("died: signal 9")
    pooler.wait_log("worker 1: started", 2)
    pooler.wait_log("worker 1: config max_client_conn=55 verbose=0 paused=False killed=[] disabled=['shop']")
    assert alive(first[0])
    with pooler.console() as console:
        assert len(console.execute("SHOW CLIENTS").fetchall()) == 2


def test_a_worker_that_hangs_is_killed_and_replaced(pooler: Running) -> None:
    first = pooler.worker_pids()
    os.kill(first[1], signal.SIGSTOP)
    pooler.wait_log(f"worker 1 (pid {first[1]}) has not answered for")
    pooler.wait_log("worker 1: started", 2)
    assert alive(first[0])
    with pooler.console() as console:
        assert len(console.execute("SHOW CLIENTS").fetchall()) == 2


def test_what_a_dying_worker_prints_is_logged(make: Make) -> None:
    pooler = make().start(wait=False, FAKE_FAIL_START="rubbish on stderr")
    assert pooler.wait_exit() == 1
    assert "ERROR worker 0: rubbish on stderr" in pooler.log()


def test_workers_die_with_the_supervisor(pooler: Running) -> None:
    pids = pooler.worker_pids()
    pooler.process.kill()
    wait_gone(pids)


def test_pause_and_resume_by_signal(pooler: Running) -> None:
    pooler.signal(signal.SIGUSR1)
    pooler.wait_log("op pause db=None", 2)
    with pooler.console() as console:
        assert ("paused", "yes") in console.execute("SHOW STATE").fetchall()
        pooler.signal(signal.SIGUSR1)
        pooler.wait_log("already paused")
        pooler.signal(signal.SIGUSR2)
        pooler.wait_log("op resume db=None", 2)
        assert ("paused", "no") in console.execute("SHOW STATE").fetchall()
        pooler.signal(signal.SIGUSR2)
        pooler.wait_log("pooler is not paused/suspended")


def test_reload_by_signal(pooler: Running) -> None:
    pooler.write_config(max_client_conn=44, listen_backlog=99)
    pooler.signal(signal.SIGHUP)
    pooler.wait_log("config max_client_conn=44", 2)
    pooler.wait_log("listen_backlog: the change has no effect before a restart")


def test_log_file_is_reopened_by_reload(pooler: Running) -> None:
    old = pooler.logfile.rename(pooler.directory / "log.1")
    pooler.signal(signal.SIGHUP)
    pooler.wait_log("op config")
    assert "got SIGHUP" in old.read_text()


def test_bad_reload_changes_nothing(pooler: Running) -> None:
    pooler.write_config("nonsense = 1\nmax_client_conn = many\n", max_client_conn=44)
    with pooler.console() as console:
        with pytest.raises(psycopg.Error, match="RELOAD failed") as caught:
            console.execute("RELOAD")
        assert caught.value.diag.sqlstate == "F0000"
        assert "nonsense" in str(caught.value.diag.message_detail)
        assert "max_client_conn" in str(caught.value.diag.message_detail)
        values = {row[0]: row[1] for row in console.execute("SHOW CONFIG").fetchall()}
        assert values["max_client_conn"] == "100"
    assert "nonsense" in pooler.log()
    assert "the configuration is unchanged" in pooler.log()
    assert "max_client_conn=44" not in pooler.log()


def test_reload_refused_by_a_worker_is_taken_back(pooler: Running) -> None:
    pooler.write_config(max_client_conn=666)
    with pooler.console() as console:
        with pytest.raises(psycopg.Error, match="RELOAD failed") as caught:
            console.execute("RELOAD")
        assert "666 is refused" in str(caught.value.diag.message_detail)
        values = {row[0]: row[1] for row in console.execute("SHOW CONFIG").fetchall()}
        assert values["max_client_conn"] == "100"
    pooler.wait_log("the configuration is unchanged")
    limit = time.monotonic() + 10.0  # the workers' lines take a way of their own
    while (log := pooler.log()).rfind("max_client_conn=100") < log.rfind("max_client_conn=666"):
        assert time.monotonic() < limit, log
        time.sleep(0.02)


def test_reload_when_the_watch_kills_a_worker_that_hangs(make: Make) -> None:
    """Its successor begins with the new configuration."""
    pooler = make(workers=2).start(FAKE_RELOAD_SECONDS="30")
    first = pooler.worker_pids()
    with pooler.console() as console:
        os.kill(first[1], signal.SIGSTOP)
        pooler.write_config(max_client_conn=44)
        console.execute("RELOAD")
        pooler.wait_log("worker 1: config max_client_conn=44")
        assert ("max_client_conn", "44") in [row[:2] for row in console.execute("SHOW CONFIG").fetchall()]
    assert alive(first[0])


def test_reload_with_a_worker_that_hangs_is_no_success(make: Make) -> None:
    """When the limit for its answer is over; its successor is as the others."""
    pooler = make(workers=2).start(FAKE_RELOAD_SECONDS="0.3")
    first = pooler.worker_pids()
    with pooler.console() as console:
        os.kill(first[1], signal.SIGSTOP)
        pooler.write_config(max_client_conn=44)
        with pytest.raises(psycopg.Error, match="RELOAD failed") as caught:
            console.execute("RELOAD")
        assert caught.value.diag.message_detail.startswith("worker 1 did not answer within 0.3 s")
        assert ("max_client_conn", "100") in [row[:2] for row in console.execute("SHOW CONFIG").fetchall()]
        pooler.wait_log("worker 1: started", 2)
        pooler.wait_log("worker 1: config max_client_conn=100", 2)
        assert pooler.log().count("worker 0: config max_client_conn=100") == 2
        console.execute("RELOAD")
        pooler.wait_log("worker 1: config max_client_conn=44")
    assert alive(first[0])


def test_the_log_stays_where_it_is_when_a_worker_refuses(pooler: Running) -> None:
    other = pooler.directory / "other.log"
    pooler.write_config(max_client_conn=666, logfile=other)
    with pooler.console() as console:
        with pytest.raises(psycopg.Error, match="RELOAD failed"):
            console.execute("RELOAD")
        console.execute("PAUSE")
    assert "the configuration is unchanged" in pooler.log()
    assert "PAUSE command issued" in pooler.log()
    assert "PAUSE" not in other.read_text()


def test_live_pid_file_refuses_the_start(pooler: Running) -> None:
    arguments = pooler.process.args
    second = subprocess.run(arguments, capture_output=True, env={**os.environ, **_environment()}, timeout=20)
    assert second.returncode == 1
    assert b"FATAL pidfile" in second.stderr
    assert b"another instance running?" in second.stderr
    assert pooler.pidfile.exists()


def test_stale_pid_file_is_removed(make: Make) -> None:
    pooler = make()
    gone = subprocess.Popen(["true"])
    gone.wait()
    pooler.pidfile.write_text(f"{gone.pid}\n")
    pooler.start()
    assert "stale pidfile removed" in pooler.log()
    assert pooler.pidfile.read_text() == f"{pooler.process.pid}\n"


def _environment() -> dict[str, str]:
    import sys

    return {"PGFERRY_ALLOW_ROOT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"listen_addr": "192.0.2.1"}, "FATAL no usable listen_addr"),
        ({"user": "no_such_account_here"}, "FATAL could not find user"),
        ({"logfile": "/nowhere/log"}, "FATAL cannot open logfile"),
        ({"unknown_thing": "1"}, "FATAL cannot load config file"),
    ],
)
def test_failing_start_is_one_fatal_line(make: Make, settings: dict[str, object], text: str) -> None:
    pooler = make(**settings).start(wait=False)
    assert pooler.wait_exit() == 1
    fatal = [line for line in pooler.stderr().splitlines() if " FATAL " in line]
    assert len(fatal) == 1
    assert text in fatal[0]
    assert not pooler.pidfile.exists()


def test_worker_that_cannot_start(make: Make) -> None:
    pooler = make().start(wait=False, FAKE_FAIL_START="1")
    assert pooler.wait_exit() == 1
    assert "FATAL worker 0 could not start (exit code 7)" in pooler.stderr()
    assert not pooler.pidfile.exists()


def test_used_sockets_are_noticed(make: Make, pooler: Running) -> None:
    other = make(listen_port=pooler.port, pidfile="", logfile="", workers=2, unix_socket_dir="")
    assert other.start(wait=False).wait_exit() == 1
    assert "FATAL no usable listen_addr" in other.stderr()
    third = make(listen_addr="", listen_port=pooler.port, pidfile="", logfile="")
    assert third.start(wait=False).wait_exit() == 1
    assert "FATAL unix socket is in use, cannot continue" in third.stderr()


def test_stale_unix_socket_is_replaced(make: Make) -> None:
    pooler = make()
    path = f"{pooler.settings['unix_socket_dir']}/.s.PGSQL.{pooler.port}"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    pooler.start()
    assert f"listening on unix:{path}" in pooler.log()


def test_root_is_refused(make: Make) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root")
    pooler = make().start(wait=False, PGFERRY_ALLOW_ROOT="0")
    assert pooler.wait_exit() == 1
    assert "FATAL pgferry should not run as root" in pooler.stderr()


def test_daemon(make: Make) -> None:
    pooler = make().start("-d", wait=False)
    assert pooler.wait_exit() == 0
    pid = int(pooler.pidfile.read_text())
    assert pid != pooler.process.pid
    assert "process up" in pooler.log()
    # Its standard error is closed for the caller: reading to the end does not wait for the daemon.
    assert "listening on" in pooler.stderr()
    os.kill(pid, signal.SIGTERM)
    wait_gone([pid])
    assert not pooler.pidfile.exists()


def test_daemon_that_cannot_start(make: Make) -> None:
    pooler = make(listen_addr="192.0.2.1").start("-d", wait=False)
    assert pooler.wait_exit() == 1
    assert "FATAL no usable listen_addr" in pooler.stderr()


def test_daemon_needs_a_pid_file(make: Make) -> None:
    pooler = make(pidfile="").start("-d", wait=False)
    assert pooler.wait_exit() == 1
    assert "FATAL daemon needs pidfile configured" in pooler.stderr()


def test_quiet_and_verbose(make: Make) -> None:
    pooler = make().start("-q", "-v", "-v")
    pooler.wait_log("verbose=2")
    pooler.signal(signal.SIGQUIT)
    assert pooler.wait_exit() == 0
    assert pooler.stderr() == ""


def test_stats_line(make: Make) -> None:
    pooler = make(stats_period=1).start()
    pooler.wait_log("stats: ")
    line = next(line for line in pooler.log().splitlines() if "stats: " in line)
    for part in ("xacts/s", "queries/s", "client logins/s", "in ", "out ", "B/s", "wait "):
        assert part in line


def test_blocked_stderr_does_not_block_the_supervisor(make: Make) -> None:
    reader, writer = os.pipe()
    pooler = make()
    pooler.write_config()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x" * 65536)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    pooler.process = subprocess.Popen(
        [*_command(pooler)], stderr=writer, env={**os.environ, **_environment()}, stdout=subprocess.DEVNULL
    )
    try:
        pooler.wait_log("process up")
        with pooler.console() as console:
            assert console.execute("SHOW VERSION").fetchone() is not None
        pooler.signal(signal.SIGQUIT)
        assert pooler.process.wait(20) == 0
    finally:
        pooler.process.kill()
        pooler.process.wait()
        pooler.process = None
        os.close(reader)
        os.close(writer)


def _command(pooler: Running) -> list[str]:
    import sys

    from unit.supervisor.running import SCRIPT

    return [sys.executable, str(SCRIPT), str(pooler.config)]
