"""Server connections of pgferry's own: what it asks for itself runs in nobody's session.

An InternalSession belongs to a database and a worker. It is outside of pool_size and the other limits on servers, logs
in as the user of one of the database's pools (the next one's turn comes when that user cannot log in), and its
environment does not depend on that user, on connect_query or on any client: client_encoding is SQL_ASCII, so that
PostgreSQL sends and takes the database's own bytes, no timeout is set, names without a schema are those of pg_catalog.
Queries are pipelined and answered in order. It is closed when nobody has used it for a while.
"""

from collections import deque

from pgferry.engine.core.database cimport Database
from pgferry.engine.core.enums cimport P_INTERNAL, SV_INTERNAL
from pgferry.engine.core.model cimport Engine, Job, Pool, Server
from pgferry.engine.core.plan cimport F_SWALLOW, K_QUERY
from pgferry.engine.pool.connections cimport ServerConnection
from pgferry.engine.server.login cimport start_login
from pgferry.engine.wire.messages cimport simple_query

cdef enum:
    AT_ONCE = 3             # users who are tried one behind the other without a pause

cdef double FIRST_PAUSE = 1.0       # seconds
cdef double LONGEST_PAUSE = 5.0
cdef double LINGER = 30.0           # seconds without use before it is closed

# The first query works under any setting that a user may have by ALTER ROLE; the second shows that it has worked.
# What an older PostgreSQL does not know is not in pg_settings.
WANTED = {
    b"client_encoding": b"SQL_ASCII", b"search_path": b"pg_catalog", b"role": b"none", b"statement_timeout": b"0",
    b"lock_timeout": b"0", b"idle_in_transaction_session_timeout": b"0", b"idle_session_timeout": b"0",
    b"transaction_timeout": b"0", b"default_transaction_isolation": b"read committed",
    b"default_transaction_read_only": b"off", b"default_transaction_deferrable": b"off", b"bytea_output": b"hex",
    b"standard_conforming_strings": b"on",
}
NEWER = (b"idle_session_timeout", b"transaction_timeout")       # than the oldest PostgreSQL that is supported
cdef bytes NAMES = b", ".join([b"'" + name + b"'" for name in (b"server_encoding", *WANTED)])
ENVIRONMENT = (
    b"SET transaction_deferrable = off; "
    + b" ".join([b"SET %s = '%s';" % item for item in WANTED.items() if item[0] not in NEWER]),
    b"SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN ("
    + b", ".join([b"'" + name + b"'" for name in NEWER]) + b"); "
    + b"SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN (" + NAMES + b")",
)


