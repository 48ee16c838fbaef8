"""What a console command works with, and what it answers."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pgferry.admin.result import Column, Result, Value
from pgferry.supervisor.operations import Operations
from pgferry.supervisor.pooler import Pooler
from pgferry.supervisor.reload import Reloader


@dataclass(frozen=True, slots=True)
class Context:
    """The pooler as seen by one console session."""

    pooler: Pooler
    operations: Operations
    reloader: Reloader
    admin: bool
    """Whether the user may change things (admin_users), or only look (stats_users)."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A NOTICE that goes before the answer."""

    message: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a command. Without a tag the connection ends unanswered (SHUTDOWN)."""

    tag: str | None
    result: Result | None = None
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class Show:
    """One SHOW target: its columns and the function that finds its rows."""

    columns: tuple[Column, ...]
    rows: Callable[[Context], Awaitable[list[Sequence[Value]]]]


@dataclass(frozen=True, slots=True)
class ShowOne:
    """A SHOW target about one thing that a further word names: `SHOW CLIENT_STATE 7`."""

    columns: tuple[Column, ...]
    rows: Callable[[Context, str], Awaitable[list[Sequence[Value]]]]
    argument: str
    """What stands for the further word in the help."""
    needs: str
    """What it is, for the error when it is missing."""
