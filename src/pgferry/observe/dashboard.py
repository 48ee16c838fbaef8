"""The dashboard's routes: the page, its data, and commands for admins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from importlib import resources
from typing import Any, TypeVar

import msgspec

from pgferry.admin.commands import execute
from pgferry.admin.context import Context
from pgferry.admin.grammar import Command, parse
from pgferry.observe.http import Handler, HttpError, Request, Response, split_url
from pgferry.observe.http_slots import owner_of
from pgferry.observe.login import LoginRefused, Rate, Session, Sessions, is_near, rights
from pgferry.observe.sampler import Sampler
from pgferry.supervisor.errors import CommandError

_COOKIE = "pgferry_session"
_JSON = "application/json"
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_SECURITY = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
]
COMMANDS = ("PAUSE", "RESUME", "RELOAD", "RECONNECT", "DISABLE", "ENABLE", "KILL", "KILL_CLIENT")
_LOGINS_AT_A_TIME = 2
"""Each waits in a thread, and RELOAD needs one, too."""
_WAIT_SECONDS = 2.0
_MAX_ROWS = 500
_TABLE_SECONDS = 1.5


class _Login(msgspec.Struct):
    user: str
    password: str = ""


class _Command(msgspec.Struct):
    command: str


_Form = TypeVar("_Form", _Login, _Command)


class Dashboard:
    """Everything behind the page. Commands run as in the console: with its grammar and its rights."""

    def __init__(self, context: Context, sampler: Sampler) -> None:
        self._context = context
        self._pooler = context.pooler
        self._sampler = sampler
        self._sessions = Sessions()
        self._logins = Rate(8, 60.0)
        self._logging_in = asyncio.Semaphore(_LOGINS_AT_A_TIME)
        self._commands = Rate(30, 60.0)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tables: dict[str, tuple[float, list[dict[str, Any]]]] = {}
        self._table_lock = asyncio.Lock()
        folder = resources.files("pgferry.observe") / "page"
        self._files = {path: (folder / name).read_bytes() for path, (name, _type) in _PAGES.items()}
        self._handlers: dict[tuple[str, str], Handler] = {
            ("POST", "/api/login"): self._login,
            ("POST", "/api/logout"): self._logout,
            ("GET", "/api/session"): self._whoami,
            ("GET", "/api/now"): self._now,
            ("GET", "/api/stream"): self._stream,
            ("GET", "/api/history"): self._history,
            ("GET", "/api/clients"): self._clients,
            ("GET", "/api/servers"): self._servers,
            ("POST", "/api/command"): self._command,
        }

    def route(self, method: str, path: str) -> Handler | None:
        """What serves a request; None when it is not one of the dashboard's."""
        if not self._pooler.config.settings.dashboard:
            return None
        if method == "GET" and path in self._files:
            return self._page
        return self._handlers.get((method, path))

    async def _page(self, request: Request) -> Response:
        return Response(
            self._files[request.path], content_type=_PAGES[request.path][1], headers=list(_SECURITY)
        )

    # Who

    def _session(self, request: Request) -> Session:
        """The session of a request. Raises HttpError."""
        session = self._sessions.find(request.cookie(_COOKIE))
        if session is None:
            raise HttpError(401, "log in first")
        settings = self._pooler.config.settings
        if session.rights == "admin" and session.user not in settings.admin_users:
            session.rights = "stats"
        if session.rights == "stats" and not (
            session.user in (*settings.admin_users, *settings.stats_users) or settings.auth_type == "any"
        ):
            self._sessions.close(session.token)
            raise HttpError(401, "no longer allowed")
        return session

    def _check_origin(self, request: Request) -> None:
        """A request that changes something comes from our own page. Raises HttpError."""
        origin = request.headers.get("origin")
        if origin is not None and split_url(origin).netloc != request.headers.get("host"):
            raise HttpError(403, "another site's page must not do that")
        if request.headers.get("content-type", "").partition(";")[0].strip() != _JSON:
            raise HttpError(415, "JSON is needed")

    async def _login(self, request: Request) -> Response:
        self._check_origin(request)
        fields = _decoded(request, _Login)
        user, password = fields.user, fields.password
        if not self._logins.take(owner_of(request.peer)):
            raise HttpError(429, "too many logins, wait a minute")
        settings = self._pooler.config.settings
        trusted = settings.dashboard_trust and is_near(request.peer, request.headers)
        log = self._pooler.log
        try:
            async with self._logging_in:
                found = await asyncio.to_thread(rights, settings, user, password, trusted=trusted)
        except LoginRefused as error:
            log.warning(f"dashboard: login of {user[:63]!r} from {request.peer} refused: {error}")
            raise HttpError(403, str(error)) from error
        log.log(f"dashboard: login of {user!r} from {request.peer} ({found})")
        session = self._sessions.open(user, found)
        return _json(_about(session), [_cookie(request, session.token, 28800)])

    async def _logout(self, request: Request) -> Response:
        self._check_origin(request)
        self._sessions.close(request.cookie(_COOKIE))
        return _json({}, [_cookie(request, "", 0)])

    async def _whoami(self, request: Request) -> Response:
        return _json(_about(self._session(request)))

    # What

    def _sample(self, seen: int) -> dict[str, Any]:
        return {
            **self._sampler.now,
            "events": [asdict(event) for event in self._pooler.events.since(seen)],
        }

    async def _now(self, request: Request) -> Response:
        self._session(request)
        return _json(self._sample(0))

    async def _stream(self, request: Request) -> Response:
        self._session(request)
        return Response(content_type="text/event-stream", stream=self._samples(request))

    async def _samples(self, request: Request) -> AsyncIterator[bytes]:
        """A message for each sample, until the session ends."""
        seen = 0
        while True:
            fresh = self._sampler.fresh
            try:
                self._session(request)
            except HttpError:
                return
            sample = self._sample(seen)
            seen = max([seen, *(event["number"] for event in sample["events"])])
            yield b"data: " + msgspec.json.encode(sample) + b"\n\n"
            await fresh.wait()

    async def _history(self, request: Request) -> Response:
        self._session(request)
        series = self._sampler.history.series(
            (request.query.get("database", ""), request.query.get("user", ""))
        )
        if series is None:
            raise HttpError(404, "no history of this pool")
        return _json(series)

    async def _clients(self, request: Request) -> Response:
        return await self._table(request, "CLIENTS")

    async def _servers(self, request: Request) -> Response:
        return await self._table(request, "SERVERS")

    async def _table(self, request: Request, name: str) -> Response:
        """Rows of a SHOW in which the words of q occur; a few people looking at once share one question."""
        self._session(request)
        async with self._table_lock:
            now = asyncio.get_running_loop().time()
            made, rows = self._tables.get(name, (-_TABLE_SECONDS, []))
            if now - made >= _TABLE_SECONDS:
                rows = await self._rows(name)
                self._tables[name] = (now, rows)
        needles = request.query.get("q", "").lower().split()
        found = [row for row in rows if _holds(row, needles)]
        return _json({"rows": found[:_MAX_ROWS], "found": len(found), "all": len(rows)})

    async def _rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a SHOW, by column name."""
        result = (await execute(parse(f"SHOW {name}"), self._context)).result
        assert result is not None
        names = [column.name for column in result.columns]
        return [dict(zip(names, row, strict=True)) for row in result.rows]

    # Doing

    async def _command(self, request: Request) -> Response:
        """Run a console command for an admin; one that waits goes on after the answer."""
        session = self._session(request)
        self._check_origin(request)
        if request.headers.get("x-csrf-token") != session.csrf:
            raise HttpError(403, "the page is out of date, load it again")
        if not self._commands.take(session.token):
            raise HttpError(429, "too many commands, wait a minute")
        text = _decoded(request, _Command).command
        try:
            command = parse(text)
            if command.verb not in COMMANDS:
                raise HttpError(403, "this command is for the console")
            context = replace(self._context, admin=session.rights == "admin")
            task = asyncio.get_running_loop().create_task(execute(command, context))
            self._keep(task, command)
            self._pooler.log.log(f"dashboard: {session.user!r} from {request.peer}: {text}")
            done, _ = await asyncio.wait({task}, timeout=_WAIT_SECONDS)
            if done:
                task.result()
            self._tables.clear()
            await self._sampler.after_command()
        except CommandError as error:
            return _json({"ok": False, "message": error.message, "detail": error.detail})
        return _json(
            {"ok": True, "message": "done" if done else "under way: it ends when all servers are free"}
        )

    def _keep(self, task: asyncio.Task[Any], command: Command) -> None:
        def ended(_task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                self._pooler.events.note(f"{command.verb}: {task.exception()}", "warning")

        self._tasks.add(task)
        task.add_done_callback(ended)

    async def stop(self) -> None:
        """Give up commands that wait."""
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, CommandError):
                await task


def _about(session: Session) -> dict[str, Any]:
    return {"user": session.user, "rights": session.rights, "csrf": session.csrf}


def _json(data: object, headers: list[tuple[str, str]] | None = None) -> Response:
    return Response(msgspec.json.encode(data), content_type=_JSON, headers=headers or [])


def _cookie(request: Request, token: str, seconds: int) -> tuple[str, str]:
    """The header that sets the cookie. A browser that came through TLS keeps it from connections without.

    Anybody may send X-Forwarded-Proto; who lies gets a cookie that his own browser does not send.
    """
    secure = "; Secure" if request.headers.get("x-forwarded-proto", "").strip().lower() == "https" else ""
    return "set-cookie", f"{_COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"


def _decoded(request: Request, form: type[_Form]) -> _Form:
    """The JSON object in a request's body. Raises HttpError (400)."""
    try:
        return msgspec.json.decode(request.body, type=form)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise HttpError(400, "not the JSON object that is needed here") from error


def _holds(row: dict[str, Any], needles: list[str]) -> bool:
    if not needles:
        return True
    text = " ".join(str(value) for value in row.values()).lower()
    return all(needle in text for needle in needles)
