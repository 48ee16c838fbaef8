"""Brings the engine in line with a configuration: settings, users, databases, pools."""

from pgferry.auth.secrets import classify
from pgferry.config import effective
from pgferry.config.model import Config
from pgferry.config.model import Database as Entry
from pgferry.engine.core.database import Database, User
from pgferry.engine.core.enums import PoolKind
from pgferry.engine.core.model import MODES, Engine, Pool
from pgferry.engine.ops import operations
from pgferry.engine.pool import peers
from pgferry.tls.contexts import Accept, Connect


def apply(engine: Engine, config: Config, *, first: bool) -> None:
    """Take over a configuration. What is gone is dropped, what changed towards PostgreSQL is reconnected."""
    before = engine.config
    other_tls = make_tls(engine, config, before)
    engine.config = config
    settings_into_engine(engine, config, before)
    if first:
        track_parameters(engine, config)
    users(engine, config)
    databases(engine, config)
    harmless(engine, config)
    for pool in engine.pools():
        pool_settings(pool, config)
    configure_peers(engine, config)
    if other_tls and not first:
        operations.reconnect(engine, None, "TLS configuration changed")


def make_tls(engine: Engine, config: Config, before: Config | None) -> bool:
    """New connections are made with these keys and certificates. Raises TlsFault.

    True when what is shown to servers, or asked of them, has changed.
    """
    settings = config.settings
    engine.client_tls = Accept(settings, config.tls) if settings.client_tls_sslmode != "disable" else None
    if before is not None and towards_servers(config) == towards_servers(before):
        return False
    engine.server_tls = Connect(settings, config.tls)
    return True


def towards_servers(config: Config) -> list[object]:
    """Everything that a TLS connection to a server is made from."""
    parts = ((config.settings, "server_tls_"), (config.tls, "server_"))
    return [
        getattr(part, name)
        for part, prefix in parts
        for name in part.__struct_fields__
        if name.startswith(prefix)
    ]


POLICIES = ("track", "refuse", "ignore")
"""session_state by the number that the engine knows it by."""
SCRUBS = ("when_needed", "on_user_change", "always")
"""scrub by the number that the engine knows it by."""


def settings_into_engine(engine: Engine, config: Config, before: Config | None) -> None:
    """Copy what the hot path reads into fields: as it stands, or as it is needed there."""
    s = config.settings
    engine.settings.take_over(s)
    engine.new_greetings(s.login_notify_message)
    engine.loop.rounds = s.sbuf_loopcnt
    engine.loop.memory.chunk = max(s.pkt_buf, 64)
    reset = (s.server_reset_query, s.server_reset_query_always)
    if before is not None and reset != (
        before.settings.server_reset_query,
        before.settings.server_reset_query_always,
    ):
        operations.reconnect(engine, None, "server_reset_query changed")
    engine.settings.reset_query = s.server_reset_query.encode("utf-8", "surrogateescape")
    check = s.server_check_query
    engine.settings.check_query = None if check == "" else b"" if check == "<empty>" else check.encode()
    engine.log.verbose = s.verbose


# Reported by PostgreSQL 14 and later, and 18 and later. PgBouncer tracks them from 1.26 on.
REPORTED_BY_SOME = ("default_transaction_read_only", "search_path")


def track_parameters(engine: Engine, config: Config) -> None:
    """track_extra_parameters, on top of those that PostgreSQL always reports and clients rely on."""
    wanted = config.settings.track_extra_parameters
    for name in (*wanted, *REPORTED_BY_SOME):
        if name.lower() not in engine.parameters.index:
            engine.parameters.index[name.lower()] = len(engine.parameters.names)
            engine.parameters.names.append(name)
    engine.parameters.reported_by_some = {*REPORTED_BY_SOME} - {name.lower() for name in wanted}


def users(engine: Engine, config: Config) -> None:
    """Users of auth_file, [users] and of entries. One that is gone keeps its object but has no secret any more."""
    of_entries = [
        name for entry in config.databases.values() for name in (entry.user, entry.auth_user) if name
    ]
    for name in (*config.users, *of_entries):
        if name not in engine.users:
            engine.users[name] = engine.make_user(name)
    for user in engine.users.values():
        user_settings(user, config)


