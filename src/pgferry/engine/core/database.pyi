"""What Python sees of users and databases; Engine.make_user() and make_database() make them."""

from typing import Any

from pgferry.auth.secrets import Secret
from pgferry.config.model import Database as Entry
from pgferry.config.model import User as UserEntry
from pgferry.engine.core.model import Pool
from pgferry.engine.core.stats import Stats

class User:
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    name: str
    conf: UserEntry | None
    secret: Any
    keys: Any
    max_clients: int
    max_servers: int

class Database:
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    name: str
    conf: Entry
    auto: bool
    paused: bool
    disabled: bool
    removed: bool
    closing: bool
    pools: dict[object, Pool]
    found: dict[str, tuple[Secret, Any]]
    former: Stats
    max_clients: int
    max_servers: int
    epoch: int
    used_at: float
    host_turn: int
    address_turn: int
