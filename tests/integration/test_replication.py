"""Replication connections on the wire: a server for each client, CopyBoth, and every way to an end."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from signal import SIGINT, SIGTERM

import psycopg
import pytest

from pgferry.embedded import TRUST, Cluster
from support import cluster as clusters
from support.certificates import pair
from support.clients import begin, fatal, pid_of, raw, refusal
from support.fake_server import GREETING, Conversation, FakeServer, result
from support.pooler import Pooler, eventually
from support.replication import (
    SETTINGS,
    changes,
    feedback,
    keepalive,
    logical,
    physical,
    standby,
    stream,
    subscriber,
)
from support.wire import Wire, cancel_request, copy_data, copy_done, message, query, startup, sync, types

Make = Callable[..., Pooler]
CHANGED = "database configuration changed"
EVICTED = "closing because: (evicted|slot given to another worker)"


@pytest.fixture(scope="module")
def source(pg_version: int) -> Iterator[Cluster]:
    """A PostgreSQL that can be replicated; user app may not."""
    cluster = clusters.new_cluster(pg_version, settings=SETTINGS)
    cluster.sql("CREATE ROLE app LOGIN; CREATE TABLE t (a text)")
    yield cluster
    cluster.close()


def write(source: Cluster, text: str) -> None:
    source.sql(f"INSERT INTO t VALUES ('{text}')")


def backends(source: Cluster, kind: str = "walsender") -> list[int]:
    rows = source.sql(f"SELECT pid FROM pg_stat_activity WHERE backend_type = '{kind}' ORDER BY pid")
    return [int(row[0] or 0) for row in rows]


def gone(source: Cluster) -> None:
    """PostgreSQL has no replication connection any more."""
    eventually(lambda: not backends(source), message="a walsender is left")


# --- the login -----------------------------------------------------------------------------------------------


def test_what_the_client_asks_for_reaches_its_server(make_pooler: Make, source: Cluster) -> None:
    pooler = make_pooler(source, settings={"ignore_startup_parameters": "ignored_one"})
    options = "-c datestyle=German -cwork_mem=7MB --app.tenant=a\\ b -c extra_float_digits=3"
    more = {"application_name": "walreceiver", "lock_timeout": "4321", "ignored_one": "x"}
    with subscriber(pooler, options=options, **more) as wire:
        assert wire.parameters["DateStyle"] == "German, DMY"
        assert wire.parameters["application_name"] == "walreceiver"
        assert int(wire.parameters["server_version"].split(".")[0]) == source.version
        for name, value in {"work_mem": b"7MB", "lock_timeout": b"4321ms", "app.tenant": b"a b"}.items():
            assert wire.rows(f"SELECT current_setting('{name}')") == [[value]]
        assert wire.rows("SELECT 1") == [[b"1"]]
        assert wire.rows("IDENTIFY_SYSTEM")[0][3] == b"postgres"
        [[name]] = source.sql(
            "SELECT application_name FROM pg_stat_activity WHERE backend_type = 'walsender'"
        )
        assert name == "walreceiver"
        rows = {
            what: pooler.show(what, user="postgres", database="postgres")[0]
            for what in ("CLIENTS", "SERVERS")
        }
        for row in rows.values():
            assert (row["replication"], row["state"]) == ("logical", "active")
            assert row["application_name"] == "walreceiver"
        assert rows["CLIENTS"]["link"] == rows["SERVERS"]["ptr"]
        pooler.wait_log("login attempt: db=postgres user=postgres tls=no replication=database")
        # Nothing of it is there for others.
        with raw(pooler) as other:
            assert other.rows("SHOW datestyle") == [[b"ISO, MDY"]]
    with pytest.raises(ConnectionError, match="FATAL 08P01 login failed"):
        subscriber(pooler, options="-c no_such_setting=1")
    pooler.wait_log('server login failed: FATAL unrecognized configuration parameter "no_such_setting"')


@pytest.mark.workers(1)
def test_spellings(make_pooler: Make, source: Cluster) -> None:
    pooler = make_pooler(source, databases={"*": f"host=127.0.0.1 port={source.port} dbname=postgres"})
    for value in ("true", "T", "tRu", "yes", "y", "ON", "1"):
        with raw(pooler, "replication", replication=value) as wire:
            assert len(wire.rows("IDENTIFY_SYSTEM")) == 1
            assert "WAL sender" in wire.query("SELECT 1")[0].text
            assert [r["replication"] for r in pooler.show("SERVERS", database="replication")] == ["physical"]
    pooler.wait_log("login attempt: db=replication user=postgres tls=no replication=yes")
    for value in ("false", "F", "no", "n", "OFF", "of", "0"):
        with raw(pooler, replication=value) as wire:
            assert wire.rows("SELECT 1") == [[b"1"]]
            assert [r["replication"] for r in pooler.show("CLIENTS", database="postgres")] == ["none"]
    for value in ("", "maybe", "o", "Database", "2", "truee"):
        text = f'FATAL 08P01 invalid value for parameter "replication": "{value}"'
        assert refusal(pooler, replication=value) == text
    assert refusal(pooler, "pgbouncer", "admin", replication="true") == (
        "FATAL 08P01 replication connections to the console are not possible"
    )


def test_a_failed_login_is_nobody_elses_affair(make_pooler: Make, source: Cluster) -> None:
    pooler = make_pooler(source, settings={"default_pool_size": 3})
    for _ in range(3):
        assert refusal(pooler, user="app", replication="database") == "FATAL 08P01 login failed"
        with raw(pooler, user="app") as wire:
            assert wire.rows("SELECT 1") == [[b"1"]]
    pooler.wait_log("server login failed: FATAL .*(replication|WAL sender)")
    assert {(r["user"], r["replication"]) for r in pooler.show("SERVERS")} == {("app", "none")}
    # A pool that cannot reach PostgreSQL at all: the client is told, not kept waiting.
    pooler.set(databases={"nowhere": "host=127.0.0.1 port=1"})
    assert refusal(pooler, "nowhere", replication="database") == "FATAL 08P01 login failed"
    pooler.wait_log("connect failed")


@pytest.mark.workers(1)
def test_hba(make_pooler: Make, source: Cluster) -> None:
    """`replication` is physical replication and nothing else is; logical replication has its database's name."""
    rules = (
        "host pgbouncer admin all trust\nhost replication postgres all trust\n"
        "host logical postgres all trust\nhost all app all trust\n"
    )
    pooler = make_pooler(source, hba=rules, settings={"auth_type": "hba"})
    pooler.set(databases={"logical": pooler.server(dbname="postgres")})
    none = "FATAL 08P01 no authentication method is found"
    with standby(pooler) as wire:
        assert wire.rows("IDENTIFY_SYSTEM")
    with subscriber(pooler, "logical") as wire:
        assert wire.rows("SELECT 1") == [[b"1"]]
    assert refusal(pooler, "postgres", replication="database") == none
    assert refusal(pooler, "replication", replication="database") == none
    assert refusal(pooler, "logical", replication="false") == "logged in"
    assert refusal(pooler, "postgres", user="app", replication="true") == none
    # The rule for replication does not open the console.
    assert refusal(pooler, "pgbouncer", "postgres", replication="true").endswith("are not possible")
    assert refusal(pooler, "pgbouncer", "postgres") == none


