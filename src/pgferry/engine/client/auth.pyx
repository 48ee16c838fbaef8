"""How a client proves who it is: the exchange that auth_type and the stored secret ask for.

Steps that need somebody else (auth_query, PBKDF2 in the slow thread) pause the client with PAUSE_WAIT; what goes on
when the answer is there looks first whether the client still is. Users that nobody knows go through the same steps.
"""

import struct

from pgferry.auth import md5, sasl, scram
from pgferry.auth.errors import LDAP_FAILED, PAM_FAILED, PASSWORD_FAILED, SASL_FAILED, TRUST_FAILED, AuthError, Refused
from pgferry.auth.hba import CERT_FAILED, PEER_FAILED, packed_address
from pgferry.auth.hba import Login as Seen
from pgferry.auth.secrets import NO_SECRET, Method, Secret, SecretKind, check_cleartext, check_md5, client_method

from pgferry.engine.client.login_data cimport Login, refuse
from pgferry.engine.core.enums cimport REPL_PHYSICAL
from pgferry.engine.core.model cimport Client
from pgferry.engine.io.stream cimport PAUSE_WAIT

cdef dict OUTSIDE = {"ldap": LDAP_FAILED, "pam": PAM_FAILED}    # somebody else checks the password
cdef tuple UNASKED = ("any", "ldap", "pam")         # a user need not be known here


cdef int authenticate(Client c, Login login) except -1:
    """Choose what the client has to prove, and begin. Raises Refused."""
    login.prove_by(c.engine.config.settings.auth_type, None)
    if login.kind == "hba":
        choose(c, login, login.username)
    if (c.user is None or c.user.secret is None) and login.kind not in UNASKED and look_up(c, login):
        return 0
    return challenge(c, login)


cdef bint look_up(Client c, Login login) except -1:
    """Ask auth_query for this user; False: there is none to ask."""
    c.pause(PAUSE_WAIT)
    if c.engine.host.client_auth.look_up(login,
                                         lambda found, failure: looked_up(c, login, found, failure)):
        return True
    c.unpause(PAUSE_WAIT)
    return False


cdef int choose(Client c, Login login, str name) except -1:
    """Find the HBA rule for the client as this user. Raises Refused."""
    cdef bytes address = b"" if c.peer.is_unix else packed_address(c.remote()[0])
    cdef bint physical = login.startup.replication == REPL_PHYSICAL
    rule = c.engine.host.client_auth.rule(Seen(login.database, name, address, c.tls is not None, physical))
    return login.prove_by("plain" if rule.method == "password" else rule.method, rule)


def looked_up(Client c, Login login, found, failure):
    """auth_query has told (name, secret) of a user that auth_file does not know, None for nobody, or has failed."""
    if c.login is not login:
        return
    login.looked_up(found, failure)
    go_on(c, login, after_lookup)


cdef int after_lookup(Client c, Login login) except -1:
    """The rule has to let in who the client really is."""
    if login.rule is not None and login.found is not None and login.found[0] != login.username:
        choose(c, login, login.found[0])
    return challenge(c, login)


cdef int challenge(Client c, Login login) except -1:
    """Start the exchange. Raises Refused."""
    cdef bint known = True
    secret = NO_SECRET
    if login.found is not None:
        secret = login.found[1]
    elif c.user is not None and c.user.secret is not None:
        secret = c.user.secret
    else:
        known = False
    if login.kind == "any":
        return login.proceed(c)
    if not known and login.kind not in OUTSIDE:
        c.engine.log_about(c, "LOG", f"no such user: {login.username}")
    if login.kind == "trust":
        if not known:
            raise Refused(login.failure or TRUST_FAILED)
        return login.proceed(c)
    if login.kind in OUTSIDE:
        login.begin_exchange(Method.PLAIN, None, False)
        return ask(c, login, b"\0\0\0\x03")
    if login.kind == "peer":
        return ask_for_account(c, login, known)
    if login.kind == "cert":
        if not known or not shown_own_certificate(c, login):
            raise Refused(login.failure or CERT_FAILED)
        return login.proceed(c)
    method, possible = client_method(Method(login.kind), secret)
    if method is Method.MD5 and not possible and c.engine.host.client_auth.last_kind is SecretKind.SCRAM:
        method = Method.SCRAM           # what a user that exists would be asked for
    login.begin_exchange(method, secret, possible)
    if method is Method.PLAIN:
        return ask(c, login, b"\0\0\0\x03")
    if method is Method.MD5:
        login.salt_is(md5.new_salt())
        return ask(c, login, b"\0\0\0\x05" + login.salt)
    return ask(c, login, b"\0\0\0\x0a" + sasl.mechanism_list(plus=end_point(c) is not None))


cdef bint shown_own_certificate(Client c, Login login) except -1:
    """Whether the client has shown a valid certificate with its user's name, or one that a map makes that user."""
    certificate = c.certificate()
    name = login.username if login.found is None else login.found[0]
    map_name = login.rule.map if login.rule is not None else ""
    return certificate is not None and c.engine.host.client_auth.check_certificate(certificate, map_name, name)


cdef bytes end_point(Client c):
    """What SCRAM may bind the login to: the hash of the certificate that the client has been shown; or None."""
    return c.tls.ssl.context.end_point if c.tls is not None else None


