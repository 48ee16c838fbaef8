"""Connecting to PostgreSQL and logging in (protocol chapter 55.2.1 and 55.3), up to the first ReadyForQuery."""

import os
import socket
import struct

from pgferry.auth import md5, sasl, scram
from pgferry.auth.errors import AuthError
from pgferry.auth.secrets import Method, SecretKind, can_log_in_to_server
from pgferry.engine.wire.address import as_address, unix_address
from pgferry.config import effective
from pgferry.tls.certificate import end_point_hash
from pgferry.tls.files import TlsFault

from libc.stdint cimport uint8_t, uint32_t

from pgferry.engine.core.enums cimport P_CONNECT, REPL_PHYSICAL, SV_GONE
from pgferry.engine.core.model cimport Client, Engine, Job, Pool, Server
from pgferry.engine.io.handshakes cimport start_tls
from pgferry.engine.io.stream cimport PAUSE_WAIT
from pgferry.engine.io.sys cimport EPOLLIN, EPOLLOUT, SOL_SOCKET, SO_ERROR, be32, getsockopt, socklen_t
from pgferry.engine.session.connect_state cimport ask_start, start_answered
from pgferry.engine.shared.times cimport TIME_CONNECT, record
from pgferry.engine.wire.address cimport address_text, local_address
from pgferry.engine.wire.messages cimport error_fields, parameter_status

cdef enum:
    MOST_MESSAGES = 1000        # of a login,
    MOST_SAID = 1 << 20         # and their bytes
    LOGIN_MESSAGE = 65536       # longer messages have no place in a login

cdef bytes SSL_REQUEST = struct.pack("!II", 8, 80877103)
OPTIONAL = ("allow", "prefer")


class ServerLogin:
    """The state of one connection attempt, over all hosts and addresses. The last error ends in failed().

    hosts: those still to be tried; addresses: (family, sockaddr) pairs still to be tried of the present one.
    """

    __slots__ = ("addresses", "asking", "connecting", "exchange", "hosts", "keys", "left", "messages", "params",
                 "said", "secret")

    def __init__(self, secret, hosts):
        self.secret = secret
        self.hosts = hosts
        self.addresses = []
        self.left = 0               # addresses that were given up
        self.begin()

    def begin(self):
        """Nothing has been said to the present address yet."""
        self.connecting = False
        self.asking = False         # whether the server has TLS
        self.keys = None
        self.exchange = None
        self.params = []
        self.messages = self.said = 0       # how many have come, and their bytes

    def connect(self, s, targets):
        """Connect to one of the addresses of the present host; each new connection begins with another one."""
        turn = (s.pool.engine.index + (<Server>s).pool.db.take_address_turn()) % len(targets)
        self.addresses = targets[turn:] + targets[:turn]
        self.next_address(s)

    def next_address(self, s):
        """Connect to the next address that is left of the present host. The list is not empty."""
        try:
            open_socket(s, *self.addresses.pop(0))
        except OSError as error:
            self.unreachable(s, f"connect failed: {error.strerror or error}")

    def unreachable(self, s, reason):
        """This address does not serve: go on with the next one, of this host or of the next host."""
        if self.addresses or self.hosts:
            leave_socket(s, reason)
            self.begin()
            if self.addresses:
                self.next_address(s)
                return
            given_up(s, reason)
            next_host(s, self)
            return
        given_up(s, reason)
        login_failed(s, reason, None)

    def failed(self, s, reason, fields):
        """The attempt is over, unless it was not the login itself that failed and there is more to try.

        `fields`: the server's own ErrorResponse, if it sent one.
        """
        refused = reason.startswith("server login failed") if fields is None else fields.get("C") != "57P03"
        if (self.hosts or self.addresses) and not refused:
            self.unreachable(s, reason if fields is None else f"connect failed: {fields.get('M')}")
        else:
            login_failed(s, reason, fields)

    def keys_ready(self, s, exchange, keys, error):
        """The slow part of an exchange of SCRAM is done (in a thread), which may be over by now."""
        if s.login is not self or self.exchange is not exchange:
            return
        if error is not None:
            self.failed(s, f"SCRAM key derivation failed: {error}", None)
            return
        send(s, b"p", self.exchange.final(keys.client_key, keys.server_key))
        (<Server>s).unpause(PAUSE_WAIT)


