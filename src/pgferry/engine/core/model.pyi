"""What Python sees of the class diagram (model.pxd)."""

from collections.abc import Callable
from typing import Any

from pgferry.config.model import Config
from pgferry.engine.core.client_parts import ClientPeer
from pgferry.engine.core.database import Database, User
from pgferry.engine.core.engine_parts import (
    CancelKeys,
    ConnectingClients,
    EngineSettings,
    Phase,
    TrackedParameters,
)
from pgferry.engine.core.plan import Plan
from pgferry.engine.core.pool_parts import Endpoint, PoolCancels, PoolSettings
from pgferry.engine.core.server_parts import ConnectionEnds, Injected
from pgferry.engine.core.statements import ServerStatements, StatementTable
from pgferry.engine.core.stats import Stats
from pgferry.engine.io.log import Log
from pgferry.engine.io.stream import Reactor, Stream, StreamList
from pgferry.engine.shared.ledger import Ledger
from pgferry.engine.shared.times import Times
from pgferry.tls.certificate import Certificate

MODES: dict[str, int]
MODE_NAMES: tuple[str, str, str]

class Pool:
    cancels: PoolCancels
    endpoint: Endpoint
    settings: PoolSettings
    engine: Engine
    db: Database
    user: User
    key: object
    kind: int
    main_pool: Pool | None
    clients: StreamList
    waiting: StreamList
    logging_in: StreamList
    removed: bool
    lifetime_kill_at: float
    empty_since: float
    stats: Stats
    times: Times
    surrender_count: int
    def __init__(self, engine: Engine, db: Database, user: User) -> None: ...
    def servers(self) -> list[Server]: ...
    def forget_parameters(self) -> None: ...
    @property
    def total_servers(self) -> int: ...
    @property
    def name(self) -> str: ...

class Server(Stream):
    ends: ConnectionEnds
    injected: Injected
    pool: Pool
    id: int
    state: int
    client: Client | None
    plan: Plan
    prepared: ServerStatements
    status: int
    vars: tuple[Any, ...]
    close_needed: bool
    close_reason: str
    replication: int
    cancels: int
    login: Any
    since: float
    def __init__(self, loop: Reactor, pool: Pool) -> None: ...

class Client(Stream):
    peer: ClientPeer
    engine: Engine
    id: int
    state: int
    pool: Pool | None
    db: Database | None
    user: User | None
    server: Server | None
    tunnel: Stream | None
    login: Any
    vars: tuple[Any, ...]
    session: bool
    console_user: str
    def __init__(self, loop: Reactor, engine: Engine) -> None: ...
    def remote(self) -> tuple[str, int]: ...
    def local(self) -> tuple[str, int]: ...
    def certificate(self) -> Certificate | None: ...

class Engine:
    connecting: ConnectingClients
    phase: Phase
    cancel_keys: CancelKeys
    parameters: TrackedParameters
    settings: EngineSettings
    loop: Reactor
    ledger: Ledger
    table: StatementTable
    index: int
    workers: int
    announcements: bytes
    background: Callable[[], bool] | None
    wakes: list[int] | None
    config: Config
    databases: dict[str, Database]
    users: dict[str, User]
    last_id: int
    lag: Times
    ends: dict[tuple[str, str], int]
    client_tls: Any
    server_tls: Any
    host: Any
    log: Log
    def __init__(
        self, loop: Reactor, ledger: Ledger, index: int, workers: int, host: Any, log: Log
    ) -> None: ...
    def report_bug(self, stream: Stream, error: BaseException) -> None: ...
    def client_of(self, key: bytes) -> Client | None: ...
    def new_greetings(self, notice: str) -> None: ...
    def make_user(self, name: str) -> User: ...
    def make_database(self, name: str) -> Database: ...
    def make_pool(self, db: Database, user: User) -> Pool: ...
    def pools(self) -> list[Pool]: ...

def label(who: Stream) -> str: ...