def test_connect_query_and_disable_pqexec(make_pooler: Make, source: Cluster) -> None:
    line = f"host=127.0.0.1 port={source.port} dbname=postgres connect_query='SET work_mem TO 5120'"
    pooler = make_pooler(
        source, databases={"postgres": line, "replication": line}, settings={"disable_pqexec": 1}
    )
    with subscriber(pooler) as wire:
        assert wire.rows("SELECT current_setting('work_mem')") == [[b"5MB"]]
    with standby(pooler) as wire:
        assert wire.rows("IDENTIFY_SYSTEM")


# --- streams -------------------------------------------------------------------------------------------------


def test_both_ways(make_pooler: Make, source: Cluster) -> None:
    pooler = make_pooler(source)
    with subscriber(pooler) as wire:
        logical(wire, "both_ways")
        for word in ("first", "second"):
            write(source, word)
            assert word.encode() in changes(wire, b"COMMIT")
            wire.send(feedback())
        write(source, "x" * 300_000)
        assert changes(wire, b"COMMIT").count(b"x") >= 300_000
        # The server ends it with an error. What the client has sent meanwhile is dropped, as PostgreSQL does.
        [pid] = backends(source)
        source.sql(f"SELECT pg_cancel_backend({pid})")
        answer = wire.until()
        assert types(answer).replace("d", "") == "EZ"
        assert answer[-2].sqlstate == "57014"
        wire.send(feedback(), copy_done(), query("SELECT 'alive'"))
        assert [m.row for m in wire.until() if m.type == "D"] == [[b"alive"]]
        # And the client, in order.
        logical(wire, "both_ways_again")
        write(source, "again")
        assert b"again" in changes(wire, b"again")
        wire.send(copy_done())
        assert types(wire.until()).replace("d", "") in ("cCZ", "cCCZ")
        assert wire.rows("SELECT 'sql'") == [[b"sql"]]
    gone(source)


