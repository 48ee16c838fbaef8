"""A client from its first byte to its first ReadyForQuery: startup packet, limits, welcome.

How it proves who it is, in between, is in client_auth.

The order of checks is PgBouncer's (COMPAT 4.1): what the packet says, max_client_conn, the limits of database
and user, the password, and only then whether the database exists. Until a password is right a peer costs one
object, at most one startup packet and one password message, and client_login_timeout.
"""

import os
import re
import struct

from pgferry.auth.errors import AuthError, Refused
from pgferry.protocol.errors import ProtocolError
from pgferry.protocol.options import parse_options

from libc.stdint cimport uint32_t

from pgferry.engine.client_auth cimport authenticate, password_message
from pgferry.engine.loop cimport PAUSE_WAIT
from pgferry.engine.messages cimport notice_message, parameter_status
from pgferry.engine.model cimport (
    CL_IDLE, MODE_SESSION, STATE_IGNORE, Client, Database, Engine, Pool, User,
)
from pgferry.engine.pooling cimport close_client, want_servers
from pgferry.engine.state cimport intern_state
from pgferry.engine.sys cimport be32

cdef enum:
    MAX_STARTUP = 10000          # as PostgreSQL (MAX_STARTUP_PACKET_LENGTH)
    MAX_PASSWORD = 65536
    MAX_NEGOTIATIONS = 2         # one for TLS and one for GSSAPI, as PostgreSQL
    SSL_REQUEST = 80877103
    GSS_REQUEST = 80877104
    CANCEL_REQUEST = 80877102
    NEWEST = 196610              # protocol 3.2
    RANDOM = 1024                # random bytes fetched at a time
    HOPS = 3                     # the low bits of byte 7 of a cancel key: how often peers may pass it on
    # Startup parameters that are not tracked:
    USER = -1
    DATABASE = -2
    OPTIONS = -3
    REPLICATION = -4
    OTHER = -5

SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*")
AUTH_OK = b"R\0\0\0\x08\0\0\0\0"
READY = b"Z\0\0\0\x05I"
CONSOLES = ("pgbouncer", "pgferry")
cdef dict SPECIAL = {"user": USER, "database": DATABASE, "options": OPTIONS, "replication": REPLICATION}
# As PostgreSQL cleans application_name: what is not printable ASCII becomes a question mark.
cdef bytes PRINTABLE = bytes([b if 32 <= b < 127 else 63 for b in range(256)])


cdef class Login:
    """What is known of a client before it is logged in."""

    def finish(self, Client c):
        """The pool has its welcome: complete the login."""
        welcome(self, c)

    def abandon(self, Client c):
        """The client is being closed."""
        self.exchange = self.secret = self.found = self.keys = None


def new_login(Client c):
    """Begin the login of an accepted client."""
    c.login = Login()


cdef ssize_t login_feed(Client c, const char *p, size_t n) except -1:
    """Consume the login's packets, one at a time."""
    cdef Login login = c.login
    cdef size_t total
    try:
        if not login.starting:
            total = startup_size(p, n)
            if total == 0:
                return 0
            if n < total:
                c.need = total
                return 0
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
            c.need = total
            return 0
        if login.method is None:
            raise Refused("unknown pkt")
        password_message(c, login, p[5:total])
        return total
    except Refused as refused:
        close_client(c, str(refused), str(refused))
    except AuthError as error:
        refuse(c, error)
    return n


cdef int refuse(Client c, object error) except -1:
    """End a login that an AuthError says is wrong: the reason is for the log only, it would tell who exists."""
    if error.detail:
        c.engine.say(c, "LOG", f"login refused: {error.detail}")
    close_client(c, error.message, error.message, error.sqlstate)


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
        login.negotiations += 1
        if login.negotiations > MAX_NEGOTIATIONS:
            raise Refused(f"bad packet header: '{packet[:8].hex()}'")
        c.put(b"N", 1)
        return c.flush()
    if code == CANCEL_REQUEST:
        return cancel_request(c, packet[8:])
    if code == 131072:
        raise Refused("old V2 protocol not supported")
    if code >> 16 != 3:
        raise Refused(f"bad packet header: '{packet[:8].hex()}'")
    login.starting = True
    read_parameters(c, login, packet, code)
    return admit(c, login)


