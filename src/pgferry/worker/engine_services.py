"""What the engine asks of the worker around it: names, secrets, slow work, the console, other workers."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

from pgferry.auth import scram
from pgferry.auth.cache import KeyCache, VerifierCache
from pgferry.auth.secrets import Secret, SecretKind, classify
from pgferry.config import effective
from pgferry.config.model import Config
from pgferry.engine.core.database import Database, User
from pgferry.engine.core.enums import PoolKind
from pgferry.engine.core.model import Client, Engine, Pool
from pgferry.engine.ops import operations
from pgferry.engine.ops.worker_loop import Tunnel
from pgferry.engine.pool import cancel, peers
from pgferry.frames import Message
from pgferry.session.catalog import Row
from pgferry.worker import configure
from pgferry.worker.catalog_analysis import CatalogAnalysis
from pgferry.worker.client_auth_service import ClientAuthService
from pgferry.worker.control import Control
from pgferry.worker.handover import HandoverListener
from pgferry.worker.slow import SlowWork

Done = Callable[[Any, Exception | None], None]
WORKER_BYTE = 3
"""The byte of a cancel key that holds the worker's index."""


class EngineServices:
    """One per worker. `engine` and `control` are set once, while starting."""

    engine: Engine
    control: Control
    config: Config
    slow: SlowWork
    catalog_analysis: CatalogAnalysis
    handover_listener: HandoverListener | None = None
    """Where the worker that we take over from connects."""

    def __init__(self, salts: scram.SaltSource) -> None:
        self.client_auth = ClientAuthService(self)
        self._salts = salts
        self._verifiers = VerifierCache()
        self._keys = KeyCache()
        self._names: dict[str, tuple[float, list[tuple[int, str]]]] = {}
        self._down: dict[tuple[str, int], float] = {}
        self._asked: set[Pool] = set()

    # Databases, users, pools

    def configure_pool(self, pool: Pool) -> None:
        """A pool has been made: give it its settings."""
        configure.pool_settings(pool, self.config)
        pool.empty_since = self.engine.loop.now

    def auto_database(self, name: str) -> Database | None:
        """The entry made from `*` for this name; None when there is no `*`."""
        conf = self.config.database(name)
        if conf is None or len(name.encode("utf-8", "surrogateescape")) > 63:
            return None
        db = self.engine.make_database(name)
        db.auto = True
        self.engine.databases[name] = db
        configure.database_settings(self.engine, db, conf, self.config)
        self.engine.log.write("LOG", f"registered new auto-database: {name}")
        return db

    def user(self, name: str) -> User:
        """The user of this name, made when the configuration knows only the name."""
        user = self.engine.users.get(name)
        if user is None:
            user = self.engine.make_user(name)
            configure.user_settings(user, self.config)
            self.engine.users[name] = user
        return user

    def server_secret(self, pool: Pool) -> Secret:
        """What the pool logs in to PostgreSQL with."""
        secret = classify(effective.server_secret(self.config, pool.db.conf, pool.user.name))
        if (
            secret.kind is SecretKind.NONE
            and pool.db.conf.user != pool.user.name
            and pool.kind != PoolKind.POOL_LOOKUPS
        ):
            return pool.db.found.get(pool.user.name, (secret, None))[0]
        return secret

    # Slow work

    def run_slow(self, job: Callable[[], Any], done: Done) -> None:
        """Run job() in the thread."""
        self.slow.run(object(), job, done)

    def analyze_catalog(self, rows: Sequence[Row], harmless: frozenset[bytes], done: Done) -> None:
        """Work out what the answer to session.catalog.SCAN_QUERY means: done(Knowledge, None), or (None, error).

        `harmless`: functions that do no harm, see session.catalog.analyze_catalog.
        """
        self.catalog_analysis.run(rows, harmless, done)

    def mock_verifier(self, username: str) -> scram.Verifier:
        """A verifier that no password fits."""
        return self._salts.mock(username, self.config.settings.scram_iterations)

    def make_verifier(self, username: str, password: str, done: Done) -> None:
        """The verifier of a plain-text password, from the cache at once or later from the thread."""
        salt = self._salts.salt(username)
        iterations = self.config.settings.scram_iterations
        known = self._verifiers.get(password, salt, iterations)
        if known is not None:
            done(known, None)
            return

        def keep(made: Any, error: Exception | None) -> None:
            if made is not None:
                self._verifiers.put(password, salt, iterations, made)
            done(made, error)

        key = ("verifier", password, salt, iterations)
        self.slow.run(key, lambda: scram.make_verifier(password, salt, iterations), keep)

    def derive_keys(self, password: str, salt: bytes, iterations: int, done: Done) -> None:
        """The SCRAM keys for a login to a server, from the cache at once or later from the thread."""
        known = self._keys.get(password, salt, iterations)
        if known is not None:
            done(known, None)
            return

        def keep(made: Any, error: Exception | None) -> None:
            if made is not None:
                self._keys.put(password, salt, iterations, made)
            done(made, error)

        key = ("keys", password, salt, iterations)
        self.slow.run(key, lambda: scram.derive_keys(password, salt, iterations), keep)

    # Hosts

    def is_down(self, host: str, port: int) -> bool:
        """Whether a host of a list could not be reached within the last server_login_retry seconds."""
        return self._down.get((host, port), 0.0) > self.engine.loop.now

    def set_down(self, host: str, port: int, database: str, reason: str) -> None:
        """No address of this host has served: others are tried first for a while."""
        if not self.is_down(host, port):
            self.control.notice("host_down", host=f"{host}:{port}", db=database, reason=reason)
        self._down[host, port] = self.engine.loop.now + self.config.settings.server_login_retry

    def take_addresses(self, host: str, addresses: list[tuple[int, str]], ttl: float) -> None:
        """The supervisor has looked a name up by itself."""
        self._names[host] = (self.engine.loop.now + ttl, addresses)

    def forget_names(self) -> None:
        """RECONNECT: names are asked for again, and every host gets a chance."""
        self._names.clear()
        self._down.clear()

    # The supervisor's services

    def resolve(self, host: str, done: Callable[[list[tuple[int, str]] | None, str | None], None]) -> None:
        """Addresses of a host name; done(addresses, error)."""
        now = self.engine.loop.now
        known = self._names.get(host)
        if known is not None and known[0] > now:
            done(known[1], None)
            return

        def answered(answer: Message) -> None:
            if not answer.get("ok"):
                done(None, str(answer.get("error", "unknown error")))
                return
            addresses = [(family, address) for family, address in answer["addrs"]]
            self._names[host] = (self.engine.loop.now + float(answer.get("ttl", 0)), addresses)
            done(addresses, None)

        self.control.request("resolve", answered, host=host)

    def ask_login_parameters(self, pool: Pool) -> None:
        """Another worker may know the server parameters of this pool, and what else a client starts with."""
        if pool in self._asked:
            return
        self._asked.add(pool)

        def answered(answer: Message) -> None:
            self._asked.discard(pool)
            if answer.get("parameters") is not None:
                operations.take_login_parameters(pool, answer["parameters"])

        self.control.request("login_parameters", answered, db=pool.db.name, user=pool.user.name)

    def open_console(self, client: Client, rights: str, user: str, database: str) -> Tunnel:
        """Hand the other end of a new socket pair to the console and return the stream of our end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        host, port = client.remote() if not client.peer.is_unix else ("unix", client.peer.listen_port)
        self.control.notice(
            "console",
            theirs.detach(),
            user=user,
            rights=rights,
            client_id=client.id,
            database=database,
            addr=f"{host}:{port}",
            key=client.peer.cancel_key,
        )
        return Tunnel(self.engine.loop, ours.detach(), client)

    def cancel_requested(self, requester: Client, key: bytes) -> None:
        """A cancel request has come in: for one of our clients, for another worker's, or for a peer's."""

        def done(_answer: Message | None = None) -> None:
            operations.forget(requester)

        peer = peers.destination(self.engine, key)
        if not peer:
            key = peers.own_key(self.engine, key)
        if not 8 <= len(key) <= 260:
            done()
        elif peer:
            self._forward_cancel(requester, peer, key)
        elif key[WORKER_BYTE] == self.engine.index:
            self.cancel_here(key, done)
        elif key[WORKER_BYTE] < self.engine.workers:
            self.control.request("cancel", done, worker=key[WORKER_BYTE], key=key)
        else:
            done()

    def _forward_cancel(self, requester: Client, peer: int, key: bytes) -> None:
        reason = peers.forward(self.engine, key, peer, lambda: operations.forget(requester))
        if reason is not None:
            operations.forget(requester, reason)

    def cancel_here(self, key: bytes, done: Callable[[], None]) -> None:
        """Cancel the query of one of our own clients."""
        client = self.engine.client_of(key)
        if (
            client is None
            and self.handover_listener is not None
            and self.handover_listener.receiver is not None
        ):
            self.handover_listener.receiver.cancel(key)
        if client is not None and client.tunnel is not None:
            self.control.notice("console_cancel", client_id=client.id)
            done()
        else:
            cancel.request(self.engine, key, done)

    def set_tcp_options(self, sock: socket.socket) -> None:
        """The tcp_* settings, for connections to servers (clients inherit the listener's)."""
        s = self.config.settings
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(s.tcp_keepalive))
        for option, value in (
            (socket.TCP_KEEPCNT, s.tcp_keepcnt),
            (socket.TCP_KEEPIDLE, s.tcp_keepidle),
            (socket.TCP_KEEPINTVL, s.tcp_keepintvl),
            (socket.TCP_USER_TIMEOUT, s.tcp_user_timeout),
        ):
            if value > 0:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if s.tcp_socket_buffer > 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, s.tcp_socket_buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, s.tcp_socket_buffer)
