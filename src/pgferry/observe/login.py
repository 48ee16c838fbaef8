"""Who may use the dashboard: whoever may use the console, found out by logging in there.

A login is made to pgferry's own port with the name and password given, so that auth_type, auth_file, the HBA file and
admin_users decide here exactly as for psql on this machine. A password must have been asked for: who comes through a
proxy would else have the rights of the proxy's address (dashboard_trust allows the exception).
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pgferry.client import ClientError, Connection, ConnectionFailed, QueryError, Target
from pgferry.config.global_settings import Settings

SESSION_SECONDS = 8 * 3600.0
_TIMEOUT = 8.0
_MAX_SESSIONS = 200
_EVERYWHERE = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
# Fails for everybody and changes nothing, but says different things to those who may and those who may not.
_TOUCHSTONE = "ENABLE"


_NO_PASSWORD = (
    "the console asks for no password here, which is not enough for the dashboard: give the user a password and a "
    "method that asks for it, or set dashboard_trust"
)
# What proxies add. A proxy need not add any: that is why dashboard_trust is off unless somebody sets it.
_FORWARDED = ("forwarded", "via", "true-client-ip", "cf-connecting-ip", "x-real-ip", "x-client-ip")


class LoginRefused(Exception):
    """The name or password is not good for the console."""


def rights(settings: Settings, user: str, password: str, *, trusted: bool) -> str:
    """admin or stats. Blocking. Raises LoginRefused. `trusted`: no password is needed where the console needs none."""
    if not user or len(user) > 63 or "\0" in user + password:
        raise LoginRefused("a user name is required")
    try:
        with Connection(_own_console(settings, user, password), timeout=_TIMEOUT) as probe:
            if not probe.password_asked and not (trusted and isinstance(probe.target.address, tuple)):
                raise LoginRefused(_NO_PASSWORD)
            try:
                probe.query(_TOUCHSTONE)
            except QueryError as error:
                return "stats" if "admin access needed" in str(error) else "admin"
    except ConnectionFailed as error:
        raise LoginRefused(error.reason or "login failed") from error
    except (ClientError, OSError) as error:
        raise LoginRefused("the console cannot be reached") from error
    raise LoginRefused("the console answers in an unexpected way")


def _own_console(settings: Settings, user: str, password: str) -> Target:
    host = settings.listen_addr[0] if settings.listen_addr else settings.unix_socket_dir
    return Target(
        host=_EVERYWHERE.get(host, host),
        port=settings.listen_port,
        user=user,
        password=password,
        database="pgbouncer",
        sslmode="prefer",
        timeout=_TIMEOUT,
    )


def is_near(peer: str, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from this machine itself, and by its own name.

    Not through a proxy that says so, and not from a page that has made its own name lead here: such a page sends its
    own Host.
    """
    if any(name in _FORWARDED or name.startswith("x-forwarded-") for name in headers):
        return False
    host = headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return _is_loopback(peer) and (name == "localhost" or _is_loopback(name.strip("[]")))


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


@dataclass(slots=True)
class Session:
    """Somebody who has logged in."""

    user: str
    rights: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    started: float = field(default_factory=time.monotonic)


class Sessions:
    """Sessions by their secret token; they end after 8 hours, and with the process."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def open(self, user: str, what: str) -> Session:
        """A new session; the oldest one makes room."""
        if len(self._open) >= _MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        session = Session(user, what)
        self._open[session.token] = session
        return session

    def find(self, token: str) -> Session | None:
        """The session with this token, if it is still good."""
        session = self._open.get(token)
        if session is not None and time.monotonic() - session.started > SESSION_SECONDS:
            self.close(token)
            return None
        return session

    def close(self, token: str) -> None:
        """Log out."""
        self._open.pop(token, None)


class Rate:
    """At most `count` events of each key within `seconds`."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._seen: dict[str, deque[float]] = {}

    def take(self, key: str) -> bool:
        """Count an event; False: there were too many."""
        now = time.monotonic()
        if len(self._seen) > 1000:
            self._seen = {k: times for k, times in self._seen.items() if now - times[-1] < self._seconds}
        times = self._seen.setdefault(key, deque(maxlen=self._count))
        if len(times) == self._count and now - times[0] < self._seconds:
            return False
        times.append(now)
        return True
