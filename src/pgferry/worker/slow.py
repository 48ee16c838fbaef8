"""Work that would hold up the loop (PBKDF2), done in a thread; the results come back on the loop."""

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from pgferry.engine.io.loop import Loop
from pgferry.engine.ops.worker_loop import Watch

Done = Callable[[Any, Exception | None], None]
KEPT = 0.2  # seconds that the thread waits for more: while it lives the loop has to share the GIL with it


class SlowWork:
    """One thread, while there is work. Calls with the same key that come while one is under way share its result."""

    def __init__(self, loop: Loop) -> None:
        self._jobs: queue.SimpleQueue[tuple[Any, Callable[[], Any]]] = queue.SimpleQueue()
        self._loop = loop
        self._results: queue.SimpleQueue[tuple[Any, Any, Exception | None]] = queue.SimpleQueue()
        self._waiting: dict[Any, list[Done]] = {}
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._watch = Watch(loop, self._wake_fd, self._collect)
        self._lock = threading.Lock()  # guards _running
        self._running = False

    def run(self, key: Any, job: Callable[[], Any], done: Done) -> None:
        """Run job() in the thread; done(result, error) on the loop. Exceptions of job() come as error."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(done)
            return
        self._waiting[key] = [done]
        with self._lock:
            self._jobs.put((key, job))
            if self._running:
                return
            self._running = True
        try:
            threading.Thread(target=self._work, name="slow", daemon=True).start()
        except RuntimeError as error:  # no more threads to be had: the next call tries again
            self._running = False
            self._jobs.get_nowait()
            self._answer(key, None, error)

    def _work(self) -> None:
        while True:
            try:
                key, job = self._jobs.get(timeout=KEPT)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._running = False
                        return
                continue
            try:
                self._answer(key, job(), None)
            except Exception as error:  # reported to whoever asked: a thread has nobody else to tell
                self._answer(key, None, error)

    def _answer(self, key: Any, result: Any, error: Exception | None) -> None:
        self._results.put((key, result, error))
        os.eventfd_write(self._wake_fd, 1)

    def _collect(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            pass
        while not self._results.empty():
            key, result, error = self._results.get()
            for done in self._waiting.pop(key, ()):
                try:
                    done(result, error)
                except Exception as raised:  # costs who asked, not those whose results come behind
                    self._loop.report(done, raised)