cdef int start_login(Server s, Job job, bint internal) except -1:
    """Begin a connection of its pool, whose places are taken already; `internal`: it takes none. job: or None."""
    cdef Pool pool = s.pool
    login = ServerLogin(pool.engine.host.server_secret(pool), hosts_in_turn(pool))
    s.begin_login(login, job, internal)
    return next_host(s, login)


cdef list hosts_in_turn(Pool pool):
    """The hosts of the entry in the order to try them; those that could not be reached lately come last."""
    conf = pool.db.conf
    hosts = list(conf.hosts or (pool.engine.config.settings.unix_socket_dir,))
    if len(hosts) == 1:
        return hosts
    turn = pool.db.take_host_turn(len(hosts), conf.load_balance_hosts != "disable")
    hosts = hosts[turn:] + hosts[:turn]
    return sorted(hosts, key=lambda host: pool.engine.host.is_down(host, conf.port))


cdef int next_host(Server s, login) except -1:
    """Try the next host of the list, which is not empty."""
    cdef Engine engine = s.pool.engine
    cdef int port = s.pool.db.conf.port
    cdef str host = login.hosts.pop(0)
    s.ends.host_is(host, port)
    path = unix_address(host, port)
    literal = None if path is not None else as_address(host, port)
    if path is not None or literal is not None:
        login.connect(s, [(socket.AF_UNIX, path) if path is not None else literal])
        return 0

    def resolved(addresses, error):
        if s.login is not login or s.ends.host is not host:
            return
        if error is not None or not addresses:
            why = "server DNS lookup failed" if error is None else f"server DNS lookup failed: {error}"
            login.unreachable(s, why)
            return
        login.connect(s, [as_address(address, port) for _, address in addresses])

    engine.host.resolve(host, resolved)
    return 0


cdef int given_up(Server s, str reason) except -1:
    """No address of the present host has served."""
    conf = s.pool.db.conf
    if len(conf.hosts) < 2:
        return 0
    s.pool.engine.host.set_down(s.ends.host, conf.port, s.pool.db.name, reason)
    if conf.load_balance_hosts == "disable" and s.ends.host in conf.hosts:
        s.pool.db.begin_hosts_at(conf.hosts.index(s.ends.host) + 1)
    return 0


cdef int leave_socket(Server s, str reason) except -1:
    """Close the socket, not the server: it gets another one. Its time to connect begins again."""
    s.pool.engine.log_about(s, "WARNING", f"{reason}; trying the next address")
    s.drop_socket()
    s.login.left += 1
    s.ends.begin_again(s.loop.now)
    return 0


def open_socket(Server s, family, address):
    """Start a non-blocking connect. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family != socket.AF_UNIX:
            s.pool.engine.host.set_tcp_options(sock)
        code = sock.connect_ex(address)
        if code not in (0, 115):      # EINPROGRESS
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    (<Server>s).ends.address_is((family, address), "unix" if family == socket.AF_UNIX else address[0])
    s.login.connecting = True
    s.attach(sock.detach(), EPOLLIN | EPOLLOUT)


cdef int server_connected(Server s) except -1:
    """The connect has ended: send the startup packet, or give up."""
    cdef int code = 0
    cdef socklen_t size = sizeof(code)
    getsockopt(s.fd, SOL_SOCKET, SO_ERROR, &code, &size)
    if code:
        s.login.unreachable(s, f"connect failed: {os.strerror(code)}")
        return 0
    s.login.connecting = False
    s.watch(EPOLLIN)
    if sslmode(s) == "disable":
        return introduce(s)
    if direct(s):
        return begin_tls(s)
    s.login.asking = True
    s.put(SSL_REQUEST, len(SSL_REQUEST))
    return s.flush()


# --- TLS --------------------------------------------------------------------------------------------------------

cdef str sslmode(Server s):
    """disable (always on unix sockets), or what the database's servers are to have."""
    if s.ends.peer_addr == "unix":
        return "disable"
    return effective.sslmode(s.pool.engine.config, s.pool.db.conf)


