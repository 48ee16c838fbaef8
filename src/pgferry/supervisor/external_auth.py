"""Passwords that LDAP or PAM verify: helper processes ask, a bounded number of them, each for a bounded time."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

import msgspec

from pgferry.supervisor.errors import WorkerRefused

HELPER_COMMAND: list[str] = [sys.executable, "-P", "-m", "pgferry.supervisor.external_auth_helper"]
HELPERS = 8
"""Questions asked at a time."""
WAITING = 200
"""Logins that may wait for one of them; more are refused at once."""
SECONDS = 15.0
"""For one answer. LDAP gives up earlier by itself."""
_MAX_DELAY = 5.0
_IDLE_SECONDS = 60.0
_MAX_ANSWER = 65536


class _Helper:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.idle_timer: asyncio.TimerHandle | None = None

    async def ask(self, question: bytes) -> dict[str, Any]:
        """Send a question and wait. Raises OSError or EOFError when the process is gone."""
        incoming, outgoing = self.process.stdout, self.process.stdin
        assert incoming is not None
        assert outgoing is not None
        outgoing.write(len(question).to_bytes(4, "big") + question)
        await outgoing.drain()
        size = int.from_bytes(await incoming.readexactly(4), "big")
        if size > _MAX_ANSWER:
            raise EOFError("an answer that is too long")
        found: dict[str, Any] = msgspec.msgpack.decode(await incoming.readexactly(size))
        return found

    def kill(self) -> None:
        """End it at once, with what a PAM module may have started; asyncio reaps it."""
        if self.idle_timer is not None:
            self.idle_timer.cancel()
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads a group of its own


class ExternalAuth:
    """The helpers. Started when needed, ended after a minute without work."""

    def __init__(self, helpers: int = HELPERS, waiting: int = WAITING, seconds: float = SECONDS) -> None:
        self._slots = asyncio.Semaphore(helpers)
        self._most = helpers + waiting
        self._seconds = seconds
        self._asking = 0
        self._idle: list[_Helper] = []
        self._all: set[_Helper] = set()

    async def verify(self, question: dict[str, Any]) -> str:
        """Why the user may not log in; empty: it may. Raises WorkerRefused when nobody could be asked."""
        if self._asking >= self._most:
            raise WorkerRefused("too many logins wait for an answer")
        self._asking += 1
        try:
            async with self._slots:
                found = await self._ask(msgspec.msgpack.encode(question))
            if found["why"]:
                # Without a slot: wrong passwords do not hold up others.
                await asyncio.sleep(min(float(found["delay"]), _MAX_DELAY))
            return str(found["why"])
        finally:
            self._asking -= 1

    async def _ask(self, question: bytes) -> dict[str, Any]:
        helper = await self._take()
        try:
            async with asyncio.timeout(self._seconds):
                found = await helper.ask(question)
        except TimeoutError:
            raise WorkerRefused(f"no answer in {self._seconds:g} s") from None
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            raise WorkerRefused(f"the helper process ended ({type(error).__name__})") from error
        else:
            self._put_back(helper)
            return found
        finally:
            if helper not in self._idle:
                self._end(helper)

    async def _take(self) -> _Helper:
        if self._idle:
            helper = self._idle.pop()
            if helper.idle_timer is not None:
                helper.idle_timer.cancel()
            return helper
        try:
            process = await asyncio.create_subprocess_exec(
                *HELPER_COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            raise WorkerRefused(f"no helper process could be started: {error.strerror}") from error
        helper = _Helper(process)
        self._all.add(helper)
        return helper

    def _put_back(self, helper: _Helper) -> None:
        self._idle.append(helper)
        helper.idle_timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end, helper)

    def _end(self, helper: _Helper) -> None:
        if helper in self._idle:
            self._idle.remove(helper)
        self._all.discard(helper)
        helper.kill()

    def close(self) -> None:
        """End all helpers."""
        for helper in list(self._all):
            self._end(helper)
