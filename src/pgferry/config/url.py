"""A configuration from a postgresql:// URL alone, for `pgferry run --url`."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from pgferry.config.entries import CONSOLE_NAMES, MAX_DATABASE_BYTES, host_fault
from pgferry.config.global_settings import Settings
from pgferry.config.kinds import BadValue
from pgferry.config.load import with_start_overrides
from pgferry.config.model import Config, Database, User
from pgferry.config.problems import ConfigError, Problem, nearest_name
from pgferry.config.settings import settings_by_name
from pgferry.config.userlist import MAX_USER_BYTES

_SOURCE = "URL"
_FORM = "postgresql://user:password@host:port/database"
_URL = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://(?:(?P<login>[^@/?]*)@)?(?P<hosts>[^/?]*)(?:/(?P<db>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_OPTIONS = (
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslcrl",
    "sslcert",
    "sslkey",
    "application_name",
    "client_encoding",
    "connect_timeout",
)
_GLOBAL_OPTIONS = (
    ("sslmode", "server_tls_sslmode"),
    ("sslnegotiation", "server_tls_sslnegotiation"),
    ("sslrootcert", "server_tls_ca_file"),
    ("sslcrl", "server_tls_crl_file"),
    ("sslcert", "server_tls_cert_file"),
    ("sslkey", "server_tls_key_file"),
    ("connect_timeout", "server_connect_timeout"),
)
_SOCKET_DIRS = ("/var/run/postgresql", "/tmp")


def from_url(url: str, *, overrides: Mapping[str, str] | None = None) -> Config:
    """Make the configuration for one server named by a URL, as libpq reads it. Raises ConfigError.

    It pools in transaction mode and listens on 127.0.0.1:6432 and the default unix socket. The URL's database
    and every other one of that server can be reached. The URL's user logs in with its password (SCRAM), or
    without one when the URL has none (trust), and may use the console. `overrides` (setting name to text)
    replaces any global setting. A message never repeats the URL, which may hold a password.
    """
    parts = _parts(url)
    user, database = _target(parts)
    autodb = msgspec.structs.replace(database, name="*", dbname="")
    settings = Settings(
        **{
            "listen_addr": ("127.0.0.1",),
            "pool_mode": "transaction",
            "auth_type": "scram-sha-256" if user.secret else "trust",
            "admin_users": (user.name,),
            **_global_options(parts),
        }
    )
    config = Config(
        settings=settings, databases={database.name: database}, autodb=autodb, users={user.name: user}
    )
    return with_start_overrides(config, overrides or {})


def _fail(setting: str, message: str, expected: str = "", nearest: str = "") -> ConfigError:
    return ConfigError([Problem(_SOURCE, 0, setting, message, expected, nearest)])


def _parts(url: str) -> dict[str, str]:
    """Split the URL into decoded parts named as libpq's parameters; only those given are present."""
    match = _URL.fullmatch(url.strip())
    if match is None:
        raise _fail("", "this is no PostgreSQL URL", _FORM)
    parts: dict[str, str] = {}
    if match["login"] is not None:
        user, colon, password = match["login"].partition(":")
        parts["user"] = _decode("user", user)
        if colon:
            parts["password"] = _decode("password", password)
    if "@" in match["hosts"] or "@" in (match["db"] or ""):
        message = "an @ stands behind the user and password"
        raise _fail("", message, "percent escapes in them: %40 for @, %2F for /, %3A for :, %3F for ?")
    _add_hosts(parts, match["hosts"])
    if match["db"]:
        parts["dbname"] = _decode("dbname", match["db"])
    for item in filter(None, (match["query"] or "").split("&")):
        key, equals, value = item.partition("=")
        if key not in _OPTIONS:
            # A password with an unescaped ? or & would show up here: known names only.
            raise _fail("", "unknown parameter", ", ".join(_OPTIONS), nearest_name(key, _OPTIONS))
        if not equals:
            raise _fail(key, "the parameter has no value", f"{key}=...")
        parts[key] = _decode(key, value)
    return {key: value for key, value in parts.items() if value}


def _add_hosts(parts: dict[str, str], text: str) -> None:
    hosts, ports = [], set()
    for item in text.split(","):
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([^\[\]:]*))(?::([0-9]*))?", item)
        if match is None:
            raise _fail("host", "the host part cannot be read", f"{_FORM}, an IPv6 address in [brackets]")
        hosts.append(_decode("host", match[1] or match[2]))
        ports.add(match[3] or "")
    if len(ports) > 1:
        raise _fail("port", "the hosts have different ports", "one port for all hosts")
    parts["host"] = ",".join(hosts)
    parts["port"] = ports.pop()


def _decode(name: str, text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise _fail(name, "a % is not followed by two hexadecimal digits", "%25 for a percent sign")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _fail(name, "the percent escapes are not UTF-8", "percent escapes of UTF-8 bytes") from None
    if "\0" in decoded:
        raise _fail(name, "a zero byte is not allowed")
    return decoded


def _target(parts: dict[str, str]) -> tuple[User, Database]:
    name = parts.get("user") or _unix_account()
    dbname = parts.get("dbname") or name
    if len(name.encode()) > MAX_USER_BYTES:
        raise _fail("user", "the name is too long", f"at most {MAX_USER_BYTES} bytes")
    if len(dbname.encode()) > MAX_DATABASE_BYTES:
        raise _fail("dbname", "the name is too long", f"at most {MAX_DATABASE_BYTES} bytes")
    if dbname in CONSOLE_NAMES:
        raise _fail("dbname", f"the name {dbname} is reserved for the admin console", "another database")
    port = parts.get("port", "5432")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise _fail("port", "the port is no port number", "a number from 1 to 65535")
    hosts = [host.strip() for host in parts.get("host", _socket_dir()).split(",")]
    for host in hosts:
        if not host or host_fault(host, int(port)):
            message = "the host name is empty" if not host else host_fault(host, int(port))
            raise _fail("host", message, "a host name, an IP address or a /directory")
    database = Database(
        name=dbname,
        dbname=dbname,
        hosts=tuple(hosts),
        port=int(port),
        application_name=parts.get("application_name"),
        client_encoding=parts.get("client_encoding"),
    )
    return User(name=name, secret=parts.get("password", "")), database


def _unix_account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise _fail("user", "the URL names no user and the Unix account has no name", _FORM) from None


def _socket_dir() -> str:
    """Return the directory that libpq would look in when the URL names no host."""
    return next((path for path in _SOCKET_DIRS if Path(path).is_dir()), _SOCKET_DIRS[-1])


def _global_options(parts: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, name in _GLOBAL_OPTIONS:
        if key not in parts:
            continue
        setting = settings_by_name[name]
        try:
            values[name] = setting.kind.parse(parts[key])
        except BadValue as err:
            raise _fail(key, "the value is not understood", err.expected, err.nearest) from None
        if refusal := setting.refusal(values[name]):
            raise _fail(key, refusal)
    return values