cdef class InternalSession(Job):
    """A connection to a database, made when it is needed and again when it was lost while it is."""

    def __init__(self, Engine engine, Database db, str purpose):
        self.engine = engine
        self.db = db
        self.purpose = purpose
        self.queries = deque()
        self.waiting = []
        self.refused = set()
        self.used_at = engine.loop.now
        db.sessions.append(self)

    cdef int query(self, bytes text, object on_answer) except -1:
        """Send a Query, now or when the session is up. `text` is in the database's encoding.

        on_answer(rows, error) is called once, in the order of the queries, and must not raise. rows: a tuple of bytes
        or None for each DataRow of the answer; error: None, or the fields of the ErrorResponse by code ("C", "M"); that
        of a session that is lost, or that cannot be had, has C 08006. It runs while the session's input is read: it may
        call query() and close(), and put() and flush() any other stream.
        """
        self.used_at = self.engine.loop.now
        if not self.up:
            self.waiting.append((text, on_answer))
            return self.connect()
        self.queries.append(on_answer)
        return self.send(text)

    cdef int send(self, bytes text) except -1:
        cdef Server s = self.server
        cdef bytes message = simple_query(text)
        s.expect(K_QUERY, F_SWALLOW, P_INTERNAL)
        s.put(message, len(message))
        return s.flush()

    cdef bint is_needed(self) except -1:
        """Whether it has something to do, or somebody wants it to be there."""
        return not self.up or len(self.queries) > 0 or len(self.waiting) > 0 or self.is_wanted()

    cdef int close(self, str reason) except -1:
        """Close the connection if there is one; queries under way are told."""
        if self.server is not None:
            return self.server.close(reason)
        return 0

    cdef int connect(self) except -1:
        """Begin to log in, unless that is under way or has failed just now."""
        cdef Pool pool
        if self.server is not None or self.engine.loop.now < self.retry_at:
            return 0
        if self.engine.phase.paused or self.db.paused:
            return 0            # internal_tick() comes back to it
        pool = self.next_pool()
        if pool is None:
            return self.login_over("no pool of this database has a user to log in as")
        self.pool = pool
        self.of_user = False
        self.server = ServerConnection(self.engine.loop, pool)
        return start_login(self.server, self, True)

    cdef Pool next_pool(self):
        """The pool whose user is to log in: the one that could last time, then the others, each once; None: no more."""
        cdef list found = [pool for key, pool in self.db.pools.items()
                           if key == (<Pool>pool).user.name and pool not in self.refused]
        if self.pool in found:
            return self.pool
        return found[0] if found else None

    cdef int fail_queries(self, str reason) except -1:
        """Tell all who wait for an answer that none will come."""
        cdef dict error = {"S": "FATAL", "C": "08006", "M": reason}
        cdef list open = [*self.queries, *[on_answer for _text, on_answer in self.waiting]]
        self.queries.clear()
        self.waiting = []
        for on_answer in open:
            on_answer([], error)
        return 0

    cdef int login_over(self, str reason) except -1:
        """The login of this user has failed: the next one's turn, or all have been tried."""
        cdef double now = self.engine.loop.now
        if self.of_user:
            self.refused.add(self.pool)
            if self.next_pool() is not None:
                if len(self.refused) >= AT_ONCE:
                    self.retry_at = now + FIRST_PAUSE
                return self.connect()
            reason = "no user of this database's pools can log in to PostgreSQL"
        self.refused.clear()
        self.pause = min(max(FIRST_PAUSE, 2 * self.pause), LONGEST_PAUSE)
        self.retry_at = now + self.pause
        self.fail_queries(reason)
        return self.on_failed(reason)

    # --- what comes of its server

    cdef int logged_in(self, Server s) except -1:
        """The login is over: make the environment what it is to be."""
        s.enter(SV_INTERNAL)
        s.probe.want_rows()
        self.settling = len(ENVIRONMENT)
        for text in ENVIRONMENT:
            self.send(text)
        return 0

    cdef int login_failed(self, Server s, str reason, object fields) except -1:
        """The login has failed; fields: of PostgreSQL's error, if it was one."""
        cdef str text = reason if fields is None else fields.get("M", reason)
        cdef str code = "" if fields is None else fields.get("C", "")
        # Of this user: the password, pg_hba.conf, LOGIN, CONNECT, its connection limit.
        self.of_user = (code[:2] == "28" or code in ("3D000", "42501", "53300")
                        or (fields is None and reason.startswith("server login failed")))
        self.engine.log_about(s, "WARNING", f"connection of pgferry's own ({self.purpose}): {text}")
        return s.close(text)

    cdef int answered(self, Server s, dict error) except -1:
        """ReadyForQuery: a query is answered; `error`: its fields, None when there was none."""
        cdef list rows = s.probe.take_rows()
        if rows is None:
            rows = []
            error = error or {"S": "ERROR", "C": "54000", "M": "PostgreSQL's answer is too large"}
        s.probe.want_rows()
        self.used_at = self.engine.loop.now
        if self.up:
            self.queries.popleft()(rows, error)
            return 0
        self.settling -= 1
        found = dict([row for row in rows if len(row) == 2])
        if error is not None or any([found.get(name, value) != value for name, value in WANTED.items()]):
            self.of_user = True
            return s.close("the environment of a connection of pgferry's own cannot be set")
        self.encoding = found.get(b"server_encoding", self.encoding)
        if self.settling == 0:
            self.up = True
            self.pause = self.retry_at = 0
            self.refused.clear()
            self.on_up()
            waiting, self.waiting = self.waiting, []
            for text, on_answer in waiting:
                self.query(text, on_answer)
        return 0

    cdef int closed(self, Server s, str reason) except -1:
        """The connection is closed, or could not be made."""
        if self.server is not s:
            return 0
        self.server = None
        if not self.up:
            return self.login_over(reason)
        self.up = False
        self.fail_queries(f"connection of pgferry's own lost: {reason}")
        return self.on_lost(reason)

    cdef int notified(self, Server s, const char *p, size_t n) except -1:
        """A NotificationResponse has come."""
        return self.on_notified(p, n)

    cdef list parameters(self, Server s):
        return [b"client_encoding", b"SQL_ASCII", b"application_name", b"pgferry " + self.purpose.encode()]

    # --- whom it is for

    cdef int on_up(self) except -1:
        return 0

    cdef int on_lost(self, str reason) except -1:
        return 0

    cdef int on_failed(self, str reason) except -1:
        return 0

    cdef int on_notified(self, const char *p, size_t n) except -1:
        return 0


cdef int internal_tick(Database db) except -1:
    """Upkeep of a database's sessions: connect again, give up, close."""
    cdef InternalSession session
    cdef double now
    for item in list(db.sessions):
        session = <InternalSession>item
        now = session.engine.loop.now
        if session.is_wanted() or session.queries or session.waiting:
            session.used_at = now
        if session.server is not None and session.server.close_needed:
            session.close(session.server.close_reason or "close_needed")
        if session.server is None:
            if session.used_at == now:
                session.connect()
        elif not session.up:
            if (session.engine.settings.server_connect_timeout > 0
                    and now - session.server.ends.created > session.engine.settings.server_connect_timeout):
                session.close("connect timeout")
        elif now - session.used_at > LINGER:
            session.close("not used any more")
    return 0