def test_physical(make_pooler: Make, source: Cluster) -> None:
    pooler = make_pooler(source)
    with standby(pooler, application_name="the standby") as wire:
        physical(wire)
        for word in ("one", "two"):
            write(source, f"physical {word}")
            seen = b""
            while f"physical {word}".encode() not in seen:
                seen += wire.recv().body
        [[name, state]] = source.sql("SELECT application_name, state FROM pg_stat_replication")
        assert (name, state) == ("the standby", "streaming")
        # In pieces, as a slow network delivers it.
        for byte in feedback() + copy_done():
            wire.send(bytes([byte]))
        answer = types(wire.until()).replace("d", "")
        assert answer in ("cCZ", "cCCZ"), answer
        assert wire.rows("IDENTIFY_SYSTEM")


def test_keepalives(make_pooler: Make, source: Cluster) -> None:
    """A client that answers stays while nothing happens; one that does not is dropped by PostgreSQL, not by us."""
    pooler = make_pooler(
        source,
        settings={
            "server_idle_timeout": 0.3,
            "server_lifetime": 0.3,
            "query_timeout": 0.3,
            "idle_transaction_timeout": 0.3,
            "transaction_timeout": 0.3,
            "client_idle_timeout": 0.3,
            "server_check_delay": 0,
        },
    )
    with (
        subscriber(pooler, options="-c wal_sender_timeout=1s") as quick,
        subscriber(pooler, options="-c wal_sender_timeout=1s") as dead,
        subscriber(pooler) as idle,
    ):
        logical(quick, "quick")
        logical(dead, "dead")
        for _ in range(4):
            keepalive(quick)
            quick.send(feedback())
        write(source, "still there")
        assert b"still there" in changes(quick, b"still there")
        with pytest.raises(EOFError):
            while True:
                dead.recv()
        assert idle.rows("SELECT 1") == [[b"1"]]
    assert "terminating walsender process due to replication timeout" in source.log()


def test_extended_protocol_is_postgresqls_affair(make_pooler: Make, source: Cluster) -> None:
    pooler = make_pooler(source)
    with subscriber(pooler) as wire:
        wire.send(message(b"P", b"\0SELECT 1\0\0\0"), sync())
        answer = wire.recv()
        assert answer.type == "E"
        assert "replication connection" in answer.text
        wire.send(query("SELECT 2"))
        rest = wire.until()
        if types(rest) == "Z":  # of the Sync
            rest = wire.until()
        assert [m.row for m in rest if m.type == "D"] == [[b"2"]]


