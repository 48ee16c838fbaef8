"""A small blocking PostgreSQL client with password logins and TLS, for the tools of the command line."""

from pgferry.client.connection import Connection, Result, connect
from pgferry.client.errors import ClientError, ConnectionFailed, QueryError
from pgferry.client.target import Address, BadTarget, Target

__all__ = [
    "Address",
    "BadTarget",
    "ClientError",
    "Connection",
    "ConnectionFailed",
    "QueryError",
    "Result",
    "Target",
    "connect",
]
