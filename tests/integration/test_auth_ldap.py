"""LDAP against a real slapd: simple bind, search and bind, TLS, several servers, hostile names, timeouts."""

import importlib.util
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import raw, refusal
from support.directory import BASE, MANAGER, MANAGER_PASSWORD, PEOPLE, Directory, available
from support.pooler import Pooler
from support.wire import Wire, startup

pytestmark = pytest.mark.skipif(
    not available() or importlib.util.find_spec("bonsai") is None, reason="needs slapd, openssl and bonsai"
)

Make = Callable[..., Pooler]
FAILED = "FATAL 08P01 LDAP authentication failed"
SEARCH = f'ldapbasedn="ou=people,{BASE}" ldapbinddn="{MANAGER}" ldapbindpasswd="{MANAGER_PASSWORD}"'
SIMPLE = f'ldapprefix="uid=" ldapsuffix=",ou=people,{BASE}"'


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    server = Directory()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def roles(cluster: Cluster) -> None:
    for name in PEOPLE:
        cluster.sql(
            f"DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )


@pytest.fixture
def asking(directory: Directory, make_pooler: Make) -> Callable[..., Pooler]:
    """A pooler with these auth_ldap_options."""

    def make(options: str, **more: Any) -> Pooler:
        server = (
            ""
            if "ldapserver" in options or "ldapurl" in options
            else f"ldapserver=127.0.0.1 ldapport={directory.port} "
        )
        return make_pooler(
            settings={"auth_type": "ldap", "auth_ldap_options": server + options},
            environment={"LDAPTLS_CACERT": str(directory.ca)},
            userlist={"admin": ""},
            **more,
        )

    return make


def check_people(pooler: Pooler) -> None:
    for name in ("ann", "bob", "app"):
        assert refusal(pooler, user=name, secret=PEOPLE[name]) == "logged in", name
        assert refusal(pooler, user=name, secret="wrong") == FAILED, name
    for name in ("nobody", "*", "ann)(uid=*", "ann,ou=people", "ann\\2c", "a" * 100, 'ann"', "ann\nx"):
        assert refusal(pooler, user=name, secret=PEOPLE["ann"]) == FAILED, name
    assert refusal(pooler, user="ann", secret="") == "FATAL 08P01 empty password returned by client"
    log = pooler.log()
    for secret in (*PEOPLE.values(), MANAGER_PASSWORD):
        assert secret not in log


def test_simple_bind(asking: Callable[..., Pooler]) -> None:
    check_people(asking(SIMPLE))


def test_search_and_bind(asking: Callable[..., Pooler]) -> None:
    pooler = asking(SEARCH)
    check_people(pooler)
    with raw(pooler, user="ann", secret=PEOPLE["ann"]) as wire:
        assert wire.rows("SELECT current_user") == [[b"ann"]]
    assert "ldap: bind: AuthenticationError" in pooler.log()
    assert "not exactly one entry" in pooler.log()


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_ways_to_search(asking: Callable[..., Pooler], directory: Directory) -> None:
    everywhere = SEARCH.replace("ou=people,", "", 1)
    pooler = asking(everywhere)
    assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == "logged in"
    assert refusal(pooler, user="twin", secret="first") == FAILED
    assert refusal(pooler, user="twin", secret="second") == FAILED
    pooler = asking(f"{SEARCH} ldapsearchattribute=mail")
    assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == FAILED
    pooler = asking(f'{everywhere} ldapsearchfilter="(&(uid=$username)(!(ou=x))(mail=ann@example.org))"')
    assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == "logged in"
    assert refusal(pooler, user="app", secret=PEOPLE["app"]) == FAILED
    url = f"ldap://127.0.0.1:{directory.port}/ou=people,{BASE}?uid?one"
    pooler = asking(f'ldapurl="{url}" ldapbinddn="{MANAGER}" ldapbindpasswd="{MANAGER_PASSWORD}"')
    assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == "logged in"
    pooler = asking(f'ldapurl="{url}" ldapbinddn="{MANAGER}" ldapbindpasswd="wrong"')
    assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == FAILED
    pooler.wait_log("bind as ldapbinddn: AuthenticationError")
    pooler = asking(
        f'ldapbasedn="ou=missing,{BASE}" ldapbinddn="{MANAGER}" ldapbindpasswd="{MANAGER_PASSWORD}"'
    )
    assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == FAILED


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_tls(asking: Callable[..., Pooler], directory: Directory, make_pooler: Make) -> None:
    check_people(asking(f"ldaptls=1 {SIMPLE}"))
    secure = f"ldapserver=127.0.0.1 ldapport={directory.tls_port} ldapscheme=ldaps {SIMPLE}"
    assert refusal(asking(secure), user="ann", secret=PEOPLE["ann"]) == "logged in"
    # Without the authority that signed the certificate nothing is sent.
    for options in (secure, f"ldapserver=127.0.0.1 ldapport={directory.port} ldaptls=1 {SIMPLE}"):
        pooler = make_pooler(
            settings={"auth_type": "ldap", "auth_ldap_options": options}, userlist={"admin": ""}
        )
        assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == FAILED


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_several_servers(asking: Callable[..., Pooler], directory: Directory) -> None:
    port = directory.port
    pooler = asking(f'ldapserver="127.0.0.1:1 127.0.0.1:{port}" {SIMPLE}')
    assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == "logged in"
    pooler = asking(f'ldapserver="127.0.0.1:1" {SIMPLE}')
    assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == FAILED
    pooler.wait_log("login refused: ldap: 127.0.0.1:1: ConnectionError")


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_a_silent_server_holds_up_nobody(asking: Callable[..., Pooler]) -> None:
    """More logins wait for a dead directory than are asked at a time; other clients and the console go on."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        port = silent.getsockname()[1]
        pooler = asking(f"ldapserver=127.0.0.1 ldapport={port} {SIMPLE}")
        waiting = []
        for _ in range(20):
            wire = Wire((pooler.host, pooler.port), timeout=60)
            wire.send(startup("ann", "postgres"))
            assert wire.recv().body == b"\0\0\0\3"
            wire.send(b"p\0\0\0\x06x\0")
            waiting.append(wire)
        started = time.monotonic()
        with Wire((pooler.host, pooler.port)) as wire:
            wire.send(startup("other", "postgres"))
            assert wire.recv().body == b"\0\0\0\3"
        assert time.monotonic() - started < 2
        for wire in waiting[:8]:
            assert wire.recv().text == "LDAP authentication failed"
        for wire in waiting:
            wire.close()


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_in_hba_rules(directory: Directory, make_pooler: Make) -> None:
    options = f"ldapserver=127.0.0.1 ldapport={directory.port} {SEARCH}"
    pooler = make_pooler(
        hba=f"local pgbouncer admin trust\nhost pgbouncer admin all trust\nhost all ann all ldap {options} # comment\n"
        "host all all all reject\n",
        settings={"auth_type": "hba"},
        userlist={"admin": ""},
    )
    assert refusal(pooler, user="ann", secret=PEOPLE["ann"]) == "logged in"
    assert refusal(pooler, user="ann", secret="wrong") == FAILED
    assert refusal(pooler, user="app", secret=PEOPLE["app"]) == "FATAL 08P01 login rejected"
    assert {row["name"] for row in pooler.show("USERS")} >= {"admin", "ann"}


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_the_password_opens_the_server_and_show_hides_the_managers(
    asking: Callable[..., Pooler],
) -> None:
    pooler = asking(SEARCH, workers=1)
    with psycopg.connect(pooler.conninfo(user="ann", password=PEOPLE["ann"])) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    with psycopg.connect(
        pooler.conninfo("pgbouncer", "pgbouncer", host=str(pooler.socket_dir)),
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
    ) as console:
        rows = console.execute("SHOW CONFIG").fetchall()
    (shown,) = [row[1] for row in rows if row[0] == "auth_ldap_options"]
    assert "ldapbasedn" in shown
    assert MANAGER_PASSWORD not in str(rows)