# --- one client, one server ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_a_server_of_its_own(make_pooler: Make, source: Cluster, mode: str) -> None:
    pooler = make_pooler(source, settings={"pool_mode": mode})
    with raw(pooler) as ordinary, subscriber(pooler) as one, subscriber(pooler) as two:
        pids = {pid_of(wire) for wire in (ordinary, one, two)}
        assert len(pids) == 3
        # Session mode, whatever the pool's: what it sets stays, and is never undone for others.
        one.query("SET work_mem TO '3MB'")
        one.query("BEGIN")
        two.query("SET search_path TO nowhere")
        assert one.rows("SHOW work_mem") == [[b"3MB"]]
        assert one.query("COMMIT")[-1].body == b"I"
        assert [r["pool_mode"] for r in pooler.show("POOLS", database="postgres")] == [mode]
        counts = {"sv_active": 3 if mode == "session" else 2, "cl_active": 3, "cl_waiting": 0}
        eventually(lambda: pooler.show("POOLS", database="postgres", **counts))
    gone(source)
    pooler.wait_log("S-.*closing because: replication client was closed")
    eventually(lambda: not pooler.show("SERVERS", replication="logical"))
    with raw(pooler) as ordinary:
        assert ordinary.rows("SHOW search_path")[0][0] != b"nowhere"
    assert [r["prepared_statements"] for r in pooler.show("SERVERS", replication="logical")] == []


@pytest.mark.parametrize("how", ["reset", "close", "half a message", "terminate"])
def test_client_gone_in_mid_stream(make_pooler: Make, source: Cluster, how: str) -> None:
    pooler = make_pooler(source)
    wire = subscriber(pooler)
    logical(wire, "gone")
    said = len(source.log())
    if how == "half a message":
        wire.send(feedback()[:9])
        eventually(lambda: pooler.show("SOCKETS", type="C", replication="logical", pkt_remain=30))
        wire.close()
    elif how == "terminate":
        wire.send(message(b"X"))
        wire.rest()
    elif how == "reset":
        wire.reset()
    else:
        wire.close()
    gone(source)
    eventually(lambda: not pooler.show("SERVERS", replication="logical"))
    if how in ("terminate", "close"):
        # PostgreSQL hears a goodbye, not a broken connection.
        assert "unexpected EOF" not in source.log()[said:]


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "idle"])
def test_server_gone(make_pooler: Make, source: Cluster, streaming: bool) -> None:
    pooler = make_pooler(source)
    with subscriber(pooler) as wire, raw(pooler) as other:
        if streaming:
            logical(wire, "server_gone")
        [pid] = backends(source)
        source.sql(f"SELECT pg_terminate_backend({pid})")
        assert wire.until("E")[-1].sqlstate == "57P01"
        assert fatal(wire) == "server conn crashed?"
        assert other.rows("SELECT 1") == [[b"1"]]
    pooler.wait_log("closing because: server conn crashed")


def test_server_ends_the_stream_in_order(make_pooler: Make, own_source: Cluster) -> None:
    """A PostgreSQL that is shut down says that the stream is complete, and no more."""
    pooler = make_pooler(own_source)
    with standby(pooler) as wire:
        position = (wire.rows("IDENTIFY_SYSTEM")[0][2] or b"").decode()
        stream(wire, f"START_REPLICATION PHYSICAL {position}")
        stopping = threading.Thread(target=own_source.stop)  # PostgreSQL waits until all is confirmed
        stopping.start()
        seen = b""
        try:
            while True:
                got = wire.recv()
                seen += got.type.encode()
                if got.type == "d" and got.body[:1] == b"k":
                    end = got.body[1:9]
                    wire.send(copy_data(b"r" + end * 3 + bytes(8) + b"\0"))
        except EOFError:
            pass
        stopping.join(20)
        assert seen.replace(b"d", b"") == b"C"
    pooler.wait_log("closing because: end of replication")


@pytest.fixture
def own_source(source: Cluster) -> Iterator[Cluster]:
    cluster = clusters.new_cluster(source.version, settings=SETTINGS)
    yield cluster
    cluster.close()


def test_cancel(make_pooler: Make, source: Cluster) -> None:
    pooler = make_pooler(source)
    with subscriber(pooler) as wire, Wire((pooler.host, pooler.port)) as other:
        logical(wire, "canceled")
        other.send(cancel_request(wire.pid, wire.key))
        assert other.at_end()
        answer = wire.until()
        assert [m.sqlstate for m in answer if m.type == "E"] == ["57014"]
        assert wire.rows("SELECT 1") == [[b"1"]]


