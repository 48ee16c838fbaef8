"""Who is protected from whom at the doors that are not PostgreSQL's: HTTP, console, command line, files."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from pgferry.config.settings import GLOBAL
from support.clients import raw
from support.pooler import Pooler, eventually
from support.web import Browser, Web

Make = Callable[..., Pooler]
MakeWeb = Callable[..., Web]


# --- HTTP: who is silent


@contextlib.contextmanager
def silent(port: int, number: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing."""
    opened: list[socket.socket] = []
    try:
        for _ in range(number):
            opened.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        yield opened
    finally:
        for each in opened:
            each.close()


def closed(sock: socket.socket) -> bool:
    """Whether the other end has closed it."""
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_silent_connections_do_not_keep_health_checks_out(make_web: MakeWeb) -> None:
    web = make_web()
    with silent(web.port, 300) as opened:
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert web.get(path)[0] == 200
        assert sum(map(closed, opened)) >= 300 - 64, "the idlest of an address have to leave"
        opened[-2].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for sock in opened[-2:]:
            sock.settimeout(9)
            assert sock.recv(100) == b"", "a head has to come within 5 s"


def test_health_checks_get_through_a_flood_from_their_own_address(make_web: MakeWeb) -> None:
    web = make_web()
    ends = threading.Event()

    def flood() -> None:
        while not ends.is_set():
            with silent(web.port, 100):
                pass

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert [web.get("/health/live")[0] for _ in range(12)] == [200] * 12
    finally:
        ends.set()
        for thread in threads:
            thread.join()


def test_health_checks_have_places_of_their_own(make_web: MakeWeb) -> None:
    """Streams that are being served take every place of an address: nobody is dropped, and health still answers."""
    web = make_web({"auth_type": "scram-sha-256"}, userlist={"postgres": "p", "stats": "look"})
    browser = Browser(web, "stats", "look")
    head = f"GET /api/stream HTTP/1.1\r\nHost: x\r\nCookie: {browser.cookie}\r\n\r\n".encode()
    with silent(web.port, 64) as opened:
        for sock in opened:
            sock.sendall(head)
        for sock in opened:
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert web.get("/health/live")[:2] == (200, "alive\n")
        assert web.get("/health/ready")[:2] == (200, "ready\n")
        assert web.get("/metrics")[0] == 503
        assert not any(map(closed, opened))
    eventually(lambda: web.get("/metrics")[0] == 200)


# --- HTTP: what cannot be read

HEAD = b"Host: x\r\nContent-Type: application/json\r\n"
LOGIN = b"POST /api/login HTTP/1.1\r\n" + HEAD
CHUNKED = b"0\r\n\r\n"


def posted(body: bytes) -> bytes:
    return LOGIN + b"Content-Length: %d\r\n\r\n" % len(body) + body


BAD = {
    "two lengths": LOGIN + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "two lengths, other case": LOGIN + b"transfer-encoding: CHUNKED\r\ncontent-length: 5\r\n\r\n" + CHUNKED,
    "chunks in HTTP/1.0": b"POST /api/login HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "two different lengths": LOGIN + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "a length of 5000 digits": LOGIN + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "a negative length": LOGIN + b"Content-Length: -1\r\n\r\n",
    "a chunk of 2^80": LOGIN + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 21 + b"\r\n",
    "half an address": b"GET //[x HTTP/1.1\r\nHost: x\r\n\r\n",
    "an address that is none": b"GET http://[::x]/health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    "no JSON": posted(b"x"),
    "no object": posted(b"[]"),
    "no text": posted(b'{"user": 7}'),
    "no user": posted(b"{}"),
    "deep": posted(b"[" * 60000),
    "deep, unknown name": posted(b'{"user": "a", "x": ' + b'{"a":' * 10000 + b"1" + b"}" * 10001),
    "no UTF-8": posted(b'{"user": "\xff\xfe"}'),
    "half a character": posted(b'{"user": "\\ud800"}'),
    "a huge number": posted(b'{"user": 1' + b"0" * 6000 + b"}"),
    "a huge exponent": posted(b'{"user": 1e999999999}'),
    "bad origin": LOGIN + b'Origin: http://[x\r\nContent-Length: 12\r\n\r\n{"user": "a"}',
    "no host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "HEAD with two lengths": b"HEAD / HTTP/1.1\r\n"
    + HEAD
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HEAD with a body that ends early": b"HEAD / HTTP/1.1\r\n" + HEAD + b"Content-Length: 9\r\n\r\nx",
    "HEAD with a bad chunk": b"HEAD / HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    "a NUL in a header": b"GET /health/live HTTP/1.1\r\nHost: x\0\r\n\r\n",
    "a name with a blank": b"GET /health/live HTTP/1.1\r\nHost : x\r\n\r\n",
}


