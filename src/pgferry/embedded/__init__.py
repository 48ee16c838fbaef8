"""A private PostgreSQL, and a pgferry in front of it, for `pgferry demo` and the tests."""

from pgferry.embedded.account import Account
from pgferry.embedded.cluster import TRUST, Cluster
from pgferry.embedded.errors import EmbeddedError
from pgferry.embedded.find import Installation, installation, local
from pgferry.embedded.ports import PortLock, is_free, take_port

__all__ = [
    "TRUST",
    "Account",
    "Cluster",
    "EmbeddedError",
    "Installation",
    "PortLock",
    "installation",
    "is_free",
    "local",
    "take_port",
]
