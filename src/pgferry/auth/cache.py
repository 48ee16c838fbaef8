"""Bounded caches of the results of PBKDF2, so that a password costs its milliseconds once, not per login."""

from typing import Final, Generic, TypeVar

from pgferry.auth.scram import Keys, Verifier

V = TypeVar("V")
_CacheKey = tuple[str | bytes, bytes, int]

# An entry takes about 500 bytes; more distinct passwords than this are rare even with auth_query.
DEFAULT_SIZE: Final = 4096


class _Cache(Generic[V]):
    """The least recently used entry goes first. For one thread only: look up and store in the loop's."""

    __slots__ = ("_entries", "_size")

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        self._entries: dict[_CacheKey, V] = {}
        self._size = size

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, password: str | bytes, salt: bytes, iterations: int) -> V | None:
        """Return the stored result, or None when it has to be computed (in a thread)."""
        key = (password, salt, iterations)
        value = self._entries.pop(key, None)
        if value is not None:
            self._entries[key] = value
        return value

    def put(self, password: str | bytes, salt: bytes, iterations: int, value: V) -> None:
        """Store a result, dropping the entry that was not used for longest when the cache is full."""
        key = (password, salt, iterations)
        self._entries.pop(key, None)
        while len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = value

    def clear(self) -> None:
        """Forget everything (after a reload that changed secrets)."""
        self._entries.clear()


class VerifierCache(_Cache[Verifier]):
    """Verifiers made from stored plain passwords, for logins of clients."""


class KeyCache(_Cache[Keys]):
    """Keys made from passwords, for our logins to servers."""
