"""Free TCP ports for tests that run at the same time (see pgferry.embedded.ports)."""

from pgferry.embedded.ports import PortLock, is_free, take_port

__all__ = ["PortLock", "is_free", "take_port"]