def exchange(port: int, data: bytes) -> bytes:
    """All that is answered until the connection ends."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while part := sock.recv(65536):
                answer += part
    return answer


def test_what_cannot_be_read_is_answered_with_400(make_web: MakeWeb) -> None:
    web = make_web({"auth_type": "scram-sha-256"}, userlist={"postgres": "p", "admin": "a"})
    other = http.client.HTTPConnection("127.0.0.1", web.port, timeout=10)
    other.connect()
    for name, data in BAD.items():
        second = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = exchange(web.port, data + (second if "lengths" in name else b""))
        assert answer.startswith(b"HTTP/1.1 400 "), (name, answer)
        assert b"alive" not in answer, name
    other.request("GET", "/health/live")
    assert other.getresponse().read() == b"alive\n", "a connection that was open all the time"
    other.close()
    answer = exchange(web.port, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nx y z\r\n\r\n")
    assert [line for line in answer.split(b"\r\n") if b"HTTP/1.1 " in line] == [
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 400 ",
    ]
    assert "internal error" not in web.pooler.log()


ACCEPTED = (
    "application/openmetrics-text; version=x",
    "application/openmetrics-text; version=" + "9" * 6000,
    "text/plain; version=" + "9." * 3000,
    "application/openmetrics-text; version=1.0.0\t<b>; escaping=x",
    ";;,=,;version",
)


def test_what_a_scraper_accepts_is_a_strangers_text(make_web: MakeWeb) -> None:
    web = make_web()
    for accept in ACCEPTED:
        status, _, headers = web.get("/metrics", accept=accept)
        assert status == 200, accept
        assert "<b>" not in headers["content-type"]
        assert len(headers["content-type"]) < 100


# --- HTTP: who is let in


def test_trust_in_the_hba_file_is_no_trust_in_a_proxy(make_web: MakeWeb) -> None:
    """A proxy on this machine need not say that it is one (nginx does not, unless told to)."""
    web = make_web({"auth_type": "hba"}, hba="host all all 127.0.0.1/32 trust\n")
    for headers in ({}, {"host": f"127.0.0.1:{web.port}", "x_real_ip": "10.0.0.1"}):
        status, answer, _ = web.post("/api/login", {"user": "admin", "password": "x"}, **headers)
        assert (status, "dashboard_trust" in answer) == (403, True), answer
    web.pooler.set({"dashboard_trust": 1})
    assert Browser(web, "admin").rights == "admin"
    for name in ("x_real_ip", "x_forwarded_proto", "forwarded", "via"):
        assert web.post("/api/login", {"user": "admin"}, **{name: "10.0.0.1"})[0] == 403, name


def test_the_cookie_is_secure_behind_tls(make_web: MakeWeb) -> None:
    web = make_web({"auth_type": "scram-sha-256"}, userlist={"postgres": "p", "admin": "a"})
    login = {"user": "admin", "password": "a"}
    for proto, secure in ((None, False), ("http", False), ("https", True), ("HTTPS", True)):
        status, _, headers = web.post("/api/login", login, **({"x_forwarded_proto": proto} if proto else {}))
        assert (status, headers["set-cookie"].endswith("; Secure")) == (200, secure), proto
    assert json.dumps(web.pooler.log()).count("login of 'admin'") == 4


# --- the console


def test_what_names_files_is_set_in_the_file_only(make_pooler: Make) -> None:
    """A console admin could have lines with a key in them written to authorized_keys."""
    pooler = make_pooler()
    target = pooler.directory / "authorized_keys"
    for setting in GLOBAL:
        if not setting.file_only:
            continue
        with pytest.raises(psycopg.Error, match="only be changed in the configuration file") as caught:
            pooler.admin(f"SET {setting.name} = '{target}'")
        assert caught.value.sqlstate == "55P02", setting.name
    with contextlib.suppress(psycopg.Error):
        pooler.connect(user="x\nssh-ed25519 AAAA", dbname="nowhere\n")
    assert not target.exists()
    names = {setting.name for setting in GLOBAL if setting.file_only}
    assert names >= {setting.name for setting in GLOBAL if setting.unit == "path"}
    assert names >= {"logfile", "pidfile", "auth_file", "auth_hba_file", "auth_ident_file", "resolv_conf"}
    assert names >= {"auth_query", "auth_user", "syslog_ident", "client_tls_key_file", "server_tls_ca_file"}


@pytest.mark.usefixtures("cluster")
def test_values_and_texts_are_hidden(make_pooler: Make) -> None:
    pooler = make_pooler()
    wire = raw(pooler, options="-c search_path=s3cret")
    wire.query("SET application_name TO keeper")
    for sql in (
        "SET app.card TO 's3cret'",
        "PREPARE q AS SELECT 's3cret'",
        "LISTEN news",
        "CREATE TEMP TABLE t ()",
    ):
        wire.query(sql)
    eventually(lambda: pooler.show("PINS"))
    number = pooler.show("CLIENTS", application_name="keeper")[0]["id"]

    def shown(user: str) -> list[tuple[str, str, str | None]]:
        rows = pooler.admin(f"SHOW CLIENT_STATE {number}", user=user)
        return [(row["kind"], row["name"], row["value"]) for row in rows]

    # PostgreSQL 18 reports search_path: there it is a tracked parameter.
    kinds = {"setting", "prepared", "listen", "pin"} | (
        {"start"} if "search_path" not in wire.parameters else set()
    )
    eventually(lambda: {kind for kind, _, _ in shown("admin")} >= kinds)
    for user in ("admin", "stats"):
        assert {(kind, name) for kind, name, _ in shown(user)} >= {("setting", "app.card"), ("prepared", "q")}
        assert {value for _, _, value in shown(user)} == {None}, user
    for length in (4, 100):
        pooler.admin(f"SET statement_text_length = {length}")
        assert {value for _, _, value in shown("stats")} == {None}
        values = [value for _, _, value in shown("admin") if value]
        assert max(map(len, values)) <= length
        assert ("s3cret" in str(values)) == (length == 100)
    wire.close()


@pytest.mark.usefixtures("cluster")
def test_counters_hold_no_values_and_do_not_grow(make_pooler: Make) -> None:
    """What clients choose (names of settings, texts in errors) is in the reasons: so many of them, no values."""
    pooler = make_pooler(settings={"session_state": "refuse"})
    wire = raw(pooler)
    for n in range(300):
        wire.query(f"SET app.n{n} TO 's3cret'")
    wire.query(f"SET app.{'x' * 5000} TO 's3cret'")
    rows = pooler.show("STATE_COUNTERS")
    assert sum(row["count"] for row in rows) == 301
    assert len(rows) <= 201
    assert max(len(row["reason"]) for row in rows) <= 64
    assert "s3cret" not in str(rows)
    wire.close()


@pytest.mark.usefixtures("cluster")
def test_who_may_only_look_cannot_end_a_pause(make_pooler: Make) -> None:
    """Ctrl-C on the console ends a PAUSE: an admin's does."""
    pooler = make_pooler()
    with pooler.console(user="stats") as looking, pooler.console() as admin:
        admin.execute("PAUSE")
        looking.cancel()
        looking.execute("SHOW VERSION")
        assert pooler.show("STATE", key="paused")[0]["value"] == "yes"
        admin.cancel()
        eventually(lambda: pooler.show("STATE", key="paused")[0]["value"] == "no")


@pytest.mark.usefixtures("cluster")
def test_a_long_rubbish_is_cut_in_the_log(make_pooler: Make) -> None:
    pooler = make_pooler()
    with pytest.raises(psycopg.Error, match="invalid command"):
        pooler.admin("x y! " * 100_000)
    eventually(lambda: "invalid command" in pooler.log())
    assert len(pooler.log()) < 50_000