cdef int ask_for_account(Client c, Login login, bint known) except -1:
    """peer: the account at the other end of the unix socket says who it is. Raises Refused."""
    if not (known and c.peer.is_unix):
        raise Refused(login.failure or PEER_FAILED)
    name = login.username if login.found is None else login.found[0]
    c.pause(PAUSE_WAIT)
    c.engine.host.client_auth.check_peer(c.peer.peer_uid, login.rule.map, name,
                                         lambda right: decided(c, login, right, PEER_FAILED))
    return 0


cdef int ask_outside(Client c, Login login, bytes password) except -1:
    """ldap, pam: somebody else knows whether the password is right."""
    host = "" if c.peer.is_unix else c.remote()[0]
    options = c.engine.config.ldap if login.rule is None else login.rule.ldap
    login.end_exchange()
    c.pause(PAUSE_WAIT)
    c.engine.host.client_auth.verify(login.kind, options, login.username, password, host,
                                     lambda why: verified(c, login, password, why))
    return 0


def verified(Client c, Login login, bytes password, str why):
    """LDAP or PAM has answered. The password may open the server, too."""
    if c.login is not login:
        return
    if why:
        c.engine.log_about(c, "LOG", f"login refused: {login.kind}: {why}")
    else:
        login.has_shown((login.username, Secret(SecretKind.PLAIN, password.decode("utf-8", "surrogateescape"), None)))
    decided(c, login, not why, OUTSIDE[login.kind])


def decided(Client c, Login login, right, text):
    """Somebody else has looked at what the client has shown."""
    if c.login is not login:
        return
    if right:
        go_on(c, login, let_in)
    else:
        c.close(text, text)


cdef int ask(Client c, Login login, bytes body) except -1:
    """Send an Authentication request."""
    cdef bytes message = (login.take_negotiate() or b"") + b"R" + struct.pack("!I", len(body) + 4) + body
    c.put(message, len(message))
    return c.flush()


# --- the client's answers ---------------------------------------------------------------------------------------

cdef int password_message(Client c, Login login, bytes body) except -1:
    """A PasswordMessage or SASL message. Raises Refused, AuthError."""
    if login.method is Method.SCRAM:
        return scram_message(c, login, body)
    password = body[:-1]
    if not body or body[len(body) - 1] or b"\0" in password:
        raise Refused("broken password packet")
    if not password:
        raise Refused("empty password returned by client")
    if login.kind in OUTSIDE:
        return ask_outside(c, login, password)
    if login.method is Method.MD5:
        if not check_md5(login.secret, login.username, login.salt, password) or not login.possible:
            raise Refused(login.failure or PASSWORD_FAILED)
        return login.proceed(c)
    name = login.username if login.found is None else login.found[0]
    if login.secret.kind is SecretKind.SCRAM:
        c.pause(PAUSE_WAIT)
        secret = login.secret
        c.engine.host.run_slow(lambda: check_cleartext(secret, name, password),
                               lambda right, error: decided(c, login, right and error is None, PASSWORD_FAILED))
        return 0
    if not check_cleartext(login.secret, name, password) or not login.possible:
        raise Refused(login.failure or PASSWORD_FAILED)
    return login.proceed(c)


cdef int let_in(Client c, Login login) except -1:
    """The client is who it says."""
    return login.proceed(c)


cdef int go_on(Client c, Login login, int (*step)(Client, Login) except -1) except -1:
    """The next step of the login of a client that was paused."""
    c.unpause(PAUSE_WAIT)
    try:
        step(c, login)
    except Refused as refused:
        c.close(str(refused), str(refused))
    except AuthError as error:
        refuse(c, error)
    return 0


cdef int scram_message(Client c, Login login, bytes body) except -1:
    if login.exchange is None:
        mechanism, first = sasl.initial_response(body, plus=end_point(c) is not None)
        login.begin_scram(mechanism == scram.MECHANISM_PLUS)
        verifier = login.secret.verifier
        if not login.possible:
            verifier = c.engine.host.mock_verifier(login.username)
        elif verifier is None:
            c.pause(PAUSE_WAIT)
            c.engine.host.make_verifier(login.username, login.secret.text,
                                        lambda made, error: verifier_ready(c, login, first, made, error))
            return 0
        return scram_first(c, login, verifier, first)
    try:
        answer = login.exchange.client_final(body)
    except AuthError:
        if login.failure is not None:
            raise Refused(login.failure) from None
        raise
    keys = None
    if login.secret.kind is SecretKind.SCRAM:
        keys = (login.secret.text, login.exchange.client_key, login.secret.verifier.server_key)
    message = b"\0\0\0\x0c" + answer
    login.end_scram(b"R" + struct.pack("!I", len(message) + 4) + message, keys)
    return login.proceed(c)


cdef int scram_first(Client c, Login login, verifier, bytes first) except -1:
    login.continue_scram(
        scram.ServerExchange(verifier, doomed=not login.possible, cbind=end_point(c), plus=login.plus))
    return ask(c, login, b"\0\0\0\x0b" + login.exchange.client_first(first))


def verifier_ready(Client c, Login login, bytes first, verifier, error):
    """The verifier of a plain-text secret has been derived (now, or from the cache)."""
    if c.login is not login:
        return
    c.unpause(PAUSE_WAIT)
    try:
        if error is not None:
            raise Refused(SASL_FAILED)
        scram_first(c, login, verifier, first)
    except Refused as refused:
        c.close(str(refused), str(refused))
    except AuthError as refusal:
        refuse(c, refusal)