cdef int read_parameters(Client c, Login login, bytes packet, uint32_t version) except -1:
    """Sort the startup parameters into names, tracked values and what is refused. Raises Refused."""
    cdef Engine engine = c.engine
    cdef list items = packet[8:].split(b"\0")
    cdef list unknown = []
    cdef bytes value
    cdef int i, code
    ignored = engine.config.settings.ignore_startup_parameters
    login.values = {}
    if len(items) < 2 or items[len(items) - 1] or items[len(items) - 2] or len(items) % 2:
        raise Refused("invalid startup packet layout: expected terminator as last byte")
    for i in range(0, len(items) - 2, 2):
        value = items[i + 1]
        code = startup_code(engine, items[i])
        if code >= 0:
            login.values[code] = value
        elif code == USER:
            login.username = value.decode("utf-8", "surrogateescape")
        elif code == DATABASE:
            login.database = value.decode("utf-8", "surrogateescape")
        else:
            name = items[i].decode("utf-8", "surrogateescape")
            if not name:
                raise Refused("invalid startup packet layout: expected terminator as last byte")
            if code == OPTIONS:
                options(engine, login, value.decode("utf-8", "surrogateescape"), ignored)
            elif code == REPLICATION and "replication" not in ignored:
                if value.lower() in (b"true", b"on", b"yes", b"1", b"database"):
                    raise Refused("replication connections are not supported by this version of pgferry")
            elif name.lower().startswith("_pq_."):
                unknown.append(items[i])
            elif name.lower() not in ignored:
                setting(login, name, value)
    if not login.username:
        raise Refused("no username supplied")
    if not login.database:
        login.database = login.username
    if len(login.username.encode("utf-8", "surrogateescape")) >= 128:
        raise Refused("username too long")
    login.long_key = version >= NEWEST
    if version > NEWEST or unknown:
        body = struct.pack("!II", min(version, NEWEST), len(unknown)) + b"".join([name + b"\0" for name in unknown])
        login.negotiate = b"v" + struct.pack("!I", len(body) + 4) + body
    check_values(engine, c, login)
    return 0


cdef int startup_code(Engine engine, bytes name) except? -9:
    """The index of a tracked parameter, or one of the codes below 0. Names in any case; their usual form is quick."""
    cdef object known = engine.startup_names.get(name)
    cdef str lower
    if known is not None:
        return known
    lower = name.decode("utf-8", "surrogateescape").lower()
    known = engine.tracked_index.get(lower)
    if known is None:
        known = SPECIAL.get(lower, OTHER)
    if known != OTHER and len(engine.startup_names) < 100:
        engine.startup_names[name] = known
    return known


cdef int options(Engine engine, Login login, str text, ignored) except -1:
    """The startup parameter `options`: -c settings, each tracked or ignored. Raises Refused."""
    try:
        pairs = parse_options(text)
    except ProtocolError as error:
        raise Refused(str(error)) from None
    for name, value in pairs:
        index = engine.tracked_index.get(name.lower())
        if index is not None:
            login.values[index] = value.encode("utf-8", "surrogateescape")
        elif name.lower() not in ignored and "options" not in ignored:
            setting(login, name, value.encode("utf-8", "surrogateescape"), " in options")
    return 0


cdef int setting(Login login, str name, bytes value, str where="") except -1:
    """A setting that PostgreSQL does not report: part of the session's state, where that is kept. Raises Refused."""
    if SETTING_NAME.fullmatch(name) is None or not value.isascii():
        raise Refused(f"unsupported startup parameter{where}: {name}")
    if login.settings is None:
        login.settings = {}
        login.refusal = f"unsupported startup parameter{where}: {name}"
    login.settings[name.lower().encode()] = value
    return 0


cdef int check_values(Engine engine, Client c, Login login) except -1:
    """Bring application_name to the form PostgreSQL gives it; refuse values that cannot be quoted safely."""
    cdef dict values = login.values
    cdef bytes value
    index = engine.tracked_index["application_name"]
    if engine.config.settings.application_name_add_host:
        value = (values.get(index) or b"app") + b" - " + peer_text(c).encode()
        values[index] = value
    if index in values:
        values[index] = (<bytes>values[index])[:63].translate(PRINTABLE)
    for i in values:
        value = values[i]
        if not value.isascii():
            raise Refused(f"invalid value for parameter {engine.tracked[i]}")
    return 0


