"""Looks whether auth_file has changed, as PgBouncer does, and has it read again."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

_SECONDS = 0.5

Signature = tuple[int, ...]


def signature(path: str) -> Signature | None:
    """What changes when a file is written or replaced; None when there is no such file."""
    try:
        seen = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (seen.st_dev, seen.st_ino, seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, seen.st_size)


class FileWatch:
    """Calls `changed` when the file is another one than before, and has been for one look."""

    def __init__(self, path: Callable[[], str | None], changed: Callable[[], Awaitable[None]]) -> None:
        self._path = path
        self._changed = changed
        self._known: tuple[str | None, Signature | None] | None = None
        self._seen: tuple[str | None, Signature | None] | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_SECONDS)

    async def look(self) -> None:
        """One look. A file that is being written is left alone until it rests."""
        path = self._path()
        now = (path, await asyncio.to_thread(signature, path) if path else None)
        before, self._seen = self._seen, now
        if now == before and now != self._known:
            self._known = now
            if now[1] is not None:
                await self._changed()