def user_settings(user: User, config: Config) -> None:
    """The user's secret and limits."""
    conf = config.users.get(user.name)
    user.conf = conf
    secret = conf.secret if conf is not None else None
    user.secret = classify(secret) if secret is not None else None
    user.max_servers = effective.max_user_connections(config, conf)
    user.max_clients = effective.max_user_client_connections(config, conf)


def databases(engine: Engine, config: Config) -> None:
    """Entries of [databases], and those made from `*`."""
    for name, conf in config.databases.items():
        if name not in engine.databases:
            engine.databases[name] = engine.make_database(name)
        db = engine.databases[name]
        db.auto = False
        database_settings(engine, db, conf, config)
    for name, db in list(engine.databases.items()):
        if name in config.databases:
            continue
        template = config.database(name) if db.auto else None
        if template is not None:
            database_settings(engine, db, template, config)
        else:
            db.removed = True
            operations.kill(engine, db)
            del engine.databases[name]


def database_settings(engine: Engine, db: Database, conf: Entry, config: Config) -> None:
    """The entry's limits; its servers are replaced when they were made for other settings."""
    before = db.conf
    db.conf = conf
    db.max_servers = effective.max_db_connections(config, conf)
    db.max_clients = effective.max_db_client_connections(config, conf)
    if before is not None and not conf.same_servers(before):
        operations.reconnect(engine, db, "connect string changed")


def pool_settings(pool: Pool, config: Config) -> None:
    """The effective values of a pool (precedence user, database, global)."""
    db, user = pool.db.conf, pool.user.conf
    policy = (pool.settings.mode, pool.settings.session_state)
    replication = pool.main_pool is not None
    pool.settings.mode = MODES["session" if replication else effective.pool_mode(config, db, user)]
    pool.settings.size = effective.pool_size(config, db, user)
    pool.settings.min_size = 0 if replication else effective.min_pool_size(config, db, user)
    pool.settings.reserve_size = effective.reserve_pool_size(config, db, user)
    pool.settings.lifetime = effective.server_lifetime(config, db)
    pool.settings.query_timeout = effective.query_timeout(config, user)
    pool.settings.query_wait_timeout = effective.query_wait_timeout(config, db, user)
    pool.settings.idle_transaction_timeout = effective.idle_transaction_timeout(config, user)
    pool.settings.transaction_timeout = effective.transaction_timeout(config, user)
    pool.settings.client_idle_timeout = effective.client_idle_timeout(config, user)
    pool.settings.slow_after = 0.0 if replication else effective.transaction_log_threshold(config, db)
    configure_state(pool, config)
    if policy != (pool.settings.mode, pool.settings.session_state):
        # What sessions hold was looked at by other rules, or not at all.
        operations.replace_servers(pool, "pool_mode or session_state changed")


def harmless(engine: Engine, config: Config) -> None:
    """harmless_functions; what is known of the databases' functions is worked out anew when they change."""
    names = frozenset(name.lower().encode() for name in config.settings.harmless_functions)
    if names != engine.settings.harmless_functions:
        engine.settings.harmless_functions = names
        operations.read_catalogs(engine)


def configure_peers(engine: Engine, config: Config) -> None:
    """The other poolers that cancel requests may be for."""
    peers.configure(
        engine,
        config.settings.peer_id,
        [(p.id, p.host, p.port, effective.peer_pool_size(config, p)) for p in config.peers.values()],
    )


def configure_state(pool: Pool, config: Config) -> None:
    """The pool's policy about session state, and the limits of its pins."""
    db = pool.db.conf
    pool.settings.session_state = POLICIES.index(effective.session_state(config, db, pool.user.conf))
    if pool.kind == PoolKind.POOL_LOOKUPS:
        pool.settings.session_state = POLICIES.index("ignore")  # nobody changes sessions there
    pool.settings.scrub = SCRUBS.index(effective.scrub(config, db))
    pool.settings.pin_unknown = effective.unknown_state(config, db, pool.user.conf) == "pin"
    pool.settings.max_pinned = effective.max_pinned(config, db)
    pool.settings.pin_timeout = effective.pin_timeout(config, db)
