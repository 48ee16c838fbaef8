"""What Python sees of the prepared statements."""

from typing import Self

class Statement:
    number: int
    body: bytes
    wire_name: bytes
    def __init__(self, *args: object, **kwargs: object) -> None: ...

class StatementTable:
    def __len__(self) -> int: ...

class ServerStatements:
    count: int
    def __new__(cls, table: StatementTable) -> Self: ...
    def __len__(self) -> int: ...
