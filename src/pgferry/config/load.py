"""Loading a configuration: all files together become one Config, or one error that lists every problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pgferry.config.access import SETTINGS as ACCESS_SETTINGS
from pgferry.config.access import Access
from pgferry.config.entries import MAX_SOCKET_PATH, EntryReader
from pgferry.config.global_settings import Settings
from pgferry.config.ini import Entry, IniReader, Section
from pgferry.config.kinds import BadValue
from pgferry.config.model import Config, Database, Peer, User
from pgferry.config.problems import ConfigError, Problem, nearest_name
from pgferry.config.settings import DATABASE, GLOBAL, USER, by_key, settings_by_name
from pgferry.config.userlist import load_userlist
from pgferry.tls import contexts as tls
from pgferry.tls.files import TlsFault

MAIN_SECTION = "pgbouncer"
SECTIONS = (MAIN_SECTION, "databases", "users", "peers")
SET_SOURCE = "SET"

TLS_KEPT = "TLS configuration could not be reloaded, keeping old configuration"
_FACILITIES = ("auth", "authpriv", "daemon", "user", *(f"local{number}" for number in range(8)))


def load(path: str, *, overrides: Mapping[str, str] | None = None, previous: Config | None = None) -> Config:
    """Read the file with its includes and its auth_file. Raises ConfigError with every problem found.

    overrides: values set by the console's SET, by name, applied last. previous: the configuration in force,
    at a reload: settings that count only at start keep their value from there (a warning names those that
    differ), and so do the users when auth_file cannot be read. Nothing is changed when this raises.
    """
    reading = _Reading(path)
    reading.read()
    reading.apply(overrides or {})
    reading.check()
    if reading.problems:
        raise ConfigError(reading.problems)
    return with_tls(reading.config(previous), previous, reading.place)


def with_overrides(config: Config, overrides: Mapping[str, str]) -> Config:
    """Return the configuration with settings changed as by the console's SET. Raises ConfigError.

    Settings that count only at start are checked and otherwise left alone. Changed files of the login are read.
    """
    problems: list[Problem] = []
    changes = {
        name: value
        for name, value in _override_values(overrides, problems).items()
        if settings_by_name[name].reload
    }
    if problems:
        raise ConfigError(problems)
    changed = _with_changes(config, changes)
    return with_tls(changed, config) if any("_tls" in name for name in changes) else changed


def with_tls(
    config: Config,
    previous: Config | None,
    place: Callable[[str], tuple[str, int]] = lambda _: (SET_SOURCE, 0),
) -> Config:
    """Return the configuration with its TLS files read and tried.

    What cannot be used is a ConfigError at start; in a running pooler TLS stays as it was, with a warning.
    `place` tells where a setting stands.
    """
    entries = [*config.databases.values(), *([config.autodb] if config.autodb is not None else [])]
    modes = {entry.sslmode or config.settings.server_tls_sslmode for entry in entries}
    warnings = [warning for warning in config.warnings if TLS_KEPT not in warning.message]
    try:
        files = tls.prepare(config.settings, modes)
        return msgspec.structs.replace(config, tls=files, warnings=warnings)
    except TlsFault as fault:
        if previous is None:
            raise ConfigError([Problem(*place(fault.setting), fault.setting, fault.message)]) from fault
        problem = Problem(*place(fault.setting), fault.setting, f"{TLS_KEPT}: {fault.message}")
    names = [name for name in Settings.__struct_fields__ if name.startswith(("client_tls", "server_tls"))]
    kept = {name: getattr(previous.settings, name) for name in names}
    settings = msgspec.structs.replace(config.settings, **kept)
    return msgspec.structs.replace(config, settings=settings, tls=previous.tls, warnings=[*warnings, problem])


def _with_changes(config: Config, changes: Mapping[str, Any]) -> Config:
    settings = msgspec.structs.replace(config.settings, **changes)
    if any(getattr(settings, name) != getattr(config.settings, name) for name in ACCESS_SETTINGS):
        access = Access(settings, list(config.databases.values()))
        if access.all_problems():
            raise ConfigError(access.all_problems())
        config = msgspec.structs.replace(config, hba=access.hba, ident=access.ident, ldap=access.ldap)
    if settings.auth_file == config.settings.auth_file:
        return msgspec.structs.replace(config, settings=settings)
    warnings = list(config.warnings)
    limits = {name: msgspec.structs.replace(user, secret=None) for name, user in config.users.items()}
    users = _with_secrets(limits, settings, config, warnings)
    return msgspec.structs.replace(config, settings=settings, users=users, warnings=warnings)


def with_new_users(config: Config) -> Config:
    """Return the configuration with auth_file read again; `config` itself when that changes nothing."""
    warnings: list[Problem] = []
    limits = {name: msgspec.structs.replace(user, secret=None) for name, user in config.users.items()}
    users = _with_secrets(limits, config.settings, config, warnings)
    if users == config.users:
        return config
    return msgspec.structs.replace(config, users=users, warnings=warnings)


def with_start_overrides(config: Config, overrides: Mapping[str, str]) -> Config:
    """Return the configuration with any global setting replaced, before a start. Raises ConfigError."""
    problems: list[Problem] = []
    changes = _override_values(overrides, problems)
    if problems:
        raise ConfigError(problems)
    return with_tls(_with_changes(config, changes), None)


def keep_start_settings(new: Settings, running: Settings) -> tuple[Settings, list[str]]:
    """Return `new` with the start-only values of `running`, and the names of those that differ."""
    names = [setting.name for setting in GLOBAL if not setting.reload]
    changed = [name for name in names if getattr(new, name) != getattr(running, name)]
    return msgspec.structs.replace(new, **{name: getattr(running, name) for name in changed}), changed


def read_setting(name: str, text: str, file: str, line: int, problems: list[Problem]) -> Any:
    """Return the value of a global setting, or None after adding a problem. NULL defaults read '' as None."""
    setting = settings_by_name.get(name)
    if setting is None:
        problems.append(_unknown_setting(name, file, line))
        return None
    if setting.default is None and not text:
        return setting.null_value
    try:
        value = setting.kind.parse(text)
    except BadValue as err:
        problems.append(Problem(file, line, name, err.message, err.expected, err.nearest))
        return None
    if refusal := setting.refusal(value):
        problems.append(Problem(file, line, name, refusal))
    return value


def _unknown_setting(name: str, file: str, line: int) -> Problem:
    if name == "service_name":
        message = "unknown parameter: it names a Windows service and does not exist on this system"
        return Problem(file, line, name, message)
    for section, table in (("databases", DATABASE), ("users", USER)):
        if name in by_key(table):
            message = f"unknown parameter in [{MAIN_SECTION}]: it belongs into the lines of [{section}]"
            return Problem(file, line, name, message, nearest=nearest_name(name, settings_by_name))
    return Problem(file, line, name, "unknown parameter", nearest=nearest_name(name, settings_by_name))


def _override_values(overrides: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    values = {}
    for name, text in overrides.items():
        values[name] = read_setting(name, text, SET_SOURCE, 0, problems)
    return values


class _Reading:
    """One load in progress: what has been read so far and what is wrong with it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._ini = IniReader()
        self._entries = EntryReader(self.problems, self.warnings)
        self._settings: dict[str, Any] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._databases: dict[str, Database] = {}
        self._users: dict[str, User] = {}
        self._peers: dict[int, Peer] = {}
        self._seen: dict[tuple[str, str], Entry] = {}
        self._sections: set[str] = set()
        self._access = Access(Settings(), ())

    def read(self) -> None:
        """Read all files; what is wrong lands in `problems`, main file first and each file in line order."""
        for item in self._ini.read(self.path):
            if isinstance(item, Section):
                self._open_section(item)
            else:
                self._take(item)
        self.problems.extend(self._ini.problems)
        self.problems.sort(key=lambda problem: (problem.file != self.path, problem.file, problem.line))
        if MAIN_SECTION not in self._sections and self._ini.complete:
            self.problems.append(Problem(self.path, 0, "", f"section [{MAIN_SECTION}] is missing"))

    def apply(self, overrides: Mapping[str, str]) -> None:
        """Put the console's SET values on top; start-only ones are checked and left alone."""
        for name, value in _override_values(overrides, self.problems).items():
            if name in settings_by_name and settings_by_name[name].reload:
                self._settings[name] = value
                self._places[name] = (SET_SOURCE, 0)

    def check(self) -> None:
        """Look for what is wrong with the settings together; needs all values to be right by themselves."""
        if self.problems:
            return
        settings = Settings(**self._settings)
        if not settings.listen_addr and not settings.unix_socket_dir:
            message = "pgferry would listen nowhere: listen_addr and unix_socket_dir are both empty"
            self._report("listen_addr", message, "an address, or a unix_socket_dir")
        socket_path = f"{settings.unix_socket_dir}/.s.PGSQL.{settings.listen_port}"
        if settings.unix_socket_dir and len(socket_path.encode()) > MAX_SOCKET_PATH:
            message = "the path of the unix socket is too long"
            self._report(
                "unix_socket_dir", message, f"at most {MAX_SOCKET_PATH} bytes with the socket's name"
            )
        self._access = Access(settings, list(self._databases.values()))
        self.problems += self._access.problems
        self.warnings += self._access.warnings
        for fault in self._access.faults:
            self._report(*fault)
        if settings.auth_type == "cert" and settings.client_tls_sslmode != "verify-full":
            self._report(
                "auth_type", "cert needs certificates of clients", "client_tls_sslmode = verify-full"
            )
        self._warn_settings(settings)

    def config(self, previous: Config | None) -> Config:
        """Make the result; reads auth_file."""
        settings = Settings(**self._settings)
        if settings.conffile is None:
            settings = msgspec.structs.replace(settings, conffile=self.path)
        if previous is not None:
            settings, changed = keep_start_settings(settings, previous.settings)
            for name in changed:
                self._warn(name, "the change has no effect before a restart")
        users = _with_secrets(self._users, settings, previous, self.warnings)
        return Config(
            path=self.path,
            settings=settings,
            databases={name: entry for name, entry in self._databases.items() if name != "*"},
            autodb=self._databases.get("*"),
            users=users,
            peers=self._peers,
            hba=self._access.hba,
            ident=self._access.ident,
            ldap=self._access.ldap,
            warnings=self.warnings,
        )

    def _open_section(self, item: Section) -> None:
        if item.name not in SECTIONS:
            expected = ", ".join(f"[{name}]" for name in SECTIONS)
            nearest = nearest_name(item.name, SECTIONS)
            suggestion = f"[{nearest}]" if nearest else ""
            name = f"[{item.name}]"
            self.problems.append(Problem(item.file, item.line, name, "unknown section", expected, suggestion))
        if item.name == MAIN_SECTION and MAIN_SECTION in self._sections:
            self._forget_settings(item)
        self._sections.add(item.name)

    def _forget_settings(self, item: Section) -> None:
        """A second [pgbouncer] header sets everything back to its default, as PgBouncer does; say so."""
        lost = [name for name in self._settings if settings_by_name[name].default is not None]
        for name in lost:
            del self._settings[name]
            for seen in [key for key in self._seen if key == (MAIN_SECTION, name)]:
                del self._seen[seen]
        if lost:
            message = (
                f"a second [{MAIN_SECTION}] section: these settings of the first are lost: {', '.join(lost)}"
            )
            self.warnings.append(Problem(item.file, item.line, f"[{MAIN_SECTION}]", message))

    def _take(self, entry: Entry) -> None:
        if entry.section is None:
            message = "the setting stands before the first section"
            self.problems.append(
                Problem(entry.file, entry.line, entry.key, message, f"[{MAIN_SECTION}] above it")
            )
            return
        if entry.section not in SECTIONS:
            return
        self._warn_repeated(entry)
        if entry.section == MAIN_SECTION:
            self._places[entry.key] = (entry.file, entry.line)
            before = len(self.problems)
            value = read_setting(entry.key, entry.value, entry.file, entry.line, self.problems)
            if len(self.problems) == before:
                self._settings[entry.key] = value
        elif entry.section == "databases":
            self._places[f"databases.{entry.key}"] = (entry.file, entry.line)
            if (database := self._entries.database(entry)) is not None:
                self._databases[entry.key] = database
        elif entry.section == "users":
            if (user := self._entries.user(entry)) is not None:
                self._users[entry.key] = user
        elif (peer := self._entries.peer(entry)) is not None:
            self._peers[peer.id] = peer

    def _warn_repeated(self, entry: Entry) -> None:
        assert entry.section is not None
        first = self._seen.setdefault((entry.section, entry.key), entry)
        if first is not entry:
            name = entry.key if entry.section == MAIN_SECTION else f"{entry.section}.{entry.key}"
            message = f"given before at {first.file}:{first.line}; this line counts"
            self.warnings.append(Problem(entry.file, entry.line, name, message))
            self._seen[entry.section, entry.key] = entry

    def _warn_settings(self, settings: Settings) -> None:
        for name in self._settings:
            setting = settings_by_name[name]
            if setting.notice and self._settings[name] != setting.default_value():
                self._warn(name, setting.notice)
        if settings.syslog_facility.lower() not in _FACILITIES:
            self._warn("syslog_facility", "unknown facility, daemon is used", ", ".join(_FACILITIES))
        if settings.unix_socket_mode == 777:
            self._warn("unix_socket_mode", "777 is read as a decimal number", "0777 with a leading zero")
        nobody = settings.auth_user is None and not any(d.auth_user for d in self._databases.values())
        if settings.auth_type not in ("any", "ldap", "pam") and settings.auth_file is None and nobody:
            self._warn("auth_file", "there is no auth_file, so no user is known and nobody can log in")
        for name in ("listen_addr", "admin_users", "stats_users"):
            if any(" " in item for item in getattr(settings, name)):
                self._warn(name, "a name has a blank in it", "names separated by commas")
        for database in self._databases.values():
            self._warn_database(database, settings)

    def _warn_database(self, database: Database, settings: Settings) -> None:
        name = f"databases.{database.name}"
        if not database.hosts and not settings.unix_socket_dir:
            self._warn(name, "there is neither a host nor a unix_socket_dir; /tmp is used")
        if database.password is not None and database.user is None:
            self._warn(name, "the password has no effect: it belongs to a user that the entry does not name")
        if settings.auth_type == "any" and database.user is None:
            self._warn(
                name, "nobody can use the entry: auth_type = any needs entries with a user", "user=..."
            )

    def place(self, name: str) -> tuple[str, int]:
        """Where a setting stands: file and line, 0 when it is not there."""
        return self._places.get(name, (self.path, 0))

    def _report(self, name: str, message: str, expected: str = "") -> None:
        file, line = self.place(name)
        self.problems.append(Problem(file, line, name, message, expected))

    def _warn(self, name: str, message: str, expected: str = "") -> None:
        file, line = self.place(name)
        self.warnings.append(Problem(file, line, name, message, expected))


def _with_secrets(
    users: dict[str, User], settings: Settings, previous: Config | None, warnings: list[Problem]
) -> dict[str, User]:
    """Return the users with the secrets of auth_file; its problems become warnings, as in PgBouncer."""
    if settings.auth_file is None:
        return users
    secrets, problems = load_userlist(settings.auth_file)
    warnings.extend(problems)
    if secrets is None:
        known = previous.users.values() if previous else ()
        secrets = {user.name: user.secret for user in known if user.secret is not None}
    joined = {name: User(name=name) for name in secrets} | users
    return {
        name: msgspec.structs.replace(user, secret=secrets[name]) if name in secrets else user
        for name, user in joined.items()
    }
