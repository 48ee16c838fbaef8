"""A client from its first byte to its first ReadyForQuery: startup packet, limits, welcome.

How it proves who it is, in between, is in client_auth.

The order of checks is PgBouncer's (COMPAT 4.1): what the packet says, max_client_conn, the limits of database
and user, the password, and only then whether the database exists. Until a password is right a peer costs one
object, at most one startup packet and one password message, and client_login_timeout.
"""

import os

from pgferry.auth.errors import AuthError, Refused

from libc.stdint cimport uint32_t

from pgferry.engine.client.auth cimport authenticate, password_message
from pgferry.engine.client.canonical cimport ask_canonical
from pgferry.engine.client.greeting cimport Greeting, greet, greet_as, new_key, put_key
from pgferry.engine.client.login_data cimport Login, refuse
from pgferry.engine.client.startup cimport Startup, read_startup
from pgferry.engine.core.database cimport Database, User
from pgferry.engine.core.enums cimport STATE_IGNORE, WAIT_FOR_CLIENTS
from pgferry.engine.core.model cimport Client, Engine, Pool
from pgferry.engine.io.handshakes cimport start_tls
from pgferry.engine.io.stream cimport PAUSE_WAIT
from pgferry.engine.io.sys cimport be32
from pgferry.engine.io.text cimport Text
from pgferry.engine.session.connect_state cimport start_of
from pgferry.engine.shared.ledger import LedgerFull

cdef enum:
    MAX_STARTUP = 10000          # as PostgreSQL (MAX_STARTUP_PACKET_LENGTH)
    MAX_PASSWORD = 65536
    MAX_NEGOTIATIONS = 2         # one for TLS and one for GSSAPI, as PostgreSQL
    SSL_REQUEST = 80877103
    TLS_HANDSHAKE = 0x16         # first byte of a TLS connection
    GSS_REQUEST = 80877104
    CANCEL_REQUEST = 80877102

CONSOLES = ("pgbouncer", "pgferry")
NO_RIGHTS = "none"
cdef tuple REPLICATION = ("no", "database", "yes")      # in the log, by model.Replication


cdef class ClientLogin(Login):
    """A login, and what follows when somebody else has done their part of it."""

    cdef int finish(self, Client c) except -1:
        """The pool has its welcome: complete the login."""
        return welcome(self, c)

    cdef int proceed(self, Client c) except -1:
        return authenticated(c, self)


cdef int new_login(Client c) except -1:
    """Begin the login of an accepted client."""
    return c.begin_login(ClientLogin.__new__(ClientLogin))


cdef ssize_t login_feed(Client c, const char *p, size_t n) except -1:
    """Consume the login's packets, one at a time."""
    cdef Login login = c.login
    cdef size_t total
    try:
        if not login.starting:
            if n and p[0] == TLS_HANDSHAKE and may_have_tls(c) and login.negotiations == 0:
                start_tls(c, c.engine.client_tls.context, True, None, p[:n])
                return n
            total = startup_size(p, n)
            if total == 0:
                return 0
            if n < total:
                return c.needs(total)
            startup_packet(c, login, p[:total], n > total)
            return total
        if n < 5:
            return 0
        total = <size_t>be32(p + 1) + 1
        if p[0] != b"p":
            raise Refused("client re-sent startup pkt" if p[0] == 0 else "unknown pkt")
        if total < 5 or total > MAX_PASSWORD:
            raise Refused(f"bad packet header: '{p[:5].hex()}'")
        if n < total:
            return c.needs(total)
        if login.method is None:
            raise Refused("unknown pkt")
        password_message(c, login, p[5:total])
        return total
    except Refused as refused:
        c.close(str(refused), str(refused))
    except LedgerFull as full:
        c.close(str(full), str(full), "53000")
    except AuthError as error:
        refuse(c, error)
    return n