cdef str peer_text(Client c):
    if c.is_unix:
        return f"unix:{c.listen_port}"
    host, port = c.remote()
    return f"{host}:{port}"


# --- limits and method ------------------------------------------------------------------------------------------

cdef int admit(Client c, Login login) except -1:
    """Apply the limits and start the authentication. Raises Refused."""
    cdef Engine engine = c.engine
    cdef Database db = engine.databases.get(login.database)
    cdef User user = engine.users.get(login.username)
    cdef bint console = login.database in CONSOLES
    settings = engine.config.settings
    if engine.log_connections:
        engine.say(c, "LOG", f"login attempt: db={login.database} user={login.username} tls=no replication=no")
    if console and c.is_unix and login.username == "pgbouncer" and c.peer_uid == os.geteuid():
        engine.say(c, "LOG", "pgbouncer access from unix socket")
        login.rights = "admin"
        return open_console(c, login)
    if console:
        login.rights = console_rights(settings, login.username)
        if not login.rights:
            raise Refused("not allowed")
    elif engine.shutdown:
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
    if not engine.client_count.take(0 if console else engine.max_client_conn):
        raise Refused("no more connections allowed (max_client_conn)")
    c.counted = True
    if db is not None and not console:
        if not db.clients.take(db.max_clients):
            raise Refused("client connections exceeded (max_db_client_connections)")
        c.db = db
    if user is not None:
        if not user.clients.take(0 if console else user.max_clients):
            raise Refused("client connections exceeded (max_user_client_connections)")
        c.user = user
    return 0


# --- authenticated ----------------------------------------------------------------------------------------------

cdef int authenticated(Client c, Login login) except -1:
    """The client is who it says. Find its pool. Raises Refused."""
    cdef Engine engine = c.engine
    cdef Database db = c.db
    cdef User user
    cdef Pool pool
    login.authenticated = True
    login.method = None
    if login.found is not None:
        become(c, login, login.found[0])
    if login.rights:
        return open_console(c, login)
    if db is None or engine.databases.get(login.database) is not db:
        # Not known when the login began, or removed since.
        if db is not None:
            db.clients.give()
            c.db = None
        db = engine.databases.get(login.database) or engine.host.auto_database(login.database)
        if db is None:
            raise Refused(f"no such database: {login.database}")
        if not db.clients.take(db.max_clients):
            raise Refused("client connections exceeded (max_db_client_connections)")
        c.db = db
    if db.disabled:
        raise Refused(f'database "{db.name}" is disabled')
    user = c.user
    if login.found is not None:
        db.found[user.name] = (login.found[1], login.keys)
    elif login.keys is not None:
        user.keys = login.keys
    if db.conf.user is not None:
        user = engine.host.user(db.conf.user)
        if c.user is None:
            user.clients.take(0)
            c.user = user
    elif user is None:
        raise Refused("bouncer config error")
    pool = engine.pool_for(db, user)
    if login.settings and pool.session_state == STATE_IGNORE:
        raise Refused(login.refusal)
    c.pool = pool
    if pool.welcome is not None:
        return welcome(login, c)
    c.wait_start = engine.loop.now
    c.pause(PAUSE_WAIT)
    pool.logging_in.append(c)
    if engine.workers > 1:
        engine.host.ask_welcome(pool)
    if pool.last_login_failed and pool.last_error is not None and pool.server_count() == pool.fresh.count:
        if engine.loop.now < pool.retry_at:
            close_client(c, "server login failed", pool.last_error[1], pool.last_error[0])
            return 0
    return want_servers(pool)


cdef int become(Client c, Login login, str name) except -1:
    """The client is this user, whom auth_file does not know, or under another name. Raises Refused."""
    cdef User user
    if login.rights:
        login.rights = console_rights(c.engine.config.settings, name)
        if not login.rights:
            raise Refused("not allowed")
    if c.user is not None and c.user.name == name:
        return 0
    user = c.engine.host.user(name)
    if not user.clients.take(0 if login.rights else user.max_clients):
        raise Refused("client connections exceeded (max_user_client_connections)")
    if c.user is not None:
        c.user.clients.give()
    c.user = user
    return 0


