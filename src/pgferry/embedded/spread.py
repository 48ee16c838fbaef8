"""A load spread over several processes, so that it uses several cores."""

import json
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

from pgferry.embedded.errors import EmbeddedError
from pgferry.embedded.load import Figures

LOADERS = 2  # processes


class ClientPlan(Protocol):
    """What every plan has: a dataclass that the module of the load reads as JSON."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def clients(self) -> int: ...

    @property
    def seconds(self) -> float: ...


class Spread:
    """A load spread over several processes."""

    def __init__(self, plan: ClientPlan, module: str) -> None:
        self.seconds = plan.seconds
        self.total = Figures()
        self._running: list[subprocess.Popen[str]] = []
        count = min(LOADERS, plan.clients)
        for i in range(count):
            share = plan.clients // count + (i < plan.clients % count)
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for us alone; close() ends them
            )
            self._running.append(process)
            assert process.stdin is not None
            # Not as an argument: everybody can read those, and there may be a password in it.
            process.stdin.write(json.dumps({**asdict(plan), "clients": share}))
            process.stdin.close()

    def progress(self) -> Iterator[Figures]:
        """The sum after every second; `total` is complete when this ends."""
        newest: dict[int, Figures] = {}
        fresh: set[int] = set()
        outputs = {p.stdout.fileno(): p.stdout for p in self._running if p.stdout is not None}
        while outputs:
            readable = select.select(list(outputs), [], [], self.seconds + 60.0)[0]
            if not readable:
                raise EmbeddedError("The load makes no progress.")
            for fd in readable:
                line = outputs[fd].readline()
                if not line:
                    outputs.pop(fd)
                    continue
                newest[fd] = Figures(**json.loads(line))
                fresh.add(fd)
            if len(fresh) == len(self._running):
                fresh.clear()
                self.total = _sum(newest.values())
                if outputs and self.total.seconds < self.seconds:
                    yield self.total
        if len(newest) < len(self._running):
            raise EmbeddedError("A process of the load failed.")
        self.total = _sum(newest.values())

    def close(self) -> None:
        """End what still runs."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def spread(plan: ClientPlan, module: str = "pgferry.embedded.load") -> Iterator[Spread]:
    """Run a plan in several processes of a module; they are gone at the end."""
    load = Spread(plan, module)
    try:
        yield load
    finally:
        load.close()


def _sum(parts: Iterable[Figures]) -> Figures:
    total = Figures()
    for part in parts:
        total.add(part)
    return total