# --- limits --------------------------------------------------------------------------------------------------


def test_a_full_pool_evicts_idle_servers_or_waits(make_pooler: Make, source: Cluster) -> None:
    pooler = make_pooler(source, settings={"default_pool_size": 2, "query_wait_timeout": 2})
    with raw(pooler) as one, raw(pooler) as two:
        first = begin(one), begin(two)
        for wire in (one, two):
            wire.query("COMMIT")
        with subscriber(pooler) as a, subscriber(pooler) as b:
            assert not {pid_of(a), pid_of(b)} & set(first)
            pooler.wait_log(f"(?s){EVICTED}.*{EVICTED}")
            # Now ordinary clients wait, and so does a third subscriber; nobody of the two is evicted.
            one.send(query("SELECT 1"))
            text = refusal(pooler, replication="database")
            assert text == "FATAL 08P01 query_wait_timeout"
            assert fatal(one) == "query_wait_timeout"
            assert (a.rows("SELECT 1"), b.rows("SELECT 1")) == ([[b"1"]], [[b"1"]])
            assert len(pooler.show("SERVERS", database="postgres")) == 2
            two.send(query("SELECT 2"))
            a.close()
            assert [m.row for m in two.until() if m.type == "D"] == [[b"2"]]
    gone(source)


@pytest.mark.parametrize("limit", ["max_db_connections", "max_user_connections"])
def test_the_other_limits(make_pooler: Make, source: Cluster, limit: str) -> None:
    pooler = make_pooler(source, settings={limit: 2, "query_wait_timeout": 1})
    pooler.set(databases={"other": pooler.server(dbname="postgres")}, users={"app": "pool_size=5"})
    # An idle server of another pool under the same limit goes.
    idle = (
        {"db": "postgres", "user": "app"}
        if limit == "max_db_connections"
        else {"db": "other", "user": "postgres"}
    )
    with raw(pooler, **idle) as wire:
        wire.query("SELECT 1")
    with subscriber(pooler) as a, subscriber(pooler) as b:
        assert len(pooler.show("SERVERS", replication="logical")) == 2
        pooler.wait_log(EVICTED)
        assert refusal(pooler, replication="database") == "FATAL 08P01 query_wait_timeout"
        assert (a.rows("SELECT 1"), b.rows("SELECT 1")) == ([[b"1"]], [[b"1"]])
    gone(source)


@pytest.mark.parametrize("limit", ["default_pool_size", "max_db_connections"])
def test_a_pool_that_is_never_idle(make_pooler: Make, source: Cluster, limit: str) -> None:
    """A server that is never free for longer than an instant is given up all the same."""
    pooler = make_pooler(source, settings={limit: 2}, workers=1)
    busy = [raw(pooler) for _ in range(4)]
    for wire in busy:
        wire.send(query("SELECT pg_sleep(0.1)"))
    with Wire((pooler.host, pooler.port)) as late:
        late.send(startup("postgres", "postgres", replication="database"))
        answered = False
        for _ in range(200):
            for wire in busy:
                if not wire.silent(0.01):
                    wire.until()
                    wire.send(query("SELECT pg_sleep(0.1)"))
            answered = answered or not late.silent(0.001)
            if answered:
                break
        assert answered
        late.until()
        assert late.rows("SELECT 'in'") == [[b"in"]]
        pooler.wait_log("slot given to a replication client")
    for wire in busy:
        wire.until()
        wire.close()


@pytest.mark.workers(2)
def test_workers_share_the_places(make_pooler: Make, source: Cluster) -> None:
    """A server that is idle in one worker makes room for a subscriber of the other; the limit holds for both."""
    pooler = make_pooler(source, settings={"default_pool_size": 1, "query_wait_timeout": 2})
    for _ in range(6):
        with raw(pooler) as ordinary:
            ordinary.query("SELECT 1")
        with subscriber(pooler) as wire:
            assert wire.rows("SELECT 1") == [[b"1"]]
            assert len(pooler.show("SERVERS", database="postgres")) == 1
        gone(source)
    with subscriber(pooler), ThreadPoolExecutor(4) as threads:
        refused = [threads.submit(refusal, pooler, replication="database") for _ in range(4)]
        assert [each.result() for each in refused] == ["FATAL 08P01 query_wait_timeout"] * 4