cdef int welcome(Login login, Client c) except -1:
    """AuthenticationOk, the server's parameters, the cancel key, ReadyForQuery: the client is logged in."""
    cdef Engine engine = c.engine
    cdef Pool pool = c.pool
    cdef list parts = [], values
    cdef bytes message
    if login.negotiate is not None:
        parts.append(login.negotiate)
    if login.farewell is not None:
        parts.append(login.farewell)
    parts.append(AUTH_OK)
    parts.append(pool.welcome)
    c.vars = pool.base_vars
    if login.settings:
        c.kept = c.start = intern_state(engine, login.settings, frozenset())
        c.kept_unchecked = True
    if login.values:
        values = list(pool.base_vars)
        for index, value in login.values.items():
            canonical = pool.canon.get((index, value))
            if canonical is None:
                canonical = value
                if values[index] != value and engine.tracked[index] != "application_name":
                    c.vars_unchecked = True
            values[index] = canonical
        c.vars = tuple(values)
    c.start_vars = c.vars
    parts.append(tracked_statuses(engine, c.vars))
    parts.append(new_key(c, login))
    text = engine.config.settings.login_notify_message
    if text:
        parts.append(notice_message(text))
    parts.append(READY)
    message = b"".join(parts)
    c.put(message, len(message))
    c.login = None
    c.state = CL_IDLE
    c.idle_since = c.loop.now
    c.session = pool.mode == MODE_SESSION
    pool.clients.append(c)
    pool.stats.client_login_count += 1
    c.unpause(PAUSE_WAIT)
    return c.flush()


cdef bytes tracked_statuses(Engine engine, tuple values):
    """The ParameterStatus messages of a set of tracked values; sets in use are remembered."""
    cdef bytes known = engine.status_cache.get(values)
    if known is None:
        known = b"".join([parameter_status(name.encode(), value)
                          for name, value in zip(engine.tracked, values) if value is not None])
        if len(engine.status_cache) >= 256:
            engine.status_cache.clear()
        engine.status_cache[values] = known
    return known


cdef bytes new_key(Client c, Login login):
    """BackendKeyData with a fresh cancel key.

    Among peers, bytes 1 and 2 are the peer id and the low two bits of byte 7 the hops that are left, as PgBouncer
    has it; byte 3 tells the workers of one pgferry whose client it is. Protocol 3.2 gives 32 bytes of secret, 3.0
    four; among peers it is always four, because a PgBouncer takes no others.
    """
    cdef Engine engine = c.engine
    cdef bytes key
    cdef bytearray raw
    cdef int size = 36 if login.long_key and engine.peer_id == 0 else 8
    while True:
        if engine.random is None or engine.random_used + size > RANDOM:
            engine.random = os.urandom(RANDOM)
            engine.random_used = 0
        raw = bytearray(engine.random[engine.random_used:engine.random_used + size])
        engine.random_used += size
        raw[0] &= 0x7F
        raw[3] = engine.index
        if engine.peer_id > 0:
            raw[1], raw[2] = engine.peer_id & 0xFF, engine.peer_id >> 8
            raw[7] |= HOPS
        key = bytes(raw)
        if key not in engine.by_key:
            break
    engine.by_key[key] = c
    c.cancel_key = key
    return b"K" + struct.pack("!I", len(key) + 4) + key


cdef int open_console(Client c, Login login) except -1:
    """Connect the client to the admin console in the supervisor, which sends the rest of the greeting itself.

    Raises Refused.
    """
    cdef Engine engine = c.engine
    if login.negotiate is not None:
        c.put(<const char *>login.negotiate, len(login.negotiate))
    if login.farewell is not None:
        c.put(<const char *>login.farewell, len(login.farewell))
    c.console_user = login.username if login.found is None else login.found[0]
    new_key(c, login)       # the console sends it: its greeting has the BackendKeyData
    try:
        c.tunnel = engine.host.open_console(c, login.rights, c.console_user, login.database)
    except OSError as error:
        raise Refused(f"the console cannot be reached: {error.strerror}") from error
    c.login = None
    c.state = CL_IDLE
    engine.consoles.append(c)
    return c.flush()


cdef int cancel_request(Client c, bytes key) except -1:
    """A connection that only wants a query cancelled: it is kept open until that is done, then closed."""
    c.pause(PAUSE_WAIT)
    c.engine.host.cancel_requested(c, key)
    return 0