cdef size_t startup_size(const char *p, size_t n) except? 0:
    """The length of the startup packet; 0 when too little is there to tell. Raises Refused."""
    cdef size_t total
    if n >= 1 and p[0] != 0:
        if n >= 8:
            raise Refused(f"bad packet header: '{p[:8].hex()}'")
        raise Refused(f"bad packet header: '{p[:n].hex()}'")
    if n < 8:
        return 0
    total = be32(p)
    if total < 8 or total > MAX_STARTUP:
        raise Refused(f"bad packet header: '{p[:8].hex()}'")
    return total


# --- startup packet ---------------------------------------------------------------------------------------------

cdef int startup_packet(Client c, Login login, bytes packet, bint more) except -1:
    cdef uint32_t code = be32(<const char *>packet + 4)
    if code == SSL_REQUEST or code == GSS_REQUEST:
        if len(packet) != 8:
            raise Refused(f"bad packet header: '{packet[:8].hex()}'")
        if more:
            kind = "SSL" if code == SSL_REQUEST else "GSSAPI encryption"
            raise Refused(f"received unencrypted data after {kind} request")
        if login.negotiate_again() > MAX_NEGOTIATIONS:
            raise Refused(f"bad packet header: '{packet[:8].hex()}'")
        if code == SSL_REQUEST and may_have_tls(c):
            c.put(b"S", 1)
            c.flush()
            return start_tls(c, c.engine.client_tls.context, True)
        c.put(b"N", 1)
        return c.flush()
    if code == CANCEL_REQUEST:
        return cancel_request(c, packet[8:])
    if code == 131072:
        raise Refused("old V2 protocol not supported")
    if code >> 16 != 3:
        raise Refused(f"bad packet header: '{packet[:8].hex()}'")
    if c.tls is None and may_have_tls(c) and c.engine.client_tls.required:
        raise Refused("SSL required")
    login.begin(read_startup(c, packet, code))
    return admit(c, login)


cdef bint may_have_tls(Client c):
    """Whether the client may begin with TLS now."""
    return c.engine.client_tls is not None and c.tls is None and not c.peer.is_unix


# --- limits and method ------------------------------------------------------------------------------------------

cdef int admit(Client c, Login login) except -1:
    """Apply the limits and start the authentication. Raises Refused."""
    cdef Engine engine = c.engine
    cdef Database db = engine.databases.get(login.database)
    cdef User user = engine.users.get(login.username)
    cdef bint console = login.database in CONSOLES
    cdef Text line
    settings = engine.config.settings
    if engine.settings.log_connections:
        line = engine.begin_line(c, "LOG")
        line.raw(b"login attempt: db=", 18)
        line.put(login.database)
        line.raw(b" user=", 6)
        line.put(login.username)
        line.raw(b" tls=", 5)
        line.put("no" if c.tls is None else c.tls.info)
        line.raw(b" replication=", 13)
        line.put(REPLICATION[login.startup.replication])
        engine.log.end()
    if console and login.startup.replication:
        # An HBA rule for replication must not open the console.
        raise Refused("replication connections to the console are not possible")
    if console and c.peer.is_unix and login.username == "pgbouncer" and c.peer.peer_uid == os.geteuid():
        engine.log_about(c, "LOG", "pgbouncer access from unix socket")
        login.may_use_console("admin")
        return open_console(c, login)
    if console:
        login.may_use_console(console_rights(settings, login.username) or NO_RIGHTS)
    elif engine.phase.shutdown and not (engine.phase.shutdown == WAIT_FOR_CLIENTS and settings.so_reuseport
                                        and not c.peer.is_unix):
        # Who came by a port that another process has taken over came before we closed our socket.
        raise Refused("pooler is shutting down")
    take_places(c, login, db, user, console)
    return authenticate(c, login)


cdef str console_rights(settings, str username):
    if username in settings.admin_users:
        return "admin"
    if username in settings.stats_users or settings.auth_type == "any":
        return "stats"
    return ""


