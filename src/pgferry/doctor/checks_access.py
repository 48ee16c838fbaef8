"""Checks of logins, secrets and encryption, and of what this machine allows."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from pgferry.auth.md5 import is_md5_secret
from pgferry.doctor.checks_timeouts import far_entries
from pgferry.doctor.demand import demands
from pgferry.doctor.model import Facts, Finding, check, error, first, many, note, warning

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SPARE_FILES = 100


def _open_addresses(facts: Facts) -> list[str]:
    """The addresses through which other hosts can connect."""
    return [a for a in facts.settings.listen_addr if a not in _LOOPBACK]


def _tls(setting: str, value: str) -> str:
    """How to switch TLS on."""
    return f"{setting} = {value}"


@check(
    "auth-open",
    "config",
    title="Whoever connects from another host has to prove who it is",
    why="With auth_type trust or any, everybody who reaches the port is whoever they say they are.",
)
def auth_open(facts: Facts) -> Iterator[Finding]:
    addresses = _open_addresses(facts)
    if addresses and facts.settings.auth_type in ("any", "trust"):
        yield error(
            f"auth_type = {facts.settings.auth_type}, and other hosts can connect ({first(addresses)})",
            "auth_type = scram-sha-256",
            facts.places.setting("auth_type"),
        )


@check(
    "auth-weak",
    "config",
    title="Passwords are proven with SCRAM",
    why="plain sends the password itself, md5 a hash that can be guessed quickly and replayed from a stolen "
    "auth_file. PostgreSQL 18 warns that md5 goes away.",
)
def auth_weak(facts: Facts) -> Iterator[Finding]:
    kind = facts.settings.auth_type
    if kind == "plain":
        yield warning(
            "auth_type = plain sends passwords in clear",
            "auth_type = scram-sha-256",
            facts.places.setting("auth_type"),
        )
    elif kind == "md5":
        yield note("auth_type = md5", "auth_type = scram-sha-256", facts.places.setting("auth_type"))


@check(
    "secrets-file",
    "config",
    title="auth_file is for its owner only, and holds no clear passwords",
    why="A clear password or an md5 hash in auth_file is enough to log in; a SCRAM verifier is not.",
)
def secrets_file(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    path = facts.settings.auth_file
    if not path or not facts.places.path:
        return
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError:
        return
    if mode & 0o007:
        yield warning(
            f"Every account of this machine can read {path} (mode {mode:04o})", f"chmod 640 {path}", path
        )
    users = facts.config.users.values()
    clear = [
        u.name
        for u in users
        if u.secret and not is_md5_secret(u.secret) and not u.secret.startswith("SCRAM-")
    ]
    if clear:
        yield note(
            f"Clear passwords in {path}: {first(clear)}",
            "the SCRAM verifiers of pg_authid.rolpassword; the clients' own logins then give pgferry the "
            "keys",
            path,
        )


@check(
    "tls-clients",
    "config",
    title="Clients on other hosts are encrypted",
    why="Queries, results and password exchanges can be read and changed on the way.",
)
def tls_clients(facts: Facts) -> Iterator[Finding]:
    addresses = _open_addresses(facts)
    if addresses and facts.settings.client_tls_sslmode in ("disable", "allow", "prefer"):
        yield warning(
            f"Clients of other hosts may connect without encryption ({first(addresses)}, client_tls_sslmode "
            "= "
            f"{facts.settings.client_tls_sslmode})",
            _tls("client_tls_sslmode", "require"),
            facts.places.setting("client_tls_sslmode"),
        )


@check(
    "tls-servers",
    "config",
    title="Servers on other hosts are encrypted, and known to be the right ones",
    why="prefer encrypts when the server likes, and believes whoever answers; only verify-full looks at the "
    "name.",
)
def tls_servers(facts: Facts) -> Iterator[Finding]:
    far = [d.name for d in far_entries(facts)]
    mode = facts.settings.server_tls_sslmode
    if not far or mode == "verify-full":
        return
    severity = note if mode in ("require", "verify-ca") else warning
    yield severity(
        f"Connections to {first(far)} are {'not verified' if severity is note else 'not always encrypted'} "
        f"(server_tls_sslmode = {mode})",
        _tls("server_tls_sslmode", "verify-full"),
        facts.places.setting("server_tls_sslmode"),
    )


@check(
    "console-access",
    "config",
    title="Somebody may use the console",
    why="Without admin_users or stats_users only the account that runs pgferry gets in, and only over the "
    "unix socket.",
)
def console_access(facts: Facts) -> Iterator[Finding]:
    if (
        not facts.settings.admin_users
        and not facts.settings.stats_users
        and facts.settings.auth_type != "any"
    ):
        yield note(
            "Nobody can use the console over TCP: no monitoring, no PAUSE",
            "stats_users = monitoring, admin_users = yourself",
            facts.places.setting("admin_users"),
        )


@check(
    "http-open",
    "config",
    title="Metrics are seen by those who may see them",
    why="Metrics need no login and name databases, users and reasons of errors; the port speaks HTTP "
    "without TLS, so a login to the dashboard can be read on the way.",
)
def http_open(facts: Facts) -> Iterator[Finding]:
    host = facts.settings.http_listen.rpartition(":")[0].strip("[]")
    if facts.settings.http_listen and host not in _LOOPBACK:
        yield note(
            f"Other hosts reach the HTTP port (http_listen = {facts.settings.http_listen})",
            "an address of a private network, or 127.0.0.1 behind a proxy with TLS",
            facts.places.setting("http_listen"),
        )


@check(
    "ignored-parameters",
    "config",
    title="No start-up parameter is thrown away that changes what queries mean",
    why="A client that asks for a search_path, a role or `options` and does not get it works on the wrong "
    "schema without an error.",
)
def ignored_parameters(facts: Facts) -> Iterator[Finding]:
    risky = [n for n in facts.settings.ignore_startup_parameters if n in ("options", "search_path", "role")]
    if risky:
        yield warning(
            f"ignore_startup_parameters throws away {first(risky)}",
            "session_state = track keeps them for each client; then leave them out here",
            facts.places.setting("ignore_startup_parameters"),
        )


@check(
    "open-files",
    "config",
    title="The limit of open files allows all connections",
    why="Each client and each server takes a file descriptor. At the limit new clients are not accepted.",
)
def open_files(facts: Facts) -> Iterator[Finding]:
    if facts.console is not None and not facts.console.target.is_local:
        return
    needed = facts.settings.max_client_conn + sum(d.all_users for d in demands(facts)) + _SPARE_FILES
    have = facts.machine.open_files
    if 0 < have < needed:
        yield error(
            f"max_client_conn and the servers need {needed} open files; the limit {facts.machine.files_of} "
            f"is {have}",
            f"LimitNOFILE={needed * 2} in the systemd unit, or ulimit -n",
            facts.places.setting("max_client_conn"),
        )


@check(
    "backlog",
    "config",
    title="The kernel lets the listen queue be as long as wished",
    why="When thousands of clients reconnect at once, those beyond the queue are dropped and try again "
    "seconds later. The kernel cuts listen_backlog down to net.core.somaxconn.",
)
def backlog(facts: Facts) -> Iterator[Finding]:
    if facts.console is not None and not facts.console.target.is_local:
        return
    have, wanted = facts.machine.somaxconn, facts.settings.listen_backlog
    if 0 < have < wanted:
        yield note(
            f"listen_backlog is {wanted}, net.core.somaxconn {have}",
            f"sysctl net.core.somaxconn={wanted}",
            facts.places.setting("listen_backlog"),
        )
    if facts.settings.max_client_conn > 20 * wanted:
        yield note(
            f"max_client_conn is {facts.settings.max_client_conn}, and listen_backlog {wanted}",
            f"listen_backlog = {min(4096, facts.settings.max_client_conn // 4)}, net.core.somaxconn at least "
            "that",
            facts.places.setting("listen_backlog"),
        )


@check(
    "local-ports",
    "config",
    title="There are local ports for all server connections",
    why="Every connection to the same address and port takes a local port of its own, for a minute longer "
    "than it lives.",
)
def local_ports(facts: Facts) -> Iterator[Finding]:
    if facts.console is not None and not facts.console.target.is_local:
        return
    demand = sum(d.all_users for d in demands(facts) if d.database.hosts)
    if 0 < facts.machine.local_ports < demand * 2:
        yield warning(
            f"Up to {many(demand, 'server connection')}, and {facts.machine.local_ports} local ports",
            "sysctl net.ipv4.ip_local_port_range='10240 65535', or smaller pools",
            facts.places.setting("default_pool_size"),
        )
