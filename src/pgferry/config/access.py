"""What the login settings refer to: HBA and ident files, LDAP options, libraries that some methods need."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Collection
from typing import NamedTuple

from pgferry.config.entries import CONSOLE_NAMES
from pgferry.config.global_settings import Settings
from pgferry.config.hba import HbaReader
from pgferry.config.ident import Maps, load_ident
from pgferry.config.kinds import BadValue
from pgferry.config.ldap import parse_ldap
from pgferry.config.model import Database
from pgferry.config.problems import Problem
from pgferry.config.rules import HbaRule, LdapOptions

SETTINGS = ("auth_type", "auth_hba_file", "auth_ident_file", "auth_ldap_options", "auth_user", "auth_dbname")
"""A change of one of these makes it necessary to read everything again."""
PAM_LIBRARY = "libpam.so.0"


class Fault(NamedTuple):
    """Something wrong with a setting; whoever knows its place makes a Problem of it."""

    setting: str
    message: str
    expected: str = ""


class Access:
    """Reads everything; `problems` and `warnings` are in the files, `faults` in the settings."""

    def __init__(self, settings: Settings, databases: Collection[Database]) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.faults: list[Fault] = []
        self.hba: tuple[HbaRule, ...] = ()
        self.ident: Maps = {}
        self.ldap: LdapOptions | None = None
        if settings.auth_type == "hba":
            self._read_rules(settings)
        if settings.auth_type == "ldap":
            self._read_ldap(settings)
        self._check_auth_query(settings, databases)
        self._check_libraries(settings)

    def all_problems(self) -> list[Problem]:
        """Problems and faults, the latter without a place."""
        return self.problems + [Problem("", 0, *fault) for fault in self.faults]

    def _read_rules(self, settings: Settings) -> None:
        if not settings.auth_hba_file:
            self._fault("auth_type", "auth_type = hba needs an auth_hba_file", "auth_hba_file = path")
            return
        if settings.auth_ident_file:
            self.ident, self.problems = load_ident(settings.auth_ident_file)
        reader = HbaReader(settings.auth_hba_file, self.ident)
        self.hba = reader.load()
        self.problems += reader.problems
        self.warnings += reader.warnings

    def _read_ldap(self, settings: Settings) -> None:
        try:
            self.ldap = parse_ldap(settings.auth_ldap_options or "")
        except BadValue as bad:
            self._fault("auth_ldap_options", bad.message, bad.expected)

    def _check_auth_query(self, settings: Settings, databases: Collection[Database]) -> None:
        asked = [("auth_dbname", settings.auth_dbname)]
        asked += [(f"databases.{entry.name}", entry.auth_dbname) for entry in databases]
        for name, value in asked:
            if value in CONSOLE_NAMES:
                self._fault(name, f"auth_dbname = {value}: this is the admin console", "a database")
        users = [("auth_user", settings.auth_user)]
        users += [(f"databases.{entry.name}", entry.auth_user) for entry in databases]
        for name, value in users:
            if settings.auth_type == "pam" and value is not None:
                self._fault(name, "auth_user has no meaning with auth_type = pam", "one or the other")

    def _check_libraries(self, settings: Settings) -> None:
        methods = {rule.method for rule in self.hba} | {settings.auth_type}
        if "ldap" in methods and importlib.util.find_spec("bonsai") is None:
            self._fault("auth_type", "ldap needs the Python package bonsai", "pip install 'pgferry[ldap]'")
        if "pam" in methods:
            try:
                ctypes.CDLL(PAM_LIBRARY)
            except OSError:
                self._fault(
                    "auth_type", f"pam needs the system's {PAM_LIBRARY}", "the package libpam0g or pam"
                )

    def _fault(self, setting: str, message: str, expected: str) -> None:
        self.faults.append(Fault(setting, message, expected))