def test_many_at_once(make_pooler: Make, source: Cluster) -> None:
    """More than log in at a time; half of them leave before they are in."""

    pooler = make_pooler(source, settings={"default_pool_size": 10})
    wires = [Wire((pooler.host, pooler.port)) for _ in range(24)]
    for wire in wires:
        wire.send(startup("postgres", "postgres", replication="database"))
    for wire in wires[::2]:
        wire.close()
    left = wires[1::2]
    for wire in left[:10]:
        wire.sock.settimeout(20)
    served: list[Wire] = []

    def look() -> bool:
        served.extend(w for w in left if w not in served and not w.silent(0.01))
        return len(served) >= 10

    eventually(look, 20)
    for wire in served:
        wire.until()
        assert wire.rows("SELECT 1") == [[b"1"]]
    assert len(pooler.show("SERVERS", replication="logical")) == 10
    for wire in served:
        wire.close()
    eventually(lambda: len([w for w in left if w in served or not w.silent(0.01)]) == len(left), 20)
    for wire in left:
        wire.close()
    gone(source)
    eventually(lambda: not pooler.show("SERVERS", replication="logical"))
    with raw(pooler) as wire:
        assert wire.rows("SELECT 1") == [[b"1"]]
    assert [r["current_connections"] for r in pooler.show("DATABASES", name="postgres")] == [1]


# --- what operators do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["RECONNECT", "RELOAD"])
def test_replaced_at_once(make_pooler: Make, source: Cluster, how: str) -> None:
    pooler = make_pooler(source)
    pooler.set(databases={"postgres": pooler.server(dbname="postgres")})
    with subscriber(pooler) as streaming, subscriber(pooler) as idle, raw(pooler) as ordinary:
        logical(streaming, "replaced")
        begin(ordinary)
        if how == "RECONNECT":
            pooler.admin("RECONNECT postgres")
        else:
            pooler.set(databases={"postgres": pooler.server(dbname="postgres", application_name="new")})
        assert fatal(streaming) == CHANGED
        assert fatal(idle) == CHANGED
        assert ordinary.query("COMMIT")[-1].body == b"I"
        pooler.admin("WAIT_CLOSE postgres")
    gone(source)


@pytest.mark.parametrize("command", ["KILL postgres", "KILL_CLIENT", "SHUTDOWN"])
def test_ended_by_command(make_pooler: Make, source: Cluster, command: str) -> None:
    pooler = make_pooler(source)
    with subscriber(pooler) as wire:
        logical(wire, "killed")
        if command == "SHUTDOWN":
            pooler.expect_end()
            with suppress(psycopg.OperationalError):  # the console ends, too
                pooler.admin(command)
            assert pooler.wait() == 0
            gone(source)
            return
        if command == "KILL_CLIENT":
            command = f"KILL_CLIENT {pooler.show('CLIENTS', replication='logical')[0]['id']}"
        pooler.admin(command)
        text = "database removed" if command.startswith("KILL ") else "admin forced disconnect"
        assert fatal(wire) == text
    gone(source)


