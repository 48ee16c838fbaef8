"""From the lines of [databases], [users] and [peers] to structs, checked against the settings tables."""

from __future__ import annotations

import ipaddress
from typing import Any

from pgferry.config.connstr import ConnstrError, parse_pairs
from pgferry.config.ini import Entry
from pgferry.config.kinds import BadValue, Value, read_c_prefix
from pgferry.config.model import Database, Peer, User
from pgferry.config.problems import Problem, nearest_name
from pgferry.config.setting import Setting
from pgferry.config.settings import DATABASE, PEER, USER, by_key
from pgferry.config.userlist import MAX_USER_BYTES

MAX_DATABASE_BYTES = 63
MAX_SOCKET_PATH = 107
CONSOLE_NAMES = ("pgbouncer", "pgferry")

_DATABASE_KEYS = by_key(DATABASE)
_USER_KEYS = by_key(USER)
_PEER_KEYS = by_key(PEER)


class EntryReader:
    """Turns entries into structs. Every method returns None when the entry has a problem."""

    def __init__(self, problems: list[Problem], warnings: list[Problem]) -> None:
        self._problems = problems
        self._warnings = warnings

    def database(self, entry: Entry) -> Database | None:
        """Read a line of [databases]; the name `*` makes the template, whose dbname may be empty."""
        if entry.key in CONSOLE_NAMES:
            self._report(entry, "", f"the name {entry.key} is reserved for the admin console", "another name")
            return None
        if not self._name_fits(entry, MAX_DATABASE_BYTES):
            return None
        values = self._values(entry, _DATABASE_KEYS)
        if values is None:
            return None
        values.setdefault("dbname", "" if entry.key == "*" else entry.key)
        database = Database(name=entry.key, **values)
        faults = [host_fault(host, database.port) for host in database.hosts] if "hosts" in values else []
        if "hosts" in values and not database.hosts:
            faults.append("the list is empty")
        for fault in filter(None, faults):
            self._report(
                entry,
                "host",
                fault,
                "a host name, an IP address, /directory or @name, or several with commas",
            )
        return None if any(faults) else database

    def user(self, entry: Entry) -> User | None:
        """Read a line of [users]; the secret comes from auth_file later."""
        if not self._name_fits(entry, MAX_USER_BYTES):
            return None
        values = self._values(entry, _USER_KEYS)
        return None if values is None else User(name=entry.key, **values)

    def peer(self, entry: Entry) -> Peer | None:
        """Read a line of [peers]. The own id may be among them, so that all members can have the same list."""
        found = read_c_prefix(entry.key)
        if found is None or not found[1] or not 1 <= found[0] <= 65535:
            self._report(entry, "", "the name is no peer id", "a number from 1 to 65535")
            return None
        values = self._values(entry, _PEER_KEYS)
        if values is None:
            return None
        if "host" not in values:
            self._report(entry, "host", "the host is missing", "host=...")
            return None
        peer = Peer(id=found[0], **values)
        fault = host_fault(peer.host, peer.port)
        if fault:
            self._report(entry, "host", fault)
            return None
        return peer

    def _values(self, entry: Entry, keys: dict[str, Setting]) -> dict[str, Any] | None:
        try:
            pairs = parse_pairs(entry.value)
        except ConnstrError as err:
            self._report(entry, "", err.message, err.expected)
            return None
        values: dict[str, Any] = {}
        bad = secret_seen = False
        for key, text in pairs:
            setting = keys.get(key)
            if setting is None:
                # What follows an unquoted password with a blank in it may be its second half: not repeated.
                shown = "" if secret_seen else f" {key}"
                self._report(entry, "", f"unknown parameter{shown}", nearest=nearest_name(key, keys))
                bad = True
                continue
            secret_seen = secret_seen or key == "password"
            try:
                value = setting.kind.parse(text)
            except BadValue as err:
                self._report(entry, key, err.message, err.expected, err.nearest)
                bad = True
                continue
            if refusal := setting.refusal(value):
                self._report(entry, key, refusal)
                bad = True
            self._warn_about_rest(entry, setting, text)
            values[setting.attribute] = _inherited(setting, value)
        return None if bad else values

    def _warn_about_rest(self, entry: Entry, setting: Setting, text: str) -> None:
        found = read_c_prefix(text) if setting.kind.tolerant else None
        if found is not None and not found[1]:
            message = f"only the number {found[0]} at the start of the value is used"
            name = _setting_name(entry, setting.name)
            self._warnings.append(Problem(entry.file, entry.line, name, message, setting.kind.expected))

    def _name_fits(self, entry: Entry, limit: int) -> bool:
        if not entry.key:
            self._report(entry, "", "the name is empty", "a name")
        elif len(entry.key.encode()) > limit:
            self._report(entry, "", "the name is too long", f"at most {limit} bytes")
        else:
            return True
        return False

    def _report(self, entry: Entry, key: str, message: str, expected: str = "", nearest: str = "") -> None:
        problem = Problem(entry.file, entry.line, _setting_name(entry, key), message, expected, nearest)
        self._problems.append(problem)


def host_fault(host: str, port: int) -> str:
    """Return what is wrong with one host of a list, or an empty string."""
    if host.startswith(("/", "@")):
        length = len(f"{host}/.s.PGSQL.{port}".encode())
        return (
            f"the socket path has {length} bytes, more than {MAX_SOCKET_PATH}"
            if length > MAX_SOCKET_PATH
            else ""
        )
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return f"{host} is no IPv6 address; the port has its own key, and no brackets are used"
    if any(char.isspace() for char in host):
        return "a host name has a blank in it"
    return ""


def _inherited(setting: Setting, value: Value) -> Value:
    below = setting.inherit_below
    if below is not None and isinstance(value, int | float) and value < below:
        return None
    return value


def _setting_name(entry: Entry, key: str) -> str:
    return ".".join(part for part in (entry.section, entry.key, key) if part)
