"""LDAP: is this a user's password in the directory? Blocks; in a helper process (supervisor.external_auth_helper) only.

bonsai is the binding to the system's libldap, so that ldap.conf, its certificates and TLS settings count as they do for
PgBouncer and every other client on the machine.
"""

from __future__ import annotations

from typing import Any, Final

import bonsai

from pgferry.config.rules import LdapOptions

_SECONDS: Final = 3.0  # for each step, as PgBouncer
_SPECIAL: Final = frozenset('\\,+"<>;=#')
_SCOPES: Final = {
    "base": bonsai.LDAPSearchScope.BASE,
    "one": bonsai.LDAPSearchScope.ONELEVEL,
    "sub": bonsai.LDAPSearchScope.SUBTREE,
}


def check(options: LdapOptions, user: str, password: str) -> str:
    """Ask the first server that can be reached. Returns why the user may not log in; empty: it may."""
    if not password:
        return "the password is empty"  # a bind without one succeeds for everybody
    reason = "there is no server"
    for server in options.servers:
        try:
            return _ask(options, _url(options, server), user, password)
        except (bonsai.ConnectionError, bonsai.errors.TimeoutError) as error:
            reason = f"{server}: {_text(error)}"
    return reason


def _ask(options: LdapOptions, url: str, user: str, password: str) -> str:
    if options.searches:
        try:
            name = _find(options, url, user)
        except bonsai.AuthenticationError as error:
            return f"bind as ldapbinddn: {_text(error)}"
        except (bonsai.ConnectionError, bonsai.errors.TimeoutError):
            raise
        except bonsai.LDAPError as error:
            return f"search: {_text(error)}"
        if not name:
            return "not exactly one entry was found"
    else:
        name = simple_name(options, user)
    try:
        _connect(options, url, name, password).close()
    except (bonsai.ConnectionError, bonsai.errors.TimeoutError):
        raise
    except bonsai.LDAPError as error:
        return f"bind: {_text(error)}"
    return ""


def simple_name(options: LdapOptions, user: str) -> str:
    """The name for a simple bind; a user name cannot add parts to a distinguished name."""
    in_dn = "=" in options.prefix or options.suffix.startswith(",")
    return options.prefix + (escape_dn(user) if in_dn else user) + options.suffix


def escape_dn(value: str) -> str:
    """A value as it has to stand in a distinguished name (RFC 4514)."""
    escaped = "".join(f"\\{char}" if char in _SPECIAL else char for char in value).replace("\0", "\\00")
    if escaped.endswith(" "):
        escaped = f"{escaped[:-1]}\\ "
    return f"\\{escaped}" if escaped.startswith(" ") else escaped


def search_filter(options: LdapOptions, user: str) -> str:
    """The filter that finds the user."""
    escaped = bonsai.escape_filter_exp(user)
    if options.filter:
        return options.filter.replace("$username", escaped)
    return f"({options.attribute or 'uid'}={escaped})"


def _find(options: LdapOptions, url: str, user: str) -> str:
    """The distinguished name of the user's entry; empty when there is none, or more than one."""
    connection = _connect(options, url, options.bind_dn, options.bind_password)
    try:
        found = connection.search(
            options.base, _SCOPES[options.scope], search_filter(options, user), ["1.1"], _SECONDS, 2
        )
    except bonsai.errors.SizeLimitError:
        return ""
    finally:
        connection.close()
    return str(found[0].dn) if len(found) == 1 else ""


def _connect(options: LdapOptions, url: str, name: str, password: str) -> Any:
    client = bonsai.LDAPClient(url, options.starttls)
    client.set_ignore_referrals(True)
    if name:
        client.set_credentials("SIMPLE", user=name, password=password)
    return client.connect(timeout=_SECONDS)


def _url(options: LdapOptions, server: str) -> str:
    has_port = ":" in server.rpartition("]")[2]
    port = "" if has_port or not options.port else f":{options.port}"
    return f"{options.scheme}://{server}{port}"


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
