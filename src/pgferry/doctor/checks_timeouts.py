"""Checks of timeouts on both sides, and of the way to the server: names, keepalive, firewalls."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from pgferry.config import effective
from pgferry.config.model import Database
from pgferry.doctor.demand import entries
from pgferry.doctor.model import Facts, Finding, check, first, note, seconds, warning


@check(
    "idle-transaction",
    "config",
    title="A forgotten transaction does not hold its server for ever",
    why="BEGIN, an exception, no COMMIT: the client keeps its server, the pool loses them one by one, and "
    "the open transaction holds back vacuum everywhere. 10 to 60 s of idling in a transaction is never "
    "meant.",
)
def idle_transaction(facts: Facts) -> Iterator[Finding]:
    if facts.settings.idle_transaction_timeout or facts.settings.transaction_timeout:
        return
    name = "idle_in_transaction_session_timeout"
    if facts.server is not None and (facts.server.number(name) or _by_role(facts, name)):
        return
    severity = note if facts.server is None else warning
    yield severity(
        "Nothing ends a client that sits idle in a transaction",
        f"idle_transaction_timeout = 60 in the pooler, or ALTER SYSTEM SET {name} = '60s'",
        facts.places.setting("idle_transaction_timeout"),
    )


@check(
    "statement-timeout",
    "config",
    title="A runaway query ends",
    why="One query that became slow takes the pool along: servers are held longer, everybody queues, "
    "clients retry. 30 s for applications and minutes for reports, set per role in PostgreSQL, so that the "
    "query ends and not the connection.",
)
def statement_timeout(facts: Facts) -> Iterator[Finding]:
    if facts.settings.query_timeout:
        return
    name = "statement_timeout"
    if facts.server is not None and (facts.server.number(name) or _by_role(facts, name)):
        return
    severity = note if facts.server is None else warning
    yield severity(
        "Nothing ends a query that runs for ever",
        f"ALTER ROLE app SET {name} = '30s' (roles with reports: more)",
        facts.places.setting("query_timeout") if facts.server is None else "postgresql.conf, or ALTER ROLE",
    )


def _by_role(facts: Facts, name: str) -> bool:
    assert facts.server is not None
    return any(
        item.partition("=")[0] == name and item.partition("=")[2] != "0"
        for item in facts.server.role_settings
    )


@check(
    "query-timeout-order",
    "config",
    "server",
    title="PostgreSQL's statement_timeout ends a query before the pooler's query_timeout does",
    why="query_timeout ends a query by closing its server and its client; statement_timeout ends the query "
    "only, and the application gets an error it can handle.",
)
def query_timeout_order(facts: Facts) -> Iterator[Finding]:
    assert facts.server is not None
    ours, theirs = facts.settings.query_timeout, facts.server.number("statement_timeout") / 1000
    if ours and (theirs == 0 or theirs >= ours) and not _by_role(facts, "statement_timeout"):
        yield note(
            f"query_timeout = {ours:g} s closes connections before statement_timeout "
            f"({seconds(theirs) if theirs else 'off'}) ends the query",
            f"statement_timeout = '{max(ours * 0.9, 0.001):.3g}s' in PostgreSQL",
            facts.places.setting("query_timeout"),
        )


@check(
    "wait-for-ever",
    "config",
    title="Waiting clients are told in time",
    why="A client that waits longer than its own timeout has gone when its turn comes, and has asked again "
    "meanwhile: the queue is made of work nobody wants. Fail a little before the application gives up.",
)
def wait_for_ever(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    waits: dict[tuple[float, str], list[str]] = {}
    for database in entries(facts):
        wait = effective.query_wait_timeout(facts.config, database, None)
        own = database.query_wait_timeout is not None
        place = facts.places.database(database.name) if own else facts.places.setting("query_wait_timeout")
        waits.setdefault((wait, place), []).append(database.name)
    for (wait, place), names in waits.items():
        if wait == 0:
            yield warning(
                f"Clients of {first(names)} wait for a server for ever", "query_wait_timeout = 15", place
            )
        elif wait > 60:
            yield note(
                f"Clients of {first(names)} wait up to {seconds(wait)} for a server",
                "query_wait_timeout a little below the applications' own timeout, e.g. 15",
                place,
            )


@check(
    "idle-session-timeout",
    "config",
    "server",
    title="PostgreSQL does not close idle connections under the pooler",
    why="idle_session_timeout of PostgreSQL closes connections that the pool keeps on purpose; a client "
    "that is given one in that moment gets an error.",
)
def idle_session_timeout(facts: Facts) -> Iterator[Finding]:
    assert facts.server is not None
    theirs, ours = facts.server.number("idle_session_timeout") / 1000, facts.settings.server_idle_timeout
    if theirs and (ours == 0 or ours >= theirs):
        yield warning(
            f"idle_session_timeout of PostgreSQL is {seconds(theirs)}, server_idle_timeout "
            f"{seconds(ours) if ours else 'off'}",
            f"server_idle_timeout = {max(int(theirs * 0.8), 1)}, or idle_session_timeout = 0 for the "
            "pooler's roles",
            facts.places.setting("server_idle_timeout"),
        )


@check(
    "keepalive",
    "config",
    title="A dead server host is noticed",
    why="A host that vanishes closes nothing. Without TCP keepalive its connections stay in the pool until "
    "the kernel gives up, 15 minutes and more; and firewalls forget silent connections after 5 to 15 "
    "minutes while the kernel's own first probe comes after two hours.",
)
def keepalive(facts: Facts) -> Iterator[Finding]:
    far = [d.name for d in entries(facts) if any(not _near(h) for h in d.hosts)]
    if not far:
        return
    settings = facts.settings
    if not settings.tcp_keepalive:
        yield warning(
            f"tcp_keepalive is off, and {first(far)} is on another host",
            "tcp_keepalive = 1, tcp_keepidle = 60, tcp_keepintvl = 10, tcp_keepcnt = 3",
            facts.places.setting("tcp_keepalive"),
        )
    elif settings.tcp_keepidle == 0:
        yield note(
            f"The first keepalive probe to {first(far)} comes after the kernel's default, usually two hours",
            "tcp_keepidle = 60, tcp_keepintvl = 10, tcp_keepcnt = 3",
            facts.places.setting("tcp_keepidle"),
        )


@check(
    "dns-ttl",
    "config",
    title="A failover by DNS is followed",
    why="Names are looked up again after dns_max_ttl, and connections that exist stay where they are: a "
    "former primary goes on being used until its connections end.",
)
def dns_ttl(facts: Facts) -> Iterator[Finding]:
    named = [d.name for d in entries(facts) if any(not _near(h) and not _is_address(h) for h in d.hosts)]
    if named and facts.settings.dns_max_ttl > 60:
        yield warning(
            f"The address of {first(named)} is remembered for {seconds(facts.settings.dns_max_ttl)}",
            "dns_max_ttl = 15, and RECONNECT on the console after a failover",
            facts.places.setting("dns_max_ttl"),
        )


@check(
    "pooler-port",
    "config",
    title="No entry leads to another pooler",
    why="A pooler in front of a pooler doubles the hops and the waiting, and two in session mode double the "
    "connections. It is worth it only where many hosts each gather their own clients.",
)
def pooler_port(facts: Facts) -> Iterator[Finding]:
    behind = [d.name for d in entries(facts) if d.port in (6432, 6543)]
    if behind and (facts.server is None or facts.server.is_pooler):
        yield note(
            f"{first(behind)} leads to port 6432 or 6543, where poolers listen",
            "connect to PostgreSQL itself, port 5432",
            facts.places.database(behind[0]),
        )


def _near(host: str) -> bool:
    return host.startswith(("/", "@", "127.")) or host in ("localhost", "::1")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def far_entries(facts: Facts) -> list[Database]:
    """The entries whose servers are on other hosts."""
    return [d for d in entries(facts) if any(not _near(h) for h in d.hosts)]
