"""A small blocking PostgreSQL client with password logins and TLS, for the tools of the command line."""

from pgferry.client.connection import Connection, ConnectionFailed
from pgferry.client.target import BadTarget, Target

__all__ = ["BadTarget", "Connection", "ConnectionFailed", "Target"]