def test_pause(make_pooler: Make, source: Cluster) -> None:
    """New ones wait in their login until RESUME; one that streams keeps PAUSE waiting, as a session does."""

    pooler = make_pooler(source)
    pooler.admin("PAUSE postgres")
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send(startup("postgres", "postgres", replication="database"))
        eventually(lambda: pooler.show("POOLS", database="postgres", cl_waiting=1))
        [row] = pooler.show("CLIENTS", database="postgres")
        assert (row["state"], row["replication"], row["link"]) == ("waiting", "logical", "")
        assert wire.silent()
        pooler.admin("RESUME postgres")
        wire.until()
        assert wire.rows("SELECT 1") == [[b"1"]]


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "stream and backup"])
def test_drain(make_pooler: Make, source: Cluster, streams: bool) -> None:
    """A stream ends as soon as nothing else is left, so that a base backup gets its WAL."""
    pooler = make_pooler(source, settings={"drain_timeout": 60})
    text = "terminating connection due to administrator command"
    with standby(pooler) as wire, subscriber(pooler) as idle, subscriber(pooler) as backup:
        physical(wire)
        if not streams:
            backup.send(query("SELECT pg_sleep(1.5), 'complete'"))
        eventually(lambda: len(pooler.show("CLIENTS", state="active")) >= 3)
        pooler.signal(SIGTERM)
        told = [idle, *([backup] if streams else [])]
        for each in told:
            [error] = each.until("E")
            assert (error.sqlstate, error.text) == ("57P01", text)
        if not streams:
            seen = backup.until()
            assert [m.row[1] for m in seen if m.type == "D"] == [b"complete"]
            assert backup.until("E")[-1].sqlstate == "57P01"
        assert wire.until("E")[-1].sqlstate == "57P01"
        assert pooler.wait() == 0
    gone(source)


def test_pool_idle_timeout(make_pooler: Make, source: Cluster) -> None:
    """The pool of replication connections goes, and comes back with the next one."""
    pooler = make_pooler(source, settings={"pool_idle_timeout": 0.5})
    for _ in range(2):
        with subscriber(pooler) as wire:
            assert wire.rows("SELECT 1") == [[b"1"]]
            assert pooler.show("POOLS", database="postgres")
        eventually(lambda: not pooler.show("POOLS", database="postgres"))


# --- towards the server --------------------------------------------------------------------------------------


@pytest.mark.workers(1)
def test_passwords_towards_the_server(make_pooler: Make, source: Cluster) -> None:
    """Plain secrets, and a SCRAM verifier with what the client's own login leaves."""
    source.sql(
        "SET password_encryption TO 'scram-sha-256'; CREATE ROLE s LOGIN REPLICATION PASSWORD 'scram secret';"
        "CREATE ROLE v LOGIN REPLICATION PASSWORD 'verified';"
        "SET password_encryption TO 'md5'; CREATE ROLE m LOGIN REPLICATION PASSWORD 'md5 secret'"
    )
    [[verifier]] = source.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'v'")
    lines = [f"host {db} {user} all {how}" for db in ("replication", "all") for user, how in WAYS.items()]
    source.set_hba([*lines, *TRUST])
    try:
        users = {"s": "scram secret", "m": "md5 secret", "v": "verified"}
        pooler = make_pooler(
            source,
            userlist={**users, "v": str(verifier), "admin": ""},
            hba="host pgbouncer admin all trust\nhost replication,all all all scram-sha-256\n",
            settings={"auth_type": "hba"},
        )
        for name, secret in users.items():
            for kind in ("database", "true"):
                with Wire.login(
                    (pooler.host, pooler.port), name, "postgres", secret, replication=kind
                ) as wire:
                    assert wire.rows("IDENTIFY_SYSTEM")
        with pytest.raises(ConnectionError, match="SASL authentication failed"):
            Wire.login((pooler.host, pooler.port), "s", "postgres", "wrong", replication="true")
    finally:
        source.set_hba()
        source.sql("DROP ROLE s; DROP ROLE m; DROP ROLE v")


WAYS = {"s": "scram-sha-256", "v": "scram-sha-256", "m": "md5"}