cdef int take_places(Client c, Login login, Database db, User user, bint console) except -1:
    """Count the client in the ledger. Raises Refused."""
    cdef Engine engine = c.engine
    if not engine.client_count.take(0 if console else engine.settings.max_client_conn):
        raise Refused("no more connections allowed (max_client_conn)")
    c.is_counted()
    if db is not None and not console:
        if not db.clients.take(db.max_clients):
            raise Refused("client connections exceeded (max_db_client_connections)")
        c.db_is(db)
    if user is not None:
        if not user.clients.take(0 if console else user.max_clients):
            raise Refused("client connections exceeded (max_user_client_connections)")
        c.user_is(user)
    return 0


# --- authenticated ----------------------------------------------------------------------------------------------

cdef int authenticated(Client c, Login login) except -1:
    """The client is who it says. Find its pool. Raises Refused."""
    cdef Database db
    cdef User user
    login.is_proved()
    if login.found is not None:
        become(c, login, login.found[0])
    if login.rights:
        if login.rights is NO_RIGHTS:     # told to who has proved to be this user only, else it tells who is an admin
            raise Refused("not allowed")
        return open_console(c, login)
    db = database_of(c, login)
    keep_secrets(c, login)
    user = user_on_servers(c)
    if login.startup.replication:
        c.pool_is(c.engine.replication_pool(db, user))
        wait_for_welcome(c)
        return c.pool.want_servers()
    return enter_pool(c, login, c.engine.pool_for(db, user))


cdef Database database_of(Client c, Login login):
    """The database that the client asks for, which is there for it now. Raises Refused."""
    cdef Engine engine = c.engine
    cdef Database db = c.db
    if db is None or engine.databases.get(login.database) is not db:
        # Not known when the login began, or removed since.
        if db is not None:
            db.clients.give()
            c.db_is(None)
        db = engine.databases.get(login.database) or engine.host.auto_database(login.database)
        if db is None:
            engine.log_about(c, "LOG", f"login failed: db={login.database} user={login.username}")
            raise Refused(f"no such database: {login.database}")
        if not db.clients.take(db.max_clients):
            raise Refused("client connections exceeded (max_db_client_connections)")
        c.db_is(db)
    if login.kind == "any" and db.conf.user is None:
        # Nobody has proved to be anybody: only the entry can say who they are.
        engine.log_about(c, "ERROR", "auth_type=any requires forced user")
        raise Refused("bouncer config error")
    if db.disabled:
        raise Refused(f'database "{db.name}" is disabled')
    return db


cdef int keep_secrets(Client c, Login login) except -1:
    """Keep what the client's proof has given, for the login to servers."""
    if login.found is not None:
        c.db.found[c.user.name] = (login.found[1], login.keys)
    elif login.keys is not None:
        c.user.proved_with(login.keys)
    return 0


cdef User user_on_servers(Client c):
    """Who the client is on servers: the user of the database's entry, or itself. Raises Refused."""
    cdef User user
    if c.db.conf.user is None:
        if c.user is None:
            raise Refused("bouncer config error")
        return c.user
    user = c.engine.host.user(c.db.conf.user)
    if c.user is None:
        user.clients.take(0)
        c.user_is(user)
    return user


cdef int enter_pool(Client c, Login login, Pool pool) except -1:
    """Complete the login, or wait for the pool's first server. Raises Refused."""
    cdef Engine engine = c.engine
    if login.startup.settings and pool.settings.session_state == STATE_IGNORE:
        raise Refused(login.startup.refusal)
    c.pool_is(pool)
    if pool.endpoint.server_parameters is not None:
        return welcome(login, c)
    wait_for_welcome(c)
    if engine.workers > 1:
        engine.host.ask_login_parameters(pool)
    if (pool.endpoint.last_login_failed and pool.endpoint.last_error is not None
            and pool.server_count() == pool.endpoint.fresh.count):
        if engine.loop.now < pool.endpoint.retry_at:
            c.close(pool.endpoint.last_error[1], pool.endpoint.last_error[1], pool.endpoint.last_error[0])
            return 0
    return pool.want_servers()


cdef int wait_for_welcome(Client c) except -1:
    """Hold the client until its pool knows what servers say."""
    c.wait_for_greeting()
    c.pause(PAUSE_WAIT)
    c.pool.logging_in.append(c)
    return 0


