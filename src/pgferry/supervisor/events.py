"""What has happened lately, for the dashboard: reloads, pauses, deaths of workers, refusals."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

_KEPT = 200
_SAME_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Event:
    """One line. `level` is info, warning or error."""

    number: int
    when: float
    """Unix time."""
    level: str
    text: str
    times: int = 1
    replaces: int = 0
    """The number of the event that this one repeats: nobody needs to see that one any more."""


class Events:
    """The newest events, oldest first."""

    def __init__(self) -> None:
        self._ring: deque[Event] = deque(maxlen=_KEPT)
        self._last = 0

    def note(self, text: str, level: str = "info", times: int = 1) -> None:
        """Something has happened. If it has happened a moment ago, too, that is one event with a count."""
        self._last += 1
        now, replaces = time.time(), 0
        for event in reversed(self._ring):
            if now - event.when > _SAME_SECONDS:
                break
            if event.text == text:
                self._ring.remove(event)
                times, replaces = times + event.times, event.number
                break
        self._ring.append(Event(self._last, now, level, text, times, replaces))

    def since(self, number: int) -> list[Event]:
        """Those after the event with this number."""
        return [event for event in self._ring if event.number > number]