cdef bint direct(Server s):
    """Whether TLS begins without asking; not where the server may be without."""
    return (sslmode(s) not in OPTIONAL
            and effective.sslnegotiation(s.pool.engine.config, s.pool.db.conf) == "direct")


cdef int answered_ssl(Server s, const char *p, size_t n) except -1:
    """The one byte that answers an SSLRequest."""
    s.login.asking = False
    if n > 1:
        # Whoever put it there could not put it into the encrypted connection.
        return s.login.failed(s, "received unencrypted data after SSL response", None) or 0
    if p[0] == b"S":
        return begin_tls(s)
    if p[0] != b"N":
        return s.login.failed(s, "bad sslreq answer", None) or 0
    if sslmode(s) not in OPTIONAL:
        return s.login.failed(s, "server refused SSL", None) or 0
    return introduce(s)


cdef int begin_tls(Server s) except -1:
    try:
        return start_tls(s, s.pool.engine.server_tls.context(sslmode(s)), False, s.ends.host)
    except (TlsFault, ValueError) as error:
        return s.login.failed(s, f"TLS is not possible: {error}", None) or 0


cdef int server_secure(Server s) except -1:
    """The handshake is over."""
    if direct(s) and s.tls.ssl.selected_alpn_protocol() is None:
        # Something else than PostgreSQL may listen there.
        return s.login.failed(s, "direct TLS without a common application protocol", None) or 0
    return introduce(s)


cdef int introduce(Server s) except -1:
    """Send the startup packet."""
    cdef Pool pool = s.pool
    if s.ends.peer_addr == "unix":
        s.ends.own_end_is("unix", s.ends.peer_port)
    else:
        own_addr, own_port = address_text(local_address(s.fd))
        s.ends.own_end_is(own_addr, own_port)
    if pool.engine.settings.log_connections:
        transition_key = "" if s.ends.peer_addr == "unix" else f" (from {s.ends.own_addr}:{s.ends.own_port})"
        whose = "" if s.job is None or s.job.purpose is None else f", for pgferry itself: {s.job.purpose}"
        pool.engine.log_about(s, "LOG", f"new connection to server{transition_key}{whose}")
        if s.tls is not None:
            pool.engine.log_about(s, "LOG", f"SSL established: {s.tls.info}")
    params = [b"user", pool.user.name.encode("utf-8", "surrogateescape"),
              b"database", (pool.db.conf.dbname or pool.db.name).encode("utf-8", "surrogateescape")]
    if not s.internal:
        params += configured_parameters(pool.db.conf)
    if s.job is not None:
        params += s.job.parameters(s)
    body = struct.pack("!I", 196608) + b"\0".join(params) + b"\0\0"
    message = struct.pack("!I", len(body) + 4) + body
    s.put(message, len(message))
    return s.flush()


cdef list configured_parameters(conf):
    """What the database's entry has for the startup packet."""
    cdef list params = []
    for name in ("client_encoding", "datestyle", "timezone", "application_name"):
        value = getattr(conf, name)
        if value is not None:
            params += [name.encode(), value.encode("utf-8", "surrogateescape")]
    return params


cdef int send(Server s, bytes kind, bytes body) except -1:
    message = kind + struct.pack("!I", len(body) + 4) + body
    s.put(message, len(message))
    return s.flush()


