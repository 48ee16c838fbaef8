"""LDAP options, in auth_ldap_options and at the end of an HBA line. Rules: COMPAT.md 2.5."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from pgferry.config.kinds import BadValue
from pgferry.config.problems import nearest_name
from pgferry.config.rules import LdapOptions

_KEYS = {
    "ldapserver": "servers",
    "ldapport": "port",
    "ldapscheme": "scheme",
    "ldaptls": "starttls",
    "ldapprefix": "prefix",
    "ldapsuffix": "suffix",
    "ldapbasedn": "base",
    "ldapbinddn": "bind_dn",
    "ldapbindpasswd": "bind_password",
    "ldapsearchattribute": "attribute",
    "ldapsearchfilter": "filter",
}
_PAIR = re.compile(
    r'[\s,]*(?:"((?:[^"]|"")*)"|([A-Za-z]+)\s*=\s*(?:"((?:[^"]|"")*)"|([^\s,"]*))(?=[\s,]|\Z))'
)
_URL = re.compile(
    r"(ldaps?)://(?:\[([^\]]*)\]|([^:/?]*))(?::([0-9]+))?(?:/([^?]*))?(?:\?([^?]*))?(?:\?([^?]*))?(?:\?(.*))?"
)
_SCOPES = ("base", "one", "sub")
_SIMPLE = ("prefix", "suffix")
_SEARCH = ("base", "bind_dn", "bind_password", "attribute", "filter")


def parse_ldap(text: str, *, comments: bool = False) -> LdapOptions:
    """Read key=value pairs separated by blanks or commas. Raises BadValue, which repeats no value.

    comments: a # outside quotes ends the text.
    """
    values: dict[str, Any] = {}
    for key, value in _pairs(text, comments=comments):
        if key == "ldapurl":
            values.update(_from_url(value))
            continue
        field = _KEYS.get(key)
        if field is None:
            raise _bad("unknown LDAP option", f"{', '.join(_KEYS)} or ldapurl", nearest_name(key, _KEYS))
        values[field] = _value(field, key, value)
    _check(values)
    return LdapOptions(**values)


def _pairs(text: str, *, comments: bool) -> list[tuple[str, str]]:
    pairs = []
    at = 0
    while text[at:].strip(" \t\r\n\v\f,"):
        rest = text[at:].lstrip(" \t\r\n\v\f,")
        if comments and rest.startswith("#"):
            break
        match = _PAIR.match(text, at)
        if match is None or match.end() == at:
            raise _bad(
                "the LDAP options are malformed", 'key=value or key="value", with blanks or commas between'
            )
        whole, key, quoted, plain = match.groups()
        if whole is not None:  # "key=value" as PostgreSQL's own files have it
            key, equals, plain = whole.replace('""', '"').partition("=")
            if not equals:
                raise _bad("the LDAP options are malformed", "key=value")
            pairs.append((key.strip(), plain))
        else:
            pairs.append((key, plain if quoted is None else quoted.replace('""', '"')))
        at = match.end()
    return pairs


def _value(field: str, key: str, value: str) -> Any:
    if field == "port":
        if not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
            raise _bad(f"{key}: no port", "1 to 65535")
        return int(value)
    if field == "scheme":
        if value not in ("ldap", "ldaps"):
            raise _bad(f"{key}: unknown scheme", "ldap or ldaps")
        return value
    if field == "starttls":
        if value not in ("0", "1"):
            raise _bad(f"{key}: no switch", "0 or 1")
        return value == "1"
    if field == "servers":
        servers = tuple(value.split())
        if not servers:
            raise _bad(f"{key}: the list is empty", "host names separated by blanks, in quotes")
        return servers
    return value


def _from_url(url: str) -> dict[str, Any]:
    match = _URL.fullmatch(url)
    if match is None:
        raise _bad("ldapurl is malformed", "ldap://host:port/basedn?attribute?scope?filter")
    scheme, v6, host, port, base, attribute, scope, filter_text = match.groups()
    values: dict[str, Any] = {"scheme": scheme}
    if v6 or host:
        values["servers"] = (f"[{v6}]" if v6 else unquote(host),)
    if port:
        values["port"] = _value("port", "ldapurl", port)
    for field, text in (("base", base), ("attribute", attribute), ("filter", filter_text)):
        if text:
            values[field] = unquote(text)
    if scope:
        if scope not in _SCOPES:
            raise _bad("ldapurl: unknown scope", ", ".join(_SCOPES))
        values["scope"] = scope
    return values


def _check(values: dict[str, Any]) -> None:
    if not values.get("servers"):
        raise _bad("ldapserver is missing", "ldapserver= or ldapurl=")
    if values.get("starttls") and values.get("scheme") == "ldaps":
        raise _bad("ldaptls = 1 with the scheme ldaps: one of them is enough", "ldaptls=0")
    simple = [key for key in _SIMPLE if values.get(key)]
    search = [key for key in _SEARCH if values.get(key)]
    if simple and search:
        raise _bad("the options of a simple bind and those of a search cannot be mixed", "one or the other")
    if search and not values.get("base"):
        raise _bad("ldapbasedn is missing", "the entry under which users are looked for")
    if not simple and not search:
        raise _bad(
            "nothing says who the user is in the directory", "ldapbasedn, or ldapprefix and ldapsuffix"
        )
    if values.get("attribute") and values.get("filter"):
        raise _bad("ldapsearchattribute and ldapsearchfilter cannot be used together", "one or the other")
    if values.get("filter") and "$username" not in values["filter"]:
        raise _bad("ldapsearchfilter does not ask for the user", "$username somewhere in it")


def _bad(message: str, expected: str, nearest: str = "") -> BadValue:
    return BadValue(message, expected, nearest)
