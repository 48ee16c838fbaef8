"""Types of the compiled module."""

from collections.abc import Callable

from pgferry.engine.client.login_data import Login
from pgferry.engine.core.database import Database, User
from pgferry.engine.core.model import Engine, Pool

class Lookup:
    def answer(self, rows: list[list[bytes | None]] | None, error: str | None) -> None: ...

def lookup_pool(engine: Engine, db: Database, user: User) -> Pool: ...
def look_up(
    pool: Pool,
    query: bytes,
    user: bytes,
    login: Login,
    done: Callable[[list[list[bytes | None]] | None, str | None], None],
) -> None: ...