cdef ssize_t server_login_feed(Server s, const char *p, size_t n) except -1:
    """Consume the login's messages."""
    cdef size_t pos = 0, total
    left = s.login.left
    if s.login.asking and n:
        answered_ssl(s, p, n)
        return n
    while n - pos >= 5 and s.login is not None and s.paused == 0:
        total = <size_t>be32(p + pos + 1) + 1
        if total < 5 or total > LOGIN_MESSAGE:
            s.login.failed(s, "bad packet header in login", None)
            return n
        if n - pos < total:
            s.needs(total)
            return pos
        s.login.messages += 1
        s.login.said += total
        if s.login.messages > MOST_MESSAGES or s.login.said > MOST_SAID:
            s.login.failed(s, "server login failed: server says too much", None)
            return n
        if p[pos] == b"Z" and pos + total < n:
            s.login.failed(s, "server says more than a login", None)
            return n
        try:
            login_message(s, p[pos], p[pos + 5:pos + total])
        except AuthError as error:
            if error.detail:
                s.pool.engine.log_about(s, "WARNING", f"{error.message}: {error.detail}")
            s.login.failed(s, error.message, None)
        if s.closed or (s.login is not None and s.login.left != left):
            return n        # closed, or on its way to another address
        pos += total
    return pos


cdef int login_message(Server s, char kind, bytes body) except -1:
    login = s.login
    if kind == b"R":
        return authentication(s, login, body)
    if kind == b"S":
        name, found, value = body[:-1].partition(b"\0")
        if found:
            login.params.append((name, value))
        return 0
    if kind == b"K":
        s.ends.cancel_key_is(body)
        return 0
    if kind == b"E":
        fields = error_fields(body, len(body))
        login.failed(s, "login failed", fields)
        return 0
    if kind == b"Z":
        return ready(s, login)
    if kind == b"N" or kind == b"v":
        return 0
    login.failed(s, f"unknown pkt from server: {chr(<uint8_t>kind)!r}", None)
    return 0


cdef int authentication(Server s, login, bytes body) except -1:
    """Answer an Authentication request. Raises AuthError."""
    cdef Pool pool = s.pool
    cdef uint32_t code
    user = pool.user.name
    secret = login.secret
    if len(body) < 4:
        raise AuthError("server login failed: broken authentication request")
    code = be32(<const char *>body)
    if code == 0:
        if login.exchange is not None and not login.exchange.done:
            raise AuthError("server login failed: server did not finish the SCRAM exchange")
        return 0
    if code == 3:
        need(secret, Method.PLAIN, False)
        return send(s, b"p", secret.text.encode("utf-8", "surrogateescape") + b"\0")
    if code == 5:
        need(secret, Method.MD5, False)
        text = secret.text if secret.kind is SecretKind.MD5 else md5.md5_secret(secret.text, user)
        return send(s, b"p", md5.md5_response(text[3:].encode(), body[4:8]) + b"\0")
    if code == 10:
        need(secret, Method.SCRAM, client_keys(pool, secret) is not None)
        binding = end_point_hash(s.tls.ssl.getpeercert(True)) if s.tls is not None else None
        mechanism = sasl.choose_mechanism(body[4:], can_bind=binding is not None)
        login.exchange = scram.ClientExchange(cbind=binding, plus=mechanism == scram.MECHANISM_PLUS)
        return send(s, b"p", sasl.build_initial_response(login.exchange.mechanism, login.exchange.first()))
    if code == 11 and login.exchange is not None:
        return scram_challenge(s, login, body[4:])
    if code == 12 and login.exchange is not None:
        login.exchange.verify(body[4:])
        return 0
    raise AuthError(f"server login failed: authentication method {code} is not supported")


cdef client_keys(Pool pool, secret):
    """(client key, server key) that a client's own SCRAM login left, if it was against this very secret."""
    for keys in (pool.user.keys, pool.db.found.get(pool.user.name, (None, None))[1]):
        if secret.kind is SecretKind.SCRAM and keys is not None and keys[0] == secret.text:
            return keys
    return None


cdef int need(secret, method, bint has_keys) except -1:
    if not can_log_in_to_server(secret, method, has_client_key=has_keys):
        raise AuthError("server login failed: wrong password type")
    return 0


