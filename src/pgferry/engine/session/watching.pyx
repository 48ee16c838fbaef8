"""What an operator is told about clients that hold a server (SHOW LONGEST, the log), and why connections end.

Texts of statements are kept only when statement_text_length allows it: they may hold what nobody should read.
"""

from libc.string cimport memchr

from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.core.statements cimport Statement
from pgferry.engine.session.pins cimport pin_reasons

cdef enum:
    MOST_REASONS = 200      # different ones that are counted apart: some hold what a client sent
    REASON_LENGTH = 64


cdef int remember_text(Client c, char kind, const char *p, size_t n) except -1:
    """Keep the first characters of the statement in a Query, Parse or Bind message of which n bytes are there."""
    cdef const char *at = p + 5
    cdef const char *end = p + n
    cdef const char *found
    cdef size_t limit = c.engine.settings.statement_text_length
    cdef Statement st
    if kind == b"B" or kind == b"P":
        found = <const char *>memchr(at, 0, end - at) if at < end else NULL
        if kind == b"B" and found != NULL:
            at = found + 1          # behind the name of the portal: the name of the statement
            found = <const char *>memchr(at, 0, end - at)
            if found != NULL and found > at and c.names.statements is not None:
                st = c.names.statements.get(at[:found - at])
                if st is not None:
                    c.text_is(st.body[:min(limit, max(st.body.find(b"\0"), 0))])
            return 0
        if found == NULL:
            return 0
        at = found + 1
    if at < end:
        found = <const char *>memchr(at, 0, end - at)
        if found != NULL:
            end = found
        c.text_is(at[:min(<size_t>(end - at), limit)])
    return 0


cdef str shown_text(Client c):
    """The statement, one line, for people; empty when it may not be shown."""
    if c.text is None or c.engine.settings.statement_text_length == 0:
        return ""
    return " ".join(c.text.decode("utf-8", "replace").split())


cdef str whereabouts(Client c):
    """What helps to find the application: the label of a log line has database, user and address already."""
    text = shown_text(c)
    return f"application_name '{app_name(c)}'" + (f", statement: {text}" if text else "")


cdef int slow_transaction(Client c, double took) except -1:
    """A transaction that took longer than transaction_log_threshold is over."""
    c.slow_is_logged(False)
    c.engine.log_about(c, "WARNING", f"slow transaction: {took:.3f} s, with its server for "
                       f"{c.loop.now - max(c.times.linked_at, c.times.xact_start):.3f} s; {whereabouts(c)}")
    return 0


cdef int still_open(Client c, double now) except -1:
    """A transaction is open for longer than that: it may be a leak that never ends."""
    c.slow_is_logged(True)
    doing = "running" if c.times.query_start else "idle in transaction"
    c.engine.log_about(c, "WARNING",
                       f"transaction open for {now - c.times.xact_start:.1f} s, {doing}; {whereabouts(c)}")
    return 0


def longest(Engine engine):
    """SHOW LONGEST: every client that holds a server, and what for."""
    cdef list rows = []
    cdef Pool pool
    cdef Server s
    cdef Client c
    cdef double now = engine.loop.now
    for item in engine.pools():
        pool = <Pool>item
        for stream in pool.endpoint.active.items():
            s = <Server>stream
            c = s.client
            if c is None:
                continue
            host, port = c.remote() if not c.peer.is_unix else ("unix", c.peer.listen_port)
            rows.append({
                "database": pool.db.name, "user": pool.user.name, "client": f"0x{c.id:x}", "server": f"0x{s.id:x}",
                "state": holding(c, s), "pins": pin_reasons(c) if c.pin.pins else "",
                "held_us": int((now - c.times.linked_at) * 1e6),
                "xact_us": (int((now - c.times.xact_start) * 1e6)
                            if c.times.xact_start and pool.main_pool is None else 0),
                "query_us": int((now - c.times.query_start) * 1e6) if c.times.query_start else 0,
                "threshold": pool.settings.slow_after, "id": c.id, "addr": host, "port": port,
                "remote_pid": int.from_bytes(s.ends.cancel_key[:4], "big") if s.ends.cancel_key else 0,
                "application_name": app_name(c), "statement": shown_text(c),
            })
    return rows


cdef str app_name(Client c):
    cdef int index = c.engine.parameters.index["application_name"]
    if c.vars is None or len(c.vars) <= index or c.vars[index] is None:
        return ""
    return c.vars[index].decode("utf-8", "replace")


cdef str holding(Client c, Server s):
    """Why the client has a server, in a word or three."""
    if s.replication:
        return "replication"
    if c.times.query_start:
        return "running"
    if c.times.xact_start:
        return "idle in transaction (failed)" if s.xact == b"E" else "idle in transaction"
    return "pinned" if c.pin.pins else "session" if c.session else "leaving"


# --- why connections end ----------------------------------------------------------------------------------------

cdef int count_end(Engine engine, str kind, str reason) except -1:
    """Count the end of a connection. What follows a colon is about this one only, and not part of the reason."""
    cdef tuple key = (kind, reason)
    cdef object n = engine.ends.get(key)
    if n is None:
        key = (kind, reason.partition(": ")[0].partition(" '")[0].partition(' "')[0][:REASON_LENGTH])
        if key not in engine.ends and len(engine.ends) >= MOST_REASONS:
            key = (kind, "other")
        n = engine.ends.get(key, 0)
    engine.ends[key] = n + 1
    return 0


def ends(Engine engine):
    """Ends of connections by kind (refused, client, server) and reason."""
    return [{"kind": kind, "reason": reason, "count": n} for (kind, reason), n in sorted(engine.ends.items())]
