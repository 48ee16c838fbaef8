"""Names of the system's accounts for `peer`: asked for in threads, because a name service may take its time."""

import asyncio
import pwd
from concurrent.futures import ThreadPoolExecutor

from pgferry.supervisor.errors import WorkerRefused

_SECONDS = 5.0
_THREADS = 2
_MAX_WAITING = 1000


class Accounts:
    """Answers the workers' `system_user`."""

    def __init__(self) -> None:
        # Threads of its own: a hanging name service must not use up those that other work needs.
        self._pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="accounts")
        self._waiting = 0

    async def name_of(self, uid: int) -> str:
        """The account's name. Raises WorkerRefused."""
        if self._waiting >= _MAX_WAITING:
            raise WorkerRefused("too many accounts are being looked up")
        self._waiting += 1
        try:
            async with asyncio.timeout(_SECONDS):
                entry = await asyncio.get_running_loop().run_in_executor(self._pool, pwd.getpwuid, uid)
        except KeyError:
            raise WorkerRefused(f"no account has the number {uid}") from None
        except TimeoutError:
            raise WorkerRefused(f"the name of account {uid} could not be found in {_SECONDS:g} s") from None
        finally:
            self._waiting -= 1
        return entry.pw_name

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
