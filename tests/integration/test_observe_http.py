"""The HTTP port: metrics that Prometheus' own parsers read, health checks, and its limits."""

import http.client
import os
import re
import signal
import socket
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually
from support.web import Web

Make = Callable[..., Pooler]
# What prometheus-community's exporter gives: name, type, labels.
POOL, DATABASE = {"database", "user"}, {"name", "host", "port", "database", "force_user", "pool_mode"}
NAMES: list[tuple[str, str, set[str], str]] = [
    (
        "pgbouncer_databases_{}",
        "gauge",
        DATABASE,
        "pool_size reserve_pool max_connections current_connections paused disabled",
    ),
    (
        "pgbouncer_stats_{}_total",
        "counter",
        {"database"},
        "queries_pooled queries_duration_seconds received_bytes sent_bytes client_wait_seconds "
        "sql_transactions_pooled server_in_transaction_seconds client_parses server_parses binds "
        "server_assignments",
    ),
    (
        "pgbouncer_pools_{}",
        "gauge",
        POOL,
        "client_active_connections client_active_cancel_connections client_waiting_connections "
        "client_waiting_cancel_connections server_active_connections server_active_cancel_connections "
        "server_being_canceled_connections server_idle_connections server_used_connections "
        "server_testing_connections server_login_connections client_maxwait_seconds",
    ),
    (
        "pgbouncer_{}",
        "gauge",
        set(),
        "databases users pools free_clients used_clients login_clients free_servers used_servers "
        "cached_dns_names cached_dns_zones in_flight_dns_queries config_max_client_connections "
        "config_max_user_connections config_max_db_connections up",
    ),
    ("pgbouncer_{}", "gauge", {"version"}, "version_info"),
]
EXPORTER = {
    form.format(name): (kind, labels) for form, kind, labels, names in NAMES for name in names.split(" ")
}


MakeWeb = Callable[..., Web]


def test_every_figure_of_the_exporter(make_web: MakeWeb) -> None:
    web = make_web()
    with web.pooler.connect() as client:
        client.execute("SELECT 1")
        status, text, headers = web.get("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, tuple[str, list[set[str]]]] = {}
    for family in parse_text(text):
        for sample in family.samples:
            found.setdefault(sample.name, (family.type, []))[1].append(set(sample.labels))
    for name, (kind, labels) in EXPORTER.items():
        assert name in found, name
        assert found[name][0] == kind, name
        assert all(each == labels for each in found[name][1]), (name, found[name])
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert {name: types.get(name) for name in EXPORTER} == {
        name: kind for name, (kind, _) in EXPORTER.items()
    }


def test_figures_are_those_of_the_console(make_web: MakeWeb) -> None:
    web = make_web({"max_client_conn": 77, "max_db_connections": 33, "default_pool_size": 5})
    pool = {"database": "postgres", "user": "postgres"}
    with web.pooler.connect(autocommit=False) as client:
        for _ in range(4):
            client.execute("SELECT 1")
            client.commit()
        client.execute("SELECT 1")
        values = web.samples()

        def value(name: str, **labels: str) -> float:
            return values[name, tuple(sorted(labels.items()))]

        assert value("pgbouncer_up") == 1
        assert value("pgbouncer_config_max_client_connections") == 77
        assert value("pgbouncer_config_max_db_connections") == 33
        assert value("pgbouncer_pools_server_active_connections", **pool) == 1
        assert value("pgbouncer_pools_client_waiting_connections", **pool) == 0
        assert value("pgbouncer_stats_sql_transactions_pooled_total", database="postgres") == 5
        assert value("pgferry_transaction_duration_seconds_count", **pool) == 4
        assert value("pgferry_transaction_duration_seconds_bucket", le="+Inf", **pool) == 4
        assert 0 < value("pgferry_query_duration_seconds_sum", **pool) < 10
        assert value("pgferry_server_connect_duration_seconds_count", **pool) == 1
        assert value("pgferry_idle_in_transaction", **pool) == 1
        assert value("pgferry_longest_transaction_seconds", **pool) > 0
        assert value("pgferry_process_resident_memory_bytes", process="worker-0") > 1e6
        assert value("pgferry_event_loop_lag_seconds_count", worker="0") >= 0
        assert value("pgferry_worker_restarts_total") == 0


def test_histograms_are_cumulative(make_web: MakeWeb) -> None:
    web = make_web()
    with web.pooler.connect() as client:
        for n in range(20):
            client.execute(f"SELECT pg_sleep({n % 4} / 100.0)")
    buckets = [
        (float(dict(labels)["le"]), n)
        for (name, labels), n in web.samples().items()
        if name == "pgferry_query_duration_seconds_bucket"
    ]
    counts = [n for _, n in sorted(buckets)]
    assert counts == sorted(counts)
    assert len(buckets) == 22
    assert dict(buckets)[2.0**12 / 1e6] <= counts[-1] - 15, "four of five sleep for 10 ms and more"


def test_openmetrics_when_asked_for(make_web: MakeWeb) -> None:
    web = make_web()
    web.pooler.connect().close()
    _, text, headers = web.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(text)}
    assert {"pgbouncer_stats_queries_pooled", "pgferry_query_duration_seconds"} <= names


