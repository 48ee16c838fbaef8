"""What Python sees of the prepared statements."""

class Statement:
    number: int
    body: bytes
    wire_name: bytes

class StatementTable:
    def __len__(self) -> int: ...

class ServerStatements:
    count: int
    def __init__(self, table: StatementTable) -> None: ...
    def __len__(self) -> int: ...