@pytest.mark.workers(1)
def test_tls(make_pooler: Make, own_source: Cluster) -> None:
    """Towards a server that takes nothing else; a stream, a large change and a cancel request."""
    made = pair()
    for name, content in (("server.pem", made.cert), ("key.pem", made.key)):
        own_source.account.write(own_source.directory / name, content.decode())
    directory = own_source.directory
    own_source.configure(
        ssl="on", ssl_cert_file=str(directory / "server.pem"), ssl_key_file=str(directory / "key.pem")
    )
    own_source.set_hba(["hostssl replication all all trust", "hostssl all all all trust"])
    own_source.sql("CREATE TABLE t (a text)")
    pooler = make_pooler(own_source, settings={"server_tls_sslmode": "require"})
    with subscriber(pooler) as wire, standby(pooler) as other:
        assert other.rows("IDENTIFY_SYSTEM")
        logical(wire, "encrypted")
        write(own_source, "y" * 300_000)
        assert changes(wire, b"COMMIT").count(b"y") >= 300_000
        wire.send(feedback())
        assert {r["tls"] for r in pooler.show("SERVERS")} == {"TLSv1.3/TLS_AES_256_GCM_SHA384"}
        with Wire((pooler.host, pooler.port)) as cancel:
            cancel.send(cancel_request(wire.pid, wire.key))
            assert cancel.at_end()
        assert [m.sqlstate for m in wire.until() if m.type == "E"] == ["57014"]


class Slow:
    """A PostgreSQL that takes its time with logins, until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.packets: list[bytes] = []

    def __call__(self, conversation: Conversation) -> None:
        self.packets.append(conversation.startup())
        self.go.wait(30)
        conversation.send(GREETING)
        conversation.recv()
        conversation.send(result("served"))
        conversation.wait_for_end()


@pytest.mark.parametrize("what", ["RECONNECT db", "PAUSE db", "client"])
@pytest.mark.workers(1)
def test_in_the_middle_of_the_servers_login(make_pooler: Make, what: str) -> None:
    """An order from outside costs the client nothing but time; a client that leaves takes the attempt along."""
    slow = Slow()
    with FakeServer(slow) as server:
        pooler = make_pooler(databases={"db": server.line})
        with Wire((pooler.host, pooler.port)) as wire:
            wire.send(startup("postgres", "db", replication="database", options="-c a=b"))
            eventually(lambda: len(slow.packets) == 1)
            assert b"\0replication\0database\0" in slow.packets[0]
            assert b"\0options\0-c a=b\0" in slow.packets[0]
            if what == "client":
                wire.close()
                eventually(lambda: not pooler.show("SERVERS", database="db"))
                assert pooler.show("DATABASES", name="db")[0]["current_connections"] == 0
                slow.go.set()
                return
            if what == "PAUSE db":
                pooler.admin("PAUSE db")
                assert not pooler.show("SERVERS", database="db")
                assert wire.silent()
                pooler.admin("RESUME db")
            else:
                pooler.admin(what)
            eventually(lambda: len(slow.packets) == 2)
            slow.go.set()
            wire.until()
            assert wire.rows("anything") == [[b"served"]]


@pytest.mark.workers(1)
def test_a_server_that_ends_in_its_login(make_pooler: Make) -> None:
    """At once, half-way, in connect_query; too late for client_login_timeout."""
    for size in (0, 20, len(GREETING)):

        def script(conversation: Conversation, size: int = size) -> None:
            conversation.startup()
            conversation.send(GREETING[:size])

        with FakeServer(script) as server:
            pooler = make_pooler(
                databases={"db": f"{server.line} connect_query='SELECT 1'"},
                settings={"client_login_timeout": 2},
            )
            assert refusal(pooler, "db", replication="database") == "FATAL 08P01 login failed"
            server.script = Conversation.wait_for_end
            text = refusal(pooler, "db", replication="database")
            assert text == "FATAL 08P01 client_login_timeout (server down)"
            assert pooler.show("DATABASES", name="db")[0]["current_connections"] == 0


@pytest.mark.workers(1)
def test_shutdown_while_one_waits(make_pooler: Make) -> None:
    slow = Slow()
    with FakeServer(slow) as server:
        pooler = make_pooler(databases={"db": server.line})
        with Wire((pooler.host, pooler.port)) as wire:
            wire.send(startup("postgres", "db", replication="true"))
            eventually(lambda: slow.packets)
            pooler.signal(SIGINT)
            assert fatal(wire) == "server shutting down"
        assert pooler.wait() == 0
        slow.go.set()