cdef int scram_challenge(Server s, login, bytes message) except -1:
    """Answer the server's salt and iteration count; the key derivation runs in a thread unless it is known."""
    cdef Pool pool = s.pool
    challenge = login.exchange.server_first(message)
    own = client_keys(pool, login.secret)
    if own is not None:
        return send(s, b"p", login.exchange.final(own[1], own[2]))
    s.pause(PAUSE_WAIT)
    exchange = login.exchange
    pool.engine.host.derive_keys(login.secret.text, challenge.salt, challenge.iterations,
                                 lambda keys, error: login.keys_ready(s, exchange, keys, error))
    return 0


cdef int ready(Server s, login) except -1:
    """The first ReadyForQuery: connect_query, if there is one."""
    cdef Pool pool = s.pool
    cdef Engine engine = pool.engine
    cdef list values = [None] * len(engine.parameters.names), untracked = []
    for name, value in login.params:
        index = engine.index_of(name)
        if index is None:
            untracked.append(parameter_status(name, value))
        else:
            values[index] = value
    s.end_login(engine.same_vars(tuple(values)))
    s.login_parameters.told(b"".join(untracked), major_version(login.params))
    if s.internal:
        return s.logged_in()
    record(pool.times.counts[TIME_CONNECT], s.since - s.ends.created)
    pool.times.took(s.since - s.ends.created)
    text = pool.db.conf.connect_query
    if text and s.replication != REPL_PHYSICAL:     # which understands no SQL
        s.login_parameters.before_connect_query(s.vars)
        s.query(text.encode("utf-8", "surrogateescape"), P_CONNECT)
        return s.flush()
    return connected(s)


cdef int connect_query_done(Server s) except -1:
    """connect_query has been answered."""
    if not ask_start(s, s.pool.db.conf.connect_query.encode("utf-8", "surrogateescape")):
        return connected(s)
    return 0


cdef int start_done(Server s, dict failed) except -1:
    """What connect_query has left is known, or could not be asked for (`failed`: fields of the error)."""
    if start_answered(s, failed):
        return connected(s)
    return 0


cdef int connected(Server s) except -1:
    """The login is over, connect_query included: what it has set is what the pool's clients start with."""
    cdef Pool pool = s.pool
    if s.replication:
        s.job.reported(s, s.login_parameters.untracked)
    elif (pool.endpoint.server_parameters is None or s.vars != pool.endpoint.base_vars
          or pool.endpoint.server_parameters != s.login_parameters.untracked):
        pool.endpoint.parameters_are(s.vars, s.login_parameters.reset_vars or s.vars, s.login_parameters.untracked)
    else:
        s.vars_are(pool.endpoint.base_vars)
    s.login_parameters.end_login()
    return s.logged_in()


cdef int major_version(list params) except -1:
    """PostgreSQL's major version from server_version; 0 when it is not told."""
    for name, value in params:
        if name == b"server_version":
            digits = value.split(b".")[0].strip()
            return int(digits[:2]) if digits[:2].isdigit() else 0
    return 0


cdef int login_failed(Server s, str reason, fields) except -1:
    """Close the server, hold off new attempts, and tell those who wait only for it."""
    cdef Pool pool = s.pool
    cdef Engine engine = pool.engine
    cdef Client c
    cdef Job job = s.job
    if s.state == SV_GONE:
        return 0
    if s.internal:
        return job.login_failed(s, reason, fields)
    told = fields is None and reason.startswith("server login failed")
    if fields is not None:
        text, code = fields.get("M", "login failed"), fields.get("C", "08P01")
        engine.log_about(s, "WARNING", f"server login failed: {fields.get('S', 'FATAL')} {text}")
    else:
        text, code = reason, "08P01"
        engine.log_about(s, "WARNING", reason)
    if job is not None:
        return job.login_failed(s, reason, fields)
    pool.hold_off()
    if told or (fields is not None and code != "57P03"):
        pool.endpoint.login_refused(code, text)
    else:
        pool.endpoint.connect_failed()
    s.close(reason)
    if pool.endpoint.last_login_failed and pool.server_count() == pool.endpoint.fresh.count:
        for stream in pool.logging_in.items() + pool.waiting.items():
            c = <Client>stream
            c.close(text, text, code)
        pool.fail_demand(text)
    return 0