cdef int become(Client c, Login login, str name) except -1:
    """The client is this user, whom auth_file does not know, or under another name. Raises Refused."""
    cdef User user
    if login.rights:
        login.may_use_console(console_rights(c.engine.config.settings, name) or NO_RIGHTS)
    if c.user is not None and c.user.name == name:
        return 0
    user = c.engine.host.user(name)
    if not user.clients.take(0 if login.rights else user.max_clients):
        raise Refused("client connections exceeded (max_user_client_connections)")
    if c.user is not None:
        c.user.clients.give()
    c.user_is(user)
    return 0


cdef int welcome(Login login, Client c) except -1:
    """AuthenticationOk, the server's parameters, the cancel key, ReadyForQuery: the client is logged in."""
    cdef Engine engine = c.engine
    cdef Pool pool = c.pool
    cdef Startup startup = login.startup
    cdef dict values = startup.values, settings = startup.settings
    cdef Greeting greeting
    if login.server is not None:
        greeting = greet_as(login.server, login.reported)
        settings = None                 # PostgreSQL has them all
    else:
        if startup.unsorted:
            values, settings = sort_out(pool, startup)
        greeting = greet(pool, values, startup.greeting)
        if greeting.unchecked and ask_canonical(c, login, values):
            c.pause(PAUSE_WAIT)
            return 0
        startup.greets_with(greeting)
    c.vars_are(greeting.vars)
    c.tracker.start_with_vars(greeting.vars, greeting.unchecked)
    if login.server is None:
        c.tracker.start_with(
            start_of(pool, settings),
            pool.endpoint.start_sql if pool.settings.session_state != STATE_IGNORE else None, bool(settings))
    put_rest(c, login)
    c.put(greeting.text, len(greeting.text))
    new_key(c, startup.long_key)
    put_key(c)
    c.put(engine.greetings.ready, len(engine.greetings.ready))
    c.end_login()
    c.adopt_mode()
    pool.clients.append(c)
    pool.stats.count_login()
    c.unpause(PAUSE_WAIT)
    return c.flush()


cdef tuple sort_out(Pool pool, Startup startup):
    """The startup packet's tracked values and its other settings, now that it is known what these servers report."""
    cdef Engine engine = pool.engine
    cdef dict values = dict(startup.values), settings = dict(startup.settings or {})
    for name in list(settings):
        if pool.reports(name):
            values[engine.parameters.index[name.decode()]] = settings.pop(name)
    if pool.settings.session_state != STATE_IGNORE:
        for index in list(values):
            name = engine.parameters.names[index].lower().encode()
            if not pool.reports(name):
                settings[name] = values.pop(index)
    return values, settings


cdef int put_rest(Client c, Login login) except -1:
    """What comes in front of AuthenticationOk."""
    if login.negotiate is not None:
        c.put(login.negotiate, len(login.negotiate))
    if login.final_sasl_message is not None:
        c.put(login.final_sasl_message, len(login.final_sasl_message))
    return 0


cdef int open_console(Client c, Login login) except -1:
    """Connect the client to the admin console in the supervisor, which sends the rest of the greeting itself.

    Raises Refused.
    """
    cdef Engine engine = c.engine
    put_rest(c, login)
    c.console_is(login.username if login.found is None else login.found[0], None)
    new_key(c, login.startup.long_key)      # the console sends it: its greeting has the BackendKeyData
    try:
        c.console_is(c.console_user, engine.host.open_console(c, login.rights, c.console_user, login.database))
    except OSError as error:
        raise Refused(f"the console cannot be reached: {error.strerror}") from error
    c.end_login()
    engine.connecting.consoles.append(c)
    return c.flush()


cdef int cancel_request(Client c, bytes key) except -1:
    """A connection that only wants a query cancelled: it is kept open until that is done, then closed."""
    c.pause(PAUSE_WAIT)
    c.engine.host.cancel_requested(c, key)
    return 0
