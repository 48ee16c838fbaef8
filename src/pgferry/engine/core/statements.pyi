"""What Python sees of the prepared statements."""

from typing import Self

NAME_SETTINGS: tuple[bytes, ...]
LEXER_SETTINGS: tuple[bytes, ...]
LITERAL_SETTINGS: tuple[bytes, ...]
PARSE_SETTINGS: tuple[bytes, ...]

class ParseSettings:
    database: str
    user: str
    values: tuple[bytes | None, ...]
    def __init__(self, *args: object, **kwargs: object) -> None: ...

class Statement:
    number: int
    settings: ParseSettings
    epoch: int
    body: bytes
    name: bytes
    alone: bool
    wire_name: bytes
    def __init__(self, *args: object, **kwargs: object) -> None: ...

class StatementTable:
    def __len__(self) -> int: ...

class ServerStatements:
    count: int
    def __new__(cls, table: StatementTable) -> Self: ...
    def __len__(self) -> int: ...
