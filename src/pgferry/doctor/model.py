"""What a check is given, what it finds, and the register of all checks."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pgferry.client import Target
from pgferry.config.global_settings import Settings
from pgferry.config.model import Config
from pgferry.doctor.machine import Machine
from pgferry.doctor.places import Places

Row = dict[str, str | None]


class Severity(enum.IntEnum):
    """How bad: worth knowing, will hurt under load, will fail or is unsafe."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


@dataclass(slots=True)
class Console:
    """The answers of a running pooler's console, by the word behind SHOW; what it does not know is empty."""

    target: Target
    shows: dict[str, list[Row]]

    @property
    def is_pgferry(self) -> bool:
        """Whether it is one of ours; a PgBouncer has fewer settings and columns."""
        return any("pgferry" in (row.get("version") or "") for row in self.rows("VERSION"))

    def rows(self, what: str) -> list[Row]:
        """The rows of SHOW what, without those about the console itself."""
        return [
            row for row in self.shows.get(what, []) if row.get("database") not in ("pgbouncer", "pgferry")
        ]

    def setting(self, name: str) -> str:
        """A value of SHOW CONFIG, "" when it has no such setting."""
        return next((row["value"] or "" for row in self.rows("CONFIG") if row["key"] == name), "")


@dataclass(slots=True)
class Server:
    """What a PostgreSQL told. `cores` is 0 when nobody knows them."""

    target: Target
    tls: bool = False
    is_pooler: bool = False
    superuser: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    activity: list[Row] = field(default_factory=list)
    statements: list[Row] | None = None
    role_settings: list[str] = field(default_factory=list)
    hba: list[Row] = field(default_factory=list)
    cores: int = 0

    def number(self, name: str) -> float:
        """A numeric setting in its own unit; 0 when this version has no such setting."""
        return float(self.settings.get(name) or 0)

    @property
    def version(self) -> int:
        """The major version."""
        return int(self.number("server_version_num")) // 10000

    @property
    def for_clients(self) -> int:
        """How many connections ordinary users can have."""
        reserved = self.number("superuser_reserved_connections") + self.number("reserved_connections")
        return int(self.number("max_connections") - reserved)


@dataclass(slots=True)
class Facts:
    """Everything the checks look at. `config` is the file's, or made from the console when no file was "
    "given."""

    config: Config | None = None
    places: Places = field(default_factory=Places)
    console: Console | None = None
    server: Server | None = None
    machine: Machine = field(default_factory=Machine)

    @property
    def settings(self) -> Settings:
        """The global settings (checks that need a configuration only)."""
        assert self.config is not None
        return self.config.settings

    def has(self, what: str) -> bool:
        """Whether `config`, `console` or `server` was given."""
        return getattr(self, what) is not None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, what to write instead, and where (a file's line, or what to look at)."""

    severity: Severity
    text: str
    change: str
    where: str = ""
    check: str = ""
    why: str = ""


Run = Callable[[Facts], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `needs` are the facts without which it is left out, `why` the reason behind its advice."""

    id: str
    needs: tuple[str, ...]
    title: str
    why: str
    run: Run


CHECKS: dict[str, Check] = {}


def check(name: str, *needs: str, title: str, why: str) -> Callable[[Run], Run]:
    """Register a function as a check."""

    def register(run: Run) -> Run:
        assert name not in CHECKS, name
        CHECKS[name] = Check(name, needs, title, why, run)
        return run

    return register


def error(text: str, change: str, where: str = "") -> Finding:
    """It will fail, or it is unsafe."""
    return Finding(Severity.ERROR, text, change, where)


def warning(text: str, change: str, where: str = "") -> Finding:
    """It will hurt under load."""
    return Finding(Severity.WARNING, text, change, where)


def note(text: str, change: str, where: str = "") -> Finding:
    """It is worth knowing."""
    return Finding(Severity.NOTE, text, change, where)


def seconds(value: float) -> str:
    """A time for people."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= unit * 2:
            return f"{value / unit:.3g} {name}"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def number(row: Row, column: str) -> float:
    """A number of a row; 0 for NULL, nothing, or a column that is not there."""
    try:
        return float(row.get(column) or 0)
    except ValueError:
        return 0.0


def many(count: int, noun: str) -> str:
    """`1 client`, `2 clients`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def first(items: Iterable[str], limit: int = 3) -> str:
    """The first few, with commas, and how many more."""
    found = list(items)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def dicts(facts: Facts, what: str) -> Iterator[Row]:
    """The rows of a console's SHOW (checks that need a console only)."""
    assert facts.console is not None
    yield from facts.console.rows(what)
