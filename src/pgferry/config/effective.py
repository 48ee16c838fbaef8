"""Which value holds for a connection: the precedence of user, database and global settings.

Pure functions. `user` may be None for a user without settings. Limits and sizes: 0 is "no limit"; times
are seconds and 0 is "off", except server_lifetime, where the global 0 is "use once".
Source: COMPAT.md 1.3 to 1.11.
"""

from __future__ import annotations

from pgferry.config.model import Config, Database, Peer, User


def pool_mode(config: Config, database: Database, user: User | None) -> str:
    """Return session, transaction or statement: of the user, else the database, else global."""
    if user is not None and user.pool_mode is not None:
        return user.pool_mode
    return config.settings.pool_mode if database.pool_mode is None else database.pool_mode


def pool_size(config: Config, database: Database, user: User | None) -> int:
    """Return the most servers of a pool: of the user, else the database, else default_pool_size."""
    if user is not None and user.pool_size is not None:
        return user.pool_size
    return config.settings.default_pool_size if database.pool_size is None else database.pool_size


def peer_pool_size(config: Config, peer: Peer) -> int:
    """Return the most cancel requests passed on to a peer at the same time: its own, else default_pool_size."""
    return config.settings.default_pool_size if peer.pool_size is None else peer.pool_size


def reserve_pool_size(config: Config, database: Database, user: User | None) -> int:
    """Return the extra connections of a pool: of the user, else the database, else global. 0 is none."""
    if user is not None and user.reserve_pool_size is not None:
        return user.reserve_pool_size
    if database.reserve_pool_size is not None:
        return database.reserve_pool_size
    return config.settings.reserve_pool_size


def min_pool_size(config: Config, database: Database, user: User | None) -> int:
    """Return the connections to keep open: of the database, else global, never more than the pool size."""
    wanted = config.settings.min_pool_size if database.min_pool_size is None else database.min_pool_size
    limit = pool_size(config, database, user)
    return min(wanted, limit) if limit > 0 else wanted


def max_db_connections(config: Config, database: Database) -> int:
    """Return the most server connections of a database: its own, else global."""
    own = database.max_db_connections
    return max(0, config.settings.max_db_connections) if own is None else own


def max_db_client_connections(config: Config, database: Database) -> int:
    """Return the most clients of a database: its own, else global."""
    own = database.max_db_client_connections
    return max(0, config.settings.max_db_client_connections) if own is None else own


def max_user_connections(config: Config, user: User | None) -> int:
    """Return the most server connections of a user: its own, else global."""
    own = None if user is None else user.max_user_connections
    return max(0, config.settings.max_user_connections) if own is None else own


def max_user_client_connections(config: Config, user: User | None) -> int:
    """Return the most clients of a user: its own, else global."""
    own = None if user is None else user.max_user_client_connections
    return max(0, config.settings.max_user_client_connections) if own is None else own


def query_timeout(config: Config, user: User | None) -> float:
    """Return the longest query: of the user, else global."""
    own = None if user is None else user.query_timeout
    return config.settings.query_timeout if own is None else own


def query_wait_timeout(config: Config, database: Database, user: User | None) -> float:
    """Return the longest wait for a server: of the user, else the database, else global."""
    if user is not None and user.query_wait_timeout is not None:
        return user.query_wait_timeout
    own = database.query_wait_timeout
    return config.settings.query_wait_timeout if own is None else own


def idle_transaction_timeout(config: Config, user: User | None) -> float:
    """Return the longest pause in a transaction: of the user, else global."""
    own = None if user is None else user.idle_transaction_timeout
    return config.settings.idle_transaction_timeout if own is None else own


def transaction_timeout(config: Config, user: User | None) -> float:
    """Return the longest transaction: of the user, else global."""
    own = None if user is None else user.transaction_timeout
    return config.settings.transaction_timeout if own is None else own


def client_idle_timeout(config: Config, user: User | None) -> float:
    """Return the longest silence of a client: of the user, else global."""
    own = None if user is None else user.client_idle_timeout
    return config.settings.client_idle_timeout if own is None else own


def server_lifetime(config: Config, database: Database) -> float:
    """Return the age at which an unused server is closed: of the database, else global; 0 is "use once"."""
    own = database.server_lifetime
    return config.settings.server_lifetime if own is None else own


def session_state(config: Config, database: Database, user: User | None) -> str:
    """Return track, refuse or ignore: of the user, else the database, else global."""
    if user is not None and user.session_state is not None:
        return user.session_state
    return config.settings.session_state if database.session_state is None else database.session_state


def scrub(config: Config, database: Database) -> str:
    """Return on_user_change, always or when_needed: of the database, else global."""
    return config.settings.scrub if database.scrub is None else database.scrub


def max_pinned(config: Config, database: Database) -> int:
    """Return the most pinned servers of a pool: of the database, else global."""
    return config.settings.max_pinned if database.max_pinned is None else database.max_pinned


def unknown_state(config: Config, database: Database, user: User | None) -> str:
    """Return reset or pin: of the user, else of the database, else global."""
    if user is not None and user.unknown_state is not None:
        return user.unknown_state
    return config.settings.unknown_state if database.unknown_state is None else database.unknown_state


def pin_timeout(config: Config, database: Database) -> float:
    """Return the longest age of a pin: of the database, else global."""
    return config.settings.pin_timeout if database.pin_timeout is None else database.pin_timeout


def transaction_log_threshold(config: Config, database: Database) -> float:
    """Return the age from which a transaction is logged: of the database, else global."""
    own = database.transaction_log_threshold
    return config.settings.transaction_log_threshold if own is None else own


def sslmode(config: Config, database: Database) -> str:
    """Return the sslmode towards servers: of the database, else server_tls_sslmode."""
    return config.settings.server_tls_sslmode if database.sslmode is None else database.sslmode


def sslnegotiation(config: Config, database: Database) -> str:
    """Return postgres or direct: of the database, else server_tls_sslnegotiation."""
    own = database.sslnegotiation
    return config.settings.server_tls_sslnegotiation if own is None else own


def hosts(config: Config, database: Database) -> tuple[str, ...]:
    """Return the hosts to connect to; without a host the unix socket directory (a leading / or @)."""
    return database.hosts or (config.settings.unix_socket_dir or "/tmp",)


def server_secret(config: Config, database: Database, user_name: str) -> str | None:
    """Return the stored secret for the login to the server, None when none is known.

    The password of the entry belongs to its forced user only; otherwise the secret in auth_file counts.
    """
    if database.user == user_name and database.password is not None:
        return database.password
    user = config.users.get(user_name)
    return None if user is None else user.secret