def test_refusals_are_counted_by_reason(make_web: MakeWeb) -> None:
    web = make_web(databases={"only": "host=127.0.0.1 port=1"})
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", web.pooler.port)) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while raw.recv(1000):
                pass
    found = [
        (dict(labels), n)
        for (name, labels), n in web.samples().items()
        if name == "pgferry_connections_closed_total"
    ]
    assert sum(n for labels, n in found if labels["kind"] == "refused") >= 3, found


def test_health(make_web: MakeWeb) -> None:
    web = make_web()
    assert web.get("/health/live")[:2] == (200, "alive\n")
    assert web.get("/health/ready")[:2] == (200, "ready\n")
    web.pooler.admin("PAUSE")
    assert web.get("/health/ready")[:2] == (503, "paused\n")
    web.pooler.admin("RESUME")
    assert web.get("/health/ready")[0] == 200
    with web.pooler.connect():
        web.pooler.signal(signal.SIGTERM)
        eventually(lambda: web.get("/health/ready")[:2] == (503, "shutting down\n"))
        assert web.get("/health/live")[0] == 200, "it waits for its client"
        assert web.value("pgferry_shutting_down") == 1
    web.pooler.wait()


def test_a_dead_worker_stays_in_the_counters(make_web: MakeWeb) -> None:
    web = make_web(ignore="died")
    with web.pooler.connect() as client:
        client.execute("SELECT 1")
    name, labels = "pgferry_query_duration_seconds_count", {"database": "postgres", "user": "postgres"}
    before = web.value(name, **labels)
    assert before is not None
    for pid in web.pooler.worker_pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: web.value("pgferry_worker_restarts_total") == len(web.pooler.worker_pids) > 0)
    eventually(lambda: web.get("/health/ready")[0] == 200)
    with web.pooler.connect() as client:
        client.execute("SELECT 1")
    eventually(lambda: (web.value(name, **labels) or 0) > before)


def test_paths_and_methods(make_web: MakeWeb) -> None:
    web = make_web({"metrics_path": "/pgferry/figures"})
    assert web.get("/metrics")[0] == 404
    assert web.get("/pgferry/figures")[0] == 200
    assert web.get("/pgferry/figures", "HEAD")[1] == ""
    assert web.get("/health/live", "POST")[0] == 405
    web.pooler.admin("SET metrics_path = ''")
    assert web.get("/pgferry/figures")[0] == 404


def test_rubbish_harms_nobody(make_web: MakeWeb) -> None:
    web = make_web()
    for data, expected in (
        (b"\0\1\2\3\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n", b"4"),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000, b"413"),
    ):
        with socket.create_connection(("127.0.0.1", web.port), timeout=10) as raw:
            try:
                raw.sendall(data)
                got = raw.recv(4000)
            except ConnectionError:
                continue
            assert got.split(b" ")[1].startswith(expected), got
    assert web.get("/health/ready")[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=10)
    for _ in range(3):
        connection.request("GET", "/health/live")
        assert connection.getresponse().read() == b"alive\n"
    connection.close()


def test_an_address_that_cannot_be_had(make_pooler: Make, cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for address, reason in (
            (f"127.0.0.1:{port}", "cannot listen on http_listen"),
            ("nonsense", "not address:port"),
        ):
            pooler = Pooler(cluster, settings={"http_listen": address})
            try:
                with pytest.raises(Exception, match=reason):
                    pooler.start()
            finally:
                pooler.close()
    assert make_pooler is not None
